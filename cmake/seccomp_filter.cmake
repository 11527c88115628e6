# seccomp_filter(COMPONENT HEADER TABLE_SOURCE TABLE_FUNCTION PROGRAM_FUNCTION)
#
# Compiles the table that TABLE_FUNCTION (defined in TABLE_SOURCE, declared in HEADER) returns into
# BPF while building, and adds to COMPONENT a source that defines PROGRAM_FUNCTION, which returns
# the program: a process installs it without building anything.
function(seccomp_filter COMPONENT HEADER TABLE_SOURCE TABLE_FUNCTION PROGRAM_FUNCTION)
  set(tool ${COMPONENT}_filter_gen)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${COMPONENT}_filter_program.cc)
  add_executable(${tool} ${CMAKE_SOURCE_DIR}/confine/filter_gen.cc ${TABLE_SOURCE})
  target_compile_definitions(${tool} PRIVATE
    "FILTER_HEADER=\"${HEADER}\"" "FILTER_TABLE=${TABLE_FUNCTION}"
    "FILTER_PROGRAM_NAME=\"${PROGRAM_FUNCTION}\"")
  target_link_libraries(${tool} PRIVATE caisson_confine_compile)
  set_target_properties(${tool} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  add_custom_command(OUTPUT ${output} COMMAND ${tool} ${output} DEPENDS ${tool} VERBATIM)
  target_sources(caisson_${COMPONENT} PRIVATE ${output})
endfunction()
