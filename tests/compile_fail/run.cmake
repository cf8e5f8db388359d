# Compiles SOURCE as it is, which must work, and with GPTQ_TEST_FAIL, which must fail with the message that its line
# "// expects: REGEX" names.

file(STRINGS ${SOURCE} line REGEX "^// expects: ")
string(REPLACE "// expects: " "" expected "${line}")
separate_arguments(flags UNIX_COMMAND "${FLAGS}")

execute_process(COMMAND ${COMPILER} ${flags} -fsyntax-only ${SOURCE} RESULT_VARIABLE healthy ERROR_VARIABLE output)
if(NOT healthy EQUAL 0)
  message(FATAL_ERROR "does not compile without its fault:\n${output}")
endif()
execute_process(COMMAND ${COMPILER} ${flags} -DGPTQ_TEST_FAIL -fsyntax-only ${SOURCE} RESULT_VARIABLE failing ERROR_VARIABLE output)
if(failing EQUAL 0)
  message(FATAL_ERROR "compiles with its fault")
endif()
if(NOT output MATCHES "${expected}")
  message(FATAL_ERROR "the message has no \"${expected}\":\n${output}")
endif()
