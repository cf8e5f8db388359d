// SPDX-License-Identifier: MIT

// The one source of gptq::cuda: kernels that do not depend on a scheme, and those of the stock
// schemes.

#include <gptq/backend/cuda/kernels.cuh>
#include <gptq/backend/cuda/matrix_kernels.cuh>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/codebook.hpp>
#include <gptq/scheme/minifloat.hpp>

namespace gptq::backend::cuda {

void sum(cudaStream_t stream, const float* a, const float* b, Index count, float* to) {
  launch(stream, count, kernels::Sum{a, b, to});
}

void fill_diagonals(cudaStream_t stream, float value, Index n, Index matrices, float* data) {
  launch_grid(stream, matrices, n, kernels::FillDiagonals{value, n, data});
}

void split(cudaStream_t stream, const float* x, Index count, bfloat16* high, bfloat16* low) {
  launch(stream, count, kernels::Split{x, high, low});
}

void squares_of_rows(cudaStream_t stream, MatrixView<const float> matrix, const Sections& sections,
                     double* of_row) {
  constexpr int threads = 128;
  launch_blocks(stream, sections.number * matrix.rows(), threads, threads * Index(sizeof(double)),
                kernels::ReduceRows<float, double, kernels::Squares>{matrix, sections, {}, of_row});
}

void pivot_row(cudaStream_t stream, const float* h, Index n, Index done, Index best, double pivot,
               double* factor, double* pivots) {
  launch(stream, n, kernels::PivotRow{h, n, done, best, pivot, factor, pivots});
}

void gather_rows(cudaStream_t stream, MatrixView<const float> from, const Index* order, Index count,
                 float* to) {
  launch_grid(stream, count, from.cols(), kernels::GatherRows{from, order, to});
}

void scatter_codes(cudaStream_t stream, const std::uint8_t* from, Index n, Index stride,
                   const Sections& sections, const Index* order, Index orders, std::uint8_t* to) {
  launch_grid(stream, n, stride,
              kernels::ScatterCodes{from, n, stride, sections, order, orders, to});
}

void arrange_all(cudaStream_t stream, const float* const* from, Index matrices, Index n,
                 const Index* order, const double* factor, const double* added, float* to) {
  launch_grid(stream, matrices * n, n, kernels::ArrangeAll{from, n, order, factor, added, to});
}

void diagonals(cudaStream_t stream, const float* const* matrices, Index count, Index n, float* to) {
  launch_grid(stream, count, n, kernels::Diagonals{matrices, n, to});
}

void clear_lower(cudaStream_t stream, float* data, Index n, Index matrices) {
  launch_grid(stream, matrices * n, n, kernels::ClearLower<float>{data, n});
}

void clear_lower(cudaStream_t stream, double* data, Index n, Index matrices) {
  launch_grid(stream, matrices * n, n, kernels::ClearLower<double>{data, n});
}

void add_losses(cudaStream_t stream, const double* partial, const Sections& sections, Index n,
                double* of_column) {
  launch_grid(stream, sections.number, n, kernels::AddLosses{partial, sections, n, of_column});
}

template void arrange(cudaStream_t, const float*, Index, const Index*, double, const double*,
                      float*);
template void arrange(cudaStream_t, const float*, Index, const Index*, double, const double*,
                      double*);
template void reverse(cudaStream_t, float*, Index, Index);
template void reverse(cudaStream_t, double*, Index, Index);
template void convert(cudaStream_t, MatrixView<const float>, const float*, float*);
template void convert(cudaStream_t, MatrixView<const double>, const float*, float*);
template void convert(cudaStream_t, MatrixView<const bfloat16>, const float*, float*);
template void convert(cudaStream_t, MatrixView<const float16>, const float*, float*);
template void narrow(cudaStream_t, MatrixView<const float>, bfloat16*);
template void narrow(cudaStream_t, MatrixView<const float>, float16*);
template void largest_of_rows(cudaStream_t, MatrixView<const float>, float*);
template void largest_of_rows(cudaStream_t, MatrixView<const double>, float*);
template void largest_of_rows(cudaStream_t, MatrixView<const bfloat16>, float*);
template void largest_of_rows(cudaStream_t, MatrixView<const float16>, float*);
template void load_panel(cudaStream_t, MatrixView<const float>, float, const Index*,
                         const std::uint8_t*, Index, Index, float*);
template void load_panel(cudaStream_t, MatrixView<const double>, float, const Index*,
                         const std::uint8_t*, Index, Index, float*);
template void load_panel(cudaStream_t, MatrixView<const bfloat16>, float, const Index*,
                         const std::uint8_t*, Index, Index, float*);
template void load_panel(cudaStream_t, MatrixView<const float16>, float, const Index*,
                         const std::uint8_t*, Index, Index, float*);
template void load_panels(cudaStream_t, const MatrixView<const float>*, Index, Index, float,
                          const Index*, const std::uint8_t*, Index, const Sections&, Index, float*);
template void load_panels(cudaStream_t, const MatrixView<const double>*, Index, Index, float,
                          const Index*, const std::uint8_t*, Index, const Sections&, Index, float*);
template void load_panels(cudaStream_t, const MatrixView<const bfloat16>*, Index, Index, float,
                          const Index*, const std::uint8_t*, Index, const Sections&, Index, float*);
template void load_panels(cudaStream_t, const MatrixView<const float16>*, Index, Index, float,
                          const Index*, const std::uint8_t*, Index, const Sections&, Index, float*);

}  // namespace gptq::backend::cuda

namespace gs = gptq::scheme;
GPTQ_CUDA_SCHEME(gs::Affine<2>);
GPTQ_CUDA_SCHEME(gs::Affine<3>);
GPTQ_CUDA_SCHEME(gs::Affine<4>);
GPTQ_CUDA_SCHEME(gs::Affine<5>);
GPTQ_CUDA_SCHEME(gs::Affine<6>);
GPTQ_CUDA_SCHEME(gs::Affine<7>);
GPTQ_CUDA_SCHEME(gs::Affine<8>);
GPTQ_CUDA_SCHEME(gs::Asymmetric<2>);
GPTQ_CUDA_SCHEME(gs::Asymmetric<3>);
GPTQ_CUDA_SCHEME(gs::Asymmetric<4>);
GPTQ_CUDA_SCHEME(gs::Asymmetric<5>);
GPTQ_CUDA_SCHEME(gs::Asymmetric<6>);
GPTQ_CUDA_SCHEME(gs::Asymmetric<7>);
GPTQ_CUDA_SCHEME(gs::Asymmetric<8>);
GPTQ_CUDA_SCHEME(gs::NF4);
GPTQ_CUDA_SCHEME(gs::Float4);
GPTQ_CUDA_SCHEME(gs::Float8);
