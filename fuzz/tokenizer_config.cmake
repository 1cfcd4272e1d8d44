narrow_fuzz(tokenizer_config_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/tokenizer_config_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/tokenizer_config LIBRARIES narrow_text)
