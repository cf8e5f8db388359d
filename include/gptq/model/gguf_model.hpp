// SPDX-License-Identifier: MIT
#pragma once

// Presents the tensors of a GGUF file as those of a Hugging Face model.

#include <gptq/io/checkpoint.hpp>
#include <gptq/model/gguf_tensors.hpp>

#include <algorithm>  // std::min
#include <cmath>      // std::isfinite
#include <memory>
#include <optional>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Tensors of GGUF files by Hugging Face name, dequantized, in Hugging Face order.
class GgufSource : public io::TensorSource {
 public:
  GgufSource(std::shared_ptr<const io::GgufFiles> gguf, const architecture::GgufFamily& family,
             const Description& description)
      : gguf_(std::move(gguf)), tensors_(*gguf_, family, description) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, view] : tensors_.views()) names.push_back(name);
    return names;
  }
  bool contains(const std::string& name) const override { return tensors_.views().count(name) > 0; }
  io::Shape shape(const std::string& name) const override { return view(name).shape; }
  std::string type_name(const std::string& name) const override {
    const auto& t = gguf_->at(view(name).parts[0].tensor);
    return t.type ? std::string(t.type->name) : "ggml type " + std::to_string(t.type_number);
  }
  std::uint64_t stored_bytes(const std::string& name) const override {
    std::uint64_t bytes = 0;
    for (const GgufRows& rows : view(name).parts) bytes += bytes_of(rows).size();
    return bytes;
  }
  std::span<const std::byte> raw_bytes(const std::string& name) const override {
    const auto& parts = view(name).parts;
    gptq::detail::require<FormatError>(parts.size() == 1, where(name), ": tensor ", name,
                                       " is not stored in this form");
    return bytes_of(parts[0]);
  }
  io::DType output_type(const std::string& /*name*/) const override { return io::DType::F16; }
  std::string where(const std::string& name) const override {
    const auto found = tensors_.views().find(name);
    return (found == tensors_.views().end() ? gguf_->first()
                                            : gguf_->home(found->second.parts[0].tensor))
        .path()
        .string();
  }

  void require_readable(const std::string& name) const override {
    for (const GgufRows& rows : view(name).parts)  // fails under the name that callers know
      gguf_->home(rows.tensor).require_readable(rows.tensor);
  }
  void require_unchanged() const override { gguf_->require_unchanged(); }

  std::optional<io::UnfitNumber> find_unfit(const std::string& name, Index first, Index last,
                                            bool passed_on) const override {
    require_readable(name);
    const GgufTensorView& v = view(name);
    if (v.parts.size() == 1 && v.parts[0].factor.empty()) {  // blocks tell without their numbers
      const pack::GgmlTypeInfo& type = *gguf_->at(v.parts[0].tensor).type;
      const Index begin = first / type.elements, end = last / type.elements;  // in blocks
      const auto bytes = bytes_of(v.parts[0])
                             .subspan(static_cast<std::size_t>(begin * type.bytes),
                                      static_cast<std::size_t>((end - begin) * type.bytes));
      const auto found = passed_on && type.type != pack::GgmlType::F16
                             ? find_unfit_half(type, bytes)
                             : find_non_finite(type, bytes);
      gguf_->home(v.parts[0].tensor).file().release(bytes);
      if (!found) return std::nullopt;
      if (v.form == architecture::GgufForm::same)
        return io::UnfitNumber{begin * type.elements + found->element, found->value};
      first = 0, last = io::element_count(v.shape);  // it is elsewhere in the folder's order
    }
    std::vector<float> numbers(static_cast<std::size_t>(io::element_count(v.shape)));
    read(name, numbers);
    for (Index i = first; i < last; ++i) {
      const float x = numbers[static_cast<std::size_t>(i)];
      if (!std::isfinite(x) || (passed_on && !(std::abs(x) < 65520.0f)))
        return io::UnfitNumber{i, x};
    }
    return std::nullopt;
  }

  void read(const std::string& name, std::span<float> out) const override {
    require_readable(name);
    const GgufTensorView& v = view(name);
    gptq::detail::require<FormatError>(static_cast<Index>(out.size()) == io::element_count(v.shape),
                                       where(name), ": tensor ", name, " has the shape ",
                                       io::to_string(v.shape), ", but ", out.size(),
                                       " numbers were requested");
    std::span<float> rest = out;
    for (const GgufRows& rows : v.parts) {
      const io::Gguf& file = gguf_->home(rows.tensor);
      const io::GgufTensor& t = file.at(rows.tensor);
      const auto bytes = bytes_of(rows);
      const auto count = bytes.size() / static_cast<std::size_t>(t.type->bytes) *
                         static_cast<std::size_t>(t.type->elements);
      try {
        pack::dequantize_ggml(*t.type, bytes, rest.first(count));
      } catch (const FormatError& error) {
        throw FormatError(
            gptq::detail::message(where(name), ": tensor ", rows.tensor, ": ", error.what()));
      }
      file.file().release(bytes);
      if (!rows.factor.empty()) multiply(rest.first(count), factor_of(rows));
      rest = rest.subspan(count);
    }
    tensors_.restore(name, out);
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
  float factor_of(const GgufRows& rows) const {
    std::vector<float> all(
        static_cast<std::size_t>(io::element_count(gguf_->at(rows.factor).shape)));
    gguf_->read(rows.factor, all);
    return all[static_cast<std::size_t>(rows.at)];
  }
  static void multiply(std::span<float> numbers, float factor) {
    for (float& x : numbers) x *= factor;
  }

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

  const GgufTensorView& view(const std::string& name) const {
    const auto found = tensors_.views().find(name);
    gptq::detail::require<FormatError>(found != tensors_.views().end(), where(name),
                                       ": has no tensor for ", name);
    return found->second;
  }

  std::span<const std::byte> bytes_of(const GgufRows& rows) const {
    const io::GgufTensor& t = gguf_->at(rows.tensor);
    if (GgufRows::in(t.shape) == 0) return t.bytes;
    const auto row = t.bytes.size() / static_cast<std::size_t>(GgufRows::in(t.shape));
    return t.bytes.subspan(static_cast<std::size_t>(rows.first) * row,
                           static_cast<std::size_t>(rows.count) * row);
  }

  std::shared_ptr<const io::GgufFiles> gguf_;
  GgufTensors tensors_;
};

}  // namespace gptq::model
