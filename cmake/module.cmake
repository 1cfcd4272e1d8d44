# narrow_module(name SOURCES a.cc ... [PUBLIC dep ...] [PRIVATE dep ...])
#   One static library per folder of src/, named narrow_<name>, with src/ on the include path.
# narrow_test(name SOURCES a_test.cc ... [LIBRARIES dep ...] [LABELS label ...])
#   One GoogleTest program; every case becomes a ctest named <name>.<Suite>.<Case>.
# narrow_fuzz(name SOURCE x_fuzz.cc CORPUS dir [LIBRARIES dep ...])
#   A libFuzzer entry point linked with a main that replays its corpus, run as a test.

set(NARROW_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror)

add_library(narrow_options INTERFACE)
target_include_directories(narrow_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(NARROW_DEVELOPER)
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
endfunction()

function(narrow_test name)
  if(NOT NARROW_DEVELOPER)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE narrow_options ${ARG_LIBRARIES} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE NARROW_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
    NARROW_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 1200)
endfunction()

function(narrow_fuzz name)
  cmake_parse_arguments(ARG "" "SOURCE;CORPUS" "LIBRARIES" ${ARGN})
  add_executable(${name} ${ARG_SOURCE} ${PROJECT_SOURCE_DIR}/fuzz/replay_main.cc)
  target_link_libraries(${name} PRIVATE narrow_options ${ARG_LIBRARIES})
  add_test(NAME ${name} COMMAND ${name} ${ARG_CORPUS})
endfunction()
