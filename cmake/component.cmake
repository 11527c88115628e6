# component(NAME SRCS ... DEPS ... TESTS ... TEST_DEPS ... LIBS ...)
#
# One folder's static library `caisson_NAME` and, for each TESTS source `foo_test.cc`, a unit test
# executable `NAME.foo_test` that ctest runs with the label `unit`. DEPS are names of other
# components; LIBS are third-party link items.
#
# A precompiled header of what nearly every file includes is shared by all components.
if(NOT TARGET caisson_pch AND NOT CAISSON_NO_PCH)
  file(WRITE ${CMAKE_BINARY_DIR}/pch.cc "\n")
  add_library(caisson_pch STATIC ${CMAKE_BINARY_DIR}/pch.cc)
  target_precompile_headers(caisson_pch PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${CMAKE_SOURCE_DIR}/cmake/pch.h>)
endif()

function(component NAME)
  cmake_parse_arguments(C "" "" "SRCS;DEPS;TESTS;TEST_DEPS;LIBS" ${ARGN})
  set(target caisson_${NAME})
  list(TRANSFORM C_DEPS PREPEND caisson_)
  list(TRANSFORM C_TEST_DEPS PREPEND caisson_)
  if(C_SRCS)
    add_library(${target} STATIC ${C_SRCS})
    target_link_libraries(${target} PUBLIC ${C_DEPS} ${C_LIBS})
    if(TARGET caisson_pch)
      target_precompile_headers(${target} REUSE_FROM caisson_pch)
    endif()
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ${C_DEPS} ${C_LIBS})
  endif()
  foreach(source ${C_TESTS})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
      continue()
    endif()
    get_filename_component(stem ${source} NAME_WE)
    set(test ${NAME}.${stem})
    add_executable(${test} ${source})
    target_link_libraries(${test} PRIVATE ${target} ${C_TEST_DEPS} GTest::gmock GTest::gtest GTest::gtest_main Threads::Threads)
    if(TARGET caisson_pch)
      target_precompile_headers(${test} REUSE_FROM caisson_pch)
    endif()
    add_test(NAME ${test} COMMAND ${test})
    set_tests_properties(${test} PROPERTIES LABELS unit TIMEOUT 240)
  endforeach()
endfunction()
