#include "efficientad/train/training_step.h"

#include <torch/utils.h>

#include "efficientad/core/precision.h"
#include "efficientad/nn/pdn.h"
#include "efficientad/train/device_images.h"

namespace efficientad {

namespace {

/// What losses are computed in, whatever the networks ran in; float64 is for tests.
torch::Tensor at_least_float32(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat64 ? x : x.to(torch::kFloat32);
}

/// Corners in the image: on the host, or on the images' device.
struct Corners {
  std::vector<std::array<int64_t, 2>> host{};
  torch::Tensor device{};
};

/// The window of h x w values at each item's corner: [N, C, H, W] to [N, C, h, w].
torch::Tensor windows(const torch::Tensor& whole, const Corners& at, int64_t divisor,
                      int64_t height, int64_t width) {
  if (whole.size(2) == height && whole.size(3) == width) return whole;
  if (at.device.defined()) {
    return windows_at(whole.permute({0, 2, 3, 1}),
                      torch::arange(whole.size(0), at.device.options()),
                      torch::div(at.device, divisor, "floor"), height, width);
  }
  const auto& corners = at.host;
  std::vector<torch::Tensor> parts;
  for (size_t i = 0; i < corners.size(); ++i) {
    parts.push_back(whole[static_cast<int64_t>(i)]
                        .narrow(1, corners[i][0] / divisor, height)
                        .narrow(2, corners[i][1] / divisor, width));
  }
  return torch::stack(parts);
}

/// What the networks give in a step, float32. First in the order of the batch, then what concerns
/// the autoencoder: jittered images, then plain ones.
struct StepOutputs {
  torch::Tensor teacher{};
  /// Undefined: no penalty.
  torch::Tensor student_penalty{};
  torch::Tensor student{};
  torch::Tensor teacher_whole{};
  torch::Tensor student_ae{};
  torch::Tensor autoencoder{};
};

/// The crops of the jittered images that the student sees.
torch::Tensor jittered_crops(const TrainBatch& batch) {
  return windows(batch.jittered, {batch.jittered_corners, batch.jittered_corners_at}, /*divisor=*/1,
                 batch.images.size(2), batch.images.size(3))
      .contiguous(torch::MemoryFormat::ChannelsLast);
}

int64_t plain_count(const TrainBatch& batch) {
  return batch.plain.defined() ? batch.plain.size(0) : 0;
}

torch::Tensor with_plain(const torch::Tensor& jittered, const torch::Tensor& plain) {
  return plain.defined() ? torch::cat({jittered, plain}) : jittered;
}

StepOutputs fast_outputs(DetectorNetworks& nets, const TrainBatch& batch) {
  const int64_t images = batch.images.size(0);
  const int64_t penalty = batch.penalty.defined() ? batch.penalty.size(0) : 0;
  const int64_t jittered = batch.jittered.size(0);
  const int64_t plain = plain_count(batch);
  const int64_t channels = nets.teacher_mean.size(1);
  StepOutputs outputs;
  {
    const torch::NoGradGuard no_grad;
    outputs.teacher = batch.teacher.defined() ? batch.teacher : nets.teacher->forward(batch.images);
    torch::Tensor of_plain = batch.teacher_plain;
    if (plain > 0 && !of_plain.defined()) of_plain = nets.teacher->forward(batch.plain);
    outputs.teacher_whole = with_plain(nets.teacher->forward(batch.jittered), of_plain);
  }
  // One pass for all images; each then needs one half of the last layer.
  std::vector<torch::Tensor> seen = {batch.images};
  if (penalty > 0) seen.push_back(batch.penalty);
  seen.push_back(jittered_crops(batch));
  const torch::Tensor trunk = nets.student->trunk(torch::cat(seen));
  // Apart from the penalty's, because next to all gradients of this one will be zero.
  outputs.student = nets.student->head(trunk.narrow(0, 0, images), 0, channels);
  if (penalty > 0) {
    outputs.student_penalty = nets.student->head(trunk.narrow(0, images, penalty), 0, channels);
  }
  torch::Tensor of_plain;
  if (plain > 0) of_plain = trunk.narrow(0, images - plain, plain);
  outputs.student_ae = nets.student->head(
      with_plain(trunk.narrow(0, images + penalty, jittered), of_plain), channels, channels);
  return outputs;
}

StepOutputs plain_outputs(DetectorNetworks& nets, const TrainBatch& batch) {
  const int64_t channels = nets.teacher_mean.size(1);
  const int64_t plain = plain_count(batch);
  StepOutputs outputs;
  {
    const torch::NoGradGuard no_grad;
    outputs.teacher = nets.teacher->forward(batch.images);
    outputs.teacher_whole = nets.teacher->forward(with_plain(batch.jittered, batch.plain));
  }
  outputs.student = nets.student->forward(batch.images).narrow(1, 0, channels);
  if (batch.penalty.defined()) {
    outputs.student_penalty = nets.student->forward(batch.penalty).narrow(1, 0, channels);
  }
  torch::Tensor plain_crops;
  if (plain > 0) plain_crops = batch.images.narrow(0, batch.images.size(0) - plain, plain);
  outputs.student_ae = nets.student->forward(with_plain(jittered_crops(batch), plain_crops))
                           .narrow(1, channels, channels);
  return outputs;
}

Losses losses_of(const DetectorNetworks& networks, const TrainBatch& batch, double hard_quantile,
                 const std::string& precision, bool student_guides_autoencoder,
                 const Parallel& parallel,
                 StepOutputs (*outputs_of)(DetectorNetworks&, const TrainBatch&)) {
  // Module handles do not hand their constness on.
  DetectorNetworks nets = networks;
  StepOutputs outputs;
  {
    const Autocast autocast(precision, batch.images.device());
    torch::Tensor autoencoder;
    const std::vector<std::function<void()>> branches = {
        [&] { outputs = outputs_of(nets, batch); },
        [&] {
          autoencoder = run_autoencoder(
              nets.autoencoder, nets.autoencoder_input, nets.student->options().padding,
              with_plain(batch.jittered, batch.plain), batch.dropout_seeds);
        }};
    if (parallel) {
      parallel(branches);
    } else {
      for (const auto& branch : branches) branch();
    }
    outputs.autoencoder = autoencoder;
  }
  const auto normalized = [&](const torch::Tensor& teacher) {
    return normalize_teacher(at_least_float32(teacher), nets.teacher_mean, nets.teacher_std);
  };
  const torch::Tensor student_ae = at_least_float32(outputs.student_ae);
  const torch::Tensor autoencoder = at_least_float32(outputs.autoencoder);

  Losses losses;
  losses.held = outputs.autoencoder;
  const torch::Tensor squared_difference =
      (normalized(outputs.teacher) - at_least_float32(outputs.student)).square();
  if (batch.corners_at.defined()) {
    losses.hard = hard_feature_loss_unsynchronised(squared_difference, hard_quantile);
  } else {
    const torch::Tensor sum = squared_difference.detach().sum();
    losses.hard = torch::isfinite(sum).item<bool>()
                      ? hard_feature_loss(squared_difference, hard_quantile)
                      : sum;
  }
  losses.penalty = outputs.student_penalty.defined()
                       ? at_least_float32(outputs.student_penalty).square().mean()
                       : torch::zeros({}, student_ae.options());
  losses.autoencoder = torch::mse_loss(autoencoder, normalized(outputs.teacher_whole));
  const int64_t first_plain = batch.images.size(0) - plain_count(batch);
  Corners corners{batch.jittered_corners, batch.jittered_corners_at};
  if (corners.device.defined()) {
    corners.device =
        torch::cat({corners.device, batch.corners_at.narrow(0, first_plain, plain_count(batch))});
  } else {
    corners.host.insert(corners.host.end(), batch.corners.end() - plain_count(batch),
                        batch.corners.end());
  }
  const torch::Tensor goal = student_guides_autoencoder ? autoencoder : autoencoder.detach();
  losses.student_autoencoder = torch::mse_loss(
      student_ae, windows(goal, corners, kPdnStride, student_ae.size(2), student_ae.size(3)));
  return losses;
}

}  // namespace

Losses training_losses(const DetectorNetworks& networks, const TrainBatch& batch,
                       double hard_quantile, const std::string& precision,
                       bool student_guides_autoencoder, const Parallel& parallel) {
  return losses_of(networks, batch, hard_quantile, precision, student_guides_autoencoder, parallel,
                   fast_outputs);
}

Losses plain_training_losses(const DetectorNetworks& networks, const TrainBatch& batch,
                             double hard_quantile, const std::string& precision,
                             bool student_guides_autoencoder) {
  return losses_of(networks, batch, hard_quantile, precision, student_guides_autoencoder, {},
                   plain_outputs);
}

}  // namespace efficientad
