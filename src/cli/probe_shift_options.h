#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad probe-shift`.
struct ProbeShiftOptions : EngineOptions {
  std::string model;
  std::vector<std::string> paths;
  int64_t images = 0;
  std::string scan = "both";
  std::string defect;
  std::string mask;
  std::string synthetic = "none";
  double size = 6;
  double contrast = -60;
  std::string output;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor(
        "paths", paths,
        OptionInfo{.help = "image files, folders (searched recursively) or quoted globs; normal "
                           "ones, where a defect is put in",
                   .positional = true,
                   .required = true});
    visitor("images", images,
            OptionInfo{.help = "how many of the images to take, evenly spread; 0: all",
                       .minimum = 0,
                       .maximum = 1e9});
    visitor("scan", scan,
            OptionInfo{.help = "where to move: stride: the 4x4 px of a cell of the maps; field: "
                               "the 33 px of a receptive field, right, down and both",
                       .choices = {"both", "stride", "field"}});
    visitor("defect", defect,
            OptionInfo{.help = "image file with a defect that is cut out and put into the images; "
                               "needs mask. Without a defect the whole content is moved"});
    visitor("mask", mask,
            OptionInfo{.help = "mask of the defect, an image file: not 0 where it is"});
    visitor("synthetic", synthetic,
            OptionInfo{.help = "instead of a file: a drawn defect in the middle of the images",
                       .choices = {"none", "blob", "scratch"}});
    visitor("size", size,
            OptionInfo{.help = "synthetic: diameter or length in px of the networks' input",
                       .minimum = 1,
                       .maximum = 1024});
    visitor("contrast", contrast,
            OptionInfo{.help = "synthetic: by how many grey levels it is lighter",
                       .minimum = -255,
                       .maximum = 255});
    visitor("output", output,
            OptionInfo{.help = "folder for shifts.csv (every place) and curve.svg; empty: none"});
    EngineOptions::visit(visitor);
  }
};

}  // namespace efficientad::cli
