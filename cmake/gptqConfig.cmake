# find_package(gptq): gptq::gptq always, gptq::toolkit where it is asked for as a component.

include(CMakeFindDependencyMacro)
find_dependency(Eigen3)
find_dependency(Threads)
if(Eigen3_VERSION VERSION_LESS 3.4)
  set(gptq_FOUND FALSE)
  set(gptq_NOT_FOUND_MESSAGE "gptq needs Eigen 3.4 or newer, found ${Eigen3_VERSION}")
  return()
endif()

# Not PACKAGE_PREFIX_DIR: Eigen's own config has overwritten it by now.
include(${CMAKE_CURRENT_LIST_DIR}/gptqTargets.cmake)

foreach(component IN LISTS gptq_FIND_COMPONENTS)
  if(component STREQUAL "toolkit")
    include(${CMAKE_CURRENT_LIST_DIR}/gptqToolkit.cmake)
    set(gptq_toolkit_FOUND ${GPTQ_TOOLKIT_FOUND})
    if(NOT GPTQ_TOOLKIT_FOUND AND gptq_FIND_REQUIRED_toolkit)
      set(gptq_FOUND FALSE)
      set(gptq_NOT_FOUND_MESSAGE "gptq::toolkit needs ${GPTQ_TOOLKIT_MISSING}")
    endif()
  elseif(gptq_FIND_REQUIRED_${component})
    set(gptq_FOUND FALSE)
    set(gptq_NOT_FOUND_MESSAGE "gptq has no component ${component}")
  endif()
endforeach()
