// SPDX-License-Identifier: MIT

// The stages of quantizing one matrix, each as a percentage of the best single-precision matrix
// product on the same machine in the same run.
//
//   cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DGPTQ_BUILD_BENCHMARKS=ON
//   cmake --build build --target gptq_benchmarks
//   build/gptq_benchmarks [--benchmark_filter=solve]

#include <gptq/gptq.hpp>

#include <benchmark/benchmark.h>

#ifdef GPTQ_OPENBLAS
#include <cblas.h>
#endif

#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>
#include <numeric>  // std::iota
#include <random>

namespace {

using gptq::Hessian;
using gptq::Index;
using gptq::MatrixView;
using gptq::Params;
using gptq::Quantizer;
using Cpu = gptq::backend::Cpu;
using Matrix = gptq::backend::HostMatrix<float>;
using Int4 = gptq::scheme::Int4;

Matrix random_matrix(Index rows, Index cols, unsigned seed) {
  Matrix m(rows, cols);
  std::minstd_rand random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (Index i = 0; i < rows * cols; ++i) m.data()[i] = uniform(random);
  return m;
}

/// Best FLOP/s of a single-precision product n x n x n on so many threads: OpenBLAS, or Eigen in
/// strips.
double sgemm_rate(int threads, Index n) {
  const Matrix a = random_matrix(n, n, 1), b = random_matrix(n, n, 2);
  Matrix c(n, n);
  const auto size = static_cast<double>(n);
  double best = 0;
  const auto measure = [&](const auto& multiply) {
    for (Index repeat = 0; repeat < 16384 / n; ++repeat) {
      gptq::Stopwatch watch;
      multiply();
      best = std::max(best, 2 * size * size * size / watch.lap());
    }
  };
  const gptq::exec::Threads executor(threads);
  constexpr Index strip = 256;
  measure([&] {
    executor.parallel_for(n / strip, [&](Index i) {
      namespace cpu = gptq::backend::cpu;
      cpu::block(c, i * strip, 0, strip, n).noalias() =
          cpu::block(a, i * strip, 0, strip, n) * cpu::block(b, 0, 0, n, n);
    });
  });
#ifdef GPTQ_OPENBLAS
  const auto side = static_cast<blasint>(n);
  openblas_set_num_threads(threads);
  measure([&] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, side, side, side, 1, a.data(), side,
                b.data(), side, 0, c.data(), side);
  });
#endif
  return best;
}

/// The best of two sizes.
double sgemm_rate(int threads) {
  static std::map<int, double> known;
  if (known.count(threads)) return known[threads];
  return known[threads] = (std::max)(sgemm_rate(threads, 2048), sgemm_rate(threads, 4096));
}

/// Times work() and reports the best time, like that of the product it is compared with.
/// \param before  called untimed before each run
template <class Work, class Before>
void measure(benchmark::State& state, int threads, double flop, const Work& work,
             const Before& before) {
  double best = std::numeric_limits<double>::infinity();
  for (auto _ : state) {
    before();
    gptq::Stopwatch watch;
    work();
    const double seconds = watch.lap();
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  using benchmark::Counter;
  state.counters["best_ms"] = 1000 * best;
  state.counters["FLOP/s"] = Counter(flop / best, Counter::kDefaults, Counter::kIs1000);
  state.counters["%SGEMM"] = 100 * flop / best / sgemm_rate(threads);
}

template <class Work>
void measure(benchmark::State& state, int threads, double flop, const Work& work) {
  measure(state, threads, flop, work, [] {});
}

/// A realistic Hessian.
Hessian<Cpu> hessian_of(Index n, const Cpu& backend) {
  Matrix x = random_matrix(n / 2, n, 3);
  for (Index t = 0; t < x.rows(); ++t)
    for (Index j = 1; j < n; ++j) x(t, j) = 0.7f * x(t, j - 1) + 0.5f * x(t, j);
  Hessian<Cpu> hessian(n, backend);
  hessian.add(x.view());
  return hessian;
}

Params solve_only() {
  Params params;
  params.measure = gptq::Measure::none;
  return params;
}

void add_hessian(benchmark::State& state, gptq::Precision precision) {
  const int threads = static_cast<int>(state.range(0));
  const Index n = state.range(1), tokens = 4096;
  const Matrix x = random_matrix(tokens, n, 4);
  Hessian<Cpu> hessian(n, Cpu(gptq::exec::Threads(threads), precision));
  const auto size = static_cast<double>(n);
  measure(state, threads, static_cast<double>(tokens) * size * size,
          [&] { hessian.add(x.view()); });
}

/// The Cholesky factorization alone; `factorize` is what a quantizer does before it solves.
void cholesky(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  const Index n = state.range(1);
  const Cpu backend{gptq::exec::Threads(threads)};
  const auto hessian = hessian_of(n, backend);
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  const std::vector<double> added(order.size(), hessian.tokens());
  const auto size = static_cast<double>(n);
  Matrix h;
  measure(
      state, threads, size * size * size / 3,
      [&] { benchmark::DoNotOptimize(backend.factorize(h)); },
      [&] { h = backend.arrange(hessian.sum(), order, 1, added); });
}

void factorize(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  const Index n = state.range(1);
  const auto hessian = hessian_of(n, Cpu(gptq::exec::Threads(threads)));
  const Quantizer<Int4, Cpu> quantizer(solve_only());
  const auto size = static_cast<double>(n);
  measure(state, threads, size * size * size / 3,
          [&] { benchmark::DoNotOptimize(quantizer.factorize(hessian)); });
}

/// \param factorize  whether factorization is timed too
void solve(benchmark::State& state, gptq::Range range, bool factorize) {
  const int threads = static_cast<int>(state.range(0));
  const Index m = state.range(1), n = state.range(2);
  const auto hessian = hessian_of(n, Cpu(gptq::exec::Threads(threads)));
  const Matrix weight = random_matrix(m, n, 5);
  Params params = solve_only();
  params.range = range;
  const Quantizer<Int4, Cpu> quantizer(params);
  const auto factor = quantizer.factorize(hessian);
  const auto rows = static_cast<double>(m), size = static_cast<double>(n);
  measure(state, threads, rows * size * size + (factorize ? size * size * size / 3 : 0.0), [&] {
    benchmark::DoNotOptimize(factorize ? quantizer.quantize(weight.view(), hessian)
                                       : quantizer.quantize(weight.view(), factor));
  });
}

/// A whole layer from activations to codes and report: 4096 tokens, the Hessian, factor, search,
/// solve, and the error of round to nearest.
void whole_layer(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  const Index m = state.range(1), n = state.range(2), tokens = 4096;
  const Cpu backend{gptq::exec::Threads(threads)};
  const Matrix x = random_matrix(tokens, n, 4), weight = random_matrix(m, n, 5);
  const Quantizer<Int4, Cpu> quantizer;
  const auto rows = static_cast<double>(m), size = static_cast<double>(n);
  measure(state, threads,
          static_cast<double>(tokens) * size * size + size * size * size / 3 + rows * size * size,
          [&] {
            Hessian<Cpu> hessian(n, backend);
            hessian.add(x.view());
            benchmark::DoNotOptimize(quantizer.quantize(weight.view(), hessian));
          });
}

/// Only the search for scales, one group after the other: 54 grids per group at about 8 operations
/// per weight.
void range_search(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  const Index m = state.range(1), n = state.range(2);
  const Cpu backend{gptq::exec::Threads(threads)};
  const Matrix weight = random_matrix(m, n, 5);
  measure(state, threads, 54.0 * 8 * static_cast<double>(m * n), [&] {
    benchmark::DoNotOptimize(
        gptq::baseline::round_to_nearest<Int4>(weight.view(), Params{}, backend));
  });
}

/// 128 experts of the same shape that take turns with eight Hessians.
void experts(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  constexpr Index count = 128, m = 768, n = 2048, distinct = 8;
  const Cpu backend{gptq::exec::Threads(threads)};
  std::vector<Hessian<Cpu>> hessians;
  for (Index i = 0; i < distinct; ++i) hessians.push_back(hessian_of(n, backend));
  const Matrix weight = random_matrix(m, n, 6);
  const std::vector<MatrixView<const float>> weights(count, weight.view());
  std::vector<const Hessian<Cpu>*> inputs;
  for (Index i = 0; i < count; ++i)
    inputs.push_back(&hessians[static_cast<std::size_t>(i % distinct)]);
  const Quantizer<Int4, Cpu> quantizer(solve_only());
  const double size = n;
  measure(state, threads, count * (size * size * size / 3 + m * size * size), [&] {
    benchmark::DoNotOptimize(quantizer.quantize(std::span<const MatrixView<const float>>(weights),
                                                std::span<const Hessian<Cpu>* const>(inputs)));
  });
}

/// y = x·Wᵀ as the decoder computes it.
void decoder_product(benchmark::State& state, gptq::Precision precision) {
  const int threads = static_cast<int>(state.range(0));
  const Index out = state.range(1), in = state.range(2), tokens = 2048;
  const gptq::exec::Threads executor(threads);
  const Matrix x = random_matrix(tokens, in, 7), w = random_matrix(out, in, 8);
  Matrix y(tokens, out);
  namespace cpu = gptq::backend::cpu;
  measure(state, threads, 2.0 * static_cast<double>(tokens * out * in), [&] {
    cpu::multiply_transposed(executor, y.view(), x.view(), w.view(), false, precision);
  });
}

void add_all() {
  const int all = gptq::exec::Threads().concurrency();
  const auto add = [&](const char* name, const auto& function,
                       const std::vector<std::vector<Index>>& shapes) {
    for (const auto& shape : shapes)
      for (const int threads : {1, all}) {
        std::vector<std::int64_t> arguments{threads};
        arguments.insert(arguments.end(), shape.begin(), shape.end());
        benchmark::RegisterBenchmark(name, function)
            ->Args(arguments)
            ->Unit(benchmark::kMillisecond)
            ->UseManualTime()
            ->MinTime(1);
        if (all == 1) break;
      }
  };
  using gptq::Precision, gptq::Range;
  const std::vector<std::vector<Index>> inputs{{1152}, {4096}, {14336}};
  const std::vector<std::vector<Index>> layers{
      {4096, 4096}, {14336, 4096}, {4096, 14336}, {4304, 1152}};
  add(
      "hessian/single", [](auto& state) { add_hessian(state, Precision::single); }, inputs);
  add(
      "hessian/split", [](auto& state) { add_hessian(state, Precision::split); }, inputs);
  add("cholesky", cholesky, inputs);
  add("factorize", factorize, inputs);
  add("range_search", range_search, layers);
  add(
      "solve/search", [](auto& state) { solve(state, Range::weighted, false); }, layers);
  add(
      "solve/minmax", [](auto& state) { solve(state, Range::minmax, false); }, layers);
  add(
      "factorize+solve/search", [](auto& state) { solve(state, Range::weighted, true); }, layers);
  add(
      "factorize+solve/minmax", [](auto& state) { solve(state, Range::minmax, true); }, layers);
  add("layer", whole_layer, layers);
  add("experts", experts, {{}});
  add("decoder/single", [](auto& state) { decoder_product(state, Precision::single); },
      {{576, 576}, {1536, 576}, {4096, 4096}});
  add("decoder/split", [](auto& state) { decoder_product(state, Precision::split); },
      {{576, 576}, {1536, 576}, {4096, 4096}});
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const int all = gptq::exec::Threads().concurrency();
  std::printf("best SGEMM: %.0f GFLOP/s on 1 thread, %.0f on %d\n", sgemm_rate(1) / 1e9,
              sgemm_rate(all) / 1e9, all);
  std::printf("arguments: threads, then inputs or outputs/inputs\n");
  add_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
