narrow_fuzz(index_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/index_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/index LIBRARIES narrow_io)
