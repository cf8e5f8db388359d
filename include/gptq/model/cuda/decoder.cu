// SPDX-License-Identifier: MIT

// The source of gptq::toolkit_cuda: the decoder's kernels.

#include <gptq/model/cuda/attention.cuh>
#include <gptq/model/cuda/delta_rule.cuh>
#include <gptq/model/cuda/elements.cuh>
#include <gptq/model/cuda/experts.cuh>
#include <gptq/model/cuda/rows.cuh>

namespace gptq::model::cuda {

using backend::cuda::launch, backend::cuda::launch_blocks, backend::cuda::launch_grid;

void norm(cudaStream_t stream, MatrixView<const float> x, const step::Norm& how,
          const float* weight, const float* bias, MatrixView<float> y) {
  using Kernel = kernels::Norm;
  const Kernel kernel{x, how, weight, bias, y};
  launch_blocks(stream, kernel.parts(), Kernel::threads,
                (Kernel::threads + 1) * Index(sizeof(float)), kernel);
}

void rope(cudaStream_t stream, MatrixView<float> x, const float* cosine, const float* sine,
          const step::Rope& how, Index half, Index length) {
  launch_grid(stream, x.rows(), x.cols() / how.head_dim * half,
              kernels::Turn{x, cosine, sine, how, half, length});
}

namespace {

template <int Tile, int Across>
bool attend(cudaStream_t stream, const AttentionOperands& operands, Index shared_memory) {
  using Kernel = kernels::Attend<Tile, Across>;
  const Kernel kernel{operands};
  if (operands.value_dim % Across != 0 || kernel.shared() > shared_memory) return false;
  launch_blocks(stream, kernel.blocks(), Kernel::threads, kernel.shared(), kernel);
  return true;
}

}  // namespace

void attention(cudaStream_t stream, const AttentionOperands& operands, Index shared_memory) {
  const bool fits = attend<32, 4>(stream, operands, shared_memory) ||
                    attend<16, 4>(stream, operands, shared_memory) ||
                    attend<16, 1>(stream, operands, shared_memory) ||
                    attend<8, 1>(stream, operands, shared_memory);
  gptq::detail::require(fits, "heads of ", operands.head_dim, " coordinates and values of ",
                        operands.value_dim, " do not fit the device's ", shared_memory,
                        " bytes of shared memory");
}

void activate(cudaStream_t stream, MatrixView<const float> x, Activation kind,
              MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Activate{x, kind, y});
}

void gated(cudaStream_t stream, MatrixView<const float> gate, MatrixView<const float> up,
           const step::Gated& how, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Gated{gate, up, how, y});
}

void fill(cudaStream_t stream, float value, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Fill{value, y});
}

void scale(cudaStream_t stream, MatrixView<const float> x, float factor, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Scale{x, factor, y});
}

void clamp(cudaStream_t stream, MatrixView<const float> x, float limit, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Clamp{x, limit, y});
}

void add_positions(cudaStream_t stream, MatrixView<const float> x, const float* table, Index offset,
                   Index length, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::AddPositions{x, table, offset, length, y});
}

void sharpen(cudaStream_t stream, MatrixView<const float> x, const step::Sharpen& how, Index length,
             MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Sharpen{x, how, length, y});
}

void columns(cudaStream_t stream, MatrixView<const float> x, const step::Columns& how,
             MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Columns{x, how, y});
}

void join(cudaStream_t stream, MatrixView<const float> a, MatrixView<const float> b,
          const step::Join& how, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Join{a, b, how, y});
}

void choose_experts(cudaStream_t stream, MatrixView<const float> logits, const step::Route& how,
                    const float* bias, float* scratch, MatrixView<float> weights) {
  launch(stream, logits.rows(), kernels::Choose{logits, how, bias, scratch, weights});
}

void list_tokens(cudaStream_t stream, MatrixView<const float> routes, Index expert, Index* tokens,
                 Index* count) {
  using Kernel = kernels::ListTokens;
  launch_blocks(stream, 1, Kernel::threads, Kernel::shared, Kernel{routes, expert, tokens, count});
}

void gather(cudaStream_t stream, MatrixView<const float> x, const Index* tokens,
            MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Gather{x, tokens, y});
}

void scatter(cudaStream_t stream, MatrixView<const float> x, MatrixView<const float> routes,
             Index expert, const Index* tokens, MatrixView<float> y) {
  launch_grid(stream, x.rows(), x.cols(), kernels::Scatter{x, routes, expert, tokens, y});
}

void convolution(cudaStream_t stream, MatrixView<const float> x, const float* weight, Index taps,
                 Index length, MatrixView<float> y) {
  launch_grid(stream, y.rows(), y.cols(), kernels::Convolution{x, weight, taps, length, y});
}

void delta_rule(cudaStream_t stream, const DeltaRuleOperands& operands) {
  using Kernel = kernels::DeltaRule;
  const Kernel kernel{operands};
  launch_blocks(stream, kernel.blocks(), Kernel::threads, kernel.shared(), kernel);
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
                Index first, const HeadOperands& head, const SoftmaxState& state) {
  using Kernel = kernels::AddLogits;
  launch_blocks(stream, logits.rows(), Kernel::threads,
                (Kernel::threads + 1) * Index(sizeof(double)),
                Kernel{logits, targets, first, head, state});
}

}  // namespace gptq::model::cuda
