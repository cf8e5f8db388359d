// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/model/cuts.hpp>
#include <gptq/model/model_files.hpp>

void fuzz::config(Input input) {
  const auto path = folder().write("config.json", text(input));
  may_refuse([&] {
    const auto json = gptq::io::read_json<nlohmann::ordered_json>(path);
    may_refuse([&] {
      const auto model = gptq::model::Description::parse(json, "config.json");
      for (const auto& rope : model.ropes)
        if (rope.dims <= 4096) rope.frequencies();
      model.for_each_linear([](const gptq::model::LinearSpec& linear) {
        require(linear.in > 0 && linear.out > 0, "modules have inputs and outputs");
      });
      for (const auto& layer : model.layers) gptq::model::Cuts cuts(layer);
    });
    if (json.is_object() && json.contains("quantization_config") &&
        !json["quantization_config"].is_null())
      gptq::model::detail::parse_quantization(json["quantization_config"],
                                              "config.json: quantization_config");
  });
}
