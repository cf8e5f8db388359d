// SPDX-License-Identifier: MIT
#pragma once

// exec::Threads: Eigen's own thread pool, started when first needed and shared by all copies.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>

#if __has_include(<Eigen/ThreadPool>)
#include <Eigen/ThreadPool>
#else
#include <unsupported/Eigen/CXX11/ThreadPool>
#endif

#include <atomic>
#include <exception>  // std::exception_ptr
#include <limits>
#include <memory>
#include <mutex>
#include <thread>

namespace gptq::exec {

class Threads {
 public:
  /// \param count  threads that work, the calling one among them; 0: as many as the machine offers to this process
  explicit Threads(int count = 0) : state_(std::make_shared<State>()) {
    detail::require(count >= 0, "threads = ", count, " must not be negative (0: one per processor)");
    const int offered = static_cast<int>(std::thread::hardware_concurrency());
    state_->count = count > 0 ? count : offered > 0 ? offered : 1;
  }

  int concurrency() const { return state_->count; }

  template <class F>
  void parallel_for(Index n, F&& f) const {
    State& state = *state_;
    if (state.count > 1 && n > 1)
      std::call_once(state.started, [&] { state.pool = std::make_unique<Eigen::ThreadPool>(state.count - 1); });
    if (state.count == 1 || n <= 1 || state.inside()) {
      for (Index i = 0; i < n; ++i) f(i);
      return;
    }

    std::atomic<Index> next{0};
    std::mutex mutex;
    std::exception_ptr error;
    Index failed = std::numeric_limits<Index>::max();
    const auto work = [&] {
      for (Index i = next++; i < n; i = next++) {
        try {
          f(i);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (i < failed) {
            failed = i;
            error = std::current_exception();
          }
        }
      }
    };
    const auto helpers = static_cast<unsigned>((std::min)(Index(state.count), n) - 1);
    Eigen::Barrier done(helpers);
    for (unsigned i = 0; i < helpers; ++i)
      state.pool->Schedule([&] {
        work();
        done.Notify();
      });
    work();
    done.Wait();
    if (error) std::rethrow_exception(error);
  }

 private:
  struct State {
    int count = 1;
    std::once_flag started;
    std::unique_ptr<Eigen::ThreadPool> pool;

    /// Whether the calling thread is one of the pool's: waiting there for others could wait for ever.
    bool inside() const { return pool->CurrentThreadId() >= 0; }
  };
  std::shared_ptr<State> state_;
};

}  // namespace gptq::exec
