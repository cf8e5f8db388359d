// SPDX-License-Identifier: MIT
#pragma once

// A device that is made of host memory, for machines without a GPU: the calls of the CUDA runtime,
// cuBLAS and cuSOLVER that backend::Cuda makes, as plain loops. Memory that was freed or never
// written is not a number.

#include <cstddef>

namespace test {

struct HostDevice {
  int devices = 1;
  int capability = 9;                         ///< the first number of it
  std::size_t memory = std::size_t{8} << 30;  ///< bytes that can be had
  std::size_t used = 0, peak = 0;
  std::size_t pinnable = std::size_t{8} << 30;  ///< bytes of the host, in one piece
  int products = 0;                             ///< of matrices
  int waits = 0;                                ///< of one stream for another
};

HostDevice& host_device();

}  // namespace test
