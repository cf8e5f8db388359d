// SPDX-License-Identifier: MIT
#pragma once

// The contract of an executor: what runs the pieces of work.

#include <gptq/core/matrix_view.hpp>

#include <concepts>

namespace gptq::exec {

/// An executor runs f(0) … f(n−1), in any order, concurrently or not, and returns when all are
/// done.
///
/// The caller divides the work, regardless of the number of threads, so results do not depend on
/// it. If calls throw, the exception for the smallest i is rethrown. f may call parallel_for.
template <class E>
concept Executor = std::copyable<E> && requires(const E executor, void (*f)(Index)) {
  executor.parallel_for(Index{}, f);
  // How many calls can run concurrently, at least 1.
  { executor.concurrency() } -> std::convertible_to<int>;
};

}  // namespace gptq::exec
