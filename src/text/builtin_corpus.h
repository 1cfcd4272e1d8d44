// The corpus built into the program, so that a run needs nothing downloaded. The text lies in
// corpus/ of the repository; the build turns it into the definitions (embed_corpus.cmake).
#pragma once

#include <span>
#include <string_view>

namespace narrow {

// One document for each file, in the order of the file names. Valid UTF-8, static storage.
std::span<const std::string_view> BuiltinCalibrationDocuments();
std::span<const std::string_view> BuiltinEvaluationDocuments();

}  // namespace narrow
