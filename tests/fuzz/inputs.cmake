# gptq_fuzz_inputs: seeds, dictionaries and the larger inputs that once failed, generated from the fixtures.

set(GPTQ_FUZZ_INPUTS ${PROJECT_BINARY_DIR}/fuzz_inputs)
if(TARGET gptq_fuzz_inputs)
  return()
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)
file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/gptq/io/*.hpp ${PROJECT_SOURCE_DIR}/include/gptq/model/*.hpp
    ${PROJECT_SOURCE_DIR}/include/gptq/model/tokenizer/*.hpp)
add_custom_command(OUTPUT ${GPTQ_FUZZ_INPUTS}/made
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/inputs.py ${PROJECT_SOURCE_DIR} ${GPTQ_FUZZ_INPUTS}
    COMMAND ${CMAKE_COMMAND} -E touch ${GPTQ_FUZZ_INPUTS}/made
    DEPENDS ${CMAKE_CURRENT_LIST_DIR}/inputs.py ${headers} VERBATIM)
add_custom_target(gptq_fuzz_inputs DEPENDS ${GPTQ_FUZZ_INPUTS}/made)
