// SPDX-License-Identifier: MIT

// Threads of your own: the CPU backend on the program's own executor, which also counts its calls.

#include <gptq/gptq.hpp>

#include <atomic>
#include <exception>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

/// An engine's own way to run calls in parallel. Copies share the count.
struct EngineThreads {
  std::shared_ptr<std::atomic<long>> calls = std::make_shared<std::atomic<long>>(0);

  int concurrency() const { return 2; }

  template <class F>
  void parallel_for(gptq::Index n, F&& f) const {
    *calls += n;
    if (n < 2) {
      for (gptq::Index i = 0; i < n; ++i) f(i);
      return;
    }
    // Two halves; if both throw, the first half's exception is passed on, as the contract requires.
    std::exception_ptr errors[2];
    const auto half = [&](int which) {
      try {
        for (gptq::Index i = which * (n / 2); i < (which ? n : n / 2); ++i) f(i);
      } catch (...) {
        errors[which] = std::current_exception();
      }
    };
    std::thread other(half, 1);
    half(0);
    other.join();
    for (const auto& error : errors)
      if (error) std::rethrow_exception(error);
  }
};
static_assert(gptq::exec::Executor<EngineThreads>);

using EngineBackend = gptq::backend::BasicCpu<EngineThreads>;
static_assert(gptq::backend::Backend<EngineBackend>);

int main() {
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(128, 192);
  const Eigen::MatrixXf activations = Eigen::MatrixXf::Random(1000, 192);
  const gptq::Params params{.group_size = 64};

  const EngineThreads threads;
  gptq::Hessian mine(192, EngineBackend(threads));
  mine.add(activations);
  const auto a = gptq::Quantizer<gptq::scheme::Int4, EngineBackend>(params).quantize(weight, mine);

  gptq::Hessian theirs(192, gptq::backend::Cpu());
  theirs.add(activations);
  const auto b =
      gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu>(params).quantize(weight, theirs);

  std::cout << "calls: " << *threads.calls << '\n';
  // Any executor gives the same bits.
  for (gptq::Index r = 0; r < a.rows(); ++r)
    for (gptq::Index c = 0; c < a.cols(); ++c)
      if (a.codes()(r, c) != b.codes()(r, c)) return 1;
  return *threads.calls > 0 ? 0 : 1;
}
