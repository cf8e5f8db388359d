// SPDX-License-Identifier: MIT
#pragma once

// The contract of an executor: who runs the pieces of work.

#include <gptq/core/matrix_view.hpp>

#include <concepts>

namespace gptq::exec {

/// An executor runs f(0) … f(n−1), in any order, at the same time or not, and returns when all are
/// done.
///
/// The work is cut by the caller, never by the number of threads, so results do not depend on it.
/// If calls throw, the exception of the smallest i is rethrown. f may call parallel_for.
template <class E>
concept Executor = std::copyable<E> && requires(const E executor, void (*f)(Index)) {
  executor.parallel_for(Index{}, f);
  // How many calls can run at the same time, at least 1.
  { executor.concurrency() } -> std::convertible_to<int>;
};

}  // namespace gptq::exec
