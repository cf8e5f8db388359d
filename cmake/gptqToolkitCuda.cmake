# gptq::toolkit_cuda: the decoder on an NVIDIA GPU, if both gptq::toolkit and gptq::cuda are
# available. The same file serves the build tree and the installed package. Link it PRIVATE, like
# gptq::cuda.

if(TARGET gptq::toolkit AND TARGET gptq::cuda AND NOT TARGET gptq::toolkit_cuda)
  add_library(gptq::toolkit_cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(gptq::toolkit_cuda INTERFACE gptq::toolkit gptq::cuda)
  target_sources(gptq::toolkit_cuda INTERFACE ${GPTQ_CUDA_SOURCE_DIR}/gptq/model/cuda/decoder.cu)
endif()
