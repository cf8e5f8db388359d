// SPDX-License-Identifier: MIT

// A plain C++ engine: its own buffers, its own heap, no use of Eigen, no RTTI.

#include <gptq/gptq.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

namespace {

std::atomic<long> blocks_taken{0}, blocks_held{0};

void* take(std::size_t size, std::size_t alignment) {
  ++blocks_taken;
  ++blocks_held;
  void* block = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (!block) throw std::bad_alloc();
  return block;
}

void give_back(void* block) {
  if (block) --blocks_held;
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size) { return take(size, 16); }
void* operator new(std::size_t size, std::align_val_t a) { return take(size, std::size_t(a)); }
void operator delete(void* block) noexcept { give_back(block); }
void operator delete(void* block, std::size_t) noexcept { give_back(block); }
void operator delete(void* block, std::align_val_t) noexcept { give_back(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { give_back(block); }

int main() {
  constexpr gptq::Index out = 48, in = 64, tokens = 300;
  const long before = blocks_held;
  {
    std::vector<float> weight(out * in), activations(tokens * in);
    unsigned state = 1;
    const auto noise = [&state] {
      state = state * 1664525u + 1013904223u;
      return static_cast<float>(state >> 8) / 8388608.0f - 1;
    };
    for (float& w : weight) w = noise();
    for (float& x : activations) x = noise();
    // Its own threads, which end here; those of the process live until its end.
    const gptq::backend::Cpu backend(gptq::exec::Threads(2));
    gptq::Hessian hessian(in, backend);
    hessian.add(gptq::MatrixView<const float>(activations.data(), tokens, in));
    const auto layer =
        gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu>({.group_size = 32})
            .quantize(gptq::MatrixView<const float>(weight.data(), out, in), hessian);
    std::printf("relative output error %g\n", layer.report().relative_error);
    if (!(layer.report().relative_error < 0.02)) return 1;
    try {
      gptq::Quantizer<gptq::scheme::Int4, gptq::backend::Cpu> wrong({.group_size = 0});
      return 1;
    } catch (const gptq::InvalidArgument& error) {
      std::printf("refused: %s\n", error.what());
    }
  }
  std::printf("blocks taken %ld, held %ld\n", blocks_taken.load(), blocks_held - before);
  return blocks_taken > 10 && blocks_held == before ? 0 : 1;
}
