# find_package(gptq): gptq::gptq always; gptq::compiled, gptq::cuda and gptq::toolkit if requested as
# components, and gptq::toolkit_cuda if both of the latter are.

include(CMakeFindDependencyMacro)
find_dependency(Eigen3)
find_dependency(Threads)
if(Eigen3_VERSION VERSION_LESS 3.4)
  set(gptq_FOUND FALSE)
  set(gptq_NOT_FOUND_MESSAGE "gptq needs Eigen 3.4 or newer, found ${Eigen3_VERSION}")
  return()
endif()

# Not PACKAGE_PREFIX_DIR: by now Eigen's config has overwritten it.
if(GPTQ_EXPORTED_TARGETS)  # set in a build tree
  include(${GPTQ_EXPORTED_TARGETS})
else()
  include(${CMAKE_CURRENT_LIST_DIR}/gptqTargets.cmake)
endif()

foreach(component IN LISTS gptq_FIND_COMPONENTS)
  if(component MATCHES "^(toolkit|cuda|compiled)$")
    string(TOUPPER ${component} name)
    set(file_cuda gptqCuda)
    set(file_compiled gptqCompiled)
    set(file_toolkit gptqToolkit)
    include(${CMAKE_CURRENT_LIST_DIR}/${file_${component}}.cmake)
    set(gptq_${component}_FOUND ${GPTQ_${name}_FOUND})
    if(NOT GPTQ_${name}_FOUND AND gptq_FIND_REQUIRED_${component})
      set(gptq_FOUND FALSE)
      set(gptq_NOT_FOUND_MESSAGE "gptq::${component} needs ${GPTQ_${name}_MISSING}")
    endif()
  elseif(gptq_FIND_REQUIRED_${component})
    set(gptq_FOUND FALSE)
    set(gptq_NOT_FOUND_MESSAGE "gptq has no component ${component}")
  endif()
endforeach()
include(${CMAKE_CURRENT_LIST_DIR}/gptqToolkitCuda.cmake)
