narrow_fuzz(config_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/config_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/config LIBRARIES narrow_model)
