// SPDX-License-Identifier: MIT
#pragma once

// How long-running work reports progress and learns that it should stop.

#include <gptq/core/error.hpp>

#include <exception>  // std::exception_ptr
#include <functional>
#include <mutex>
#include <string_view>

namespace gptq {

/// Called between steps of long-running work with the step's name, the number done and the total.
/// Returning false asks the work to stop: it throws Cancelled and leaves nothing half-written.
using Progress = std::function<bool(std::string_view stage, double done, double total)>;

namespace detail {

/// \throws Cancelled  the callback returned false; or whatever it threw
inline void step(const Progress& progress, std::string_view stage, double done, double total) {
  if (progress && !progress(stage, done, total)) throw Cancelled();
}

/// One stage whose pieces several threads finish. The callback is called by one thread at a time,
/// and not again once it has cancelled or thrown.
class SharedStage {
 public:
  SharedStage(const Progress& progress, std::string_view stage, double total)
      : progress_(progress), stage_(stage), total_(total) {}

  /// Before a piece. \throws what has stopped another one
  void require_going() {
    const std::lock_guard lock(mutex_);
    if (stopped_) std::rethrow_exception(stopped_);
  }

  /// After a piece. \throws Cancelled  the callback returned false; or whatever it threw
  void advance(double pieces) {
    const std::lock_guard lock(mutex_);
    if (stopped_) std::rethrow_exception(stopped_);
    done_ += pieces;
    try {
      step(progress_, stage_, done_, total_);
    } catch (...) {
      stopped_ = std::current_exception();
      throw;
    }
  }

 private:
  const Progress& progress_;
  std::string_view stage_;
  double total_, done_ = 0;
  std::mutex mutex_;
  std::exception_ptr stopped_;
};

}  // namespace detail
}  // namespace gptq
