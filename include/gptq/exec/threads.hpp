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

#ifdef __linux__
#include <sched.h>  // sched_getaffinity
#endif

#include <atomic>
#include <condition_variable>
#include <exception>  // std::exception_ptr
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>  // std::move

namespace gptq::exec {

/// Runs things on a number of threads that wait for work between calls; copies share them.
class Threads {
 public:
  /// \param count  threads that work, the calling one among them; 0: as many as the machine offers
  /// to this process
  explicit Threads(int count = 0) : state_(std::make_shared<State>()) {
    detail::require(count >= 0, "threads = ", count,
                    " must not be negative (0: one per processor)");
    state_->count = count > 0 ? count : offered();
  }

  int concurrency() const { return state_->count; }

  template <class F>
  void parallel_for(Index n, F&& f) const {
    State& state = *state_;
    if (state.count > 1 && n > 1)
      std::call_once(state.started,
                     [&] { state.pool = std::make_unique<Eigen::ThreadPool>(state.count - 1); });
    if (state.count == 1 || n <= 1 || state.inside()) {
      for (Index i = 0; i < n; ++i) f(i);
      return;
    }

    std::atomic<Index> next{0};
    const auto job = std::make_shared<Job>();
    const auto work = [&] {
      // What comes behind a call that failed is not begun.
      for (Index i = next++; i < n && i < job->failed(); i = next++) {
        try {
          f(i);
        } catch (...) {
          job->fail(i, std::current_exception());
        }
      }
    };
    const auto helpers = (std::min)(Index(state.count), n) - 1;
    for (Index i = 0; i < helpers; ++i)
      state.pool->Schedule([job, &work] {
        if (!job->enter()) return;
        work();
        job->leave();
      });
    work();
    job->close();
  }

 private:
  /// Processors that this process may run on.
  static int offered() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
    const int all = static_cast<int>(std::thread::hardware_concurrency());
    return all > 0 ? all : 1;
  }

  /// One loop. Threads of the pool may come to help until it is closed; one that comes too late,
  /// because it was busy with an outer loop, finds nothing to do and is not waited for.
  class Job {
   public:
    bool enter() {
      const std::lock_guard lock(mutex_);
      if (closed_) return false;
      ++inside_;
      return true;
    }

    void leave() {
      const std::lock_guard lock(mutex_);
      if (--inside_ == 0) left_.notify_all();
    }

    /// The smallest i that failed so far.
    Index failed() const { return failed_; }

    void fail(Index i, std::exception_ptr error) {
      const std::lock_guard lock(mutex_);
      if (i < failed_) {
        failed_ = i;
        error_ = std::move(error);
      }
    }

    /// Waits for those who came, then throws what they threw.
    void close() {
      std::unique_lock lock(mutex_);
      closed_ = true;
      left_.wait(lock, [this] { return inside_ == 0; });
      // Taken out of here: the caller may go on to read it while a late helper lets the job go.
      if (const std::exception_ptr error = std::exchange(error_, nullptr))
        std::rethrow_exception(error);
    }

   private:
    std::mutex mutex_;
    std::condition_variable left_;
    std::exception_ptr error_;
    std::atomic<Index> failed_ = std::numeric_limits<Index>::max();
    int inside_ = 0;
    bool closed_ = false;
  };

  struct State {
    int count = 1;
    std::once_flag started;
    std::unique_ptr<Eigen::ThreadPool> pool;

    /// Whether the calling thread is one of the pool's: waiting there for others could wait for
    /// ever.
    bool inside() const { return pool->CurrentThreadId() >= 0; }
  };
  std::shared_ptr<State> state_;
};

}  // namespace gptq::exec
