#pragma once

#include <string>
#include <vector>

#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad collect`.
struct CollectOptions {
  std::vector<std::string> folders;
  std::string output;
  bool each = false;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("folders", folders,
            OptionInfo{.help = "folders with the results of evaluations, searched for report.json",
                       .positional = true,
                       .required = true});
    visitor("output", output,
            OptionInfo{.help = "folder to write summary.csv and summary.md to", .required = true});
    visitor("each", each,
            OptionInfo{.help = "a row for every report, as to compare an old and a new model: no "
                               "means, and two may be of the same category, size and seed"});
  }
};

}  // namespace efficientad::cli
