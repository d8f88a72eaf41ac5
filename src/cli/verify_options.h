#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "efficientad/core/options.h"
#include "efficientad/detect/detector.h"

namespace efficientad::cli {

/// Options of `efficientad verify`.
struct VerifyOptions {
  std::string model;
  std::vector<std::string> paths;
  std::string engine = "auto";
  std::string device = "auto";
  int64_t threads = 0;
  double tolerance = 1e-3;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor("paths", paths,
            OptionInfo{.help = "image files, folders (searched recursively) or quoted globs; none: "
                               "ten procedural images",
                       .positional = true});
    visitor("engine", engine,
            OptionInfo{.help = "what is compared with the reference; auto: cpu on a CPU",
                       .choices = kEngines});
    visitor("device", device, OptionInfo{.help = "auto, cpu, cuda or cuda:N"});
    visitor("threads", threads,
            OptionInfo{.help = "CPU threads of an operation; 0: as many as cores",
                       .minimum = 0,
                       .maximum = 1024});
    visitor("tolerance", tolerance,
            OptionInfo{.help = "largest difference of maps and scores that is accepted, as a share "
                               "of the range of the reference's",
                       .source = "ours: a thousandth moves no decision that a person would notice",
                       .minimum = 0,
                       .maximum = 1});
  }
};

}  // namespace efficientad::cli
