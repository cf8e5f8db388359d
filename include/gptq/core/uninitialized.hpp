// SPDX-License-Identifier: MIT
#pragma once

// UninitializedVector: for numbers that several threads write before any is read.

#include <memory>   // std::allocator
#include <new>      // placement
#include <utility>  // std::forward
#include <vector>

namespace gptq::detail {

/// Leaves elements uninitialized, so that each page is faulted in by the thread that first writes
/// it.
template <class T>
struct UninitializedAllocator : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = UninitializedAllocator<U>;
  };
  UninitializedAllocator() = default;
  template <class U>
  UninitializedAllocator(const UninitializedAllocator<U>&) noexcept {}
  template <class U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
};

template <class T>
using UninitializedVector = std::vector<T, UninitializedAllocator<T>>;

}  // namespace gptq::detail
