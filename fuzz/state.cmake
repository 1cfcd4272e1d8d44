# The source alone: clang 14, which has libFuzzer, cannot compile all of narrow_jobs.
narrow_fuzz(state_fuzz SOURCE ${CMAKE_CURRENT_LIST_DIR}/state_fuzz.cc
  CORPUS ${CMAKE_CURRENT_LIST_DIR}/corpus/state LIBRARIES narrow_io)
if(TARGET state_fuzz)
  target_sources(state_fuzz PRIVATE ${PROJECT_SOURCE_DIR}/src/stream/run_state.cc)
endif()
