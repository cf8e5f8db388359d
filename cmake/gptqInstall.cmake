# The headers and a relocatable package: find_package(gptq 0.1 REQUIRED [COMPONENTS compiled cuda toolkit]). The build tree is such a
# package too, with the headers in place: gptq_DIR=<build tree>.

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(GPTQ_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/gptq)

install(TARGETS gptq EXPORT gptqTargets
    FILE_SET core DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILE_SET toolkit DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILE_SET cuda DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
)
foreach(program gptq_program gptq_cuda_program)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
install(EXPORT gptqTargets NAMESPACE gptq:: DESTINATION ${GPTQ_PACKAGE_DIR})

write_basic_package_version_file(${PROJECT_BINARY_DIR}/gptqConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
    ${PROJECT_SOURCE_DIR}/cmake/gptqConfig.cmake
    ${PROJECT_SOURCE_DIR}/cmake/gptqCompiled.cmake
    ${PROJECT_SOURCE_DIR}/cmake/gptqCuda.cmake
    ${PROJECT_SOURCE_DIR}/cmake/gptqToolkit.cmake
    ${PROJECT_SOURCE_DIR}/cmake/gptqToolkitCuda.cmake
    ${PROJECT_BINARY_DIR}/gptqConfigVersion.cmake
    DESTINATION ${GPTQ_PACKAGE_DIR}
)

export(EXPORT gptqTargets NAMESPACE gptq:: FILE ${PROJECT_BINARY_DIR}/gptqTargets.cmake)
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/gptqConfig.cmake @ONLY CONTENT
"set(GPTQ_EXPORTED_TARGETS \"@PROJECT_BINARY_DIR@/gptqTargets.cmake\")
include(\"@PROJECT_SOURCE_DIR@/cmake/gptqConfig.cmake\")
unset(GPTQ_EXPORTED_TARGETS)
")
