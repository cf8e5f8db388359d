// SPDX-License-Identifier: MIT

#include "allocations.hpp"

#include "sanitized.hpp"

#include <atomic>
#include <cerrno>
#include <cstdlib>

#if defined(__GLIBC__) && !defined(GPTQ_TEST_SANITIZED)
#include <malloc.h>

namespace {

std::atomic<std::ptrdiff_t> held{0}, highest{0}, base{0}, largest_block{0};

void raise(std::atomic<std::ptrdiff_t>& to, std::ptrdiff_t value) {
  for (auto seen = to.load(); seen < value && !to.compare_exchange_weak(seen, value);) {}
}

void* taken(void* block) {
  if (!block) return block;
  const auto size = static_cast<std::ptrdiff_t>(malloc_usable_size(block));
  raise(highest, held += size);
  raise(largest_block, size);
  return block;
}

void given_back(void* block) {
  if (block) held -= static_cast<std::ptrdiff_t>(malloc_usable_size(block));
}

}  // namespace

// The names of glibc's own functions, for programs that replace the public ones.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) { return taken(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) { return taken(__libc_calloc(count, size)); }
void* realloc(void* block, std::size_t size) {
  given_back(block);
  return taken(__libc_realloc(block, size));
}
void* memalign(std::size_t alignment, std::size_t size) {
  return taken(__libc_memalign(alignment, size));
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) noexcept {
  *block = memalign(alignment, size);
  return *block ? 0 : ENOMEM;
}
void free(void* block) {
  given_back(block);
  __libc_free(block);
}
}

namespace test {

bool Allocations::counted() { return true; }
void Allocations::reset() {
  base = held.load();
  highest = held.load();
  largest_block = 0;
}
Allocations Allocations::now() { return {highest - base, largest_block}; }

}  // namespace test

#else

namespace test {

bool Allocations::counted() { return false; }
void Allocations::reset() {}
Allocations Allocations::now() { return {}; }

}  // namespace test

#endif
