// SPDX-License-Identifier: MIT
#pragma once

// Which tensors of a Hugging Face folder a GGUF file holds, and how to get their numbers back.

#include <gptq/io/gguf_files.hpp>
#include <gptq/model/architecture/gguf_names.hpp>
#include <gptq/model/gguf_delta.hpp>
#include <gptq/model/outside_tensors.hpp>

#include <algorithm>  // std::copy_n, std::find
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::model {

/// Rows of a tensor in a GGUF file: of all its matrices, or elements of a vector.
struct GgufRows {
  std::string tensor;
  Index first = 0, count = 0;
  /// If not empty, a tensor whose element `at` is a factor of these rows.
  std::string factor{};
  Index at = 0;

  static Index in(const io::Shape& shape) {
    Index rows = shape[0];
    for (std::size_t d = 1; d + 1 < shape.size(); ++d) rows *= shape[d];
    return rows;
  }
};

/// A tensor as a Hugging Face folder has it: rows of one tensor of the file, or of two, which are
/// then put in order.
struct GgufTensorView {
  std::vector<GgufRows> parts;
  io::Shape shape;
  architecture::GgufForm form = architecture::GgufForm::same;
};

/// Tensors by Hugging Face name.
class GgufTensors {
 public:
  using Form = architecture::GgufForm;

  /// \throws FormatError  a tensor that such a decoder does not have, or one of the wrong shape
  GgufTensors(const io::GgufFiles& gguf, const architecture::GgufFamily& family,
              const Description& description)
      : gguf_(gguf),
        family_(family),
        sizes_(description.sizes),
        delta_(description, family.deals_value_heads) {
    const auto outside = tensors_outside_layers(
        description, [](const auto&) { return std::vector<std::string>{".weight"}; });
    for (const std::string& name : gguf.names())
      if (!architecture::is_part_of_config(name) && !is_ignored(name, description) &&
          !is_factor(name))
        add(name, description, outside);
    for (const auto& [name, view] : views_)
      if (is_first(view.form) && view.parts.size() != 2)
        throw FormatError(gptq::detail::message(gguf.path().string(), ": has tensor ",
                                                view.parts[0].tensor,
                                                ", but not the one with the other rows of ", name));
  }

  const std::map<std::string, GgufTensorView>& views() const { return views_; }

  /// Puts the rows that were read in the order of a Hugging Face folder.
  /// \throws FormatError  the tensor does not have as many heads as the model
  void restore(const std::string& name, std::span<float> numbers) const {
    const GgufTensorView& view = views_.at(name);
    const Sizes& s = sizes_;
    switch (view.form) {
      case Form::queries: return unpermute(name, view.shape, s.heads, numbers);
      case Form::keys: return unpermute(name, view.shape, s.kv_heads, numbers);
      case Form::plus_one:
        for (float& x : numbers) x -= 1;
        return;
      case Form::transposed:
        if (view.shape.size() == 2) transpose(view.shape, numbers);
        return;
      case Form::regrouped: return regroup(name, view.shape, numbers);
      case Form::latent_k: return join_latent(view, numbers);
      case Form::delta_heads:
      case Form::delta_values:
      case Form::delta_tail:
      case Form::delta_decay:
      case Form::delta_qkv:
      case Form::delta_convolution:
      case Form::delta_columns: return restore_delta(name, view, numbers);
      default: return;
    }
  }

 private:
  /// Whether a tensor of this form is put together with another.
  static bool is_first(Form form) {
    return form == Form::first || form == Form::latent_k || form == Form::delta_qkv;
  }

  template <class... Parts>
  [[noreturn]] void fail(const std::string& tensor, const Parts&... parts) const {
    throw FormatError(
        gptq::detail::message(gguf_.home(tensor).path().string(), ": tensor ", tensor, parts...));
  }

  /// Whether it is "attn_q.scale" or "attn_q.input_scale" beside "attn_q.weight", as NVFP4 weights
  /// have it: a factor of the weight, and one that only activations in 4 bits need.
  bool is_factor(const std::string& name) const {
    for (const std::string ending : {".scale", ".input_scale"})
      if (name.ends_with(ending))
        return gguf_.contains(name.substr(0, name.size() - ending.size()) + ".weight");
    return false;
  }

  /// Rows [first, first + count) of a tensor, which are of matrix `at` of a stack of `matrices`.
  GgufRows rows(const std::string& name, Index first, Index count, Index at = 0,
                Index matrices = 1) const {
    const std::string factor = name.substr(0, name.rfind('.')) + ".scale";
    if (!name.ends_with(".weight") || !gguf_.contains(factor)) return {name, first, count};
    const io::Shape& factors = gguf_.at(factor).shape;
    if (io::element_count(factors) != matrices)
      fail(factor, " has the shape ", io::to_string(factors), "; expected [", matrices, "]");
    return {name, first, count, factor, at};
  }

  /// Where the layer's number ends in "blk.12.attn_q.weight"; 0: it is in no layer.
  static std::size_t end_of_layer(const std::string& name) {
    if (!name.starts_with("blk.")) return 0;
    const std::size_t dot = name.find('.', 4);
    return dot == std::string::npos ? 0 : dot;
  }

  /// "model.layers.12."
  static std::string layer_prefix(const std::string& name, const Description& description) {
    return description.layers_prefix + name.substr(4, end_of_layer(name) - 4) + ".";
  }

  /// Whether it is in a layer that the decoder does not use.
  static bool is_ignored(const std::string& name, const Description& description) {
    const auto& ignored = description.ignored;
    return end_of_layer(name) > 0 && std::find(ignored.begin(), ignored.end(),
                                               layer_prefix(name, description)) != ignored.end();
  }

  void add(const std::string& name, const Description& description,
           const std::set<std::string>& outside) {
    const std::size_t end = end_of_layer(name);
    if (end > 0) {
      const std::string_view rest = std::string_view(name).substr(end + 1);
      auto found = architecture::find_name(family_.inside, rest);
      if (!found.name) found = architecture::find_name(architecture::usual_inside, rest);
      if (found.name) return add(name, layer_prefix(name, description), found);
    } else if (name == "token_embd.weight") {
      return add_view(name, description.embeddings, Form::same);
    } else if (name.starts_with("output.")) {
      const std::string head = description.head.linear.name + name.substr(6);
      if (outside.count(head) > 0) return add_view(name, head, Form::same);
    } else {
      auto found = architecture::find_name(family_.outside, name);
      if (!found.name) found = architecture::find_name(architecture::usual_outside, name);
      if (found.name) {
        const std::string hf =
            description.base + std::string(found.name->hf) + std::string(found.ending);
        if (outside.count(hf) > 0) return add_view(name, hf, found.name->form);
      }
    }
    fail(name, " does not belong in a ", description.architecture);
  }

  void add(const std::string& name, const std::string& prefix,
           const architecture::FoundName& found) {
    const std::string ending(found.ending);
    std::string hf(found.name->hf);
    if (!found.number.empty()) hf = numbered(hf, std::string(found.number));
    const io::Shape& shape = gguf_.at(name).shape;
    if (found.name->form == Form::stacked || found.name->form == Form::stacked_halves) {
      const Index parts = found.name->form == Form::stacked ? 1 : 2;
      // A vector of gates and ups has no rows to halve.
      if (shape.size() < (parts == 1 ? 2u : 3u) || shape[0] < 1 || shape[0] > 4096 ||
          shape[1] < 1 || shape[1] % parts != 0)
        fail(name, " has the shape ", io::to_string(shape), "; expected [experts, ...]");
      io::Shape part(shape.begin() + 1, shape.end());
      part[0] /= parts;
      const Index count = GgufRows::in(shape) / (shape[0] * parts);
      for (Index i = 0; i < shape[0] * parts; ++i) {
        const std::size_t bar = hf.find('|');
        const std::string own = i % parts == 0 ? hf.substr(0, bar) : hf.substr(bar + 1);
        views_[prefix + numbered(own, std::to_string(i / parts)) + ending] = {
            {rows(name, i * count, count, i / parts, shape[0])}, part, Form::stacked};
      }
    } else if (found.name->form == Form::split_qkv) {
      const Sizes& s = sizes_;
      const Index heads[] = {s.heads, s.kv_heads, s.kv_heads};
      if (shape[0] / s.head_dim != s.heads + 2 * s.kv_heads || shape[0] % s.head_dim != 0)
        fail(name, " has the shape ", io::to_string(shape), "; expected ", s.heads, " + 2 * ",
             s.kv_heads, " heads of ", s.head_dim);
      std::string rest = hf + "|";
      Index first = 0;
      for (const Index count : heads) {
        io::Shape part = shape;
        part[0] = count * s.head_dim;
        views_[prefix + rest.substr(0, rest.find('|')) + ending] = {
            {rows(name, first, part[0])}, part, Form::same};
        rest = rest.substr(rest.find('|') + 1);
        first += part[0];
      }
    } else {
      add_view(name, prefix + hf + ending, found.name->form);
    }
  }

  /// A name with a number in the place of its '*'.
  static std::string numbered(const std::string& name, const std::string& number) {
    const std::size_t star = name.find('*');
    return name.substr(0, star) + number + name.substr(star + 1);
  }

  void add_view(const std::string& name, const std::string& hf, Form form) {
    const io::Shape& shape = gguf_.at(name).shape;
    GgufTensorView view{{rows(name, 0, GgufRows::in(shape))}, shape, form};
    const bool is_last = form == Form::last || form == Form::latent_v || form == Form::delta_z;
    if (form == Form::transposed && shape.size() == 2) view.shape = {shape[1], shape[0]};
    if (form == Form::row && shape.size() == 1) view.shape = {1, shape[0]};
    if (form == Form::latent_k || form == Form::latent_v) {
      if (shape.size() != 3)
        fail(name, " has the shape ", io::to_string(shape), "; expected three dimensions");
      view.shape = form == Form::latent_k ? io::Shape{shape[0] * shape[2], shape[1]}
                                          : io::Shape{shape[0] * shape[1], shape[2]};
      view.form = Form::latent_k;
    }
    if (form == Form::last) view.form = Form::first;
    if (form == Form::delta_z) view.form = Form::delta_qkv;
    if (form == Form::delta_convolution && shape.size() == 2) view.shape = {shape[0], 1, shape[1]};
    const auto [at, is_new] = views_.emplace(hf, view);
    if (is_new) return;
    GgufTensorView& there = at->second;
    // Some files have the whole of a tensor beside its parts.
    if (form == Form::same && is_first(there.form)) there = view;
    if (!is_first(view.form) || there.form != view.form) return;
    if (there.parts.size() != 1 || there.shape.size() != view.shape.size() ||
        there.shape.back() != view.shape.back())
      fail(name, " has the shape ", io::to_string(shape), " and does not fit tensor ",
           there.parts[0].tensor);
    there.shape[0] += view.shape[0];
    there.parts.insert(is_last ? there.parts.end() : there.parts.begin(), view.parts[0]);
  }

  /// Its row 2i + t of a head is row t·D/2 + i of the original head.
  void unpermute(const std::string& name, const io::Shape& shape, Index heads,
                 std::span<float> rows) const {
    const Index head_dim = sizes_.head_dim, half = head_dim / 2;
    require_heads(name, shape, heads, head_dim);
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

  /// From all of q, all of k, all of v to groups of heads of q with their k and v.
  void regroup(const std::string& name, const io::Shape& shape, std::span<float> rows) const {
    const Sizes& s = sizes_;
    const Index kv = s.kv_heads, queries = s.heads / kv;
    require_heads(name, shape, s.heads + 2 * kv, s.head_dim);
    const Index head = static_cast<Index>(rows.size()) / (s.heads + 2 * kv);
    const std::vector<float> from(rows.begin(), rows.end());
    float* to = rows.data();
    const auto take = [&](Index first, Index count) {
      to = std::copy_n(from.data() + first * head, count * head, to);
    };
    for (Index g = 0; g < kv; ++g) {
      take(g * queries, queries);
      take(s.heads + g, 1);
      take(s.heads + kv + g, 1);
    }
  }

  /// \throws FormatError  the tensor does not have as many heads as the model
  void restore_delta(const std::string& name, const GgufTensorView& view,
                     std::span<float> numbers) const {
    const Index rows = delta_.rows(view.form), columns = delta_.columns(view.form);
    gptq::detail::require<FormatError>(
        (rows == 0 || view.shape[0] == rows) && (columns == 0 || view.shape.back() == columns),
        gguf_.path().string(), ": tensor ", name, " has the shape ", io::to_string(view.shape),
        "; expected ", rows > 0 ? rows : columns, rows > 0 ? " rows" : " columns");
    delta_.restore(view.form, view.shape, numbers);
  }

  static void transpose(const io::Shape& to, std::span<float> numbers) {
    const std::vector<float> from(numbers.begin(), numbers.end());
    for (Index r = 0; r < to[0]; ++r)
      for (Index c = 0; c < to[1]; ++c)
        numbers[std::size_t(r * to[1] + c)] = from[std::size_t(c * to[0] + r)];
  }

  /// From [heads, rank, keys] and [heads, values, rank] to [heads·(keys + values), rank].
  void join_latent(const GgufTensorView& view, std::span<float> numbers) const {
    const io::Shape &k = gguf_.at(view.parts[0].tensor).shape,
                    &v = gguf_.at(view.parts[1].tensor).shape;
    if (k[0] != v[0])
      fail(view.parts[1].tensor, " has the shape ", io::to_string(v), "; expected ", k[0],
           " heads");
    const Index rank = k[1], keys = k[2], values = v[1];
    const std::vector<float> from(numbers.begin(), numbers.end());
    float* to = numbers.data();
    for (Index h = 0; h < k[0]; ++h) {
      for (Index i = 0; i < keys; ++i)
        for (Index r = 0; r < rank; ++r) *to++ = from[std::size_t((h * rank + r) * keys + i)];
      to = std::copy_n(&from[std::size_t(k[0] * rank * keys + h * values * rank)], values * rank,
                       to);
    }
  }

  void require_heads(const std::string& name, const io::Shape& shape, Index heads,
                     Index head_dim) const {
    gptq::detail::require<FormatError>(
        heads > 0 && head_dim > 0 && shape[0] % head_dim == 0 && shape[0] / head_dim == heads,
        gguf_.path().string(), ": tensor ", name, " has the shape ", io::to_string(shape),
        "; expected ", heads, " heads of ", head_dim);
  }

  const io::GgufFiles& gguf_;
  const architecture::GgufFamily& family_;
  const Sizes sizes_;
  const GgufDelta delta_;
  std::map<std::string, GgufTensorView> views_;
};

}  // namespace gptq::model
