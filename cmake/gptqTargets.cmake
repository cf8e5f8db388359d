# gptq::gptq in the build tree. An interface target carries include paths, C++20 and dependencies: no warnings, no
# optimisation, no -march, which belong to the program that uses it.

include(gptqHeaders)

find_package(Eigen3 REQUIRED NO_MODULE)  # no version: Eigen 5's config rejects a request for 3.4
if(Eigen3_VERSION VERSION_LESS 3.4)
  message(FATAL_ERROR "gptq needs Eigen 3.4 or newer, found ${Eigen3_VERSION}")
endif()
find_package(Threads REQUIRED)

# All headers belong to one target, so that what is installed does not depend on the packager's machine.
add_library(gptq INTERFACE)
add_library(gptq::gptq ALIAS gptq)
target_compile_features(gptq INTERFACE cxx_std_20)
target_link_libraries(gptq INTERFACE Eigen3::Eigen Threads::Threads)
target_sources(gptq INTERFACE
    FILE_SET core TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${GPTQ_CORE_HEADERS} ${GPTQ_COMPILED_SOURCES}
    FILE_SET toolkit TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${GPTQ_TOOLKIT_HEADERS}
    FILE_SET cuda TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${GPTQ_CUDA_HEADERS} ${GPTQ_TOOLKIT_CUDA_HEADERS} ${GPTQ_CUDA_SOURCES}
)

include(gptqToolkit)
include(gptqCompiled)

# CUDA if requested, or if our own programs could use it and nvcc works.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS} AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # 90: its PTX runs on newer ones
endif()
if(NOT GPTQ_CUDA STREQUAL "AUTO")
  set(gptq_cuda ${GPTQ_CUDA})
elseif(PROJECT_IS_TOP_LEVEL AND (GPTQ_BUILD_EXAMPLES OR GPTQ_BUILD_TESTS OR GPTQ_BUILD_BENCHMARKS))
  include(CheckLanguage)
  if(NOT DEFINED CMAKE_CUDA_COMPILER)
    find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(gptq_cuda ON)
  endif()
endif()
if(gptq_cuda)
  enable_language(CUDA)
endif()
include(gptqCuda)
include(gptqToolkitCuda)
