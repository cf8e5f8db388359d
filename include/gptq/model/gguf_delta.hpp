// SPDX-License-Identifier: MIT
#pragma once

// GgufDelta: puts the tensors of a gated delta rule in the order of a Hugging Face folder.

#include <gptq/model/architecture/gguf_family.hpp>
#include <gptq/model/description.hpp>

#include <algorithm>  // std::copy_n
#include <cmath>      // std::log
#include <span>
#include <utility>  // std::swap
#include <variant>
#include <vector>

namespace gptq::model {

/// The orders in which llama.cpp stores a gated delta rule.
class GgufDelta {
 public:
  using Form = architecture::GgufForm;

  GgufDelta() = default;
  /// \param dealt  whether value heads stand in the order 0, r, 2r, ..., 1, r + 1, ..., where r of
  ///               them share a key head
  GgufDelta(const Description& description, bool dealt) : dealt_(dealt) {
    for (const Block& layer : description.layers)
      for (const Step& step : layer.steps())
        if (const auto* delta = std::get_if<step::DeltaRule>(&step.what)) how_ = *delta;
  }

  /// Rows that a tensor of a form must have; 0: any number.
  Index rows(Form form) const {
    const Index keys = how_.key_heads * how_.key_dim, values = how_.value_heads * how_.value_dim;
    switch (form) {
      case Form::delta_decay:
      case Form::delta_heads: return how_.value_heads;
      case Form::delta_convolution:
      case Form::delta_tail: return 2 * keys + values;
      case Form::delta_values: return values;
      case Form::delta_qkv: return 2 * keys + 2 * values;
      default: return 0;
    }
  }
  Index columns(Form form) const {
    return form == Form::delta_columns ? how_.value_heads * how_.value_dim : 0;
  }

  /// \param shape    of the folder's tensor, as `rows` and `columns` say
  /// \param numbers  as the file has them
  void restore(Form form, const io::Shape& shape, std::span<float> numbers) const {
    const auto width = static_cast<Index>(numbers.size()) / shape[0];
    const auto values = static_cast<std::size_t>(how_.value_heads * how_.value_dim * width);
    switch (form) {
      case Form::delta_decay:
        for (float& x : numbers) x = std::log(-x);
        return collect(numbers, 1);
      case Form::delta_heads: return collect(numbers, width);
      case Form::delta_values: return collect(numbers, how_.value_dim * width);
      case Form::delta_tail:
      case Form::delta_convolution: return collect(numbers.last(values), how_.value_dim * width);
      case Form::delta_columns:
        for (Index r = 0; r < shape[0]; ++r)
          collect(
              numbers.subspan(static_cast<std::size_t>(r * width), static_cast<std::size_t>(width)),
              how_.value_dim);
        return;
      case Form::delta_qkv: return group(numbers, width);
      default: return;
    }
  }

 private:
  /// Puts the value heads, each of `size` numbers, beside those that share their key head.
  void collect(std::span<float> heads, Index size) const {
    if (!dealt_) return;
    const std::vector<float> from(heads.begin(), heads.end());
    const Index shared = how_.value_heads / how_.key_heads;
    float* to = heads.data();
    for (Index k = 0; k < how_.key_heads; ++k)
      for (Index v = 0; v < shared; ++v)
        to = std::copy_n(&from[std::size_t((v * how_.key_heads + k) * size)], size, to);
  }

  /// From all of q, all of k, all of v, all of z to q, k, v and z of each key head.
  void group(std::span<float> rows, Index width) const {
    const std::vector<float> from(rows.begin(), rows.end());
    const Index key = how_.key_dim * width,
                value = how_.value_heads / how_.key_heads * how_.value_dim * width,
                heads = how_.key_heads;
    float* to = rows.data();
    for (Index k = 0; k < heads; ++k) {
      const float* part = from.data();
      for (const Index size : {key, key, value, value}) {
        to = std::copy_n(part + k * size, size, to);
        part += heads * size;
      }
    }
  }

  step::DeltaRule how_{};
  bool dealt_ = false;
};

}  // namespace gptq::model
