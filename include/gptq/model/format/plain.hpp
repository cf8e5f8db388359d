// SPDX-License-Identifier: MIT
#pragma once

// The plain format: the quantized weights as 16- or 32-bit numbers, which loads wherever the model
// itself does.

#include <gptq/model/format/format.hpp>

#include <algorithm>  // std::min
#include <cstddef>    // std::byte
#include <span>
#include <string>
#include <vector>

namespace gptq::model::format {

/// Weights as numbers.
class Plain final : public Format {
 public:
  /// \param type  of the numbers: F16, BF16 or F32
  explicit Plain(io::DType type = io::DType::F32) : type_(type) {}

  std::string_view name() const override { return "plain"; }

  bool packs() const override { return false; }

  float stored(float x) const override {
    std::byte bytes[4];
    io::store(x, type_, bytes);
    float back = 0;
    io::to_floats(type_, std::span(bytes, static_cast<std::size_t>(io::bits(type_)) / 8),
                  std::span(&back, 1));
    return back;
  }

  std::vector<NumberType> types() const override {
    std::vector<NumberType> all;
    for (const NumberTypeInfo& one : number_types) all.push_back(one.type);
    return all;
  }

  void require_fits(const LinearSpec&, const ModuleSettings&) const override {}

  std::vector<PartPlan> plan(const LinearSpec& linear, const ModuleSettings&) const override {
    return {
        {".weight", type_,
         linear.transposed ? io::Shape{linear.in, linear.out} : io::Shape{linear.out, linear.in}}};
  }

  std::vector<Part> pack(const pack::AffineView& q, const LinearSpec& linear, const ModuleSettings&,
                         const HostThreads& threads) const override {
    return numbers(q, linear, threads, [&](Index o, Index i, Index g) {
      return q.scales(o, g) * (static_cast<float>(q.codes(o, i)) - q.zeros(o, g));
    });
  }

  std::vector<Part> pack(const pack::LevelView& q, const LinearSpec& linear, const ModuleSettings&,
                         const HostThreads& threads) const override {
    const auto levels = pack::level_table(q.kind);
    return numbers(q, linear, threads, [&](Index o, Index i, Index g) {
      return q.scales(o, g) * levels[q.codes(o, i)];
    });
  }

  nlohmann::ordered_json config(const Description&, const SettingsTable&, const Params&,
                                bool) const override {
    return nullptr;
  }

  std::vector<std::string> notes() const override {
    if (type_ == io::DType::F32) return {};
    return {gptq::detail::message("the quantized weights are rounded to ", io::name(type_),
                                  ", the model's own type")};
  }

  std::vector<std::string> suffixes() const override { return {".weight"}; }
  bool holds(const io::TensorSource&, const std::string&) const override { return false; }

  void require_tensors(const io::TensorSource&, const LinearSpec&) const override {}
  StoredCodes codes(const io::TensorSource&, const LinearSpec&) const override { return {}; }

 private:
  /// \param number  number(output, input, its group)
  template <class View, class Number>
  std::vector<Part> numbers(const View& q, const LinearSpec& linear, const HostThreads& threads,
                            const Number& number) const {
    const auto size = static_cast<std::size_t>(io::bits(type_)) / 8;
    Part part{".weight", std::vector<std::byte>(static_cast<std::size_t>(q.in() * q.out()) * size)};
    constexpr Index together = 64;  // outputs, whose codes are adjacent
    threads.for_each((q.out() + together - 1) / together, [&](Index job) {
      const Index first = job * together, last = (std::min)(first + together, q.out());
      for (Index i = 0; i < q.in(); ++i) {
        const Index g = q.group_index[std::size_t(i)];
        for (Index o = first; o < last; ++o) {
          const Index at = linear.transposed ? i * q.out() + o : o * q.in() + i;
          io::store(number(o, i, g), type_,
                    part.bytes.data() + static_cast<std::size_t>(at) * size);
        }
      }
    });
    return {std::move(part)};
  }

  io::DType type_;
};

}  // namespace gptq::model::format
