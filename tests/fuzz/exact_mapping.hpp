// SPDX-License-Identifier: MIT
#pragma once

// Memory mappings without the slack of a page: what the readers map becomes a heap block of exactly
// the file's size, so that AddressSanitizer sees the first byte read beyond its end. Included
// before any header of gptq; the readers themselves are those that everybody uses.

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

// A heap block begins anywhere in a page, and there is nothing to give back.
inline int gptq_exact_madvise(void*, std::size_t, int) { return 0; }

#define mmap gptq_exact_mmap
#define munmap gptq_exact_munmap
#define madvise gptq_exact_madvise
