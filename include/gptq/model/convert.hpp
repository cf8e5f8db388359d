// SPDX-License-Identifier: MIT
#pragma once

// Conversion: the codes and grids of a quantized model in another format. Nothing is rounded a
// second time.

#include <gptq/core/progress.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/quantized_module.hpp>

#include <algorithm>  // std::find_if, std::max_element
#include <functional>
#include <string>
#include <utility>  // std::pair
#include <variant>
#include <vector>

namespace gptq::model {

namespace detail {

/// The settings that a module must have been quantized with.
inline ModuleSettings settings_of(const pack::AffineView& q) {
  const auto middle = static_cast<float>(1 << (q.bits - 1));
  bool symmetric = true;
  for (Index g = 0; g < q.groups(); ++g)
    for (Index o = 0; o < q.out(); ++o) symmetric = symmetric && q.zeros(o, g) == middle;
  return {q.bits, symmetric, q.group_size >= q.in() ? Index{-1} : q.group_size};
}

inline ModuleSettings settings_of(const pack::LevelView& q) {
  const auto type = [&] {
    if (q.kind == pack::Levels::nf4) return NumberType::nf4;
    if (q.kind == pack::Levels::e4m3) return NumberType::fp8;
    return q.group_size == info(NumberType::nvfp4).group_size ? NumberType::nvfp4
                                                              : NumberType::mxfp4;
  }();
  auto settings = model::settings_of(info(type));
  settings.group_size = q.group_size;
  return settings;
}

}  // namespace detail

/// The settings that a model must have been quantized with, from what is stored. Symmetric if all
/// of its modules are.
/// \throws FormatError      a module is damaged, or its grids are not those of other formats
/// \throws InvalidArgument  no module is packed
/// \throws Cancelled        the callback asked to stop
inline SettingsTable stored_settings(const ModelFiles& model, const Progress& progress = {}) {
  SettingsTable table;
  std::vector<std::pair<std::string, ModuleSettings>> modules;
  bool symmetric = true;
  double done = 0;
  const auto count = static_cast<double>(model.description.linear_count());
  model.description.for_each_linear([&](const LinearSpec& linear) {
    if (progress && !progress("reading the grids", done++ / count, 1)) throw Cancelled();
    if (!is_quantized(model, linear.name)) {
      table.skips.emplace_back(linear.name);
      return;
    }
    std::visit(
        [&](const auto& codes) {
          modules.emplace_back(linear.name, detail::settings_of(codes.view()));
          symmetric = symmetric && modules.back().second.symmetric;
        },
        model.format()->codes(*model.tensors, linear));
  });
  gptq::detail::require(!modules.empty(), model.path.string(),
                        ": no module is packed, only plain numbers or 8-bit floats");
  std::vector<std::pair<ModuleSettings, Index>> kinds;  // and how many modules have them
  for (auto& [name, settings] : modules) {
    settings.symmetric = symmetric;
    auto kind = std::find_if(kinds.begin(), kinds.end(),
                             [&](const auto& k) { return k.first == settings; });
    if (kind == kinds.end()) kind = kinds.insert(kind, {settings, 0});
    ++kind->second;
  }
  table.base = std::max_element(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) {
                 return a.second < b.second;
               })->first;
  for (const auto& [name, settings] : modules)
    if (settings != table.base)
      table.overrides.push_back({NamePattern(name), settings.bits, settings.group_size});
  return table;
}

/// Hands all modules to the sink in another format.
/// \param table  of stored_settings
/// \throws InvalidArgument  the format would round a number, or has no index of groups
/// \throws Cancelled        the callback asked to stop
template <class Executor>
void convert(const ModelFiles& model, const SettingsTable& table, const Format& to,
             const Executor& executor, const ModuleSink& sink, const Progress& progress = {}) {
  const HostThreads threads{
      [&](Index jobs, const std::function<void(Index)>& job) { executor.parallel_for(jobs, job); }};
  double done = 0;
  const auto count = static_cast<double>(model.description.linear_count());
  for_each_quantized(model.description, table,
                     [&](const LinearSpec& linear, const ModuleSettings& settings) {
                       if (progress && !progress(linear.name, done++ / count, 1)) throw Cancelled();
                       std::visit(
                           [&](const auto& codes) {
                             const auto view = codes.view();
                             if (to.packs())
                               pack::require_contiguous_groups(view, to.name(), linear.name);
                             sink(linear.name, {.parts = to.pack(view, linear, settings, threads),
                                                .first_row = first_row_of(view)});
                           },
                           model.format()->codes(*model.tensors, linear));
                     });
}

}  // namespace gptq::model
