# narrow_module(name SOURCES a.cc ... [PUBLIC dep ...] [PRIVATE dep ...])
#   One static library per folder of src/, named narrow_<name>, with src/ on the include path.
# narrow_test(name SOURCES a_test.cc ... [LIBRARIES dep ...] [LABELS label ...])
#   One GoogleTest program; every case becomes a ctest named <name>.<Suite>.<Case>.
# narrow_fuzz(name SOURCE x_fuzz.cc CORPUS dir [LIBRARIES dep ...])
#   A libFuzzer entry point linked with a main that replays its corpus, run as a test; with
#   NARROW_LIBFUZZER linked with libFuzzer instead, which tools/fuzz.sh runs.

set(NARROW_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror)

add_library(narrow_options INTERFACE)
target_include_directories(narrow_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(NARROW_LIBFUZZER)
  target_compile_options(narrow_options INTERFACE -fsanitize=fuzzer-no-link)
  add_custom_target(fuzz_targets)
elseif(NARROW_DEVELOPER)
  target_compile_options(narrow_options INTERFACE ${NARROW_WARNINGS})
endif()
if(NARROW_SANITIZE)
  target_compile_options(narrow_options INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(narrow_options INTERFACE -fsanitize=address,undefined)
endif()

function(narrow_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(narrow_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(narrow_${name} PUBLIC narrow_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
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
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})  # "tests/..."
  target_compile_definitions(${name} PRIVATE NARROW_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
    NARROW_BINARY_DIR="${PROJECT_BINARY_DIR}")
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
