#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad infer`.
struct InferOptions : EngineOptions {
  std::string model;
  std::vector<std::string> paths;
  std::string output;
  bool heatmaps = false;
  bool maps = false;
  bool regions = false;
  bool only_anomalous = false;
  int64_t callers = 0;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor("paths", paths,
            OptionInfo{.help = "image files, folders (searched recursively) or quoted globs",
                       .positional = true,
                       .required = true});
    visitor("output", output, OptionInfo{.help = "folder to write to", .required = true});
    visitor("heatmaps", heatmaps,
            OptionInfo{.help = "draw the anomaly map over each image: <output>/heatmaps/*.png"});
    visitor("maps", maps,
            OptionInfo{.help = "write each anomaly map as float32 TIFF: <output>/maps/*.tiff"});
    visitor(
        "regions", regions,
        OptionInfo{.help = "write where each map is above the threshold: <output>/regions.csv"});
    visitor("only_anomalous", only_anomalous,
            OptionInfo{.help = "heat maps and maps of the images that are called anomalous only"});
    EngineOptions::visit(visitor);
    visitor("callers", callers,
            OptionInfo{.help = "images that are scored, drawn and written side by side; 0: one on "
                               "a CPU, two for each GPU",
                       .minimum = 0,
                       .maximum = 16});
  }
};

}  // namespace efficientad::cli
