#include "efficientad/train/training_images.h"

#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "efficientad/core/error.h"
#include "efficientad/core/log.h"
#include "efficientad/core/random.h"
#include "efficientad/data/color_jitter.h"
#include "efficientad/data/dead_leaves.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"
#include "efficientad/nn/exposure.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/pdn.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

// Streams of random numbers (see Rng).
constexpr uint64_t kOrder = 101;
constexpr uint64_t kJitter = 102;
constexpr uint64_t kPenalty = 103;
constexpr uint64_t kCrop = 104;
constexpr uint64_t kDeadLeaves = 105;
constexpr uint64_t kDropout = 106;

/// Different procedural penalty images: enough that none is seen often, few enough to be kept.
constexpr int64_t kDeadLeavesImages = 1000;

/// Keys of penalty images in the cache; training images have their index.
constexpr uint64_t kPenaltyKey = 1ULL << 62;

/// Where a crop of `crop` of `side` px begins, a multiple of 4 px: one of the fewest evenly spaced
/// places whose crops show every output along the side. Each output is then seen about equally
/// often (exactly, where crops meet without an overlap: 144 of 256 px). Places drawn evenly would
/// show the outermost outputs far less often than the middle, and to an unpadded network, which
/// computes the same wherever the crop begins, they show nothing more.
int64_t draw_corner(Rng& rng, int64_t side, int64_t crop) {
  // An output j of the unpadded network needs the pixels from 4 j to 4 j + 32.
  const int64_t outputs_of_crop = crop / kPdnStride - 8;
  const int64_t last = (side - crop) / kPdnStride;
  const int64_t gaps = (last + outputs_of_crop - 1) / outputs_of_crop;
  return gaps > 0 ? kPdnStride * (rng.below(gaps + 1) * last / gaps) : 0;
}

}  // namespace

torch::Tensor ImageCache::get(uint64_t key, const std::function<torch::Tensor()>& make) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(key);
    if (found != images_.end()) return found->second;
  }
  torch::Tensor image = make();
  const std::lock_guard lock(mutex_);
  const auto bytes = static_cast<int64_t>(image.nbytes());
  if (bytes <= budget_bytes_ && images_.emplace(key, image).second) budget_bytes_ -= bytes;
  return image;
}

torch::Tensor read_resized(const fs::path& path, std::array<int64_t, 2> size_hw) {
  return resize_pil_bilinear(read_image(path), size_hw);
}

TrainingImages::TrainingImages(const TrainOptions& options, std::vector<fs::path> train_images,
                               int64_t process, int64_t processes)
    : options_(options),
      image_hw_(options.image_hw()),
      train_images_(std::move(train_images)),
      process_(process),
      processes_(processes),
      cache_(options.cache_mb << 20) {
  if (!options.penalty) return;
  if (options.penalty_images.empty()) {
    penalty_count_ = kDeadLeavesImages;
    penalty_description_ = "dead leaves";
    return;
  }
  penalty_images_ = list_images(options.penalty_images, /*recursive=*/true);
  require(!penalty_images_.empty(), "{}: the folder of penalty images has no images",
          options.penalty_images);
  penalty_count_ = static_cast<int64_t>(penalty_images_.size());
  const fs::path folder = fs::absolute(options.penalty_images).lexically_normal();
  penalty_description_ = fmt::format(
      "images: {} from {}", penalty_count_,
      (folder.has_filename() ? folder.filename() : folder.parent_path().filename()).string());
}

torch::Tensor TrainingImages::train_image(int64_t index) {
  return cache_.get(static_cast<uint64_t>(index), [&] {
    return read_resized(train_images_[static_cast<size_t>(index)], image_hw_);
  });
}

torch::Tensor TrainingImages::penalty_image(int64_t index) {
  return cache_.get(kPenaltyKey + static_cast<uint64_t>(index), [&] {
    const auto [height, width] = image_hw_;
    torch::Tensor large;
    if (penalty_images_.empty()) {
      large = dead_leaves_image(std::max(height, width),
                                mix64(static_cast<uint64_t>(options_.seed), kDeadLeaves, 0),
                                static_cast<uint64_t>(index));
    } else {
      large = read_penalty_image(index, {2 * height, 2 * width});
    }
    return large.narrow(0, (large.size(0) - height) / 2, height)
        .narrow(1, (large.size(1) - width) / 2, width)
        .clone(torch::MemoryFormat::Contiguous);
  });
}

torch::Tensor TrainingImages::read_penalty_image(int64_t index, std::array<int64_t, 2> size_hw) {
  for (int64_t i = 0; i < penalty_count_; ++i) {
    const auto& path = penalty_images_[static_cast<size_t>((index + i) % penalty_count_)];
    try {
      return read_resized(path, size_hw);
    } catch (const Error& error) {
      spdlog::warn("penalty image passed over: {}", message_of(error));
    }
  }
  throw Error("no penalty image can be read");
}

int64_t TrainingImages::part_of_batch(int64_t wanted) const {
  return wanted > 0 ? wanted : options_.batch_size;
}

std::vector<ItemPlan> TrainingImages::plan(int64_t step) const {
  const auto seed = static_cast<uint64_t>(options_.seed);
  const auto [height, width] = image_hw_;
  const int64_t crop_height = options_.crop_size > 0 ? options_.crop_size : height;
  const int64_t crop_width = options_.crop_size > 0 ? options_.crop_size : width;
  std::vector<ItemPlan> plan;
  std::vector<int64_t> order;
  int64_t epoch = -1;
  for (int64_t i = 0; i < options_.batch_size; ++i) {
    const int64_t number = number_of(step, i);
    const auto item = static_cast<uint64_t>(number);
    if (number / size() != epoch) {
      epoch = number / size();
      order.resize(train_images_.size());
      for (size_t k = 0; k < order.size(); ++k) order[k] = static_cast<int64_t>(k);
      Rng(seed, kOrder, static_cast<uint64_t>(epoch)).shuffle(order);
    }
    Rng crop_rng(seed, kCrop, item);
    const auto corner = [&]() -> std::array<int64_t, 2> {
      const int64_t y = draw_corner(crop_rng, height, crop_height);
      return {y, draw_corner(crop_rng, width, crop_width)};
    };
    ItemPlan& one = plan.emplace_back();
    one.index = order[static_cast<size_t>(number % size())];
    one.corner = corner();
    if (penalty_count_ > 0 && i < part_of_batch(options_.penalty_batch_size)) {
      one.penalty = {.index = Rng(seed, kPenalty, 2 * item).below(penalty_count_),
                     .grey = Rng(seed, kPenalty, 2 * item + 1).chance(options_.penalty_grey),
                     .corner = corner()};
    }
    if (i < part_of_batch(options_.autoencoder_batch_size)) {
      Rng jitter_rng(seed, kJitter, item);
      const double factor = jitter_rng.uniform(1 - options_.jitter, 1 + options_.jitter);
      const auto kind = static_cast<Jitter>(jitter_rng.below(3));
      one.jittered = {.kind = kind,
                      .factor = factor,
                      .corner = corner(),
                      .dropout_seed = mix64(seed, kDropout, 2 * item)};
    }
    if (options_.batch_size - i <= options_.autoencoder_plain_batch_size) {
      one.plain_dropout_seed = mix64(seed, kDropout, 2 * item + 1);
    }
  }
  return plan;
}

TrainingImages::Drawn TrainingImages::draw(int64_t step) {
  Drawn drawn{.plan = plan(step)};
  for (const auto& one : drawn.plan) {
    drawn.indices.push_back(one.index);
    drawn.images.push_back(train_image(one.index));
    if (one.penalty) drawn.penalty.push_back(penalty_image(one.penalty->index));
  }
  return drawn;
}

TrainBatch TrainingImages::prepare(const Drawn& drawn, torch::Device device) const {
  const auto [height, width] = image_hw_;
  const int64_t crop_height = options_.crop_size > 0 ? options_.crop_size : height;
  const int64_t crop_width = options_.crop_size > 0 ? options_.crop_size : width;
  const auto crop = [&](const torch::Tensor& image, const std::array<int64_t, 2>& at) {
    return image.narrow(1, at[0], crop_height).narrow(2, at[1], crop_width);
  };
  TrainBatch batch;
  std::vector<torch::Tensor> images;
  std::vector<torch::Tensor> jittered;
  std::vector<torch::Tensor> penalty;
  std::vector<torch::Tensor> plain;
  std::vector<uint64_t> plain_seeds;
  for (size_t i = 0; i < drawn.plan.size(); ++i) {
    const ItemPlan& one = drawn.plan[i];
    torch::Tensor image = to_float_chw(drawn.images[i]);
    if (options_.equalize_exposure) image = equalize_exposure(image);
    batch.corners.push_back(one.corner);
    images.push_back(crop(image, one.corner));
    if (one.penalty) {
      const torch::Tensor other = to_float_chw(drawn.penalty[penalty.size()]);
      penalty.push_back(crop(one.penalty->grey ? to_grey(other) : other, one.penalty->corner));
    }
    if (one.jittered) {
      switch (one.jittered->kind) {
        case Jitter::kBrightness:
          jittered.push_back(adjust_brightness(image, one.jittered->factor));
          break;
        case Jitter::kContrast:
          jittered.push_back(adjust_contrast(image, one.jittered->factor));
          break;
        case Jitter::kSaturation:
          jittered.push_back(adjust_saturation(image, one.jittered->factor));
          break;
      }
      batch.jittered_corners.push_back(one.jittered->corner);
      batch.dropout_seeds.push_back(one.jittered->dropout_seed);
    }
    if (one.plain_dropout_seed) {
      plain.push_back(image);
      plain_seeds.push_back(*one.plain_dropout_seed);
    }
  }
  batch.dropout_seeds.insert(batch.dropout_seeds.end(), plain_seeds.begin(), plain_seeds.end());
  const auto finish = [&](const std::vector<torch::Tensor>& parts) {
    return imagenet_normalize(torch::stack(parts).to(device))
        .contiguous(torch::MemoryFormat::ChannelsLast);
  };
  batch.images = finish(images);
  batch.jittered = finish(jittered);
  if (!penalty.empty()) batch.penalty = finish(penalty);
  if (!plain.empty()) batch.plain = finish(plain);
  return batch;
}

}  // namespace efficientad
