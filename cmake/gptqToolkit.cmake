# gptq::toolkit: model files, tokenizers, the decoder and the pipeline. The same file serves the
# build tree and the installed package. Sets GPTQ_TOOLKIT_FOUND, and GPTQ_TOOLKIT_MISSING if a
# library is missing.

if(NOT TARGET gptq::toolkit)
  find_package(nlohmann_json 3.10 QUIET)
  find_path(GPTQ_ONIGURUMA_INCLUDE_DIR oniguruma.h)
  find_library(GPTQ_ONIGURUMA_LIBRARY onig)
  find_path(GPTQ_UTF8PROC_INCLUDE_DIR utf8proc.h)
  find_library(GPTQ_UTF8PROC_LIBRARY utf8proc)
  mark_as_advanced(GPTQ_ONIGURUMA_INCLUDE_DIR GPTQ_ONIGURUMA_LIBRARY GPTQ_UTF8PROC_INCLUDE_DIR GPTQ_UTF8PROC_LIBRARY)

  set(GPTQ_TOOLKIT_MISSING "")
  if(NOT nlohmann_json_FOUND)
    list(APPEND GPTQ_TOOLKIT_MISSING "nlohmann-json 3.10")
  endif()
  if(NOT GPTQ_ONIGURUMA_INCLUDE_DIR OR NOT GPTQ_ONIGURUMA_LIBRARY)
    list(APPEND GPTQ_TOOLKIT_MISSING "Oniguruma")
  endif()
  if(NOT GPTQ_UTF8PROC_INCLUDE_DIR OR NOT GPTQ_UTF8PROC_LIBRARY)
    list(APPEND GPTQ_TOOLKIT_MISSING "utf8proc")
  endif()

  if(NOT GPTQ_TOOLKIT_MISSING)
    # Global, so that a project that adds gptq as a subdirectory sees it too.
    add_library(gptq::toolkit INTERFACE IMPORTED GLOBAL)
    target_link_libraries(gptq::toolkit INTERFACE gptq::gptq nlohmann_json::nlohmann_json ${GPTQ_ONIGURUMA_LIBRARY} ${GPTQ_UTF8PROC_LIBRARY})
    target_include_directories(gptq::toolkit INTERFACE ${GPTQ_ONIGURUMA_INCLUDE_DIR} ${GPTQ_UTF8PROC_INCLUDE_DIR})
  endif()
endif()

if(TARGET gptq::toolkit)
  set(GPTQ_TOOLKIT_FOUND TRUE)
else()
  set(GPTQ_TOOLKIT_FOUND FALSE)
endif()
