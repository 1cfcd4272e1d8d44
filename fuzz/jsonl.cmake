narrow_fuzz(jsonl_fuzz SOURCE ${CMAKE_CURRENT_SOURCE_DIR}/jsonl_fuzz.cc
            CORPUS ${CMAKE_CURRENT_SOURCE_DIR}/corpus/jsonl LIBRARIES narrow_text)
