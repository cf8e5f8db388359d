// SPDX-License-Identifier: MIT
#pragma once

// exec::Pool: threads that help with loops and wait in between. If the system refuses some, the
// pool makes do with the rest.

#include <gptq/core/matrix_view.hpp>

#include <atomic>
#include <condition_variable>
#include <exception>  // std::exception_ptr
#include <limits>
#include <mutex>
#include <thread>
#include <utility>  // std::exchange
#include <vector>

namespace gptq::exec {

/// Calls f(0) … f(count − 1), on whichever thread takes the next i.
class Loop {
 public:
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  Index count() const { return count_; }
  /// Whether there are calls that have not begun.
  bool has_more() const {
    const Index i = next_;
    return i < count_ && i < failed_;
  }
  /// Makes calls until all have begun or one has failed; calls after a failed one are not begun.
  void work() noexcept { work_(*this); }
  /// \throws  what the call with the smallest i threw
  void rethrow() {
    if (const std::exception_ptr error = std::exchange(error_, nullptr))
      std::rethrow_exception(error);
  }

 protected:
  Loop(Index count, void (*calls)(Loop&)) : count_(count), work_(calls) {}

  template <class F>
  void call_all(F& f) {
    for (Index i = next_++; i < count_ && i < failed_; i = next_++) {
      try {
        f(i);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (i < failed_) {
          failed_ = i;
          error_ = std::current_exception();
        }
      }
    }
  }

 private:
  friend class Pool;

  const Index count_;
  void (*const work_)(Loop&);
  std::atomic<Index> next_{0};

  std::mutex mutex_;                                              // guards writes to the next two
  std::atomic<Index> failed_{std::numeric_limits<Index>::max()};  // the smallest i that threw
  std::exception_ptr error_;

  // Owned by the pool, under its mutex: the loop opened next, and the number of helpers inside.
  Loop* newer_ = nullptr;
  int inside_ = 0;
};

/// The loop over one function.
template <class F>
class LoopOf : public Loop {
 public:
  /// \param f  must live as long as the loop
  LoopOf(Index count, F& f)
      : Loop(count, [](Loop& loop) { static_cast<LoopOf&>(loop).call(); }), f_(f) {}

 private:
  void call() { this->call_all(f_); }
  F& f_;
};

/// Helpers for the loops of any number of callers. A loop lives on its caller's stack: helpers
/// enter and leave it under the pool's mutex, and the caller returns when none is inside.
class Pool {
 public:
  /// Starts as many of `helpers` threads as the system grants.
  explicit Pool(int helpers) noexcept {
    try {
      helpers_.reserve(static_cast<std::size_t>(helpers));
      while (size() < helpers) helpers_.emplace_back([this] { help(); });
    } catch (
        const std::exception&) {  // no thread, or no memory for one: make do with those running
    }
  }

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      ++changes_;
    }
    wake_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  /// Threads besides the callers.
  int size() const { return static_cast<int>(helpers_.size()); }

  /// Whether the calling thread is one of them: if it waited for others, it could wait forever.
  bool inside() const { return current() == this; }

  /// Runs the loop on the calling thread and on free helpers; returns when no helper is inside.
  void run(Loop& loop) {
    {
      const std::lock_guard lock(mutex_);
      (newest_ ? newest_->newer_ : oldest_) = &loop;
      newest_ = &loop;
      ++changes_;
    }
    if (loop.count() > size()) wake_.notify_all();
    else
      for (Index i = 1; i < loop.count(); ++i) wake_.notify_one();
    loop.work();
    std::unique_lock lock(mutex_);
    remove(loop);
    left_.wait(lock, [&] { return loop.inside_ == 0; });
  }

 private:
  static const Pool*& current() {
    static thread_local const Pool* pool = nullptr;
    return pool;
  }

  void help() noexcept {
    current() = this;
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      Loop* loop = oldest_;
      while (loop && !loop->has_more()) loop = loop->newer_;
      if (loop) {
        ++loop->inside_;
        lock.unlock();
        loop->work();
        lock.lock();
        if (--loop->inside_ == 0) left_.notify_all();
        continue;
      }
      // The next loop often follows immediately, and spinning briefly is cheaper than waking up.
      const unsigned seen = changes_;
      lock.unlock();
      for (int i = 0; i < looks && changes_.load(std::memory_order_relaxed) == seen; ++i) {}
      lock.lock();
      wake_.wait(lock, [&] { return changes_ != seen; });
    }
  }

  void remove(const Loop& loop) {
    Loop* before = nullptr;
    for (Loop* at = oldest_; at != &loop; at = at->newer_) before = at;
    (before ? before->newer_ : oldest_) = loop.newer_;
    if (newest_ == &loop) newest_ = before;
  }

  static constexpr int looks = 5000;

  std::mutex mutex_;
  std::condition_variable wake_, left_;
  std::atomic<unsigned> changes_{0};  // incremented for each new loop, and at the end
  bool stopping_ = false;
  Loop *oldest_ = nullptr, *newest_ = nullptr;  // open loops
  std::vector<std::thread> helpers_;            // last, because they use everything above
};

}  // namespace gptq::exec
