narrow_fuzz(gguf_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/gguf_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/gguf LIBRARIES narrow_io)
