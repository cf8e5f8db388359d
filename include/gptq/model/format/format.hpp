// SPDX-License-Identifier: MIT
#pragma once

// Format: how a folder stores quantized modules. What is specific to one is in this folder;
// everything else asks the format.

#include <gptq/core/params.hpp>
#include <gptq/io/checkpoint.hpp>
#include <gptq/model/description.hpp>
#include <gptq/model/module_settings.hpp>
#include <gptq/pack/affine_view.hpp>
#include <gptq/pack/level_view.hpp>

#include <cstddef>  // std::byte
#include <cstring>  // std::memcpy
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>  // std::move
#include <variant>
#include <vector>

namespace gptq::model {

/// The keys of config.json that say how modules are packed.
inline constexpr const char* quantization_keys[] = {"quantization_config", "quantization"};

/// A tensor of a quantized module, NAME + suffix, before its numbers are known.
struct PartPlan {
  std::string suffix;
  io::DType type;
  io::Shape shape;
};

/// A tensor of a quantized module.
struct Part {
  std::string suffix;
  std::vector<std::byte> bytes{};
};

/// A packed module, read from its file.
using StoredCodes = std::variant<pack::AffineCodes, pack::LevelCodes>;

/// Threads on the host, of whichever backend.
struct HostThreads {
  /// Calls job(i) for i = 0 .. jobs − 1.
  std::function<void(Index jobs, const std::function<void(Index)>& job)> run;

  template <class F>
  void for_each(Index jobs, const F& job) const {
    run(jobs, job);
  }
};

/// How a folder stores quantized modules.
class Format {
 public:
  virtual ~Format() = default;

  /// As on the command line.
  virtual std::string_view name() const = 0;

  /// Whether modules are packed at all.
  virtual bool packs() const { return true; }

  /// A number as it is read back.
  virtual float stored(float x) const { return x; }

  /// The types of numbers that it holds.
  virtual std::vector<NumberType> types() const { return {NumberType::integer}; }

  /// Checks that the format can hold a module with these settings, of one of its types.
  /// \throws InvalidArgument  names the module, the setting and what the format has
  virtual void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const = 0;

  /// Checks what a module's own settings do not show.
  /// \throws InvalidArgument  names the module and the rule
  virtual void require_fits(const Description&, const SettingsTable&) const {}

  /// The tensors of a module.
  virtual std::vector<PartPlan> plan(const LinearSpec& linear,
                                     const ModuleSettings& settings) const = 0;

  /// Their contents, of integers.
  /// \throws InvalidArgument  a number would be rounded, or the format holds no integers
  virtual std::vector<Part> pack(const pack::AffineView& weight, const LinearSpec& linear,
                                 const ModuleSettings& settings, const HostThreads& threads) const {
    (void)weight, (void)settings, (void)threads;
    throw InvalidArgument(gptq::detail::message(name(), " holds no integers: ", linear.name));
  }

  /// Their contents, of other numbers.
  /// \throws InvalidArgument  a number would be rounded, or the format holds integers only
  virtual std::vector<Part> pack(const pack::LevelView& weight, const LinearSpec& linear,
                                 const ModuleSettings& settings, const HostThreads& threads) const {
    (void)weight, (void)settings, (void)threads;
    throw InvalidArgument(gptq::detail::message(name(), " holds integers only: ", linear.name));
  }

  /// The key of config.json that says how the modules are packed.
  virtual std::string_view config_key() const { return "quantization_config"; }

  /// What that key says; null: nothing is packed.
  virtual nlohmann::ordered_json config(const Description& model, const SettingsTable& table,
                                        const Params& params, bool true_sequential) const = 0;

  /// A file that contains that configuration again, for older readers; or empty.
  virtual std::string config_file() const { return {}; }

  /// What the user should know of it, one sentence each.
  virtual std::vector<std::string> notes() const { return {}; }

  /// The names of the tensors of a packed module end with these, some of which may be missing; the
  /// first is always there, and in no other module.
  virtual std::vector<std::string> suffixes() const = 0;

  /// Whether a module of this folder is packed.
  virtual bool holds(const io::TensorSource& tensors, const std::string& module) const {
    return tensors.contains(module + suffixes().front());
  }

  /// Checks a packed module before anything is read.
  /// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
  /// others
  virtual void require_tensors(const io::TensorSource& tensors, const LinearSpec& linear) const = 0;

  /// The codes and grids of a packed module.
  /// \throws FormatError  something in it is damaged, or its grids are not of either kind
  virtual StoredCodes codes(const io::TensorSource& tensors, const LinearSpec& linear) const = 0;

  /// The numbers of a packed module.
  virtual void read(const io::TensorSource& tensors, const LinearSpec& linear,
                    MatrixView<float> weight) const {
    std::visit([&](const auto& stored) { pack::dequantize(stored.view(), weight); },
               codes(tensors, linear));
  }
};

/// How the linear modules of a folder are quantized, from its quantization_config.
struct QuantizationInfo {
  std::string method;                      ///< "gptq", ...
  std::shared_ptr<const Format> format{};  ///< null: the method is not supported
  std::string variant{};                   ///< of the format: "gptq_v2"
  int bits = 0;
  Index group_size = 0;
  bool symmetric = true;
};

/// The endings of the names of a module's tensors, packed or not.
/// \param format  of packed modules, or null
inline std::vector<std::string> stored_parts(const Format* format, const io::TensorSource& tensors,
                                             const std::string& module) {
  if (format && format->holds(tensors, module)) return format->suffixes();
  return {".weight"};
}

/// The settings that all parts of a module share that inference engines join.
/// \return  nothing if they differ; an empty optional inside if none of them is quantized
inline std::optional<std::optional<ModuleSettings>> common_settings(const SettingsTable& table,
                                                                    const Block& layer,
                                                                    const FusedModules& fused) {
  const auto first = table.find(layer.prefix() + fused.parts.front());
  for (const std::string& part : fused.parts)
    if (table.find(layer.prefix() + part) != first) return std::nullopt;
  return first;
}

namespace format::detail {

/// A part with these elements.
template <class T>
Part part_of(std::string suffix, const std::vector<T>& elements) {
  const auto bytes = std::as_bytes(std::span(elements));
  return {std::move(suffix), {bytes.begin(), bytes.end()}};
}

/// The same in a type of 16 bits, which holds each of them exactly.
inline Part halves_of(std::string suffix, const std::vector<float>& numbers,
                      io::DType type = io::DType::F16) {
  Part part{std::move(suffix), std::vector<std::byte>(2 * numbers.size())};
  for (std::size_t i = 0; i < numbers.size(); ++i) io::store(numbers[i], type, &part.bytes[2 * i]);
  return part;
}

/// The group size in inputs, and how many groups there are.
struct Groups {
  Index size, count;
};
inline Groups groups_of(const LinearSpec& linear, const ModuleSettings& settings) {
  const Index size = settings.group_size == -1 ? linear.in : settings.group_size;
  return {size, 1 + (linear.in - 1) / size};
}

/// \throws FormatError  the tensor does not consist of 32-bit words
inline void require_words(const io::TensorSource& source, const std::string& name) {
  const std::string type = source.type_name(name);
  gptq::detail::require<FormatError>(type == "I32" || type == "U32", source.where(name),
                                     ": tensor ", name, " has dtype ", type, "; expected I32");
}

/// \throws FormatError  the tensor is of another type
inline void require_type(const io::TensorSource& source, const std::string& name,
                         std::string_view type) {
  gptq::detail::require<FormatError>(source.type_name(name) == type, source.where(name),
                                     ": tensor ", name, " has dtype ", source.type_name(name),
                                     "; expected ", type);
}

/// The elements of a tensor of integers of that size.
template <class T>
void read_elements(const io::TensorSource& source, const std::string& name, std::vector<T>& to) {
  const auto bytes = source.raw_bytes(name);
  to.resize(bytes.size() / sizeof(T));
  std::memcpy(to.data(), bytes.data(), bytes.size());
  source.done_with(name);
}

/// Checks the scales of a packed module before they are read.
/// \param groups_first  whether they are [groups, out], not [out, groups]
/// \return  how many groups there are
/// \throws FormatError  they are missing, of another type or shape
inline Index require_scales(const io::TensorSource& source, const std::string& name,
                            const LinearSpec& linear, bool groups_first) {
  const io::Shape shape = io::shape_of(source, name);
  const std::size_t at = groups_first ? 0 : 1;
  const std::string out = std::to_string(linear.out);
  gptq::detail::require<FormatError>(
      shape.size() == 2 && shape[1 - at] == linear.out && shape[at] >= 1 && shape[at] <= linear.in,
      source.where(name), ": tensor ", name, " has the shape ", io::to_string(shape),
      "; expected [", groups_first ? "groups, " + out : out + ", groups", "]");
  source.require_readable(name);
  return shape[at];
}

/// The scales of a packed module.
/// \throws NumericalError  one is not finite
inline std::vector<float> read_scales(const io::TensorSource& source, const std::string& name) {
  const io::Shape shape = source.shape(name);
  std::vector<float> scales(static_cast<std::size_t>(io::element_count(shape)));
  source.read(name, scales);
  io::require_finite(source, name, scales, shape.back());
  return scales;
}

/// Checks that no module has settings of its own.
/// \throws InvalidArgument  names the module
inline void require_same_settings(const Description& model, const SettingsTable& table,
                                  std::string_view format) {
  for_each_quantized(model, table, [&](const LinearSpec& linear, const ModuleSettings& own) {
    gptq::detail::require(own == table.base, "the ", format,
                          " format has the same settings throughout; ", linear.name, " has others");
  });
}

/// The linear modules of layers that are not quantized.
inline std::vector<std::string> left_out(const Description& model, const SettingsTable& table) {
  std::vector<std::string> names;
  for (const Block& layer : model.layers)
    for (const LinearSpec& linear : layer.linears())
      if (!linear.quantize || !table.find(linear.name)) names.push_back(linear.name);
  return names;
}

}  // namespace format::detail

}  // namespace gptq::model
