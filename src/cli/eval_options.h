#pragma once

#include <cstdint>
#include <string>

#include "cli/dataset_options.h"
#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad eval`.
struct EvalOptions : DatasetOptions, EngineOptions {
  std::string model;
  std::string maps;
  std::string shard;
  std::string output;
  int64_t batch_size = 8;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor(
        "model", model,
        OptionInfo{.help = "model file (model.safetensors), or with category all the folder of "
                           "the categories' trainings; those evaluated already are passed over"});
    visitor(
        "maps", maps,
        OptionInfo{.help = "instead of a model: folder of anomaly maps made by anything, float32 "
                           "TIFF of the image's size, <maps>/<category>/test/<kind>/<id>.tiff"});
    DatasetOptions::visit(visitor, /*data_is_positional=*/false);
    visitor(
        "shard", shard,
        OptionInfo{.help = "i/n, with category all: the i-th of n equal parts of the categories, "
                           "to spread them over machines; empty: all"});
    visitor("output", output, OptionInfo{.help = "folder to write to", .required = true});
    visitor("batch_size", batch_size,
            OptionInfo{.help = "images a call of the networks; changes speed and memory only",
                       .minimum = 1,
                       .maximum = 1024});
    EngineOptions::visit(visitor);
  }
};

}  // namespace efficientad::cli
