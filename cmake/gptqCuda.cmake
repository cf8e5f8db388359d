# gptq::cuda: backend::Cuda. The same file serves the build tree and the installed package. Sets
# GPTQ_CUDA_FOUND, and GPTQ_CUDA_MISSING if something is missing. Link it PRIVATE: each target that
# links it compiles its kernels.

if(NOT TARGET gptq::cuda)
  find_package(CUDAToolkit QUIET)
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  set(GPTQ_CUDA_MISSING "")
  if(NOT CUDAToolkit_FOUND)
    list(APPEND GPTQ_CUDA_MISSING "the CUDA toolkit")
  endif()
  if(NOT "CUDA" IN_LIST languages)
    list(APPEND GPTQ_CUDA_MISSING "CUDA among the languages of the project")
  endif()

  if(NOT GPTQ_CUDA_MISSING)
    find_path(GPTQ_CUDA_SOURCE_DIR gptq/backend/cuda/instantiations.cu
        HINTS ${CMAKE_CURRENT_LIST_DIR}/../include ${CMAKE_CURRENT_LIST_DIR}/../../../include ${CMAKE_CURRENT_LIST_DIR}/../../../../include
        NO_DEFAULT_PATH REQUIRED)
    mark_as_advanced(GPTQ_CUDA_SOURCE_DIR)
    # Global, so that a project that adds gptq as a subdirectory sees it too. Not a separate
    # library: users could not export one created inside find_package.
    add_library(gptq::cuda INTERFACE IMPORTED GLOBAL)
    target_link_libraries(gptq::cuda INTERFACE gptq::gptq CUDA::cublas CUDA::cusolver)
    target_include_directories(gptq::cuda SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
    target_sources(gptq::cuda INTERFACE ${GPTQ_CUDA_SOURCE_DIR}/gptq/backend/cuda/instantiations.cu)
    # CMake 3.25 knows no name for C++20 in nvcc 13.
    set(GPTQ_CUDA_OPTIONS $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20> $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:--expt-relaxed-constexpr>)
    target_compile_options(gptq::cuda INTERFACE ${GPTQ_CUDA_OPTIONS})
  endif()
endif()

if(TARGET gptq::cuda)
  set(GPTQ_CUDA_FOUND TRUE)
else()
  set(GPTQ_CUDA_FOUND FALSE)
endif()
