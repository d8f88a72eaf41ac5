#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "efficientad/train/train_options.h"
#include "efficientad/train/training_step.h"

namespace efficientad {

/// Keeps made images in memory until a budget is used up; those that come later are made anew each
/// time. (Training draws images evenly, so that throwing older ones out would gain nothing.)
/// Threads may share one.
class ImageCache {
 public:
  explicit ImageCache(int64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  /// The image with this key, from memory or from `make`. Not to be changed.
  torch::Tensor get(uint64_t key, const std::function<torch::Tensor()>& make);

 private:
  std::mutex mutex_;
  std::map<uint64_t, torch::Tensor> images_;
  int64_t budget_bytes_;
};

/// How an autoencoder's image is changed (torchvision's names).
enum class Jitter { kBrightness, kContrast, kSaturation };

/// The random decisions about one image of a step's batch.
struct ItemPlan {
  /// Which training image it is.
  int64_t index = 0;
  /// Where its crop begins, px.
  std::array<int64_t, 2> corner{};
  /// Its penalty image, if it has one.
  struct Penalty {
    int64_t index = 0;
    bool grey = false;
    std::array<int64_t, 2> corner{};
  };
  std::optional<Penalty> penalty{};
  /// What the autoencoder sees of it, if it does.
  struct Jittered {
    Jitter kind = Jitter::kBrightness;
    double factor = 1;
    std::array<int64_t, 2> corner{};
    uint64_t dropout_seed = 0;
  };
  std::optional<Jittered> jittered{};
  /// Set if the autoencoder also sees it without jitter.
  std::optional<uint64_t> plain_dropout_seed{};
};

/// Draws the images of each training step. Every random decision depends on seed and step alone:
/// training images in a new random order each epoch, the jitter, the penalty image and whether it
/// is grey, the crops, the autoencoder's dropout. Several processes may share a step: process
/// r of n takes the images r, r + n, r + 2n, … of the step's, so that together they have those of
/// one process with batches of all their sizes.
class TrainingImages {
 public:
  /// For process `process` of `processes`. Lists the penalty images; throws Error if their folder
  /// has none.
  TrainingImages(const TrainOptions& options, std::vector<std::filesystem::path> train_images,
                 int64_t process = 0, int64_t processes = 1);

  /// What background threads make of a step: its decisions, and 8-bit images.
  struct Drawn {
    std::vector<ItemPlan> plan{};
    /// Which training images they are.
    std::vector<int64_t> indices{};
    /// uint8 [H, W, 3].
    std::vector<torch::Tensor> images{};
    std::vector<torch::Tensor> penalty{};
  };

  /// Reads and resizes the images of step `step` (from 0). Any thread; no LibTorch operation that
  /// starts threads of its own.
  Drawn draw(int64_t step);

  /// The decisions of step `step` alone.
  std::vector<ItemPlan> plan(int64_t step) const;

  /// Equalises (as the options say), jitters, crops and normalises what was drawn for a step.
  TrainBatch prepare(const Drawn& drawn, torch::Device device) const;

  /// Training image `index`, resized: uint8 [H, W, 3]. Any thread.
  torch::Tensor train_image(int64_t index);
  int64_t size() const { return static_cast<int64_t>(train_images_.size()); }

  /// Penalty image `index`: uint8 [H, W, 3]. Any thread.
  torch::Tensor penalty_image(int64_t index);
  /// How many there are; 0: no penalty.
  int64_t penalty_size() const { return penalty_count_; }

  /// "images: N from NAME", "dead leaves" or "none".
  const std::string& penalty_description() const { return penalty_description_; }

 private:
  /// One of the user's, or the next after it that can be read.
  torch::Tensor read_penalty_image(int64_t index, std::array<int64_t, 2> size_hw);
  /// How many of a step's images a loss term takes, if its option says `wanted`.
  int64_t part_of_batch(int64_t wanted) const;
  /// The number of image i of this process's batch among all images of all steps.
  int64_t number_of(int64_t step, int64_t i) const {
    return (step * options_.batch_size + i) * processes_ + process_;
  }

  TrainOptions options_;
  std::array<int64_t, 2> image_hw_;
  std::vector<std::filesystem::path> train_images_;
  int64_t process_;
  int64_t processes_;
  std::vector<std::filesystem::path> penalty_images_;
  int64_t penalty_count_ = 0;
  std::string penalty_description_ = "none";
  ImageCache cache_;
};

/// Reads an image and resizes it as Pillow does: uint8 [height, width, 3].
torch::Tensor read_resized(const std::filesystem::path& path, std::array<int64_t, 2> size_hw);

}  // namespace efficientad
