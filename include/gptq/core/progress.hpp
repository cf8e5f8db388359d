// SPDX-License-Identifier: MIT
#pragma once

// How long work reports on itself and learns that it should stop.

#include <functional>
#include <string_view>

namespace gptq {

/// Called between steps of long work with the step's name and how many of how many are done.
/// Returning false asks the work to stop: it throws Cancelled and leaves nothing half-written.
using Progress = std::function<bool(std::string_view stage, double done, double total)>;

}  // namespace gptq
