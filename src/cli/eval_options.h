#pragma once

#include <cstdint>
#include <string>

#include "cli/engine_options.h"
#include "efficientad/core/options.h"

namespace efficientad::cli {

/// Options of `efficientad eval`.
struct EvalOptions : EngineOptions {
  std::string model;
  std::string dataset = "mvtec";
  std::string data;
  std::string category;
  std::string normal_dir = "normal";
  std::string abnormal_dir;
  std::string normal_test_dir;
  std::string mask_dir;
  std::string output;
  int64_t batch_size = 8;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("model", model, OptionInfo{.help = "model file (model.safetensors)", .required = true});
    visitor("dataset", dataset,
            OptionInfo{.help = "layout of the data set", .choices = {"mvtec", "loco", "folder"}});
    visitor("data", data, OptionInfo{.help = "root folder of the data set", .required = true});
    visitor("category", category,
            OptionInfo{.help = "category (folder in the root); empty: the root is one"});
    visitor("normal_dir", normal_dir,
            OptionInfo{.help = "layout folder: normal training images, relative to the root"});
    visitor("abnormal_dir", abnormal_dir,
            OptionInfo{.help = "layout folder: anomalous test images, or a folder a kind of them"});
    visitor("normal_test_dir", normal_test_dir,
            OptionInfo{.help = "layout folder: normal test images"});
    visitor("mask_dir", mask_dir, OptionInfo{.help = "layout folder: masks of the defects"});
    visitor("output", output, OptionInfo{.help = "folder to write to", .required = true});
    visitor("batch_size", batch_size,
            OptionInfo{.help = "images a call of the networks; changes speed and memory only",
                       .minimum = 1,
                       .maximum = 1024});
    EngineOptions::visit(visitor);
  }
};

}  // namespace efficientad::cli
