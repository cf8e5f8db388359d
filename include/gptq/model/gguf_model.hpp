// SPDX-License-Identifier: MIT
#pragma once

// Presents the tensors of a GGUF file as those of a Hugging Face model.

#include <gptq/io/checkpoint.hpp>
#include <gptq/io/gguf.hpp>
#include <gptq/model/gguf_config.hpp>

#include <algorithm>  // std::copy_n, std::find_if, std::min
#include <cmath>      // std::isfinite
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Tensors of a GGUF file by Hugging Face name, dequantized, with the rows of q and k in Hugging
/// Face order.
class GgufSource : public io::TensorSource {
 public:
  GgufSource(std::shared_ptr<const io::Gguf> gguf, const architecture::GgufFamily& family,
             const Description& description)
      : gguf_(std::move(gguf)),
        family_(family),
        architecture_(description.architecture),
        sizes_(description.sizes) {
    for (const auto& [name, tensor] : gguf_->tensors()) {
      if (name == "rope_freqs.weight") continue;              // in the configuration
      if (name.ends_with(".attn_rot_embd.weight")) continue;  // rotary frequencies, in old files
      names_[hf_name(name)] = name;
    }
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, gguf_name] : names_) names.push_back(name);
    return names;
  }
  bool contains(const std::string& name) const override { return names_.count(name) > 0; }
  io::Shape shape(const std::string& name) const override { return tensor(name).shape; }
  std::string type_name(const std::string& name) const override {
    const auto& t = tensor(name);
    return t.type ? std::string(t.type->name) : "ggml type " + std::to_string(t.type_number);
  }
  std::uint64_t stored_bytes(const std::string& name) const override {
    return tensor(name).bytes.size();
  }
  std::span<const std::byte> raw_bytes(const std::string& name) const override {
    return tensor(name).bytes;
  }
  io::DType output_type(const std::string& /*name*/) const override { return io::DType::F16; }
  std::string where(const std::string& /*name*/) const override { return gguf_->path().string(); }

  void require_readable(const std::string& name) const override {
    tensor(name);  // fails under the name that callers know
    gguf_->require_readable(names_.at(name));
  }
  void require_unchanged() const override { gguf_->file().require_unchanged(); }

  std::optional<io::UnfitNumber> find_unfit(const std::string& name, Index first, Index last,
                                            bool passed_on) const override {
    require_readable(name);
    const io::GgufTensor& t = tensor(name);
    const pack::GgmlTypeInfo& type = *t.type;
    const Index begin = first / type.elements, end = last / type.elements;  // in blocks
    const auto bytes = t.bytes.subspan(static_cast<std::size_t>(begin * type.bytes),
                                       static_cast<std::size_t>((end - begin) * type.bytes));
    const auto found = passed_on && type.type != pack::GgmlType::F16 ? find_unfit_half(type, bytes)
                                                                     : find_non_finite(type, bytes);
    gguf_->file().release(bytes);
    if (!found) return std::nullopt;
    return io::UnfitNumber{begin * type.elements + found->element, found->value};
  }

  void read(const std::string& name, std::span<float> out) const override {
    require_readable(name);
    const io::GgufTensor& t = tensor(name);
    gptq::detail::require<FormatError>(static_cast<Index>(out.size()) == io::element_count(t.shape),
                                       where(name), ": tensor ", name, " has the shape ",
                                       io::to_string(t.shape), ", but ", out.size(),
                                       " numbers were requested");
    gguf_->read(names_.at(name), out);
    gguf_->file().release(t.bytes);
    for (const auto& [part, of_keys] : family_.interleaved)
      if (name.find(part) != std::string::npos)
        unpermute(name, of_keys ? sizes_.kv_heads : sizes_.heads, out);
  }

  std::vector<std::byte> output_bytes(const std::string& name) const override {
    require_readable(name);  // an unsupported type has no known size, whatever the shape claims
    std::vector<float> numbers(static_cast<std::size_t>(io::element_count(shape(name))));
    read(name, numbers);
    std::vector<std::byte> bytes(numbers.size() * 2);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const float16 half = to_float16(numbers[i]);
      if ((half.bits & 0x7c00u) == 0x7c00u)
        throw NumericalError(gptq::detail::message(
            where(name), ": tensor ", name, ": element ", i, " = ", numbers[i],
            std::isfinite(numbers[i]) ? " does not fit fp16" : " is not finite"));
      std::memcpy(&bytes[2 * i], &half, 2);
    }
    return bytes;
  }

 private:
  static std::optional<io::UnfitNumber> find_non_finite(const pack::GgmlTypeInfo& type,
                                                        std::span<const std::byte> bytes) {
    if (type.elements == 1) {
      const io::DType same = type.type == pack::GgmlType::F32   ? io::DType::F32
                             : type.type == pack::GgmlType::F16 ? io::DType::F16
                                                                : io::DType::BF16;
      const auto at = io::find_non_finite(same, bytes);
      if (at < 0) return std::nullopt;
      float value = 0;
      io::to_floats(same,
                    bytes.subspan(static_cast<std::size_t>(at * type.bytes),
                                  static_cast<std::size_t>(type.bytes)),
                    {&value, 1});
      return io::UnfitNumber{at, value};
    }
    const Index block = pack::find_non_finite_block(type, bytes);
    if (block < 0) return std::nullopt;
    float numbers[256];
    const std::span<float> out(numbers, static_cast<std::size_t>(type.elements));
    pack::dequantize_ggml(type,
                          bytes.subspan(static_cast<std::size_t>(block * type.bytes),
                                        static_cast<std::size_t>(type.bytes)),
                          out);
    std::size_t at = 0;
    while (at + 1 < out.size() && std::isfinite(out[at])) ++at;
    return io::UnfitNumber{block * type.elements + static_cast<Index>(at), out[at]};
  }

  /// The first number outside the range of half precision, or not finite.
  static std::optional<io::UnfitNumber> find_unfit_half(const pack::GgmlTypeInfo& type,
                                                        std::span<const std::byte> bytes) {
    constexpr Index chunk = 4096;  // elements, whole blocks
    std::vector<float> numbers(static_cast<std::size_t>(chunk));
    const Index count = static_cast<Index>(bytes.size()) / type.bytes * type.elements;
    for (Index begin = 0; begin < count; begin += chunk) {
      const auto size = static_cast<std::size_t>((std::min)(chunk, count - begin));
      const auto out = std::span(numbers).first(size);
      pack::dequantize_ggml(
          type,
          bytes.subspan(static_cast<std::size_t>(begin / type.elements * type.bytes),
                        size / static_cast<std::size_t>(type.elements) *
                            static_cast<std::size_t>(type.bytes)),
          out);
      unsigned bad = 0;  // 65520 and above round to infinity; also catches NaN
      for (const float x : out) bad |= std::abs(x) < 65520.0f ? 0u : 1u;
      for (std::size_t i = 0; bad && i < size; ++i)
        if (!(std::abs(out[i]) < 65520.0f))
          return io::UnfitNumber{begin + static_cast<Index>(i), out[i]};
    }
    return std::nullopt;
  }

  const io::GgufTensor& tensor(const std::string& name) const {
    const auto found = names_.find(name);
    gptq::detail::require<FormatError>(found != names_.end(), where(name), ": has no tensor for ",
                                       name);
    return gguf_->tensors().at(found->second);
  }

  /// \throws FormatError  a tensor that such a decoder does not have
  std::string hf_name(const std::string& name) const {
    const auto named = [](const auto& names, std::string_view wanted) {
      return std::find_if(names.begin(), names.end(),
                          [&](const architecture::GgufName& n) { return n.gguf == wanted; });
    };
    if (const auto found = named(family_.outside, name); found != family_.outside.end())
      return std::string(found->hf);
    if (name.rfind("blk.", 0) == 0) {
      const std::size_t layer_end = name.find('.', 4), last = name.rfind('.');
      if (layer_end != std::string::npos && last > layer_end) {
        const auto found = named(
            family_.inside, std::string_view(name).substr(layer_end + 1, last - layer_end - 1));
        if (found != family_.inside.end())
          return std::string(family_.layers) + name.substr(4, layer_end - 4) + "." +
                 std::string(found->hf) + name.substr(last);
      }
    }
    throw FormatError(gptq::detail::message(gguf_->path().string(), ": tensor ", name,
                                            " does not belong in a ", architecture_));
  }

  /// GGUF interleaves the two halves of each head of q and k: its row 2i + t is row t·D/2 + i of
  /// the original head.
  /// \throws FormatError  the tensor does not have that many heads
  void unpermute(const std::string& name, Index heads, std::span<float> rows) const {
    const Index head_dim = sizes_.head_dim, half = head_dim / 2;
    const io::Shape& shape = tensor(name).shape;
    gptq::detail::require<FormatError>(
        heads > 0 && head_dim > 0 && shape[0] % head_dim == 0 && shape[0] / head_dim == heads,
        where(name), ": tensor ", name, " has the shape ", io::to_string(shape), "; expected ",
        heads, " heads of ", head_dim);
    const Index width = static_cast<Index>(rows.size()) / shape[0];
    std::vector<float> head(static_cast<std::size_t>(head_dim * width));
    for (Index h = 0; h < heads; ++h) {
      float* block = rows.data() + h * head_dim * width;
      std::copy_n(block, head.size(), head.data());
      for (Index i = 0; i < half; ++i)
        for (Index t = 0; t < 2; ++t)
          std::copy_n(head.data() + (2 * i + t) * width, width, block + (t * half + i) * width);
    }
  }

  std::shared_ptr<const io::Gguf> gguf_;
  const architecture::GgufFamily& family_;
  std::string architecture_;
  Sizes sizes_;
  std::map<std::string, std::string> names_;  // Hugging Face name -> GGUF name
};

}  // namespace gptq::model
