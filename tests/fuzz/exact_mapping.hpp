// SPDX-License-Identifier: MIT
#pragma once

// Memory mappings without page slack: what the readers map becomes a heap block of exactly the
// file's size, so that AddressSanitizer sees the first byte read past its end. Included before any
// gptq header; the readers themselves are the ordinary ones.

#include <cstddef>
#include <cstdlib>

#include <sys/mman.h>
#include <unistd.h>

inline void* gptq_exact_mmap(void*, std::size_t size, int, int, int file, off_t offset) {
  auto* const data = static_cast<char*>(std::malloc(size));
  if (!data) return MAP_FAILED;
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = ::pread(file, data + done, size - done, offset + static_cast<off_t>(done));
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  if (done == size) return data;
  std::free(data);
  return MAP_FAILED;
}

inline int gptq_exact_munmap(void* data, std::size_t) {
  std::free(data);
  return 0;
}

// A heap block may begin anywhere in a page, so nothing can be released.
inline int gptq_exact_madvise(void*, std::size_t, int) { return 0; }

#define mmap gptq_exact_mmap
#define munmap gptq_exact_munmap
#define madvise gptq_exact_madvise
