// SPDX-License-Identifier: MIT
#pragma once

// ExpandedSource: presents experts that are stacked in one tensor as modules of their own, and
// weights in 8-bit floats with scales, or in MXFP4, as plain numbers.

#include <gptq/core/half.hpp>
#include <gptq/core/minifloat.hpp>
#include <gptq/io/checkpoint.hpp>
#include <gptq/model/description.hpp>

#include <algorithm>  // std::copy_n, std::sort
#include <cmath>      // std::isfinite, std::ldexp
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// The tensors of a folder, in the form that the decoder reads.
class ExpandedSource : public io::TensorSource {
 public:
  /// \param block_rows, block_cols  that share a scale, where scales are neither one nor per row
  /// \throws FormatError  a stacked tensor or a scale has the wrong shape or type
  ExpandedSource(std::shared_ptr<const io::FolderSource> files,
                 const std::vector<ExpertStack>& stacks, Index block_rows = 128,
                 Index block_cols = 128)
      : files_(std::move(files)) {
    for (const ExpertStack& stack : stacks) add(stack);
    // Both are factors of the weight; other kinds of weights have a weight_scale, too.
    const std::string usual = ".weight_scale_inv", other = ".weight_scale";
    for (const std::string& name : files_->names()) {
      if (name.ends_with(usual))
        add_scaled(name.substr(0, name.size() - usual.size()), name, block_rows, block_cols);
      if (!name.ends_with(other)) continue;
      const std::string module = name.substr(0, name.size() - other.size());
      if (is_float8(module + ".weight")) add_scaled(module, name, block_rows, block_cols);
    }
  }

  /// Whether anything is presented in another form.
  bool changes_anything() const { return !made_.empty(); }

  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const std::string& name : files_->names())
      if (hidden_.count(name) == 0) all.push_back(name);
    for (const auto& [name, made] : made_) all.push_back(name);
    std::sort(all.begin(), all.end());
    return all;
  }
  bool contains(const std::string& name) const override {
    return made_.count(name) > 0 || (files_->contains(name) && hidden_.count(name) == 0);
  }
  io::Shape shape(const std::string& name) const override {
    const Made* made = find(name);
    return made ? made->shape : files_->shape(name);
  }
  std::string type_name(const std::string& name) const override {
    const Made* made = find(name);
    return made ? made->type : files_->type_name(name);
  }
  std::uint64_t stored_bytes(const std::string& name) const override {
    const Made* made = find(name);
    return made ? made->stored : files_->stored_bytes(name);
  }
  std::span<const std::byte> raw_bytes(const std::string& name) const override {
    if (find(name))
      throw FormatError(
          gptq::detail::message(where(name), ": tensor ", name, " is not stored in this form"));
    return files_->raw_bytes(name);
  }
  void done_with(const std::string& name) const override {
    if (!find(name)) files_->done_with(name);
  }
  io::DType output_type(const std::string& name) const override {
    const Made* made = find(name);
    return made ? made->output : files_->output_type(name);
  }
  std::string where(const std::string& name) const override {
    const Made* made = find(name);
    return files_->where(made ? made->from : name);
  }
  void require_readable(const std::string& name) const override {
    if (!find(name)) files_->require_readable(name);
  }
  void require_unchanged() const override { files_->require_unchanged(); }

  void read(const std::string& name, std::span<float> out) const override {
    const Made* made = find(name);
    if (!made) return files_->read(name, out);
    gptq::detail::require<FormatError>(static_cast<Index>(out.size()) == count(*made), where(name),
                                       ": tensor ", name, " has the shape ",
                                       io::to_string(made->shape), ", but ", out.size(),
                                       " numbers were requested");
    made->read(out);
  }

  std::optional<io::UnfitNumber> find_unfit(const std::string& name, Index first, Index last,
                                            bool passed_on) const override {
    const Made* made = find(name);
    if (!made) return files_->find_unfit(name, first, last, passed_on);
    const std::vector<float> numbers = all(*made);
    for (Index i = first; i < last; ++i)
      if (const float x = numbers[static_cast<std::size_t>(i)]; !std::isfinite(x))
        return io::UnfitNumber{i, x};
    return std::nullopt;
  }

  std::vector<std::byte> output_bytes(const std::string& name) const override {
    const Made* made = find(name);
    if (!made) return files_->output_bytes(name);
    const std::vector<float> numbers = all(*made);
    const auto size = static_cast<std::size_t>(io::bits(made->output) / 8);
    std::vector<std::byte> bytes(numbers.size() * size);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (!std::isfinite(numbers[i]))
        throw NumericalError(gptq::detail::message(where(name), ": tensor ", name, ": element ", i,
                                                   " = ", numbers[i], " is not finite"));
      io::store(numbers[i], made->output, &bytes[size * i]);
    }
    return bytes;
  }

 private:
  /// A tensor that is not stored as such.
  struct Made {
    std::string from;  ///< the tensor that it is made of
    io::Shape shape;
    std::string type;
    io::DType output;
    std::uint64_t stored;
    std::function<void(std::span<float>)> read;
  };

  const Made* find(const std::string& name) const {
    const auto found = made_.find(name);
    return found == made_.end() ? nullptr : &found->second;
  }
  static Index count(const Made& made) { return io::element_count(made.shape); }
  static std::vector<float> all(const Made& made) {
    std::vector<float> numbers(static_cast<std::size_t>(count(made)));
    made.read(numbers);
    return numbers;
  }

  /// 32-, 16- and 8-bit types as they are; others as they are best written.
  static io::DType written(io::DType type) {
    return type == io::DType::F32 || type == io::DType::F16 ? type : io::DType::BF16;
  }

  void add(const ExpertStack& stack) {
    const bool plain = files_->contains(stack.tensor),
               packed = !plain && files_->contains(stack.tensor + "_blocks");
    if (!plain && !packed) return;  // one tensor per expert
    io::DType output = io::DType::BF16;
    std::function<void(Index, std::span<float>)> expert;  // reads [rows, cols] of one expert
    std::string from = stack.tensor, type = "MXFP4";
    std::uint64_t bytes = 0;
    if (plain) {
      io::require_shape(*files_, from,
                        stack.transposed ? io::Shape{stack.experts, stack.cols, stack.rows}
                                         : io::Shape{stack.experts, stack.rows, stack.cols});
      files_->require_readable(from);
      output = written(files_->output_type(from));
      type = files_->type_name(from);
      bytes = files_->stored_bytes(from);
      expert = [this, stack, from](Index e, std::span<float> out) { read_plain(stack, e, out); };
    } else {
      from += "_blocks";
      const std::string scales = stack.tensor + "_scales";
      gptq::detail::require<FormatError>(stack.cols % 32 == 0, files_->where(from), ": tensor ",
                                         from, ": rows of ", stack.cols,
                                         " do not consist of blocks of 32");
      const io::Shape blocks{stack.experts, stack.rows, stack.cols / 32};
      io::require_shape(*files_, scales, blocks);
      io::require_shape(*files_, from, {blocks[0], blocks[1], blocks[2], 16});
      for (const std::string& name : {from, scales})
        gptq::detail::require<FormatError>(files_->type_name(name) == "U8", files_->where(name),
                                           ": tensor ", name, " has dtype ",
                                           files_->type_name(name), "; expected U8");
      bytes = files_->stored_bytes(from) + files_->stored_bytes(scales);
      hidden_.insert(scales);
      expert = [this, stack](Index e, std::span<float> out) { read_mxfp4(stack, e, out); };
    }
    hidden_.insert(from);
    const bool biases = !stack.bias.empty() && files_->contains(stack.bias);
    if (biases) {
      io::require_shape(*files_, stack.bias, {stack.experts, stack.rows});
      files_->require_readable(stack.bias);
      hidden_.insert(stack.bias);
    }
    for (Index e = 0; e < stack.experts; ++e)
      for (const ExpertStack::Part& part : stack.parts) {
        const std::string name = part.before + std::to_string(e) + part.after;
        made_[name + ".weight"] = {
            from,
            {part.count, stack.cols},
            type,
            output,
            bytes / static_cast<std::uint64_t>(stack.experts * stack.rows) *
                static_cast<std::uint64_t>(part.count),
            [stack, part, expert, e](std::span<float> out) {
              std::vector<float> whole(static_cast<std::size_t>(stack.rows * stack.cols));
              expert(e, whole);
              for (Index r = 0; r < part.count; ++r)
                std::copy_n(&whole[std::size_t((part.first + r * part.stride) * stack.cols)],
                            stack.cols, &out[std::size_t(r * stack.cols)]);
            }};
        if (!biases) continue;
        made_[name + ".bias"] = {stack.bias,
                                 {part.count},
                                 files_->type_name(stack.bias),
                                 written(files_->output_type(stack.bias)),
                                 files_->stored_bytes(stack.bias) /
                                     static_cast<std::uint64_t>(stack.experts * stack.rows) *
                                     static_cast<std::uint64_t>(part.count),
                                 [this, stack, part, e](std::span<float> out) {
                                   std::vector<float> whole(static_cast<std::size_t>(stack.rows));
                                   read_share(stack.bias, stack.experts, e, whole);
                                   for (Index r = 0; r < part.count; ++r)
                                     out[std::size_t(r)] =
                                         whole[std::size_t(part.first + r * part.stride)];
                                 }};
      }
  }

  /// One expert's numbers of a tensor [experts, ...].
  void read_share(const std::string& name, Index experts, Index e, std::span<float> out) const {
    const io::SafeTensor& t = files_->tensor(name);
    const std::size_t size = t.bytes.size() / static_cast<std::size_t>(experts);
    io::to_floats(t.dtype, t.bytes.subspan(static_cast<std::size_t>(e) * size, size), out);
  }

  void read_plain(const ExpertStack& stack, Index e, std::span<float> out) const {
    if (!stack.transposed) return read_share(stack.tensor, stack.experts, e, out);
    std::vector<float> numbers(out.size());
    read_share(stack.tensor, stack.experts, e, numbers);
    for (Index r = 0; r < stack.rows; ++r)
      for (Index c = 0; c < stack.cols; ++c)
        out[std::size_t(r * stack.cols + c)] = numbers[std::size_t(c * stack.rows + r)];
  }

  /// A scale 2^(s − 127) and 32 numbers of 4 bits per block; the first of two is in the low half.
  void read_mxfp4(const ExpertStack& stack, Index e, std::span<float> out) const {
    const auto blocks = files_->raw_bytes(stack.tensor + "_blocks"),
               scales = files_->raw_bytes(stack.tensor + "_scales");
    const Index of_expert = stack.rows * stack.cols / 32;
    for (Index b = 0; b < of_expert; ++b) {
      const auto at = static_cast<std::size_t>(e * of_expert + b);
      const float scale = std::ldexp(1.0f, static_cast<int>(scales[at]) - 127);
      for (std::size_t i = 0; i < 32; ++i) {
        const auto byte = static_cast<unsigned>(blocks[16 * at + i / 2]);
        const unsigned code = i % 2 == 0 ? byte & 15u : byte >> 4;
        out[static_cast<std::size_t>(32 * b) + i] =
            (code & 8u ? -scale : scale) * Float4E2M1::value(static_cast<int>(code & 7u));
      }
    }
  }

  bool is_float8(const std::string& weight) const {
    return files_->contains(weight) && files_->output_type(weight) == io::DType::F8_E4M3;
  }

  void add_scaled(const std::string& module, const std::string& scales, Index block_rows,
                  Index block_cols) {
    const std::string weight = module + ".weight";
    gptq::detail::require<FormatError>(files_->contains(weight), files_->where(scales), ": has ",
                                       scales, ", but no tensor ", weight);
    const io::Shape shape = files_->shape(weight);
    gptq::detail::require<FormatError>(made_.count(weight) == 0, files_->where(scales), ": has ",
                                       scales, " and another scale of ", weight);
    gptq::detail::require<FormatError>(
        shape.size() == 2 && io::element_count(shape) > 0 && is_float8(weight),
        files_->where(weight), ": tensor ", weight, " has the type ", files_->type_name(weight),
        " and the shape ", io::to_string(shape), "; expected a matrix of F8_E4M3, since it has ",
        scales);
    const io::Shape stated = files_->shape(scales);
    const bool one = io::element_count(stated) == 1,
               per_row = stated == io::Shape{shape[0]} || stated == io::Shape{shape[0], 1};
    if (one) block_rows = shape[0], block_cols = shape[1];
    else if (per_row) block_rows = 1, block_cols = shape[1];
    const auto blocks = [](Index n, Index block) { return (n + block - 1) / block; };
    const io::Shape expected{blocks(shape[0], block_rows), blocks(shape[1], block_cols)};
    if (!one && !per_row) io::require_shape(*files_, scales, expected);
    files_->require_readable(scales);
    hidden_.insert(scales);
    const std::string activations = module + ".input_scale";  // only for 8-bit activations
    if (files_->contains(activations)) hidden_.insert(activations);
    hidden_.insert(weight);
    made_[weight] = {
        weight,
        shape,
        "F8_E4M3",
        io::DType::BF16,
        files_->stored_bytes(weight),
        [=, this](std::span<float> out) {
          std::vector<float> factors(static_cast<std::size_t>(expected[0] * expected[1]));
          files_->read(scales, factors);
          files_->read(weight, out);
          for (Index r = 0; r < shape[0]; ++r)
            for (Index c = 0; c < shape[1]; ++c)
              out[std::size_t(r * shape[1] + c)] *=
                  factors[std::size_t(r / block_rows * expected[1] + c / block_cols)];
        }};
  }

  std::shared_ptr<const io::FolderSource> files_;
  std::map<std::string, Made> made_;
  std::set<std::string> hidden_;  // tensors of the files that others are made of
};

}  // namespace gptq::model
