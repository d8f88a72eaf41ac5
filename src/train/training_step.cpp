#include "efficientad/train/training_step.h"

#include <torch/torch.h>

#include "efficientad/core/precision.h"

namespace efficientad {

namespace {

constexpr int64_t kStride = 4;

/// The window of h x w values at each item's corner: [N, C, H, W] to [N, C, h, w].
torch::Tensor windows(const torch::Tensor& whole,
                      const std::vector<std::array<int64_t, 2>>& corners, int64_t divisor,
                      int64_t height, int64_t width) {
  if (whole.size(2) == height && whole.size(3) == width) return whole;
  std::vector<torch::Tensor> parts;
  for (size_t i = 0; i < corners.size(); ++i) {
    parts.push_back(whole[static_cast<int64_t>(i)]
                        .narrow(1, corners[i][0] / divisor, height)
                        .narrow(2, corners[i][1] / divisor, width));
  }
  return torch::stack(parts);
}

}  // namespace

Losses training_losses(const DetectorNetworks& networks, const TrainBatch& batch,
                       double hard_quantile, const std::string& precision,
                       bool student_guides_autoencoder) {
  // Module handles do not hand their constness on.
  DetectorNetworks nets = networks;
  const int64_t images = batch.images.size(0);
  const int64_t penalty = batch.penalty.defined() ? batch.penalty.size(0) : 0;
  const int64_t jittered = batch.jittered.size(0);
  const int64_t plain = batch.plain.defined() ? batch.plain.size(0) : 0;
  const int64_t channels = nets.teacher_mean.size(1);
  const bool padding = nets.student->options().padding;
  const torch::Tensor jittered_crops =
      windows(batch.jittered, batch.jittered_corners, /*divisor=*/1, batch.images.size(2),
              batch.images.size(3))
          .contiguous(torch::MemoryFormat::ChannelsLast);

  torch::Tensor teacher;
  torch::Tensor teacher_whole;
  torch::Tensor student;
  torch::Tensor student_ae;
  torch::Tensor autoencoder;
  {
    const Autocast autocast(precision, batch.images.device());
    {
      const torch::NoGradGuard no_grad;
      teacher = batch.teacher.defined() ? batch.teacher : nets.teacher->forward(batch.images);
      teacher_whole = nets.teacher->forward(batch.jittered);
      if (plain > 0) {
        teacher_whole = torch::cat({teacher_whole, batch.teacher_plain.defined()
                                                       ? batch.teacher_plain
                                                       : nets.teacher->forward(batch.plain)});
      }
    }
    // One pass for all images; each then needs one half of the last layer.
    std::vector<torch::Tensor> seen = {batch.images};
    if (batch.penalty.defined()) seen.push_back(batch.penalty);
    seen.push_back(jittered_crops);
    const torch::Tensor trunk = nets.student->trunk(torch::cat(seen));
    student = nets.student->head(trunk.narrow(0, 0, images + penalty), 0, channels);
    torch::Tensor for_autoencoder = trunk.narrow(0, images + penalty, jittered);
    torch::Tensor whole = batch.jittered;
    if (plain > 0) {
      for_autoencoder = torch::cat({for_autoencoder, trunk.narrow(0, images - plain, plain)});
      whole = torch::cat({whole, batch.plain});
    }
    student_ae = nets.student->head(for_autoencoder, channels, channels);
    autoencoder = run_autoencoder(nets.autoencoder, nets.autoencoder_input, padding, whole);
  }
  teacher = normalize_teacher(teacher.to(torch::kFloat32), nets.teacher_mean, nets.teacher_std);
  teacher_whole =
      normalize_teacher(teacher_whole.to(torch::kFloat32), nets.teacher_mean, nets.teacher_std);
  student = student.to(torch::kFloat32);
  student_ae = student_ae.to(torch::kFloat32);
  autoencoder = autoencoder.to(torch::kFloat32);

  Losses losses;
  const torch::Tensor squared_difference = (teacher - student.narrow(0, 0, images)).square();
  const torch::Tensor sum = squared_difference.detach().sum();
  losses.hard = torch::isfinite(sum).item<bool>()
                    ? hard_feature_loss(squared_difference, hard_quantile)
                    : sum;
  losses.penalty = penalty > 0 ? student.narrow(0, images, penalty).square().mean()
                               : torch::zeros({}, sum.options());
  losses.autoencoder = torch::mse_loss(autoencoder, teacher_whole);
  std::vector<std::array<int64_t, 2>> corners = batch.jittered_corners;
  for (size_t i = batch.corners.size() - static_cast<size_t>(plain); i < batch.corners.size();
       ++i) {
    corners.push_back(batch.corners[i]);
  }
  const torch::Tensor goal = student_guides_autoencoder ? autoencoder : autoencoder.detach();
  losses.student_autoencoder = torch::mse_loss(
      student_ae, windows(goal, corners, kStride, student_ae.size(2), student_ae.size(3)));
  return losses;
}

}  // namespace efficientad
