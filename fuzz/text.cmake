narrow_fuzz(text_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/text_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/text LIBRARIES narrow_text)
