// SPDX-License-Identifier: MIT
#pragma once

// UninitializedVector: numbers that are all written before one is read, by several threads.

#include <memory>   // std::allocator
#include <new>      // placement
#include <utility>  // std::forward
#include <vector>

namespace gptq::detail {

/// Leaves elements that nobody gives a value as they are: the thread that writes them first is the
/// one that waits for the system to find the memory.
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
