narrow_fuzz(parquet_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/parquet_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/parquet LIBRARIES narrow_text)
