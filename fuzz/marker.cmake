narrow_fuzz(marker_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/marker_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/marker LIBRARIES narrow_io)
