# What is installed beside the program, made from what it says of itself.
find_package(Python3 COMPONENTS Interpreter)
set(made ${CMAKE_CURRENT_BINARY_DIR}/made)
add_custom_command(
  OUTPUT ${made}/narrow.bash ${made}/_narrow
  COMMAND ${CMAKE_COMMAND} -E make_directory ${made}
  COMMAND narrow completion bash > ${made}/narrow.bash
  COMMAND narrow completion zsh > ${made}/_narrow
  DEPENDS narrow COMMENT "Completions of bash and zsh" VERBATIM)
set(files ${made}/narrow.bash ${made}/_narrow)
if(Python3_FOUND)
  set(script ${PROJECT_SOURCE_DIR}/tools/make_man_page.py)
  add_custom_command(
    OUTPUT ${made}/narrow.1
    COMMAND Python3::Interpreter ${script} $<TARGET_FILE:narrow> > ${made}/narrow.1
    DEPENDS narrow ${script} ${made}/narrow.bash COMMENT "Manual page" VERBATIM)
  list(APPEND files ${made}/narrow.1)
  install(FILES ${made}/narrow.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
endif()
add_custom_target(package_files ALL DEPENDS ${files})
install(FILES ${made}/narrow.bash RENAME narrow COMPONENT program
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${made}/_narrow COMPONENT program
  DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
