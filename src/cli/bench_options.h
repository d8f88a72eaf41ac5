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
  bool throughput = false;
  std::string batches = "1,8,16,32,64,128";
  int64_t callers = 2;

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
    visitor(
        "layers", layers,
        OptionInfo{
            .help = "also a table of what engine cpu or cuda does one after another, as Markdown"});
    visitor("throughput", throughput,
            OptionInfo{.help = "also images a second, from memory to maps in memory, at several "
                               "batch sizes, with several callers side by side"});
    visitor("batches", batches,
            OptionInfo{.help = "batch sizes for throughput, separated by commas"});
    visitor("callers", callers,
            OptionInfo{.help = "threads that ask for maps at once, for throughput: while one's "
                               "images are copied, another's are computed",
                       .minimum = 1,
                       .maximum = 16});
  }
};

}  // namespace efficientad::cli
