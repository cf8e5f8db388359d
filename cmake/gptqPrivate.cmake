# How our own programs, tests and benchmarks are compiled. Never seen by users of the library.

function(gptq_private_options target)
  set(cxx $<COMPILE_LANGUAGE:CXX>)
  target_compile_options(${target} PRIVATE $<${cxx}:-Wall> $<${cxx}:-Wextra> $<${cxx}:-Wconversion> $<${cxx}:-Wshadow>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC bug 105593: false alarms from inside its own AVX-512 headers
    target_compile_options(${target} PRIVATE $<${cxx}:-Wno-maybe-uninitialized> $<${cxx}:-Wno-uninitialized>)
  endif()
  if(GPTQ_WERROR)
    target_compile_options(${target} PRIVATE $<${cxx}:-Werror>)
  endif()
  if(GPTQ_NATIVE)
    target_compile_options(${target} PRIVATE $<${cxx}:-march=native>)
  endif()
endfunction()
