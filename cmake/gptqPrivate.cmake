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

# The stock schemes, compiled once for our own programs and tests.
gptq_private_options(gptq_compiled)

# The kernels of our own programs and tests, compiled once. Register spills fail the build.
if(TARGET gptq::cuda)
  add_library(gptq_device_code STATIC EXCLUDE_FROM_ALL)
  target_link_libraries(gptq_device_code PRIVATE $<IF:$<TARGET_EXISTS:gptq::toolkit_cuda>,gptq::toolkit_cuda,gptq::cuda>
      INTERFACE gptq::gptq CUDA::cublas CUDA::cusolver)
  target_include_directories(gptq_device_code SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
  target_compile_options(gptq_device_code INTERFACE ${GPTQ_CUDA_OPTIONS})
  target_compile_options(gptq_device_code PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xptxas -warn-spills,-Werror>")
endif()
