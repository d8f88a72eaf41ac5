#pragma once

#include <cstdint>
#include <string>

#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad bench`.
struct BenchOptions : EngineOptions {
  std::string model;
  std::string image;
  int64_t batch = 1;
  std::string size;
  int64_t warmup = 5;
  int64_t runs = 50;
  bool layers = false;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor("image", image,
            OptionInfo{.help = "image file to decode, resize and score; empty: a procedural JPEG "
                               "of 1024x1024"});
    EngineOptions::visit(visitor);
    visitor("batch", batch,
            OptionInfo{.help = "images that are scored together", .minimum = 1, .maximum = 1024});
    visitor("size", size,
            OptionInfo{.help = "image size at which the networks run, in px, at least 64 a side: "
                               "SIDE or WIDTHxHEIGHT; empty: the model's"});
    visitor("warmup", warmup,
            OptionInfo{.help = "batches before the clock starts", .minimum = 1, .maximum = 1e6});
    visitor("runs", runs,
            OptionInfo{.help = "batches that are timed", .minimum = 1, .maximum = 1e6});
    visitor("layers", layers,
            OptionInfo{.help = "also a table of the CPU engine's layers, as Markdown"});
  }
};

}  // namespace efficientad::cli
