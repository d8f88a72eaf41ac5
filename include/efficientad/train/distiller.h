#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "efficientad/core/options.h"
#include "efficientad/detect/model_bundle.h"

namespace efficientad {

/// Options of `efficientad distill`.
struct DistillOptions {
  std::vector<std::string> backbone;
  std::vector<std::string> taps;
  std::vector<std::string> images;
  std::string output;
  std::string model_size = "small";
  std::string target = "average";
  int64_t steps = 4000;
  int64_t batch_size = 8;
  int64_t crop_size = 128;
  bool flip = true;
  int64_t views = 1;
  double grey_probability = 0.1;
  double exposure_jitter = 1;
  std::string optimizer = "muon";
  double muon_learning_rate = 0.012;
  double learning_rate = 1e-3;
  double weight_decay = 1e-5;
  std::string schedule = "cosine";
  double warmup_fraction = 0.05;
  int64_t max_images = 0;
  int64_t held_out = 64;
  int64_t seed = 0;
  std::string precision = "auto";
  std::string device = "auto";
  int64_t threads = 0;
  double checkpoint_minutes = 5;
  std::string cache;
  bool keep_cache = false;
  int64_t feature_batch = 0;
  bool resume = false;
  bool overwrite = false;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    const std::string short_run = "ours: a run of minutes on two cores, not of days on a GPU";
    visitor("backbone", backbone,
            OptionInfo{.help = "backbone files (convert_backbone.py, or TorchScript); the target's "
                               "channels are shared out evenly among them",
                       .required = true});
    visitor("taps", taps,
            OptionInfo{
                .help = "layers to predict, one entry a backbone, for example 6,14; empty: 6,14 of "
                        "EfficientNet-Lite, conv4_3 of VGG16",
                .source = "ours: see models/README.md"});
    visitor("images", images,
            OptionInfo{.help = "folders of images, searched recursively", .required = true});
    visitor("output", output, OptionInfo{.help = "teacher file to write", .required = true});
    visitor("model_size", model_size,
            OptionInfo{.help = "network", .source = "paper", .choices = {"small", "medium"}});
    visitor("target", target,
            OptionInfo{.help = "how 384 values are made of the features: patch (the paper's pooled "
                               "3x3 neighbourhoods), average (standardised channels, averaged "
                               "over 3x3 cells and pooled) or projection (a random orthogonal "
                               "one)",
                       .source = "ours: see models/README.md",
                       .choices = {"average", "projection", "patch"}});
    visitor("steps", steps,
            OptionInfo{.help = "optimisation steps", .source = short_run, .minimum = 1});
    visitor("batch_size", batch_size,
            OptionInfo{.help = "crops a step", .source = short_run, .minimum = 1, .maximum = 4096});
    visitor("crop_size", crop_size,
            OptionInfo{.help = "side of a crop of the 256 px image, a multiple of 4",
                       .source = "ours: more different pictures for the same arithmetic",
                       .minimum = 64,
                       .maximum = 256});
    visitor(
        "flip", flip,
        OptionInfo{.help = "mirror half of the images, by chance, before its features are computed",
                   .source = "ours"});
    visitor("views", views,
            OptionInfo{.help = "views of each training image whose features are computed: the "
                               "first is all of it, each further one a random part, at least half "
                               "of each side; each takes 2.6 MB of disk",
                       .source = "ours",
                       .minimum = 1,
                       .maximum = 1000});
    visitor("grey_probability", grey_probability,
            OptionInfo{.help = "probability that an image is made grey, for backbone and teacher",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1});
    visitor("exposure_jitter", exposure_jitter,
            OptionInfo{.help = "largest factor by which the teacher's picture is made brighter or "
                               "darker while the target stays (contrast: its square root), so "
                               "that features depend less on exposure; 1: none",
                       .source = "ours",
                       .minimum = 1,
                       .maximum = 16});
    visitor("optimizer", optimizer,
            OptionInfo{.help = "adam (the paper's) or muon",
                       .source = "ours: explained more variance after equally few steps",
                       .choices = {"muon", "adam"}});
    visitor("muon_learning_rate", muon_learning_rate,
            OptionInfo{.help = "step size of muon", .source = short_run, .minimum = 0});
    visitor("learning_rate", learning_rate,
            OptionInfo{.help = "step size of Adam; with muon it serves the biases",
                       .source = short_run,
                       .minimum = 0});
    visitor("weight_decay", weight_decay,
            OptionInfo{
                .help = "L2 penalty of Adam; unused with muon", .source = "paper", .minimum = 0});
    visitor("schedule", schedule,
            OptionInfo{.help = "learning rate over the steps",
                       .source = short_run,
                       .choices = {"cosine", "step", "constant"}});
    visitor("warmup_fraction", warmup_fraction,
            OptionInfo{.help = "share of the steps over which the learning rate rises",
                       .source = short_run,
                       .minimum = 0,
                       .maximum = 1});
    visitor(
        "max_images", max_images,
        OptionInfo{.help = "use at most so many images, chosen by the seed; 0: all", .minimum = 0});
    visitor("held_out", held_out,
            OptionInfo{.help = "images kept apart for the explained variance", .minimum = 1});
    visitor("seed", seed, OptionInfo{.help = "seed of every random choice"});
    visitor(
        "precision", precision,
        OptionInfo{
            .help =
                "arithmetic of convolutions; auto: bf16 where it is faster (GPUs, CPUs with AMX)",
            .source = "ours: faster (docs/training-speed.md)",
            .choices = {"auto", "fp32", "bf16"}});
    visitor("device", device, OptionInfo{.help = "auto, cpu, cuda or cuda:N"});
    visitor("threads", threads,
            OptionInfo{.help = "threads; 0: one a core", .minimum = 0, .maximum = 1024});
    visitor("checkpoint_minutes", checkpoint_minutes,
            OptionInfo{.help = "time between checkpoints", .minimum = 0});
    visitor("cache", cache,
            OptionInfo{.help = "folder of the computed features; empty: OUTPUT.cache"});
    visitor("keep_cache", keep_cache,
            OptionInfo{
                .help = "keep OUTPUT.cache when done; a folder that cache names is always kept"});
    visitor("feature_batch", feature_batch,
            OptionInfo{.help = "pictures whose features are computed together; 0: 16 on a GPU, "
                               "but 1 for target patch and on a CPU",
                       .minimum = 0,
                       .maximum = 1024});
    visitor(
        "resume", resume,
        OptionInfo{.help = "go on from the checkpoint of an earlier run, or, if it had none yet, "
                           "from its features"});
    visitor("overwrite", overwrite,
            OptionInfo{.help = "begin anew although output or its checkpoint exists, or the cache "
                               "holds features of other images or options; those are replaced"});
  }
};

/// Height and width of the image that the PDN sees, and twice that for the backbone (paper, 3.1).
inline constexpr int64_t kDistillSide = 256;

/// What a distiller tells while it works.
struct DistillProgress {
  /// "features" or "distill".
  std::string stage;
  int64_t done = 0;
  int64_t total = 0;
  double loss = 0;
};

/// What came of it.
struct DistillResult {
  /// False where another process of the job wrote the teacher; the rest is then empty.
  bool written = false;
  Teacher teacher;
  /// 1 - residual / variance of the normalised target on held-out images, mean over channels; the
  /// halves of the channels (finer and coarser tap) apart.
  double explained_variance = 0;
  double explained_variance_shallow = 0;
  double explained_variance_deep = 0;
};

/// Distils a teacher (paper, section 3.1) and writes `options.output`. Features are computed once
/// and kept in the cache folder; the network trains on random crops aligned with them. In the place
/// of an image that cannot be read another is taken, with a warning. `progress` may be empty. The
/// process's settings are changed as train_detector() says, its number of threads too. Several
/// processes (see Ranks) share the images and a batch of batch_size each; all must see the same
/// files, and give what one process with the whole batch would give but for rounding. Throws
/// Error for bad input, Interrupted (after saving a checkpoint) when the user asks to stop.
DistillResult distill(const DistillOptions& options,
                      const std::function<void(const DistillProgress&)>& progress);

}  // namespace efficientad
