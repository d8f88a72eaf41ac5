#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "efficientad/core/random.h"
#include "efficientad/train/distiller.h"
#include "train/distill_target.h"

namespace efficientad {

/// The pictures of a distillation, by number: the images that are trained on, a further view of
/// each, and so on; then the images that are held out. Process r of n has the pictures r, r + n,
/// r + 2n, … of those to train on, and the first has those held out. Threads may share one.
class DistillPictures {
 public:
  /// For process `process` of `processes`. Lists the images, in an order drawn from the seed.
  /// Throws Error if they are too few.
  DistillPictures(const DistillOptions& options, int64_t process, int64_t processes);

  /// Every decision about a picture depends on its number (and the seed) alone.
  Picture picture(int64_t index) const;

  /// Images that are trained on.
  int64_t train_images() const { return train_images_; }
  /// Pictures that are trained on.
  int64_t train_count() const { return train_images_ * options_.views; }
  /// All pictures.
  int64_t count() const { return train_count() + options_.held_out; }
  /// All images, held-out ones last.
  const std::vector<std::filesystem::path>& files() const { return files_; }
  const std::filesystem::path& file(int64_t index) const;

  /// The numbers of this process's pictures, and where in that list a picture is.
  const std::vector<int64_t>& own() const { return own_; }
  int64_t place(int64_t index) const;

 private:
  int64_t file_number(int64_t index) const;
  torch::Tensor readable_image(int64_t file) const;

  const DistillOptions& options_;
  int64_t processes_;
  int64_t train_images_ = 0;
  std::vector<std::filesystem::path> files_;
  std::vector<int64_t> own_;
};

/// The picture under another exposure: brightness times up to `largest` or its inverse, contrast
/// times up to its square root, drawn log-uniformly. uint8 [height, width, 3].
torch::Tensor jitter_exposure(const torch::Tensor& image_u8, double largest, Rng& rng);

}  // namespace efficientad
