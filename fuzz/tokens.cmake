narrow_fuzz(tokens_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/tokens_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/tokens LIBRARIES narrow_text)
