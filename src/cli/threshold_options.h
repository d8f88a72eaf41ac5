#pragma once

#include <string>
#include <vector>

#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad threshold`.
struct ThresholdOptions : EngineOptions {
  std::string model;
  std::string output;
  std::string rule = "fpr";
  double max_fpr = 0.01;
  std::vector<std::string> normal_images;
  std::string scores;
  double cost_ratio = 10;
  /// A number; empty: none is given.
  std::string value;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor("output", output, OptionInfo{.help = "model file to write; empty: the model itself"});
    visitor(
        "rule", rule,
        OptionInfo{.help = "fpr: from normal images alone; f1 or cost: from a scores.csv of eval "
                           "with defects; value: the one that is given",
                   .choices = {"fpr", "f1", "cost", "value"}});
    visitor(
        "max_fpr", max_fpr,
        OptionInfo{.help = "rule fpr: false-positive rate that is promised with 95 % confidence; "
                           "0.01 needs 299 normal images, 0.05 needs 59",
                   .minimum = 1e-6,
                   .maximum = 0.5});
    visitor("normal_images", normal_images,
            OptionInfo{.help = "rule fpr: images, folders or globs of normal parts that were not "
                               "trained on; none: the scores that the model holds"});
    visitor("scores", scores, OptionInfo{.help = "rules f1 and cost: a scores.csv made by eval"});
    visitor("cost_ratio", cost_ratio,
            OptionInfo{.help = "rule cost: how many false alarms a missed defect costs",
                       .minimum = 1e-9,
                       .maximum = 1e9});
    visitor("value", value, OptionInfo{.help = "rule value: the threshold, a number"});
    EngineOptions::visit(visitor);
  }
};

}  // namespace efficientad::cli
