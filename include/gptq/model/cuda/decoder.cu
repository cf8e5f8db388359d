// SPDX-License-Identifier: MIT

// The source of gptq::toolkit_cuda: the decoder's kernels.

#include <gptq/model/cuda/kernels.cuh>

namespace gptq::model::cuda {

using backend::cuda::launch, backend::cuda::launch_blocks, backend::cuda::launch_grid;

void rms_norm(cudaStream_t stream, MatrixView<const float> x, const float* weight, Index size,
              float epsilon, MatrixView<float> y) {
  using Kernel = kernels::RmsNorm;
  launch_blocks(stream, x.rows() * (x.cols() / size), Kernel::threads,
                Kernel::threads * Index(sizeof(float)), Kernel{x, weight, size, epsilon, y});
}

void rope(cudaStream_t stream, MatrixView<float> x, const float* cosine, const float* sine,
          Index half, Index length) {
  launch_grid(stream, x.rows(), x.cols() / 2, kernels::Turn{x, cosine, sine, half, length});
}

namespace {

template <int Tile, int Across>
bool attend(cudaStream_t stream, const AttentionOperands& operands, Index shared_memory) {
  using Kernel = kernels::Attend<Tile, Across>;
  const Kernel kernel{operands, 1.0f / std::sqrt(static_cast<float>(operands.head_dim))};
  if (operands.head_dim % Across != 0 || kernel.shared() > shared_memory) return false;
  launch_blocks(stream, kernel.blocks(), Kernel::threads, kernel.shared(), kernel);
  return true;
}

}  // namespace

void attention(cudaStream_t stream, const AttentionOperands& operands, Index shared_memory) {
  const bool fits = attend<32, 4>(stream, operands, shared_memory) ||
                    attend<16, 4>(stream, operands, shared_memory) ||
                    attend<16, 2>(stream, operands, shared_memory);
  gptq::detail::require(fits, "heads of ", operands.head_dim,
                        " coordinates do not fit the device's ", shared_memory,
                        " bytes of shared memory");
}

void silu_mul(cudaStream_t stream, const float* up, Index count, float* gate) {
  launch(stream, count, kernels::SiluMul{up, gate});
}

void add_bias(cudaStream_t stream, const float* bias, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::AddBias{bias, y});
}

void add(cudaStream_t stream, MatrixView<const float> x, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Add{x, y});
}

void subtract(cudaStream_t stream, MatrixView<const float> a, MatrixView<const float> b,
              MatrixView<float> to) {
  launch_grid(stream, to.rows(), to.cols(), kernels::Subtract{a, b, to});
}

void round_to_int8(cudaStream_t stream, MatrixView<const float> x, float scale, float* y) {
  launch_grid(stream, x.rows(), x.cols(), kernels::RoundToInt8{x, {scale, 128}, y});
}

void add_logits(cudaStream_t stream, MatrixView<const float> logits, const std::int32_t* targets,
                Index first, const SoftmaxState& state) {
  using Kernel = kernels::AddLogits;
  launch_blocks(stream, logits.rows(), Kernel::threads,
                (Kernel::threads + 1) * Index(sizeof(double)),
                Kernel{logits, targets, first, state});
}

}  // namespace gptq::model::cuda
