#include "train/distill_pictures.h"

#include <algorithm>
#include <cmath>

#include "efficientad/core/error.h"
#include "efficientad/core/log.h"
#include "efficientad/data/color_jitter.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

// Streams of random numbers (see Rng).
constexpr uint64_t kOrder = 1;
constexpr uint64_t kImage = 3;

/// A further view of an image shows at least so much of each of its sides.
constexpr double kSmallestView = 0.5;

/// A random part of an image, uint8 [height, width, 3]: of each side kSmallestView to all of it.
torch::Tensor part_of(const torch::Tensor& image, Rng& rng) {
  torch::Tensor part = image;
  for (const int64_t dim : {0, 1}) {
    const int64_t side = image.size(dim);
    const auto kept = std::clamp<int64_t>(
        std::llround(rng.uniform(kSmallestView, 1) * static_cast<double>(side)), 1, side);
    part = part.narrow(dim, rng.below(side - kept + 1), kept);
  }
  return part.contiguous();
}

}  // namespace

DistillPictures::DistillPictures(const DistillOptions& options, int64_t process, int64_t processes)
    : options_(options), processes_(processes) {
  for (const auto& folder : options.images) {
    const auto found = list_images(folder, /*recursive=*/true);
    require(!found.empty(), "{}: there are no images in it", folder);
    files_.insert(files_.end(), found.begin(), found.end());
  }
  Rng(static_cast<uint64_t>(options.seed), kOrder).shuffle(files_);
  if (options.max_images > 0 && static_cast<int64_t>(files_.size()) > options.max_images) {
    files_.resize(static_cast<size_t>(options.max_images));
  }
  const auto images = static_cast<int64_t>(files_.size());
  require(images > options.held_out, "{} images are too few with {} of them held out", images,
          options.held_out);
  train_images_ = images - options.held_out;
  require(processes == 1 || train_count() >= options.batch_size * processes,
          "{} pictures to train on are too few for {} processes with batches of {}", train_count(),
          processes, options.batch_size);
  for (int64_t i = process; i < train_count(); i += processes) own_.push_back(i);
  if (process == 0) {
    for (int64_t i = train_count(); i < count(); ++i) own_.push_back(i);
  }
}

int64_t DistillPictures::file_number(int64_t index) const {
  return index < train_count() ? index % train_images_ : train_images_ + index - train_count();
}

const fs::path& DistillPictures::file(int64_t index) const {
  return files_[static_cast<size_t>(file_number(index))];
}

int64_t DistillPictures::place(int64_t index) const {
  if (index < train_count()) return index / processes_;
  return static_cast<int64_t>(own_.size()) - options_.held_out + index - train_count();
}

/// The file's image, or that of the next one of its part (to train on, or held out) that can be
/// read: of a million files some are broken.
torch::Tensor DistillPictures::readable_image(int64_t file) const {
  const int64_t begin = file < train_images_ ? 0 : train_images_;
  const int64_t files_there = file < train_images_ ? train_images_ : options_.held_out;
  for (int64_t i = 0; i < files_there; ++i) {
    const int64_t number = begin + (file - begin + i) % files_there;
    try {
      return read_image(files_[static_cast<size_t>(number)]);
    } catch (const Error& error) {
      spdlog::warn("passed over: {}", message_of(error));
    }
  }
  throw Error("none of the images can be read");
}

Picture DistillPictures::picture(int64_t index) const {
  const int64_t file = file_number(index);
  const auto view = static_cast<uint64_t>(index < train_count() ? index / train_images_ : 0);
  Rng rng(static_cast<uint64_t>(options_.seed), kImage, static_cast<uint64_t>(file) + (view << 32));
  torch::Tensor image = readable_image(file);
  if (view > 0) image = part_of(image, rng);
  if (rng.chance(options_.grey_probability)) {
    image = (to_grey(image.permute({2, 0, 1}).to(torch::kFloat32)).permute({1, 2, 0}))
                .round()
                .to(torch::kUInt8);
  }
  if (options_.flip && rng.chance(0.5)) image = image.flip(1).contiguous();
  return {.small_u8 = resize_pil_bilinear(image, {kDistillSide, kDistillSide}),
          .large_u8 = resize_pil_bilinear(image, {2 * kDistillSide, 2 * kDistillSide})};
}

torch::Tensor jitter_exposure(const torch::Tensor& image_u8, double largest, Rng& rng) {
  const double limit = std::log(largest);
  const double brightness = std::exp(rng.uniform(-limit, limit));
  const double contrast = std::exp(rng.uniform(-limit / 2, limit / 2));
  const torch::Tensor image = to_float_chw(image_u8);
  return adjust_contrast(adjust_brightness(image, brightness), contrast)
      .mul(255)
      .round()
      .to(torch::kUInt8)
      .permute({1, 2, 0});
}

}  // namespace efficientad
