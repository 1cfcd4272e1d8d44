# Writes a C++ source with every file of CORPUS/calibration and CORPUS/evaluation as bytes.
# cmake -DCORPUS=dir -DOUTPUT=file.cc -P embed_corpus.cmake

set(arrays "")
foreach(part Calibration Evaluation)
  string(TOLOWER ${part} folder)
  file(GLOB documents ${CORPUS}/${folder}/*.txt)
  list(SORT documents)
  if(NOT documents)
    message(FATAL_ERROR "no documents in ${CORPUS}/${folder}")
  endif()
  set(views "")
  set(index 0)
  foreach(document ${documents})
    file(READ ${document} hex HEX)
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
    # Short lines: compilers and people both suffer from one line of 10,000 bytes.
    set(byte "0x..,")
    string(REGEX REPLACE "(${byte}${byte}${byte}${byte}${byte}${byte}${byte}${byte})" "\\1\n"
           bytes "${bytes}")
    string(APPEND arrays "constexpr unsigned char k${part}${index}[] = {\n${bytes}};\n")
    string(APPEND views "      View(k${part}${index}),\n")
    math(EXPR index "${index} + 1")
  endforeach()
  set(table_${part} "  static const std::string_view kDocuments[] = {\n${views}  };\n")
endforeach()

file(WRITE ${OUTPUT}
"// Generated from corpus/ by src/text/embed_corpus.cmake.
#include \"text/builtin_corpus.h\"

#include <cstddef>

namespace narrow {
namespace {

${arrays}
template <std::size_t kSize>
std::string_view View(const unsigned char (&bytes)[kSize]) {
  return {reinterpret_cast<const char*>(bytes), kSize};
}

}  // namespace

std::span<const std::string_view> BuiltinCalibrationDocuments() {
${table_Calibration}  return kDocuments;
}

std::span<const std::string_view> BuiltinEvaluationDocuments() {
${table_Evaluation}  return kDocuments;
}

}  // namespace narrow
")
