// Whether an output directory may be made or replaced at a place.
#pragma once

#include <filesystem>
#include <optional>

#include "io/output_marker.h"

namespace narrow {

// Throws: kInvalidArgument, saying what was found there, when the directory `path` may not be
// replaced: it is neither empty nor all of this program's making, or it is a mount point.
// Returns its marker; nothing when it is empty.
std::optional<OutputMarker> CheckReplaceable(const std::filesystem::path& path);

}  // namespace narrow
