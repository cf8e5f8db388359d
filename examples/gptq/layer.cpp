// SPDX-License-Identifier: MIT

// gptq layer: quantizes one matrix from file to file, so that any language can use the core.

#include "command.hpp"
#include "compute.hpp"
#include "report.hpp"

#include <gptq/io/safetensors.hpp>
#include <gptq/io/safetensors_writer.hpp>
#include <gptq/parity.hpp>
#include <gptq/quantizer.hpp>

#include <fmt/format.h>

#include <cstdio>  // std::sscanf
#include <memory>
#include <type_traits>  // std::decay_t

#include <unistd.h>  // isatty

namespace gptq::program {

namespace {

struct LayerOptions {
  std::string input, output, order, groups, range, scale_type, solver, sparsity, parity;
  int bits = 4;
  Index group_size = 128, block_size = 128, sequences = 1;
  bool asymmetric = false, overwrite = false;
  double damping = 0.01;
  ComputeOptions compute;
};

Params habits(const std::string& parity) {
  return parity == "paper"            ? gptq::parity::paper()
         : parity == "msmodelslim"    ? gptq::parity::msmodelslim()
         : parity == "llm-compressor" ? gptq::parity::llm_compressor()
                                      : Params{};
}

/// The flags on top of our defaults or another implementation's.
Params layer_params(const LayerOptions& o) {
  Params params = habits(o.parity);
  params.allow_tail_group = true;
  params.group_size = o.group_size;
  params.block_size = o.block_size;
  params.damping = o.damping;
  const auto choose = [](auto& field, const std::string& text, auto names) {
    for (const auto& [name, value] : names)
      if (text == name) field = value;
  };
  using Orders = std::initializer_list<std::pair<const char*, Order>>;
  choose(params.order, o.order,
         Orders{{"natural", Order::natural},
                {"act", Order::act},
                {"group-aware", Order::group_aware},
                {"min-pivot", Order::min_pivot}});
  choose(params.groups, o.groups,
         std::initializer_list<std::pair<const char*, Groups>>{{"dynamic", Groups::dynamic},
                                                               {"static", Groups::static_}});
  choose(params.range, o.range,
         std::initializer_list<std::pair<const char*, Range>>{
             {"minmax", Range::minmax}, {"mse", Range::mse}, {"weighted", Range::weighted}});
  choose(params.scale_type, o.scale_type,
         std::initializer_list<std::pair<const char*, ScaleType>>{
             {"fp16", ScaleType::fp16}, {"bf16", ScaleType::bf16}, {"fp32", ScaleType::fp32}});
  choose(params.solver, o.solver,
         std::initializer_list<std::pair<const char*, Solver>>{
             {"lazy-batch", Solver::lazy_batch}, {"left-looking", Solver::left_looking}});
  // Quirks that have no effect with these settings.
  if (params.groups == Groups::static_) params.parity.stale_group_scales = false;
  if (params.group_size != -1) params.parity.dead_weights_in_range = false;
  if (params.parity.stale_group_scales && params.solver != Solver::lazy_batch) {
    params.parity.stale_group_scales = false;
    if (o.group_size != -1 && o.group_size % o.block_size != 0)
      print_error(
          "note: --parity {} takes scales from a partly corrected weight, but with --solver "
          "left-looking they come from the fully corrected one\n",
          o.parity);
  }
  if (!o.sparsity.empty()) {
    char end = 0;
    const bool read = std::sscanf(o.sparsity.c_str(), "%td:%td%c", &params.sparsity.zeros,
                                  &params.sparsity.of, &end) == 2;
    detail::require(read && !params.sparsity.dense(), "--sparsity ", o.sparsity,
                    ": expected two numbers such as 2:4");
    if (o.order.empty()) {  // the only order that patterns allow
      if (!o.parity.empty() && params.order != Order::natural)
        print_error("note: --sparsity rounds inputs in natural order, not that of --parity {}\n",
                    o.parity);
      params.order = Order::natural;
    }
  }
  params.validate();
  return params;
}

template <class B>
struct Input {
  std::vector<float> weight;
  Index out = 0, in = 0;
  Hessian<B> hessian;
};

template <class B>
Input<B> read_input(const LayerOptions& o, const B& backend) {
  const io::Safetensors file(o.input);
  struct Size {
    const char* name;
    Index value = -1;  // any
    bool admits(Index n) const { return n > 0 && (value < 0 || n == value); }
    std::string text() const { return value < 0 ? name : std::to_string(value); }
  };
  const auto matrix = [&](const char* name, const Size& rows, const Size& cols) {
    const io::SafeTensor& t = file.at(name);
    const bool fits = t.dtype == io::DType::F32 && t.shape.size() == 2 && rows.admits(t.shape[0]) &&
                      cols.admits(t.shape[1]);
    detail::require<FormatError>(fits, o.input, ": tensor ", name, " is ", io::name(t.dtype), " ",
                                 io::to_string(t.shape), "; expected F32 [", rows.text(), ", ",
                                 cols.text(), "]");
    std::vector<float> numbers(static_cast<std::size_t>(io::element_count(t.shape)));
    io::to_floats(t.dtype, t.bytes, numbers);
    return numbers;
  };
  const auto shape_of = [&](const char* name) { return file.at(name).shape; };
  auto weight = matrix("W", {"out"}, {"in"});
  const Index out = shape_of("W")[0], in = shape_of("W")[1];
  const bool has_activations = file.tensors().count("X") > 0;
  detail::require<FormatError>(has_activations || file.tensors().count("H") > 0, o.input,
                               ": has neither X, activations [tokens, in], nor H, [in, in]");
  detail::require(has_activations || o.sequences == 1, "--sequences ", o.sequences,
                  ": slices X, but ", o.input, " has only H");
  if (!has_activations) {
    const auto sum = matrix("H", {"in", in}, {"in", in});
    const MatrixView<const float> h(sum.data(), in, in);
    require_finite(backend, h, o.input + ": H");
    for (Index i = 0; i < in; ++i)
      for (Index j = 0; j < i; ++j)
        detail::require<FormatError>(
            std::abs(double{h(i, j)} - double{h(j, i)}) <=
                1e-3 * std::sqrt(std::abs(double{h(i, i)} * double{h(j, j)})),
            o.input, ": H is not symmetric: H(", i, ", ", j, ") = ", h(i, j), ", H(", j, ", ", i,
            ") = ", h(j, i));
    // Counts that leave H as it is, whatever is counted.
    const bool twice = habits(o.parity).parity.samples == SampleCount::twice_tokens;
    return {std::move(weight), out, in,
            Hessian<B>::from_sum(h, twice ? 2 : 1, 2, backend, 0, o.input + ": H")};
  }
  const auto x = matrix("X", {"tokens"}, {"in", in});
  const Index tokens = shape_of("X")[0];
  detail::require(tokens % o.sequences == 0, "--sequences ", o.sequences, " does not divide the ",
                  tokens, " tokens of X");
  Hessian<B> hessian(in, backend);
  const Index length = tokens / o.sequences;
  for (Index s = 0; s < o.sequences; ++s)
    hessian.add(MatrixView<const float>(x.data() + s * length * in, length, in));
  return {std::move(weight), out, in, std::move(hessian)};
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& numbers) {
  return std::as_bytes(std::span(numbers));
}

template <class S>
void write_result(io::OutputFile file, const QuantizedMatrix<S>& q) {
  const Index out = q.rows(), in = q.cols(), groups = q.groups();
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(out * in));
  std::vector<float> scales(static_cast<std::size_t>(out * groups)), zeros(scales.size()),
      weights(codes.size());
  const auto copy = [](auto from, auto& to) {
    for (Index r = 0; r < from.rows(); ++r)
      for (Index c = 0; c < from.cols(); ++c)
        to[static_cast<std::size_t>(r * from.cols() + c)] = from(r, c);
  };
  copy(q.codes(), codes);
  copy(q.scales(), scales);
  copy(q.zeros(), zeros);
  q.dequantize({weights.data(), out, in});
  const std::vector<std::int32_t> g_idx(q.group_index().begin(), q.group_index().end());

  io::write_safetensors(std::move(file),
                        {{"codes", io::DType::U8, {out, in}, bytes_of(codes)},
                         {"scale", io::DType::F32, {out, groups}, bytes_of(scales)},
                         {"zero", io::DType::F32, {out, groups}, bytes_of(zeros)},
                         {"g_idx", io::DType::I32, {in}, bytes_of(g_idx)},
                         {"Q", io::DType::F32, {out, in}, bytes_of(weights)}});
}

template <class S, class B>
void quantize_layer(const LayerOptions& o, const Params& params, const B& backend) {
  const Input<B> input = read_input(o, backend);
  io::OutputFile file(o.output);  // before the work, which would otherwise be lost
  const auto quantized = [&] {
    try {
      return Quantizer<S, B>(params).quantize(
          MatrixView<const float>(input.weight.data(), input.out, input.in), input.hessian, "W",
          progress_display(o.compute.quiet || isatty(STDERR_FILENO) == 0));
    } catch (const ScaleError& error) {
      throw ScaleError(detail::message(o.input, ": ", error.problem()),
                       "--scale-type bf16 and fp32 range from 1e-38 to 1e38");
    }
  }();
  write_result(std::move(file), quantized);
  auto json = report_json(quantized.report());
  json["rows"] = input.out;
  json["cols"] = input.in;
  json["groups"] = quantized.groups();
  say("{}\n", json.dump());
}

void layer(const LayerOptions& o) {
  const Params params = layer_params(o);
  std::error_code error;
  detail::require(std::filesystem::path(o.output).has_filename(), o.output,
                  ": --out: a file name is needed");
  detail::require(!std::filesystem::is_directory(o.output, error), o.output, " is a folder");
  detail::require(o.overwrite || !std::filesystem::exists(o.output, error), o.output,
                  " exists (--overwrite replaces it)");
  detail::require(!std::filesystem::equivalent(o.input, o.output, error), o.output,
                  " is also the input, which would be lost");
  const auto folder = std::filesystem::absolute(o.output).parent_path();
  detail::require<IoError>(std::filesystem::is_directory(folder), o.output, ": there is no folder ",
                           folder.string());
  const Precision products = o.compute.products();
  detail::require(products == o.compute.hessian_products(), "--precision ", o.compute.precision,
                  " is for decoders; a layer's Hessian needs split or single");
  with_backend(o.compute, [&](const auto&, const auto& backend, const std::string&) {
    scheme::with_affine(o.bits, !o.asymmetric, [&](const auto& scheme) {
      quantize_layer<std::decay_t<decltype(scheme)>>(o, params, backend);
    });
  });
}

}  // namespace

void add_layer(CLI::App& app) {
  auto o = std::make_shared<LayerOptions>();
  o->compute.precision = "single";
  CLI::App* command = app.add_subcommand(
      "layer",
      "Quantize one matrix: W [out, in] and X [tokens, in], or H [in, in], all F32, from a "
      "safetensors file;\ncodes, scale, zero, g_idx and Q to another one, the report to standard "
      "output as JSON");
  command->add_option("IN", o->input, "safetensors file with W and X, or W and H")->required();
  command->add_option("--out", o->output, "safetensors file to write")->required();
  command->add_option("--bits", o->bits, "Bits per weight")
      ->check(CLI::Range(2, 8))
      ->capture_default_str();
  command
      ->add_option("--group-size", o->group_size, "Inputs that share a scale; -1: one per output")
      ->capture_default_str();
  command->add_flag("--asym,!--sym", o->asymmetric, "Grids with zero points, or without (default)");
  command->add_option("--order", o->order, "Order in which inputs are rounded (default act)")
      ->check(CLI::IsMember({"natural", "act", "group-aware", "min-pivot"}));
  command
      ->add_option("--groups", o->groups,
                   "When scales are chosen: when a group is reached, or before (default static)")
      ->check(CLI::IsMember({"dynamic", "static"}));
  command->add_option("--block-size", o->block_size, "Inputs rounded between two products")
      ->capture_default_str();
  command->add_option("--damping", o->damping, "As a fraction of the mean of H's diagonal")
      ->capture_default_str();
  command->add_option("--range", o->range, "How scales are chosen (default weighted)")
      ->check(CLI::IsMember({"minmax", "mse", "weighted"}));
  command
      ->add_option("--scale-type", o->scale_type,
                   "Type that scales are rounded to (default fp16); the file always stores F32")
      ->check(CLI::IsMember({"fp16", "bf16", "fp32"}));
  command->add_option("--solver", o->solver, "Form of the solver (default left-looking)")
      ->check(CLI::IsMember({"lazy-batch", "left-looking"}));
  command->add_option("--sparsity", o->sparsity,
                      "2:4: of every 4 neighbouring inputs of an output, the 2 that cost least are "
                      "set to zero; in natural order");
  command->add_option("--sequences", o->sequences, "Number of equal slices in which X is added")
      ->check(CLI::Range(Index(1), Index(1) << 40))
      ->capture_default_str();
  command
      ->add_option(
          "--parity", o->parity,
          "paper, msmodelslim, llm-compressor: every option not given is as in the paper's "
          "own code, in msModelSlim or in llm-compressor")
      ->check(CLI::IsMember({"paper", "msmodelslim", "llm-compressor"}));
  command->add_flag("--overwrite", o->overwrite, "Replace OUT");
  o->compute.declare(*command);
  command->footer(
      "Example:\n  gptq layer layer.safetensors --out quantized.safetensors --bits 4 --group-size "
      "128");
  command->callback([o, command] {
    if (!o->parity.empty() && command->count("--group-size") == 0)
      o->group_size = habits(o->parity).group_size;
    if (o->parity == "msmodelslim" && command->count("--bits") == 0) o->bits = 8;
    layer(*o);
  });
}

}  // namespace gptq::program
