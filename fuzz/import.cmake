narrow_fuzz(import_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/import_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/import LIBRARIES narrow_import)
