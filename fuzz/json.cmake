narrow_fuzz(json_fuzz SOURCE json_fuzz.cc CORPUS ${CMAKE_CURRENT_SOURCE_DIR}/corpus/json
  LIBRARIES narrow_io)
