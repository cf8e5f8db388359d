// SPDX-License-Identifier: MIT

#include "harness.hpp"

#include <gptq/model/layer_weights.hpp>
#include <gptq/model/model_files.hpp>

void fuzz::config(Input input) {
  const auto path = folder().write("config.json", text(input));
  may_refuse([&] {
    const auto json = gptq::io::read_json<nlohmann::ordered_json>(path);
    may_refuse([&] {
      const auto config = gptq::model::ModelConfig::parse(json, "config.json");
      if (config.head_dim <= 4096) config.rope.frequencies(config.head_dim);
      for (int m = 0; m < gptq::model::module_count; ++m) {
        const auto shape = module_shape(config, static_cast<gptq::model::Module>(m));
        require(shape.in > 0 && shape.out > 0, "modules have inputs and outputs");
      }
    });
    if (json.is_object() && json.contains("quantization_config") &&
        !json["quantization_config"].is_null())
      gptq::model::detail::parse_quantization(json["quantization_config"],
                                              "config.json: quantization_config");
  });
}
