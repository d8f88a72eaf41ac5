#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "efficientad/core/options.h"

namespace efficientad {

/// Options of `efficientad synth`.
struct SynthOptions {
  std::string output;
  int64_t images = 400;
  int64_t size = 256;
  int64_t seed = 0;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("output", output, OptionInfo{.help = "folder to write to", .required = true});
    visitor("images", images, OptionInfo{.help = "images in all", .minimum = 20, .maximum = 1e6});
    visitor("size", size,
            OptionInfo{.help = "height and width of an image, px", .minimum = 64, .maximum = 4096});
    visitor("seed", seed, OptionInfo{.help = "seed; the same seed gives the same bytes"});
  }
};

/// Renders the procedural data set in MVTec LOCO layout: <output>/tray/{train,validation,test,
/// ground_truth,defects_config.json}. `progress(done, total)` is called after each image; images
/// are made on `threads` threads and do not depend on their number. An interrupted run is completed
/// by running it again. Throws Error if `output` holds something else.
void make_synth_dataset(const SynthOptions& options,
                        const std::function<void(int64_t done, int64_t total)>& progress);

}  // namespace efficientad
