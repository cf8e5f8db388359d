// SPDX-License-Identifier: MIT
#pragma once

// A device emulated in host memory, for machines without a GPU: the calls to the CUDA runtime,
// cuBLAS and cuSOLVER that backend::Cuda makes, as plain loops. Freed and never written memory is
// NaN.

#include <cstddef>

namespace test {

struct HostDevice {
  int devices = 1;
  int capability = 9;                         ///< major compute capability
  std::size_t memory = std::size_t{8} << 30;  ///< bytes that can be allocated
  std::size_t used = 0, peak = 0;
  std::size_t pinnable = std::size_t{8} << 30;  ///< bytes of host memory that can be pinned at once
  int products = 0;                             ///< matrix products so far
  int waits = 0;                                ///< of one stream for another so far
};

HostDevice& host_device();

}  // namespace test
