// SPDX-License-Identifier: MIT

// The stages of quantizing on a GPU, each as a percentage of what the device or its libraries
// reach. Needs only nvcc: benchmarks/gpu.sh builds and runs it. With --small, all stages run at
// small sizes, for tools that check each memory access.

#include <gptq/backend/cuda.hpp>
#include <gptq/backend/cuda/device.cuh>
#include <gptq/backend/reference.hpp>
#include <gptq/quantizer.hpp>
#include <gptq/scheme/affine.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

/// The same numbers each time, adjacent ones correlated. (Not in an unnamed namespace: nvcc warns
/// about kernels with such types.)
struct Noise {
  std::uint32_t seed;
  float correlated;
  gptq::Index cols;
  gptq::bfloat16* halves;
  float* floats;
  GPTQ_HD static float at(std::uint32_t seed, gptq::Index i) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 2654435761u + seed;
    x = (x ^ (x >> 15)) * 2246822519u;
    x = (x ^ (x >> 13)) * 3266489917u;
    return static_cast<float>(x ^ (x >> 16)) / 2147483648.0f - 1;
  }
  GPTQ_HD void operator()(gptq::Index i) const {
    float x = at(seed, i);
    if (i % cols > 0) x += correlated * at(seed, i - 1);
    if (halves) halves[i] = gptq::to_bfloat16(x);
    else floats[i] = x;
  }
};

namespace {

using gptq::bfloat16;
using gptq::Index;
using gptq::MatrixView;
using gptq::backend::Cuda;
using Int4 = gptq::scheme::Int4;
namespace cuda = gptq::backend::cuda;

/// Best time in seconds of some runs, the device idle before and after.
template <class F>
double best(const Cuda& backend, int runs, const F& f) {
  double least = 1e9;
  for (int i = 0; i <= runs; ++i) {
    cuda::check(cudaStreamSynchronize(backend.stream()), "cudaStreamSynchronize");
    gptq::Stopwatch watch;
    f();
    cuda::check(cudaStreamSynchronize(backend.stream()), "cudaStreamSynchronize");
    const double seconds = watch.lap();
    if (i > 0) least = (std::min)(least, seconds);
  }
  return least;
}

/// What a device reaches: its libraries' best product, measured, and the (dense) peak from its data
/// sheet, if known here.
struct Limit {
  const char* name;
  double product, peak;
};

/// The peaks of an H200; those of other devices are unknown.
double known_peak(const char* device, double of_h200) {
  return std::strstr(device, "H200") ? of_h200 : 0;
}

void row(const char* what, double seconds, double flop, const Limit& limit) {
  std::printf("%-50s %9.3f ms", what, 1e3 * seconds);
  if (flop > 0) {
    std::printf("  %7.1f TFLOP/s  %5.1f %% of the %s product", flop / seconds / 1e12,
                100 * flop / seconds / limit.product, limit.name);
    if (limit.peak > 0) std::printf(", %5.1f %% of the peak", 100 * flop / seconds / limit.peak);
  }
  std::printf("\n");
  std::fflush(stdout);
}

gptq::Params solve_only() {
  gptq::Params params;
  params.measure = gptq::Measure::none;
  return params;
}

class Bench {
 public:
  /// \param size  of the products that stages are compared with
  explicit Bench(Index size) : runtime_(backend_.runtime()) {
    cudaDeviceProp device{};
    cuda::check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    int driver = 0, version = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&version);
    std::printf("%s, %d multiprocessors, %zu MiB, driver %d, runtime %d\n", device.name,
                device.multiProcessorCount, device.totalGlobalMem >> 20, driver, version);
    single_ = {"single", product_rate<float>(size), known_peak(device.name, 67e12)};
    halves_ = {"bfloat16", product_rate<bfloat16>(size), known_peak(device.name, 989e12)};
    std::printf("products of %td x %td x %td: %.0f TFLOP/s single, %.0f bfloat16\n", size, size,
                size, single_.product / 1e12, halves_.product / 1e12);
  }

  void hessian(Index n, Index tokens) {
    const auto x = noise<bfloat16>(tokens, n, 3);
    const MatrixView<const bfloat16> view(x.data(), tokens, n);
    auto sum = backend_.zeros(n, n);
    const double flop = static_cast<double>(tokens) * static_cast<double>(n * n);
    char name[80];
    std::snprintf(name, sizeof(name), "hessian, %td tokens x %td, bfloat16", tokens, n);
    row(name, best(backend_, 3, [&] { backend_.accumulate(sum, view, nullptr); }), flop, halves_);
    gptq::Hessian<Cuda> checked(n, backend_);
    row("  with the check for numbers that are not finite",
        best(backend_, 3, [&] { checked.add(view); }), flop, halves_);
  }

  /// The error of sums on the device, compared with double precision.
  void hessian_accuracy(Index n, Index tokens) {
    const auto x = noise<bfloat16>(tokens, n, 3);
    std::vector<bfloat16> on_host(static_cast<std::size_t>(n * tokens));
    runtime_->copy_to_host(on_host.data(), x.bytes(), x.data(), x.bytes(), x.bytes(), 1);
    gptq::Hessian<Cuda> fast(n, backend_);
    gptq::Hessian<gptq::backend::Reference> exact(n);
    fast.add(MatrixView<const bfloat16>(x.data(), tokens, n));
    exact.add(MatrixView<const bfloat16>(on_host.data(), tokens, n));
    std::vector<double> a(static_cast<std::size_t>(n * n)), b(a.size());
    backend_.download(fast.sum(), MatrixView<double>(a.data(), n, n));
    exact.backend().download(exact.sum(), MatrixView<double>(b.data(), n, n));
    double difference = 0, size = 0;
    for (Index i = 0; i < n; ++i)
      for (Index j = i; j < n; ++j) {
        const auto at = static_cast<std::size_t>(i * n + j);
        difference += (a[at] - b[at]) * (a[at] - b[at]);
        size += b[at] * b[at];
      }
    std::printf("hessian, %td tokens x %td, bfloat16: relative error %.1e (target 1e-5)\n", tokens,
                n, std::sqrt(difference / size));
  }

  void factorize(Index n) {
    const auto hessian = hessian_of(n);
    const gptq::Quantizer<Int4, Cuda> quantizer(solve_only());
    const auto size = static_cast<double>(n);
    char name[80];
    std::snprintf(name, sizeof(name), "factorize %td", n);
    const double whole = best(backend_, 3, [&] { (void)quantizer.factorize(hessian); });
    row(name, whole, size * size * size / 3, single_);
    std::vector<Index> order(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
    const std::vector<double> added(order.size(), hessian.tokens());
    double alone = 1e9;
    for (int i = 0; i < 3; ++i) {
      auto h = backend_.arrange(hessian.sum(), order, 1, added);
      cuda::reverse(backend_.stream(), h.data(), h.size());
      runtime_->synchronize();
      gptq::Stopwatch watch;
      (void)cuda::cholesky(runtime_, h);
      alone = (std::min)(alone, watch.lap());
    }
    row("  cuSOLVER's Cholesky alone", alone, size * size * size / 3, single_);
    std::printf("  factorize takes %.2f times as long (target 1.2)\n", whole / alone);
  }

  /// Grids, the loop and its updates, all on the device; then including codes and scales copied to
  /// the host.
  void solve(Index m, Index n, gptq::Range range) {
    gptq::Params params = solve_only();
    params.range = range;
    const gptq::Quantizer<Int4, Cuda> quantizer(params);
    const auto hessian = hessian_of(n);
    const auto factor = quantizer.factorize(hessian);
    const auto w = noise<float>(m, n, 5);
    const MatrixView<const float> weight(w.data(), m, n);
    const double flop = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(n);
    char name[80];
    std::snprintf(name, sizeof(name), "grids (%s), loop and updates %td x %td",
                  range == gptq::Range::minmax ? "min-max" : "search", m, n);
    row(name, grids_loop_and_updates(weight, factor, params), flop, single_);
    row("  from the weight to codes on the host",
        best(backend_, 3, [&] { (void)quantizer.quantize(weight, factor); }), flop, single_);
  }

  /// Seconds that a panel takes through the solver, all on the device.
  double grids_loop_and_updates(MatrixView<const float> weight,
                                const gptq::DampedFactor<Cuda>& factor,
                                const gptq::Params& params) {
    const gptq::Factors<Cuda> factors(factor);
    const Int4 scheme;
    const gptq::solver::Rounding<Int4, Cuda> rounding{scheme, params, factors,
                                                      gptq::scheme::range_search(params, 1, 1)};
    double seconds = 0;
    backend_.for_panels(
        weight.rows(), [&](const auto& worker, gptq::Index first, gptq::Index rows) {
          const gptq::Section<float> section{weight.middle_rows(first, rows), &factor.layout};
          auto panel = worker.load_panel(std::span(&section, 1), 1);
          seconds += best(backend_, 5, [&] {
            cudaMemsetAsync(panel.carry.data(), 0, panel.carry.bytes(), backend_.stream());
            gptq::Timings timings;
            gptq::solver::solve_panel<gptq::solver::ByParams>(
                worker, rounding, false, panel, timings, [](gptq::Index, gptq::Index) {});
          });
        });
    return seconds;
  }

  /// Experts in one launch, and one at a time.
  void experts(Index count, Index m, Index n) {
    const gptq::Quantizer<Int4, Cuda> quantizer(solve_only());
    const auto hessian = hessian_of(n);
    const auto w = noise<float>(count * m, n, 5);
    std::vector<MatrixView<const float>> weights;
    for (Index i = 0; i < count; ++i) weights.emplace_back(w.row(i * m), m, n);
    const std::vector<const gptq::Hessian<Cuda>*> hessians(weights.size(), &hessian);
    const auto size = static_cast<double>(n);
    const double flop = static_cast<double>(count) *
                        (size * size * size / 3 + static_cast<double>(m) * size * size);
    char name[80];
    std::snprintf(name, sizeof(name), "%td experts of %td x %td, factors and solves", count, m, n);
    row(name,
        best(backend_, 2,
             [&] {
               (void)quantizer.quantize(std::span<const MatrixView<const float>>(weights),
                                        std::span<const gptq::Hessian<Cuda>* const>(hessians));
             }),
        flop, single_);
    row("  one at a time",
        best(backend_, 1,
             [&] {
               for (const auto& weight : weights) (void)quantizer.quantize(weight, hessian);
             }),
        flop, single_);
  }

  /// The same work as in benchmarks/gpu_triton.py: the factor, and the loop with dynamic min-max
  /// scales.
  void against_rival() {
    constexpr Index n = 4096;
    gptq::Params params = solve_only();
    params.order = gptq::Order::natural;
    params.groups = gptq::Groups::dynamic;
    params.range = gptq::Range::minmax;
    params.signed_scales = false;
    const gptq::Quantizer<Int4, Cuda> quantizer(params);
    const auto hessian = hessian_of(n);
    const auto w = noise<float>(n, n, 5);
    const MatrixView<const float> weight(w.data(), n, n);
    const double factor_alone = best(backend_, 5, [&] { (void)quantizer.factorize(hessian); });
    const auto factor = quantizer.factorize(hessian);
    const double loop = grids_loop_and_updates(weight, factor, params);
    std::printf(
        "own factor        %9.3f ms\nown loop          %9.3f ms\nown factor+loop   %9.3f ms\n",
        1e3 * factor_alone, 1e3 * loop, 1e3 * (factor_alone + loop));
  }

  /// Device memory that a weight takes in addition to itself and its Hessian, in arrays of n x n
  /// floats.
  void memory(Index m, Index n) {
    const auto hessian = hessian_of(n);
    const auto w = noise<float>(m, n, 5);
    const gptq::Quantizer<Int4, Cuda> quantizer(solve_only());
    (void)runtime_->take_peak();
    const std::uint64_t held = hessian.sum().bytes() + w.bytes();
    (void)quantizer.quantize(MatrixView<const float>(w.data(), m, n), hessian);
    const double peak = static_cast<double>(runtime_->take_peak() - held);
    const auto plan = gptq::memory_plan(m, n, solve_only(), backend_);
    const auto asked = static_cast<double>(4 * n * n + plan.panel);
    std::printf(
        "peak memory %td x %td: %.0f MiB beyond weight and Hessian, planned %td MiB; %.2f times an "
        "array of n x n floats and a panel (target 1)\n",
        m, n, peak / 0x1p20, plan.peak() >> 20, peak / asked);
  }

  /// 32 layers with seven matrices: Hessians of 262 144 tokens, one factorization per input,
  /// solves.
  void llama() {
    constexpr Index tokens = 262144;
    struct Input {
      Index in;
      std::vector<Index> outs;
    };
    const Input inputs[] = {
        {4096, {4096, 1024, 1024}}, {4096, {4096}}, {4096, {14336, 14336}}, {14336, {4096}}};
    const gptq::Quantizer<Int4, Cuda> quantizer(solve_only());
    const auto w = noise<float>(14336, 14336, 7);
    const auto x = noise<bfloat16>(tokens, 14336, 3);
    double hessians = 0, solves = 0;
    for (int layer = 0; layer < 32; ++layer)
      for (const Input& input : inputs) {
        runtime_->synchronize();
        gptq::Stopwatch watch;
        gptq::Hessian<Cuda> hessian(input.in, backend_);
        hessian.add(MatrixView<const bfloat16>(x.data(), tokens, input.in));
        runtime_->synchronize();
        hessians += watch.lap();
        const auto factor = quantizer.factorize(hessian);
        std::vector<MatrixView<const float>> weights;  // of the same input: in one launch
        for (const Index out : input.outs) weights.emplace_back(w.data(), out, input.in);
        (void)quantizer.quantize(std::span<const MatrixView<const float>>(weights), factor);
        solves += watch.lap();
      }
    row("224 matrices of Llama-3-8B: Hessians", hessians, 0, {});
    row("  factors and solves", solves, 0, {});
    row("  together", hessians + solves, 0, {});
    std::printf("  %.0f %% of 10 s\n", 10 * (hessians + solves));
  }

 private:
  template <class T>
  cuda::DeviceMatrix<T> noise(Index rows, Index cols, std::uint32_t seed) {
    cuda::DeviceMatrix<T> m(runtime_, rows, cols);
    Noise f{seed, 0.7f, cols, nullptr, nullptr};
    if constexpr (std::is_same_v<T, float>) f.floats = m.data();
    else f.halves = m.data();
    cuda::launch(backend_.stream(), m.size(), f);
    runtime_->synchronize();
    return m;
  }

  template <class T>
  double product_rate(Index n) {
    const auto a = noise<T>(n, n, 1), b = noise<T>(n, n, 2);
    auto c = backend_.zeros(n, n);
    const double seconds = best(backend_, 4, [&] {
      cuda::add_product(*runtime_, cuda::part(c, 0, 0, n, n), cuda::part(a, 0, 0, n, n),
                        cuda::part(b, 0, 0, n, n));
    });
    const auto size = static_cast<double>(n);
    return 2 * size * size * size / seconds;
  }

  gptq::Hessian<Cuda> hessian_of(Index n) {
    gptq::Hessian<Cuda> hessian(n, backend_);
    const auto x = noise<bfloat16>(2 * n, n, 11);
    hessian.add(MatrixView<const bfloat16>(x.data(), 2 * n, n));
    return hessian;
  }

  Cuda backend_;
  std::shared_ptr<cuda::Runtime> runtime_;
  Limit single_{}, halves_{};
};

}  // namespace

int main(int argc, char** argv) {
  if (cuda::device_count() == 0) {
    std::printf("SKIPPED: no CUDA device\n");
    return 0;
  }
  const bool small = argc > 1 && std::strcmp(argv[1], "--small") == 0;
  int failed = 0;
  Bench bench(small ? 256 : 8192);
  const auto run = [&](const auto& f) {  // a failing stage does not end the others
    try {
      f();
    } catch (const std::exception& error) {
      std::printf("FAILED: %s\n", error.what());
      ++failed;
    }
    std::fflush(stdout);
  };
  if (small) {
    run([&] { bench.hessian(1200, 300); });
    run([&] { bench.factorize(300); });
    for (const auto range : {gptq::Range::minmax, gptq::Range::weighted})
      run([&] { bench.solve(100, 256, range); });
    run([&] { bench.memory(100, 256); });
    run([&] { bench.experts(3, 40, 256); });
    return failed;
  }
  run([&] { bench.hessian(4096, 262144); });
  run([&] { bench.hessian(14336, 65536); });
  run([&] { bench.hessian_accuracy(256, 262144); });
  run([&] { bench.factorize(4096); });
  run([&] { bench.factorize(14336); });
  for (const auto range : {gptq::Range::minmax, gptq::Range::weighted}) {
    run([&] { bench.solve(4096, 4096, range); });
    run([&] { bench.solve(14336, 4096, range); });
    run([&] { bench.solve(4096, 14336, range); });
  }
  run([&] { bench.memory(4096, 4096); });
  run([&] { bench.memory(4096, 14336); });
  run([&] { bench.against_rival(); });
  run([&] { bench.experts(128, 768, 2048); });
  run([&] { bench.llama(); });
  return failed;
}
