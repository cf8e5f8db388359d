# How our own programs, tests and benchmarks are compiled. Never seen by users of the library.

function(gptq_private_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC bug 105593: false alarms from inside its own AVX-512 headers
    target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
  if(GPTQ_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(GPTQ_NATIVE)
    target_compile_options(${target} PRIVATE -march=native)
  endif()
endfunction()
