#pragma once

#include <string>

#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad serve`.
struct ServeOptions : EngineOptions {
  std::string model;
  std::string heatmaps;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor("heatmaps", heatmaps,
            OptionInfo{.help = "folder for heat maps of the images that are called anomalous, with "
                               "a number in front that grows with every image; empty: none"});
    EngineOptions::visit(visitor);
  }
};

}  // namespace efficientad::cli
