#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "efficientad/core/options.h"
#include "efficientad/data/dataset.h"

namespace efficientad {

/// Options of `efficientad train`. The defaults are the paper's training of EfficientAD-S.
struct TrainOptions {
  std::string dataset = "auto";
  std::string data;
  std::string category;
  std::string shard;
  std::string normal_dir = "normal";
  std::string output;
  std::string teacher;
  std::string model_size = "small";
  bool padding = false;
  int64_t image_size = 256;
  int64_t image_width = 0;
  std::string autoencoder_input = "fixed";
  bool equalize_exposure = false;
  bool penalty = true;
  std::string penalty_images;
  double penalty_grey = 0.3;
  double penalty_weight = 1;
  double jitter = 0.2;
  double hard_quantile = 0.999;
  int64_t steps = 70000;
  int64_t batch_size = 1;
  int64_t penalty_batch_size = 0;
  int64_t autoencoder_batch_size = 0;
  int64_t autoencoder_plain_batch_size = 0;
  int64_t crop_size = 0;
  std::string autoencoder_init = "uniform";
  std::string optimizer = "adam";
  double learning_rate = 1e-4;
  double weight_decay = 1e-5;
  double muon_learning_rate = 0.02;
  double autoencoder_muon_learning_rate = 0;
  bool student_guides_autoencoder = true;
  std::string batch_learning_rate = "none";
  std::string schedule = "step";
  double warmup_fraction = 0;
  double ema_decay = 0;
  int64_t shots = 0;
  double validation_fraction = 0.1;
  double quantile_a = 0.9;
  double quantile_b = 0.995;
  double max_fpr = 0.01;
  int64_t cross_fit = 0;
  int64_t seed = 0;
  std::string precision = "fp32";
  bool plain_step = false;
  std::string device_step = "auto";
  std::string device = "auto";
  int64_t threads = 0;
  int64_t workers = 1;
  int64_t cache_mb = 512;
  int64_t teacher_cache_mb = 1536;
  double checkpoint_minutes = 5;
  int64_t snapshot_steps = 0;
  bool resume = false;
  bool overwrite = false;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    const std::string fast = "ours: off; for short runs (configs/train_fast.json)";
    visitor("dataset", dataset,
            OptionInfo{.help = "layout of the data set; auto: as its folders say",
                       .choices = dataset_layouts()});
    visitor("data", data,
            OptionInfo{.help = "folder of the data set, or its CSV file", .required = true});
    visitor("category", category,
            OptionInfo{.help = "folder in it to train on; empty: the folder itself; all: every "
                               "one, each into a folder of output; what is done is passed over, "
                               "what was stopped goes on"});
    visitor("shard", shard,
            OptionInfo{.help = "i/n, with category all: the i-th of n equal parts of the "
                               "categories, to spread them over machines; empty: all"});
    visitor("normal_dir", normal_dir,
            OptionInfo{.help = "folder of normal images, for layout folder"});
    visitor("output", output, OptionInfo{.help = "folder to write to", .required = true});
    visitor("teacher", teacher,
            OptionInfo{.help = "teacher file; empty: the shipped one of the model size; random or "
                               "random:SEED: random weights, to see what a teacher is worth"});
    visitor("model_size", model_size,
            OptionInfo{
                .help = "EfficientAD-S or -M", .source = "paper", .choices = {"small", "medium"}});
    visitor("padding", padding,
            OptionInfo{.help = "zero padding in teacher and student", .source = "paper"});
    visitor("image_size", image_size,
            OptionInfo{.help = "height and width to which images are resized, px",
                       .source = "paper",
                       .minimum = 64,
                       .maximum = 4096});
    visitor("image_width", image_width,
            OptionInfo{.help = "width to which images are resized, px; 0: as image_size",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 4096});
    visitor(
        "autoencoder_input", autoencoder_input,
        OptionInfo{.help = "what the autoencoder sees: fixed, the image at 256x256 px, or full, "
                           "the image as it is (at least 256 px)",
                   .source = "ours: its encoder is global at 256 px only; the same as the "
                             "paper's there",
                   .choices = {"fixed", "full"}});
    visitor("equalize_exposure", equalize_exposure,
            OptionInfo{.help = "multiply each image by what makes its mean 0.45 of 1, in training "
                               "and inference, so that its exposure does not matter (nor does a "
                               "defect that changes nothing else); penalty images stay as they are",
                       .source = "ours: off, as in the paper"});
    visitor("penalty", penalty,
            OptionInfo{.help = "penalise the student's output on images of other things: 1,000 "
                               "procedural ones unless penalty_images names others",
                       .source = "paper (which has those of ImageNet)"});
    visitor("penalty_images", penalty_images,
            OptionInfo{.help = "folder of such images (photographs of anything), searched "
                               "recursively; empty: procedural ones"});
    visitor("penalty_grey", penalty_grey,
            OptionInfo{.help = "probability that a penalty image is made grey",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1});
    visitor("penalty_weight", penalty_weight,
            OptionInfo{.help = "weight of the penalty in the loss",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1e6});
    visitor("jitter", jitter,
            OptionInfo{.help = "the autoencoder's image has its brightness, contrast or saturation "
                               "times a factor of 1 - jitter to 1 + jitter",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1});
    visitor("hard_quantile", hard_quantile,
            OptionInfo{.help = "the student learns from output values whose error is above this "
                               "quantile (0: from all)",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1});
    visitor(
        "steps", steps,
        OptionInfo{.help = "optimisation steps", .source = "paper", .minimum = 1, .maximum = 1e9});
    visitor("batch_size", batch_size,
            OptionInfo{.help = "images a step", .source = "paper", .minimum = 1, .maximum = 1024});
    visitor("penalty_batch_size", penalty_batch_size,
            OptionInfo{.help = "penalty images a step, at most batch_size; 0: as many",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1024});
    visitor("autoencoder_batch_size", autoencoder_batch_size,
            OptionInfo{.help = "of a step's images, how many the autoencoder sees, at most "
                               "batch_size; 0: all",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1024});
    visitor("autoencoder_plain_batch_size", autoencoder_plain_batch_size,
            OptionInfo{.help = "how many more the autoencoder sees, without jitter, at most "
                               "batch_size; this costs far less, as the teacher's outputs on them "
                               "are known already",
                       .source = fast,
                       .minimum = 0,
                       .maximum = 1024});
    visitor("crop_size", crop_size,
            OptionInfo{.help = "teacher and student see a random crop of this side, px, of each "
                               "image in training; 0: all of it",
                       .source = fast,
                       .minimum = 0,
                       .maximum = 4096});
    visitor("autoencoder_init", autoencoder_init,
            OptionInfo{.help = "the autoencoder's initial weights: uniform, LibTorch's; or lsuv, "
                               "orthogonal, for outputs of mean 0 and variance 1 at every layer, "
                               "with which it learns from the first steps",
                       .source = "paper",
                       .choices = {"uniform", "lsuv"}});
    visitor("optimizer", optimizer,
            OptionInfo{.help = "adam, or muon for the student's convolutions (and the "
                               "autoencoder's, see below) and adam for the rest",
                       .source = "paper",
                       .choices = {"adam", "muon"}});
    visitor("learning_rate", learning_rate,
            OptionInfo{
                .help = "step size of Adam", .source = "paper", .minimum = 1e-12, .maximum = 10});
    visitor("weight_decay", weight_decay,
            OptionInfo{.help = "factor of the weights that is added to the gradient, for Adam",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 10});
    visitor("muon_learning_rate", muon_learning_rate,
            OptionInfo{.help = "step size of Muon",
                       .source = "ours: Muon is not the paper's; its authors' value",
                       .minimum = 1e-12,
                       .maximum = 10});
    visitor("autoencoder_muon_learning_rate", autoencoder_muon_learning_rate,
            OptionInfo{.help = "step size of Muon for the autoencoder's convolutions, with "
                               "optimizer muon and autoencoder_init lsuv; 0: they have Adam",
                       .source = fast,
                       .minimum = 0,
                       .maximum = 10});
    visitor("batch_learning_rate", batch_learning_rate,
            OptionInfo{.help = "how step sizes grow with the images of a step, those of all "
                               "processes: none, or times their number or its square root",
                       .source = "ours: the paper has one image a step; see docs/training-speed.md",
                       .choices = {"none", "sqrt", "linear"}});
    visitor(
        "student_guides_autoencoder", student_guides_autoencoder,
        OptionInfo{.help = "the difference between student and autoencoder also trains the "
                           "autoencoder, not the student alone; a student that lags behind then "
                           "holds it back",
                   .source = "paper"});
    visitor(
        "schedule", schedule,
        OptionInfo{.help = "learning rate: step, a tenth of it after 95 % of the steps; cosine, "
                           "falling to 0; or constant",
                   .source = "paper",
                   .choices = {"step", "cosine", "constant"}});
    visitor("warmup_fraction", warmup_fraction,
            OptionInfo{.help = "part of the steps over which the learning rate rises from 0",
                       .source = fast,
                       .minimum = 0,
                       .maximum = 1});
    visitor("ema_decay", ema_decay,
            OptionInfo{.help = "decay a step of the moving average of the weights that is saved "
                               "instead of the last weights; 0: none",
                       .source = fast,
                       .minimum = 0,
                       .maximum = 0.999999});
    visitor(
        "shots", shots,
        OptionInfo{.help = "train on so many of the training images, chosen by the seed; 0: all",
                   .minimum = 0,
                   .maximum = 1e9});
    visitor(
        "validation_fraction", validation_fraction,
        OptionInfo{.help = "part of the training images kept for calibration where the set has "
                           "no validation images; if that is less than one image, altered copies "
                           "of all of them serve instead",
                   .source = "paper",
                   .minimum = 0,
                   .maximum = 0.9});
    visitor("quantile_a", quantile_a,
            OptionInfo{.help = "quantile of a map on normal images that is normalised to 0",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1});
    visitor("quantile_b", quantile_b,
            OptionInfo{.help = "quantile of a map on normal images that is normalised to 0.1",
                       .source = "paper",
                       .minimum = 0,
                       .maximum = 1});
    visitor(
        "max_fpr", max_fpr,
        OptionInfo{.help = "false-positive rate that the threshold promises with 95 % confidence, "
                           "if there are enough normal images (299 for 0.01, 59 for 0.05); "
                           "an estimate with cross_fit",
                   .source = "ours: the paper has no threshold",
                   .minimum = 1e-6,
                   .maximum = 0.5});
    visitor("cross_fit", cross_fit,
            OptionInfo{.help = "for the threshold, also train so many models, each without another "
                               "part of the training images, and score that part with it, so that "
                               "every image is judged by a model that has not seen it; takes as "
                               "many times longer; 0: the images kept for calibration judge",
                       .source = "ours",
                       .minimum = 0,
                       .maximum = 20});
    visitor("seed", seed,
            OptionInfo{.help = "seed of every random decision", .minimum = 0, .maximum = 9e15});
    visitor("precision", precision,
            OptionInfo{.help = "of convolutions in training: fp32, bf16, or auto (bf16 where it "
                               "is faster: on GPUs, and CPUs with AMX)",
                       .source = "ours: fp32 as the paper; bf16 is 1.3 to 1.6 times as fast",
                       .choices = {"fp32", "bf16", "auto"}});
    visitor("plain_step", plain_step,
            OptionInfo{.help = "compute each step as the paper writes it, without the short cuts "
                               "that give the same within rounding, to see what they save"});
    visitor("device_step", device_step,
            OptionInfo{.help = "make each batch where the networks are, and record the step as a "
                               "CUDA graph; auto: on GPUs, without plain_step",
                       .choices = {"auto", "on", "off"}});
    visitor("device", device, OptionInfo{.help = "auto, cpu, cuda or cuda:N"});
    visitor("threads", threads,
            OptionInfo{
                .help = "threads of LibTorch; 0: as many as cores", .minimum = 0, .maximum = 1024});
    visitor("workers", workers,
            OptionInfo{.help = "threads that read images", .minimum = 1, .maximum = 256});
    visitor("cache_mb", cache_mb,
            OptionInfo{.help = "memory for decoded images, MiB; if all fit, a GPU has them in its "
                               "memory",
                       .minimum = 0,
                       .maximum = 1e7});
    visitor("teacher_cache_mb", teacher_cache_mb,
            OptionInfo{.help = "memory for the teacher's outputs on the training images, which are "
                               "computed once if they fit, MiB",
                       .minimum = 0,
                       .maximum = 1e7});
    visitor(
        "checkpoint_minutes", checkpoint_minutes,
        OptionInfo{.help = "minutes from checkpoint to checkpoint", .minimum = 0, .maximum = 1e6});
    visitor("snapshot_steps", snapshot_steps,
            OptionInfo{.help = "also write a model, calibrated like the last one, after every so "
                               "many steps: output/snapshots/step_N.safetensors; 0: none",
                       .minimum = 0,
                       .maximum = 1e9});
    visitor("resume", resume, OptionInfo{.help = "go on from the checkpoint in output"});
    visitor("overwrite", overwrite,
            OptionInfo{.help = "begin anew although output holds a model or a checkpoint"});
  }

  /// Height and width to which images are resized.
  std::array<int64_t, 2> image_hw() const {
    return {image_size, image_width > 0 ? image_width : image_size};
  }
};

/// check_options() and what concerns several options. Throws UsageError.
void check_train_options(const TrainOptions& options);

}  // namespace efficientad
