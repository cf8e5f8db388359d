// SPDX-License-Identifier: MIT
#pragma once

// Checks of all tensors of a decoder, before the work begins.

#include <gptq/core/progress.hpp>
#include <gptq/model/layer_weights.hpp>

#include <algorithm>  // std::min
#include <cmath>      // std::isfinite
#include <cstring>    // std::memcmp
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace gptq::model {

/// Whether the head shares the weight of the embeddings.
inline bool has_tied_head(const ModelFiles& model) {
  const HeadSpec& head = model.description.head;
  return head.tied && !model.tensors->contains(head.linear.name + ".weight") &&
         !is_quantized(model, head.linear.name);
}

namespace detail {

/// A tied model whose file has a different head: some loaders use that, others the embeddings.
inline void require_tied_head(const ModelFiles& model) {
  const io::TensorSource& source = *model.tensors;
  const std::string head = model.description.head.linear.name + ".weight",
                    embeddings = model.description.embeddings;
  if (!model.description.head.tied || has_tied_head(model)) return;
  if (source.contains(head) && source.type_name(head) == source.type_name(embeddings)) {
    const auto a = source.raw_bytes(head), b = source.raw_bytes(embeddings);
    if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0) return;
  }
  throw FormatError(gptq::detail::message(
      source.where(head), ": has a separate head, but tie_word_embeddings is true in ",
      model.path.string(),
      "; some loaders use that head, some the embeddings (set it to false, or remove ", head, ")"));
}

}  // namespace detail

/// Checks the shapes and types of all tensors of the decoder and of those copied unchanged, and
/// that its layers have no others, before anything is read.
/// \throws FormatError  names the tensor, its shape or type, and what was expected
inline void require_decoder_tensors(const ModelFiles& model) {
  const Description& description = model.description;
  const io::TensorSource& source = *model.tensors;
  require_known_format(model);
  std::set<std::string> known;
  const auto expect = [&](const std::string& name, const io::Shape& shape) {
    io::require_shape(source, name, shape);
    source.require_readable(name);
    known.insert(name);
  };
  const auto expect_linear = [&](const LinearSpec& linear) {
    const std::string& name = linear.name;
    bool bias = linear.bias;
    if (is_quantized(model, name)) {
      const Format& format = *model.format();
      format.require_tensors(source, linear);
      for (const std::string& part : format.suffixes()) known.insert(name + part);
      if (source.contains(name + ".bias")) bias = true;  // some writers add zero biases
    } else {
      expect(name + ".weight", linear.transposed ? io::Shape{linear.in, linear.out}
                                                 : io::Shape{linear.out, linear.in});
    }
    if (bias) expect(name + ".bias", {linear.out});
  };
  const auto expect_block = [&](const Block& block) {
    for (const VectorSpec& vector : block.vectors())
      for (const auto& [name, shape] : tensors_of(vector)) expect(name, shape);
    for (const LinearSpec& linear : block.linears()) expect_linear(linear);
  };
  expect(description.embeddings,
         {description.sizes.vocabulary, description.entry.steps().front().width});
  expect_block(description.entry);
  expect_block(description.exit);
  if (!has_tied_head(model)) expect_linear(description.head.linear);
  detail::require_tied_head(model);
  for (const Block& layer : description.layers) expect_block(layer);
  for (const std::string& name : source.names())
    if (name.starts_with(description.layers_prefix) && known.count(name) == 0)
      throw FormatError(gptq::detail::message(
          source.where(name), ": tensor ", name, " does not belong in a ", description.architecture,
          " of ", description.layers.size(), " layers as its ",
          model.from_gguf ? "metadata describe" : "config.json describes", " it"));
}

/// Reads all tensors once, so that a number that cannot be used is found before the work begins:
/// one that is infinite or NaN, or one that does not fit the type in which its tensor is copied
/// (GGUF: fp16).
/// \param passed_on  whether a tensor will be copied unchanged; if empty, none will
/// \throws NumericalError  names file, tensor, row, column and value, as in the file
/// \throws Cancelled       the callback returned false
template <class Executor>
void require_finite_tensors(const ModelFiles& model, const Executor& executor,
                            const Progress& progress = {},
                            const std::function<bool(const std::string&)>& passed_on = {}) {
  struct Chunk {
    std::string name;
    Index first, last;
    bool passed_on;
  };
  constexpr Index chunk = Index(1) << 22;  // elements
  const io::TensorSource& source = *model.tensors;
  std::vector<Chunk> chunks;
  for (const std::string& name : source.names()) {
    const Index count = io::element_count(source.shape(name));
    if (source.stored_bytes(name) == 0) continue;
    for (Index first = 0; first < count; first += chunk)
      chunks.push_back(
          {name, first, (std::min)(first + chunk, count), passed_on && passed_on(name)});
  }
  const Index batch = 16 * executor.concurrency(), total = static_cast<Index>(chunks.size());
  for (Index begin = 0; begin < total; begin += batch) {
    if (progress && !progress("checking the weights",
                              static_cast<double>(begin) / static_cast<double>(total), 1))
      throw Cancelled();
    executor.parallel_for((std::min)(batch, total - begin), [&](Index i) {
      const Chunk& c = chunks[static_cast<std::size_t>(begin + i)];
      const auto unfit = source.find_unfit(c.name, c.first, c.last, c.passed_on);
      if (!unfit) return;
      const io::Shape shape = source.shape(c.name);
      const Index cols = shape.empty() ? 1 : shape.back();
      throw NumericalError(gptq::detail::message(
          source.where(c.name), ": tensor ", c.name, " has ", unfit->value, " at row ",
          unfit->element / cols, ", column ", unfit->element % cols,
          std::isfinite(unfit->value)
              ? gptq::detail::message(", which does not fit the type that it is written in, ",
                                      io::name(source.output_type(c.name)))
              : std::string()));
    });
  }
}

}  // namespace gptq::model
