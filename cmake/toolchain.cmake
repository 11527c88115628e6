# Compiler and linker settings that hold for every target.

set(CAISSON_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them; empty for none")
option(CAISSON_COVERAGE "Instrument for gcov" OFF)

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Everything ends in one static-PIE executable: libraries are compiled as executables are, so that
# both can use one precompiled header.
set(CMAKE_CXX_COMPILE_OPTIONS_PIC -fPIE)
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_C_FLAGS_RELEASE "-O2")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g1")

add_compile_options(
  -Wall -Wextra -Wno-unused-parameter -Werror -fno-strict-aliasing -fno-rtti
  -fstack-protector-strong -ftrivial-auto-var-init=zero
  "$<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions;-Wno-missing-field-initializers>")
add_compile_definitions(_GLIBCXX_ASSERTIONS _GNU_SOURCE)
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives of these through inlined standard library code.
  add_compile_options(-Wno-error=maybe-uninitialized -Wno-error=stringop-overflow
    -Wno-error=stringop-overread -Wno-error=stringop-truncation
    "$<$<COMPILE_LANGUAGE:CXX>:-Wno-error=restrict>" -Wno-error=array-bounds -fcf-protection
    -fpch-preprocess)  # ccache needs the last one to cache users of the precompiled header.
else()
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wthread-safety;-Wno-unused-private-field>" -fcf-protection)
endif()

# For the few files that hold a library which throws.
set(CAISSON_THROWING -fexceptions -frtti)
if(CAISSON_SANITIZE)
  add_compile_options(-fsanitize=${CAISSON_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CAISSON_SANITIZE})
  add_compile_definitions(CAISSON_SANITIZED)
  # The linker keeps one copy of a template's functions: one that checks the types of objects, and it would
  # find none in those that other files made, without RTTI.
  list(APPEND CAISSON_THROWING -fno-sanitize=vptr)
  set(CAISSON_STATIC_LINK "")
else()
  add_compile_options(-D_FORTIFY_SOURCE=2)
  # Relative relocations in a bitmap: four processes of a sandbox start by applying them.
  set(CAISSON_STATIC_LINK -static-pie -Wl,-z,pack-relative-relocs)
endif()
if(CAISSON_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
endif()

add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack,-z,keep-text-section-prefix)
find_program(CAISSON_MOLD mold)
if(CAISSON_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(GTest REQUIRED)

# Debian's absl targets name the shared libraries; one static executable needs the archives.
function(caisson_use_static_absl)
  file(GLOB config ${absl_DIR}/abslTargets.cmake)
  file(STRINGS ${config} lines REGEX "^add_library\\(absl::")
  foreach(line ${lines})
    string(REGEX REPLACE "^add_library\\((absl::[a-z0-9_]+) .*" "\\1" target ${line})
    get_target_property(type ${target} TYPE)
    if(NOT type STREQUAL "SHARED_LIBRARY")
      continue()
    endif()
    get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
    foreach(configuration ${configurations})
      get_target_property(location ${target} IMPORTED_LOCATION_${configuration})
      string(REGEX REPLACE "\\.so[.0-9]*$" ".a" archive ${location})
      if(EXISTS ${archive})
        set_target_properties(${target} PROPERTIES IMPORTED_LOCATION_${configuration} ${archive})
      endif()
    endforeach()
  endforeach()
endfunction()
caisson_use_static_absl()
