# find_package(narrow) gives narrow::narrow. The archive is linked with the libraries it is made with.
set(NARROW_LINK_ONLY ON)
include(${CMAKE_CURRENT_LIST_DIR}/dependencies.cmake)
unset(NARROW_LINK_ONLY)
include(${CMAKE_CURRENT_LIST_DIR}/narrow-targets.cmake)
