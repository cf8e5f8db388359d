# gptq::gptq in the build tree. An interface target carries include paths, C++20 and dependencies: no warnings, no
# optimisation, no -march, which belong to the program that uses it.

include(gptqHeaders)

find_package(Eigen3 REQUIRED NO_MODULE)  # no version: Eigen 5's config refuses a request for 3.4
if(Eigen3_VERSION VERSION_LESS 3.4)
  message(FATAL_ERROR "gptq needs Eigen 3.4 or newer, found ${Eigen3_VERSION}")
endif()
find_package(Threads REQUIRED)

# All headers belong to one target, so that what is installed does not depend on what the packager has.
add_library(gptq INTERFACE)
add_library(gptq::gptq ALIAS gptq)
target_compile_features(gptq INTERFACE cxx_std_20)
target_link_libraries(gptq INTERFACE Eigen3::Eigen Threads::Threads)
target_sources(gptq INTERFACE
    FILE_SET core TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${GPTQ_CORE_HEADERS}
    FILE_SET toolkit TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${GPTQ_TOOLKIT_HEADERS}
)

include(gptqToolkit)
