narrow_fuzz(schemes_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/schemes_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/schemes LIBRARIES narrow_jobs)
