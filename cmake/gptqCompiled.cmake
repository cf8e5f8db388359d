# gptq::compiled: a static library with the stock schemes on backend::Cpu, for projects with many
# sources that quantize. Built with the project's own flags, and only if something links it: link it
# PRIVATE. The same file serves the build tree and the installed package.

if(NOT TARGET gptq::compiled)
  find_path(GPTQ_COMPILED_SOURCE_DIR gptq/compiled.cpp
      HINTS ${CMAKE_CURRENT_LIST_DIR}/../include ${CMAKE_CURRENT_LIST_DIR}/../../../include ${CMAKE_CURRENT_LIST_DIR}/../../../../include
      NO_DEFAULT_PATH REQUIRED)
  mark_as_advanced(GPTQ_COMPILED_SOURCE_DIR)
  add_library(gptq_compiled STATIC EXCLUDE_FROM_ALL ${GPTQ_COMPILED_SOURCE_DIR}/gptq/compiled.cpp)
  add_library(gptq::compiled ALIAS gptq_compiled)
  target_link_libraries(gptq_compiled PUBLIC gptq::gptq)
  target_compile_definitions(gptq_compiled PUBLIC GPTQ_COMPILED)
  set_target_properties(gptq_compiled PROPERTIES POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF)
endif()
set(GPTQ_COMPILED_FOUND TRUE)
