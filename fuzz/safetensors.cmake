narrow_fuzz(safetensors_fuzz SOURCE safetensors_fuzz.cc
  CORPUS ${CMAKE_CURRENT_SOURCE_DIR}/corpus/safetensors LIBRARIES narrow_io)
