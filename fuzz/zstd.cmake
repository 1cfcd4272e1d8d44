narrow_fuzz(zstd_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/zstd_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/zstd LIBRARIES narrow_text)
