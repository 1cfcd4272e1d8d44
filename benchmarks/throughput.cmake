add_executable(throughput_bench ${CMAKE_CURRENT_LIST_DIR}/throughput_bench.cc)
target_link_libraries(throughput_bench PRIVATE narrow_jobs DNNL::dnnl OpenMP::OpenMP_CXX)
