// SPDX-License-Identifier: MIT
#pragma once

// How long-running work reports progress and learns that it should stop.

#include <gptq/core/error.hpp>

#include <exception>  // std::exception_ptr
#include <functional>
#include <string_view>

namespace gptq {

/// Called between steps of long-running work with the step's name, the number done and the total.
/// Returning false asks the work to stop: it throws Cancelled and leaves nothing half-written.
using Progress = std::function<bool(std::string_view stage, double done, double total)>;

namespace detail {

/// \param stopped  set once the callback has cancelled or thrown; it is not called again
/// \throws Cancelled  the callback returned false; or whatever it threw
inline void step(const Progress& progress, std::string_view stage, double done, double total,
                 std::exception_ptr* stopped = nullptr) {
  if (stopped && *stopped) std::rethrow_exception(*stopped);
  try {
    if (progress && !progress(stage, done, total)) throw Cancelled();
  } catch (...) {
    if (stopped) *stopped = std::current_exception();
    throw;
  }
}

}  // namespace detail

}  // namespace gptq
