#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "efficientad/core/options.h"
#include "efficientad/detect/detector.h"

namespace efficientad::cli {

/// Options of `efficientad infer`.
struct InferOptions {
  std::string model;
  std::vector<std::string> paths;
  std::string output;
  bool heatmaps = false;
  bool maps = false;
  std::string engine = "auto";
  std::string device = "auto";
  int64_t threads = 0;

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
    visitor("engine", engine,
            OptionInfo{.help = "what computes the maps; auto: cpu on a CPU, else reference",
                       .choices = kEngines});
    visitor("device", device, OptionInfo{.help = "auto, cpu, cuda or cuda:N"});
    visitor("threads", threads,
            OptionInfo{.help = "CPU threads of an operation; 0: as many as cores",
                       .minimum = 0,
                       .maximum = 1024});
  }
};

}  // namespace efficientad::cli
