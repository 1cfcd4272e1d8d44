narrow_fuzz(tokenizer_fuzz
  SOURCE ${CMAKE_CURRENT_LIST_DIR}/tokenizer_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/tokenizer
  LIBRARIES narrow_text)
