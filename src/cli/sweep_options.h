#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/dataset_options.h"
#include "cli/engine_options.h"

namespace efficientad::cli {

/// Options of `efficientad sweep`.
struct SweepOptions : DatasetOptions, EngineOptions {
  std::string train_config;
  std::string shots = "1,2,4,8,16,32,all";
  int64_t seeds = 3;
  std::vector<std::string> set;
  std::string teacher;
  std::string output;
  bool keep_models = false;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("train_config", train_config,
            OptionInfo{.help = "JSON file of training options, such as configs/train_fast.json; "
                               "empty: the defaults. What sweep itself chooses (data, shots, "
                               "seed, output, …) is passed over"});
    DatasetOptions::visit(visitor, /*data_is_positional=*/false);
    visitor("shots", shots,
            OptionInfo{.help = "numbers of training images, separated by commas; all: every one"});
    visitor(
        "seeds", seeds,
        OptionInfo{.help = "runs of each kind, with the seeds 0, 1, …; a seed chooses the images "
                           "too",
                   .minimum = 1,
                   .maximum = 1000});
    visitor("set", set,
            OptionInfo{.help = "a training option and its values, as in learning_rate=1e-4,4e-4; "
                               "several: every combination"});
    visitor("teacher", teacher,
            OptionInfo{.help = "teacher file, as train takes it; empty: that of train_config, else "
                               "the shipped one of the model size"});
    visitor("output", output, OptionInfo{.help = "folder to write to", .required = true});
    visitor("keep_models", keep_models,
            OptionInfo{.help = "keep each run's model, checkpoints and anomaly maps"});
    EngineOptions::visit(visitor);
  }
};

}  // namespace efficientad::cli
