# narrow_module(name SOURCES a.cc ... [PUBLIC dep ...] [PRIVATE dep ...])
#   One static library per folder of src/, named narrow_<name>, with src/ on the include path.
# narrow_test(name SOURCES a_test.cc ... [LIBRARIES dep ...] [LABELS label ...])
#   One GoogleTest program; every case becomes a ctest named <name>.<Suite>.<Case>.
# narrow_fuzz(name SOURCE x_fuzz.cc CORPUS dir [LIBRARIES dep ...])
#   A libFuzzer entry point linked with a main that replays its corpus, run as a test; with
#   NARROW_LIBFUZZER linked with libFuzzer instead, which tools/fuzz.sh runs.

# A compiler cache, where there is one, serves every checkout of this machine.
find_program(NARROW_CCACHE ccache)
mark_as_advanced(NARROW_CCACHE)
if(NARROW_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
    CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros ${NARROW_CCACHE})
endif()

set(NARROW_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror)

add_library(narrow_options INTERFACE)
target_include_directories(narrow_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(NARROW_LIBFUZZER)
  target_compile_options(narrow_options INTERFACE -fsanitize=fuzzer-no-link)
  add_custom_target(fuzz_targets)
elseif(NARROW_DEVELOPER)
  target_compile_options(narrow_options INTERFACE ${NARROW_WARNINGS})
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(narrow_options INTERFACE -fpch-preprocess)  # ccache asks for it
endif()
if(NARROW_SANITIZE)
  target_compile_options(narrow_options INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(narrow_options INTERFACE -fsanitize=address,undefined)
endif()

# Reading the JSON library's and GoogleTest's headers takes longer than compiling most files that include
# them, so they are read once.
option(NARROW_PRECOMPILE_HEADERS "Read the largest headers once for many files" ON)

# The modules after io, which read JSON, take io's header; kernels has none of it, and flags of its own.
function(narrow_precompile_headers name)
  if(NOT NARROW_PRECOMPILE_HEADERS OR name STREQUAL kernels)
    return()
  endif()
  if(name STREQUAL io)
    target_precompile_headers(narrow_io PRIVATE <nlohmann/json.hpp>)
  elseif(TARGET narrow_io)
    target_precompile_headers(narrow_${name} REUSE_FROM narrow_io)
  endif()
endfunction()

# Test programs wait for others' work, not for their own: little optimization is enough for them. With it
# GCC 12 takes initializer lists of strings for uses of what is not there.
set(NARROW_TEST_OPTIONS -O1 -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow)
# Where this checkout is stands in a file, not on the command line, so that a compiler cache serves any checkout.
set(NARROW_TEST_INCLUDES ${PROJECT_BINARY_DIR}/generated)
if(NARROW_DEVELOPER)
  file(CONFIGURE OUTPUT ${NARROW_TEST_INCLUDES}/tests/build_paths.h @ONLY CONTENT [[
// Written by cmake/module.cmake.
#pragma once
#define NARROW_SOURCE_DIR "@PROJECT_SOURCE_DIR@"
#define NARROW_BINARY_DIR "@PROJECT_BINARY_DIR@"
]])
endif()
if(NARROW_DEVELOPER AND NARROW_PRECOMPILE_HEADERS)
  file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/test_headers.cc CONTENT "")
  add_library(narrow_test_headers OBJECT ${PROJECT_BINARY_DIR}/test_headers.cc)
  target_link_libraries(narrow_test_headers PRIVATE narrow_options GTest::gmock)
  target_compile_options(narrow_test_headers PRIVATE ${NARROW_TEST_OPTIONS})
  target_precompile_headers(narrow_test_headers PRIVATE <gmock/gmock.h> <nlohmann/json.hpp>)
endif()
function(narrow_test_options name)
  target_compile_options(${name} PRIVATE ${NARROW_TEST_OPTIONS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${NARROW_TEST_INCLUDES})  # "tests/..."
  get_target_property(libraries ${name} LINK_LIBRARIES)
  if(NARROW_PRECOMPILE_HEADERS AND NOT PkgConfig::HWY IN_LIST libraries)  # Highway has flags of its own
    target_precompile_headers(${name} REUSE_FROM narrow_test_headers)
  endif()
endfunction()

function(narrow_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(narrow_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(narrow_${name} PUBLIC narrow_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  narrow_precompile_headers(${name})
  set_property(GLOBAL APPEND PROPERTY NARROW_MODULES ${name})
  set(libraries ${ARG_PUBLIC} ${ARG_PRIVATE})
  list(FILTER libraries EXCLUDE REGEX "^narrow_")
  set_property(GLOBAL APPEND PROPERTY NARROW_LIBRARIES ${libraries})
endfunction()

function(narrow_test name)
  if(NOT NARROW_DEVELOPER)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE narrow_options ${ARG_LIBRARIES} GTest::gmock GTest::gtest_main)
  narrow_test_options(${name})
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 1200)
endfunction()

function(narrow_fuzz name)
  if(NOT NARROW_DEVELOPER)
    return()
  endif()
  cmake_parse_arguments(ARG "" "SOURCE;CORPUS" "LIBRARIES" ${ARGN})
  cmake_path(ABSOLUTE_PATH ARG_CORPUS)
  add_executable(${name} ${ARG_SOURCE})
  target_link_libraries(${name} PRIVATE narrow_options ${ARG_LIBRARIES})
  if(NARROW_LIBFUZZER)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_property(GLOBAL APPEND PROPERTY NARROW_FUZZ_TARGETS "${name} ${ARG_CORPUS}")
    add_dependencies(fuzz_targets ${name})
  else()
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/fuzz/replay_main.cc)
    add_test(NAME ${name} COMMAND ${name} ${ARG_CORPUS})
    set_tests_properties(${name} PROPERTIES LABELS fast)
  endif()
endfunction()
