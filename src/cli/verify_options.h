#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad verify`.
struct VerifyOptions : EngineOptions {
  std::string model;
  std::vector<std::string> paths;
  int64_t batch = 1;
  double tolerance = -1;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor("paths", paths,
            OptionInfo{.help = "image files, folders (searched recursively) or quoted globs; none: "
                               "ten procedural images",
                       .positional = true});
    EngineOptions::visit(visitor);
    visitor("batch", batch,
            OptionInfo{.help = "images that the engine is given at once; the reference has one",
                       .minimum = 1,
                       .maximum = 1024});
    visitor("tolerance", tolerance,
            OptionInfo{.help = "largest difference of maps and scores that is accepted, as a share "
                               "of the range of the reference's; -1: 0.001 in fp32, 0.01 in fp16, "
                               "0.08 in bf16",
                       .source = "ours: a thousandth moves no decision that a person would "
                                 "notice; in fp16 and bf16 some ten times what was measured "
                                 "(docs/performance.md)",
                       .minimum = -1,
                       .maximum = 1});
  }
};

}  // namespace efficientad::cli
