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
            OptionInfo{.help = "height and width of an image, px", .minimum = 64, .maximum = 2048});
    visitor("seed", seed,
            OptionInfo{.help = "seed; the same seed gives the same bytes", .minimum = 0});
  }
};

/// Renders the procedural data set in MVTec LOCO layout: <output>/tray/{train,validation,test,
/// ground_truth,defects_config.json}: 55 % of the images to train on, 10 % to validate, the rest to
/// test, of which a third each good, with logical and with structural anomalies, all kinds alike.
/// Image n of a folder depends on the seed and the size only. <output>/synth.json names the
/// options.
///
/// `progress(done, total)` is called by the calling thread after each image; images are made on
/// `threads` threads (0: as many as the machine has) and do not depend on their number.
///
/// An interrupted run throws Interrupted and is completed by running it again with the same
/// options. Throws Error, and touches nothing, if `output` holds something else or a set of other
/// options; UsageError if an option is out of range.
void make_synth_dataset(const SynthOptions& options,
                        const std::function<void(int64_t done, int64_t total)>& progress,
                        int threads = 0);

}  // namespace efficientad
