add_executable(schemes_bench ${CMAKE_CURRENT_LIST_DIR}/schemes_bench.cc)
target_link_libraries(schemes_bench PRIVATE narrow_formats benchmark::benchmark)
