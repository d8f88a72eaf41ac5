#include "train/distill_target.h"

#include <torch/utils.h>

#include <algorithm>
#include <utility>

#include "efficientad/core/error.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/precision.h"
#include "efficientad/core/random.h"
#include "efficientad/nn/statistics.h"

namespace efficientad {

namespace {

/// A stream of random numbers (see Rng).
constexpr uint64_t kProjection = 2;

/// Columns of a random orthogonal matrix: float64 [channels, wanted].
torch::Tensor random_orthogonal(int64_t channels, int64_t wanted, Rng& rng) {
  const int64_t side = std::max(channels, wanted);
  torch::Tensor random = torch::empty({side, side}, torch::kFloat64);
  for (int64_t i = 0; i < random.numel(); ++i) random.data_ptr<double>()[i] = rng.normal();
  return std::get<0>(torch::linalg_qr(random)).narrow(0, 0, channels).narrow(1, 0, wanted);
}

/// The matrix of an adaptive average pooling over channels: float64 [channels, wanted].
torch::Tensor channel_pooling(int64_t channels, int64_t wanted) {
  return torch::adaptive_avg_pool1d(torch::eye(channels, torch::kFloat64).unsqueeze(0), wanted)[0];
}

}  // namespace

DistillTarget::DistillTarget(const DistillOptions& options, torch::Device device,
                             std::string precision)
    : options_(options), device_(device), precision_(std::move(precision)) {
  const size_t count = options.backbone.size();
  require_usage(options.taps.empty() || options.taps.size() == count,
                "taps has {} entries, but there are {} backbones", options.taps.size(), count);
  require_usage(kTeacherChannels % count == 0, "{} backbones cannot share {} channels", count,
                kTeacherChannels);
  for (size_t i = 0; i < count; ++i) {
    parts_.push_back(
        {open_backbone(options.backbone[i], options.taps.empty() ? "" : options.taps[i]), {}});
    parts_.back().backbone->to(device);
  }
}

std::map<std::string, std::string> DistillTarget::provenance() const {
  std::map<std::string, std::string> all;
  for (const auto& part : parts_) {
    for (const auto& [key, value] : part.backbone->provenance()) {
      all[key] = all.count(key) > 0 ? all[key] + "; " + value : value;
    }
  }
  return all;
}

void DistillTarget::prepare(const std::function<Picture(int64_t)>& picture, int64_t count) {
  if (options_.target == "patch") return;
  std::vector<std::vector<ChannelStatistics>> statistics(parts_.size());
  for (int64_t i = 0; i < count; ++i) {
    if (interrupt_requested()) throw Interrupted("interrupted before any features were computed");
    const Picture image = picture(i);
    for (size_t p = 0; p < parts_.size(); ++p) {
      const auto maps = features(parts_[p], {image});
      statistics[p].resize(maps.size());
      for (size_t m = 0; m < maps.size(); ++m) statistics[p][m].add(maps[m].cpu());
    }
  }
  Rng rng(static_cast<uint64_t>(options_.seed), kProjection);
  const int64_t share = kTeacherChannels / static_cast<int64_t>(parts_.size());
  for (size_t p = 0; p < parts_.size(); ++p) {
    const auto maps = static_cast<int64_t>(statistics[p].size());
    for (int64_t m = 0; m < maps; ++m) {
      const auto& measured = statistics[p][static_cast<size_t>(m)];
      const int64_t channels = measured.mean().size(1);
      const int64_t wanted = share / maps + (m < share % maps ? 1 : 0);
      const torch::Tensor mix = options_.target == "average"
                                    ? channel_pooling(channels, wanted)
                                    : random_orthogonal(channels, wanted, rng);
      parts_[p].projections.push_back(projection_of(measured.mean(), measured.std(), mix));
    }
  }
}

/// (x - mean) / std, then the mixing of channels.
DistillTarget::Projection DistillTarget::projection_of(const torch::Tensor& mean,
                                                       const torch::Tensor& std,
                                                       const torch::Tensor& mix) const {
  const torch::Tensor weight = mix.t().to(torch::kFloat32) / std.flatten().unsqueeze(0);
  Projection projection;
  projection.bias = -weight.mv(mean.flatten()).to(device_);
  projection.weight = weight.view({weight.size(0), weight.size(1), 1, 1}).contiguous().to(device_);
  return projection;
}

torch::Tensor DistillTarget::operator()(const std::vector<Picture>& pictures) const {
  std::vector<torch::Tensor> joined;
  const int64_t cells = kDistillSide / kPdnStride;
  for (const auto& part : parts_) {
    const auto maps = features(part, pictures);
    torch::Tensor grid;
    if (options_.target == "patch") {
      grid = to_grid(patch_features(maps, kTeacherChannels / static_cast<int64_t>(parts_.size())),
                     cells);
    } else {
      std::vector<torch::Tensor> projected;
      for (size_t m = 0; m < maps.size(); ++m) {
        projected.push_back(to_grid(
            torch::conv2d(maps[m], part.projections[m].weight, part.projections[m].bias), cells));
      }
      grid = torch::cat(projected, /*dim=*/1);
    }
    const int64_t offset = part.backbone->grid_offset();
    joined.push_back(
        grid.slice(2, offset, offset + kDistillGrid).slice(3, offset, offset + kDistillGrid));
  }
  return torch::cat(joined, /*dim=*/1).permute({0, 2, 3, 1}).to(torch::kFloat16).contiguous().cpu();
}

std::vector<torch::Tensor> DistillTarget::features(const Part& part,
                                                   const std::vector<Picture>& pictures) const {
  std::vector<torch::Tensor> images;
  for (const auto& picture : pictures) images.push_back(picture.large_u8);
  const torch::Tensor x =
      torch::stack(images).to(device_).permute({0, 3, 1, 2}).to(torch::kFloat32).div(255);
  std::vector<torch::Tensor> maps;
  {
    const Autocast autocast(precision_, device_);
    maps = part.backbone->features(x);
  }
  for (auto& map : maps) {
    map = map.to(torch::kFloat32);
    if (options_.target == "average") {
      map = torch::avg_pool2d(map, /*kernel_size=*/3, /*stride=*/1, /*padding=*/1,
                              /*ceil_mode=*/false, /*count_include_pad=*/false);
    }
  }
  return maps;
}

}  // namespace efficientad
