// What a run measures of itself and of the machine: all else that is written is the same for the
// same job, whenever and by however many threads it is done.
#pragma once

#include <array>
#include <string_view>

namespace narrow {

// Members of narrow-report.json and narrow-output.json, at any depth. tools/compare_builds.py reads
// this list.
inline constexpr std::array<std::string_view, 12> kMeasuredMembers = {
    "command",        "version", "program", "job",     "seconds",   "loading_seconds",
    "peak_rss_bytes", "compute", "read",    "written", "rss_bytes", "times",
};

}  // namespace narrow
