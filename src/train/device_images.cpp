#include "efficientad/train/device_images.h"

#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "efficientad/nn/exposure.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/pdn.h"

namespace efficientad {

namespace {

// Rows of the table of decisions; a column an image of the batch. Rows of the jittered images come
// last, as there may be fewer of them.
enum Row : int64_t {
  kIndex,
  kCornerY,
  kCornerX,
  kPenaltyIndex,
  kPenaltyGrey,
  kPenaltyY,
  kPenaltyX,
  kJitterKind,
  kJitterFactor,
  kJitterY,
  kJitterX,
  kRows
};

}  // namespace

torch::Tensor windows_at(const torch::Tensor& images_nhwc, const torch::Tensor& indices,
                         const torch::Tensor& corners, int64_t height, int64_t width) {
  const auto count = indices.size(0);
  const auto range = [&](int64_t size) { return torch::arange(size, indices.options()); };
  const torch::Tensor rows = corners.select(1, 0).unsqueeze(1) + range(height);
  const torch::Tensor columns = corners.select(1, 1).unsqueeze(1) + range(width);
  return images_nhwc
      .index({indices.view({count, 1, 1}), rows.view({count, height, 1}),
              columns.view({count, 1, width})})
      .permute({0, 3, 1, 2});
}

DeviceImages::DeviceImages(const TrainOptions& options, torch::Device device, bool resident,
                           torch::Tensor train_u8, torch::Tensor penalty_u8)
    : options_(options),
      device_(device),
      resident_(resident),
      train_u8_(std::move(train_u8)),
      penalty_u8_(std::move(penalty_u8)),
      penalty_count_(!options.penalty                 ? 0
                     : options.penalty_batch_size > 0 ? options.penalty_batch_size
                                                      : options.batch_size),
      jittered_count_(options.autoencoder_batch_size > 0 ? options.autoencoder_batch_size
                                                         : options.batch_size) {
  const auto [height, width] = options.image_hw();
  const auto bytes = torch::TensorOptions().dtype(torch::kUInt8).device(device);
  const auto buffer = [&, h = height, w = width](int64_t count) {
    return torch::empty({count, h, w, 3}, bytes);
  };
  if (resident) {
    train_u8_ = train_u8_.to(device);
    if (penalty_u8_.defined()) penalty_u8_ = penalty_u8_.to(device);
  } else {
    train_u8_ = buffer(options.batch_size);
    if (penalty_count_ > 0) penalty_u8_ = buffer(penalty_count_);
  }
  TORCH_CHECK(penalty_u8_.defined() == (penalty_count_ > 0), "penalty images do not fit options");
  // Made here: a recorded step may copy nothing from the host.
  const torch::Tensor zero = imagenet_normalize(torch::zeros({1, 3, 1, 1}));
  const torch::Tensor one = imagenet_normalize(torch::ones({1, 3, 1, 1}));
  std_ = (1 / (one - zero)).to(device);
  mean_ = (-zero / (one - zero)).to(device);
  grey_weights_ = torch::tensor({0.2989f, 0.587f, 0.114f}).view({1, 3, 1, 1}).to(device);
  const auto table = torch::TensorOptions().dtype(torch::kFloat64);
  host_ = torch::zeros({kRows, options.batch_size}, table.pinned_memory(device.is_cuda()));
  decisions_ = torch::zeros({kRows, options.batch_size}, table.device(device));
}

void DeviceImages::keep_teacher(const torch::Tensor& outputs) {
  TORCH_CHECK(resident_ && outputs.size(0) == train_u8_.size(0), "one output an image is needed");
  teacher_ = outputs.to(device_).permute({0, 2, 3, 1}).contiguous();
}

void DeviceImages::load(const TrainingImages::Drawn& drawn) {
  auto table = host_.accessor<double, 2>();
  const auto count = static_cast<int64_t>(drawn.plan.size());
  TORCH_CHECK(count == options_.batch_size, "a step has ", options_.batch_size, " images");
  for (int64_t i = 0; i < count; ++i) {
    const ItemPlan& one = drawn.plan[static_cast<size_t>(i)];
    const auto set = [&, i](Row row, auto value) { table[row][i] = static_cast<double>(value); };
    set(kIndex, resident_ ? one.index : i);
    set(kCornerY, one.corner[0]);
    set(kCornerX, one.corner[1]);
    if (one.penalty) {
      set(kPenaltyIndex, resident_ ? one.penalty->index : i);
      set(kPenaltyGrey, one.penalty->grey ? 1 : 0);
      set(kPenaltyY, one.penalty->corner[0]);
      set(kPenaltyX, one.penalty->corner[1]);
    }
    if (one.jittered) {
      set(kJitterKind, static_cast<int>(one.jittered->kind));
      set(kJitterFactor, one.jittered->factor);
      set(kJitterY, one.jittered->corner[0]);
      set(kJitterX, one.jittered->corner[1]);
    }
  }
  dropout_seeds_.clear();
  for (const auto& one : drawn.plan) {
    if (one.jittered) dropout_seeds_.push_back(one.jittered->dropout_seed);
  }
  for (const auto& one : drawn.plan) {
    if (one.plain_dropout_seed) dropout_seeds_.push_back(*one.plain_dropout_seed);
  }
  decisions_.copy_(host_, /*non_blocking=*/true);
  if (resident_) return;
  train_u8_.copy_(torch::stack(drawn.images));
  if (penalty_count_ > 0) penalty_u8_.copy_(torch::stack(drawn.penalty));
}

TrainBatch DeviceImages::batch() const {
  const int64_t images = options_.batch_size;
  const auto [height, width] = options_.image_hw();
  const int64_t crop_height = options_.crop_size > 0 ? options_.crop_size : height;
  const int64_t crop_width = options_.crop_size > 0 ? options_.crop_size : width;
  const torch::Tensor whole_numbers = decisions_.to(torch::kInt64);
  const auto row = [&](Row which, int64_t count) {
    return whole_numbers[which].narrow(0, 0, count);
  };
  const auto corners = [&](Row y, int64_t count) {
    return whole_numbers.narrow(0, y, 2).narrow(1, 0, count).t();
  };
  /// float32 [N, 3, H, W] in 0..1, channels innermost.
  const auto floats = [](const torch::Tensor& bytes) {
    return (bytes.to(torch::kFloat32) / 255.0).permute({0, 3, 1, 2});
  };
  const auto grey_of = [&](const torch::Tensor& image) {
    return (image * grey_weights_).sum(1, /*keepdim=*/true);
  };
  const auto finish = [&](const torch::Tensor& image) { return (image - mean_) / std_; };
  const auto crops = [&, h = crop_height, w = crop_width](const torch::Tensor& whole,
                                                          const torch::Tensor& at) {
    return windows_at(whole.permute({0, 2, 3, 1}), torch::arange(whole.size(0), at.options()), at,
                      h, w);
  };

  TrainBatch batch;
  torch::Tensor whole = floats(train_u8_.index_select(0, row(kIndex, images)));
  if (options_.equalize_exposure) whole = equalize_exposure(whole);
  batch.corners_at = corners(kCornerY, images);
  batch.images = finish(crops(whole, batch.corners_at));
  if (teacher_.defined()) {
    batch.teacher =
        windows_at(teacher_, row(kIndex, images), torch::div(batch.corners_at, kPdnStride, "floor"),
                   pdn_output_side(crop_height, options_.padding),
                   pdn_output_side(crop_width, options_.padding));
  }
  if (penalty_count_ > 0) {
    torch::Tensor other = floats(penalty_u8_.index_select(0, row(kPenaltyIndex, penalty_count_)));
    const torch::Tensor grey = row(kPenaltyGrey, penalty_count_).view({-1, 1, 1, 1}) > 0;
    other = torch::where(grey, grey_of(other), other);
    batch.penalty = finish(crops(other, corners(kPenaltyY, penalty_count_)));
  }
  // All three kinds of jitter are image * factor + other * (1 - factor), with another other.
  const torch::Tensor jittered = whole.narrow(0, 0, jittered_count_);
  const torch::Tensor kind = row(kJitterKind, jittered_count_).view({-1, 1, 1, 1});
  const torch::Tensor factor = decisions_[kJitterFactor]
                                   .narrow(0, 0, jittered_count_)
                                   .to(torch::kFloat32)
                                   .view({-1, 1, 1, 1});
  const torch::Tensor grey = grey_of(jittered);
  const auto is = [&](Jitter which) { return kind == static_cast<int64_t>(which); };
  const torch::Tensor other =
      torch::where(is(Jitter::kContrast), grey.mean({1, 2, 3}, /*keepdim=*/true),
                   torch::where(is(Jitter::kSaturation), grey, torch::zeros_like(grey)));
  batch.jittered = finish((jittered * factor + other * (1 - factor)).clamp(0, 1));
  batch.jittered_corners_at = corners(kJitterY, jittered_count_);
  const int64_t plain = options_.autoencoder_plain_batch_size;
  if (plain > 0) {
    batch.plain = finish(whole.narrow(0, images - plain, plain));
    if (teacher_.defined()) {
      batch.teacher_plain =
          teacher_.index_select(0, row(kIndex, images).narrow(0, images - plain, plain))
              .permute({0, 3, 1, 2});
    }
  }
  batch.dropout_seeds = dropout_seeds_;
  return batch;
}

}  // namespace efficientad
