// SPDX-License-Identifier: MIT
#pragma once

// Which tokens go to which expert, on the device.

#include <gptq/backend/cuda/device.cuh>
#include <gptq/model/cuda/launch.hpp>
#include <gptq/model/route.hpp>

namespace gptq::model::cuda::kernels {

using backend::cuda::Block;

/// A thread per token.
struct Choose {
  MatrixView<const float> logits;
  step::Route how;
  const float* bias;
  float* scratch;  ///< route_scratch numbers per token
  MatrixView<float> weights;
  GPTQ_HD void operator()(Index r) const {
    const Index experts = logits.cols();
    route(how, &logits(r, 0), experts, bias, &weights(r, 0),
          scratch + r * route_scratch(how, experts));
  }
};

/// The tokens of one expert, in their order, by one block: each thread has a part of them.
struct ListTokens {
  static constexpr int threads = 256;
  static constexpr Index shared = (threads + 1) * Index(sizeof(int));
  MatrixView<const float> routes;
  Index expert;
  Index *tokens, *count;
  GPTQ_HD void operator()(const Block& block) const {
    int* const before = reinterpret_cast<int*>(block.shared);  // of a thread's part
    const int all = static_cast<int>(routes.rows()), part = (all + threads - 1) / threads;
    const auto end = [=](int t) { return (t + 1) * part < all ? (t + 1) * part : all; };
    block.for_threads([&](int t) {
      int own = 0;
      for (int r = t * part; r < end(t); ++r) own += routes(r, expert) >= 0;
      before[t + 1] = own;
    });
    block.for_threads([&](int t) {
      if (t != 0) return;
      before[0] = 0;
      for (int i = 0; i < threads; ++i) before[i + 1] += before[i];
      *count = before[threads];
    });
    block.for_threads([&](int t) {
      int at = before[t];
      for (int r = t * part; r < end(t); ++r)
        if (routes(r, expert) >= 0) tokens[at++] = r;
    });
  }
};

struct Gather {
  MatrixView<const float> x;
  const Index* tokens;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const { y(r, c) = x(tokens[r], c); }
};

/// Adds the rows of one expert.
struct Scatter {
  MatrixView<const float> x, routes;
  Index expert;
  const Index* tokens;
  MatrixView<float> y;
  GPTQ_HD void operator()(Index r, Index c) const {
    y(tokens[r], c) += routes(tokens[r], expert) * x(r, c);
  }
};

}  // namespace gptq::model::cuda::kernels
