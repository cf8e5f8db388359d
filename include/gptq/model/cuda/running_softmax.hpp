// SPDX-License-Identifier: MIT
#pragma once

// RunningSoftmax: what has been seen of each row's logits, on an NVIDIA GPU.

#include <gptq/backend/cuda/copies.hpp>
#include <gptq/backend/cuda/device_matrix.hpp>
#include <gptq/model/cuda/launch.hpp>
#include <gptq/model/cuda/product.hpp>

#include <cmath>  // std::log
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace gptq::model::cuda {

/// Takes the logits of all rows a strip of words at a time.
class RunningSoftmax {
 public:
  /// \param targets  of each row; negative: none
  RunningSoftmax(const RuntimePointer& runtime, std::span<const std::int32_t> targets)
      : runtime_(runtime),
        targets_(targets),
        on_device_(backend::cuda::to_device_vector(runtime, targets)),
        top_(backend::cuda::to_device_vector(
            runtime, std::span<const float>(std::vector<float>(
                         targets.size(), -std::numeric_limits<float>::infinity())))),
        sums_(Doubles::zeros(runtime, 1, on_device_.cols())),
        of_target_(Doubles::zeros(runtime, 1, on_device_.cols())) {}

  /// Adds logits of rows from `row` on, of words from `word` on.
  void add(MatrixView<const float> logits, Index row, Index word, const HeadOperands& head) {
    add_logits(runtime_->stream(), logits, on_device_.data() + row, word, head,
               {top_.data() + row, sums_.data() + row, of_target_.data() + row});
  }

  /// −log softmax[target] of each row that has a target.
  std::vector<double> losses() const {
    const auto tops = backend::cuda::to_vector(*runtime_, top_);
    const auto sums = backend::cuda::to_vector(*runtime_, sums_),
               of_target = backend::cuda::to_vector(*runtime_, of_target_);
    std::vector<double> losses;
    for (std::size_t r = 0; r < targets_.size(); ++r)
      if (targets_[r] >= 0)
        losses.push_back(std::log(sums[r]) + static_cast<double>(tops[r]) - of_target[r]);
    return losses;
  }

 private:
  using Doubles = backend::cuda::DeviceMatrix<double>;

  RuntimePointer runtime_;
  std::span<const std::int32_t> targets_;
  backend::cuda::DeviceMatrix<std::int32_t> on_device_;
  backend::cuda::DeviceMatrix<float> top_;
  Doubles sums_, of_target_;
};

}  // namespace gptq::model::cuda
