// SPDX-License-Identifier: MIT
#pragma once

// exec::Threads: a pool of threads, started when first needed and shared by all copies; one for the
// whole process unless another is requested.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/exec/pool.hpp>
#include <gptq/exec/processors.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>

namespace gptq::exec {

/// Runs work on a number of threads that wait between calls; copies share them.
///
/// If the system does not grant as many threads as requested (`ulimit -u`, a container's limit),
/// those granted do the work, with the same results: compare concurrency() with asked() after
/// start().
class Threads {
 public:
  /// The process-wide pool, with a thread per processor: all objects constructed this way share it,
  /// and it lives until the process ends.
  Threads() {
    static const Threads shared(0);
    state_ = shared.state_;
  }

  /// A separate pool.
  /// \param count  threads that work, including the calling one; 0: one per processor
  explicit Threads(int count) : state_(std::make_shared<State>()) {
    gptq::detail::require(count >= 0, "threads = ", count,
                          " must not be negative (0: one per processor)");
    state_->asked = count > 0 ? count : processors();
    state_->running = state_->asked;
  }

  /// Threads requested.
  int asked() const { return state_->asked; }

  /// Threads that work. Before they are started, which happens when first needed: asked().
  int concurrency() const { return state_->running; }

  /// Starts the threads if necessary.
  /// \return  concurrency(): how many there really are, including the calling one
  int start() const {
    State& state = *state_;
    std::call_once(state.started, [&] {
      if (state.asked > 1) state.running = 1 + state.pool.emplace(state.asked - 1).size();
    });
    return state.running;
  }

  template <class F>
  void parallel_for(Index n, F&& f) const {
    if (n <= 1 || start() == 1 || state_->pool->inside()) {
      for (Index i = 0; i < n; ++i) f(i);
      return;
    }
    LoopOf<std::remove_reference_t<F>> loop(n, f);
    state_->pool->run(loop);
    loop.rethrow();
  }

 private:
  struct State {
    int asked = 1;
    std::atomic<int> running{1};
    std::once_flag started;
    std::optional<Pool> pool;
  };
  std::shared_ptr<State> state_;
};

}  // namespace gptq::exec
