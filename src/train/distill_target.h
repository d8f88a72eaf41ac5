#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "efficientad/nn/backbone.h"
#include "efficientad/nn/pdn.h"
#include "efficientad/train/distiller.h"

namespace efficientad {

/// Channels of a teacher, and so of its target.
inline constexpr int64_t kTeacherChannels = 384;

/// Cells a side of the unpadded PDN's output for a picture of kDistillSide.
inline constexpr int64_t kDistillGrid = kDistillSide / kPdnStride - 8;

/// A picture at both sizes: uint8 [side, side, 3] for the PDN, [2 side, 2 side, 3] for the
/// backbone.
struct Picture {
  torch::Tensor small_u8;
  torch::Tensor large_u8;
};

/// What the teacher learns to give: features of backbones, brought to its grid and channels in one
/// of the ways of DistillOptions::target.
class DistillTarget {
 public:
  /// Opens the backbones. Throws UsageError or Error if the options and they do not fit.
  DistillTarget(const DistillOptions& options, torch::Device device, std::string precision);

  /// Where the backbones come from.
  std::map<std::string, std::string> provenance() const;

  /// Channel statistics and projections of each feature map, from the pictures 0 to count - 1; to
  /// be called before the target of anything. Throws Interrupted when the user asks to stop.
  void prepare(const std::function<Picture(int64_t)>& picture, int64_t count);

  /// Of one picture or more: float16 [N, kDistillGrid, kDistillGrid, kTeacherChannels] on the CPU,
  /// not yet normalised.
  torch::Tensor operator()(const std::vector<Picture>& pictures) const;

 private:
  /// A 1x1 convolution.
  struct Projection {
    torch::Tensor weight;
    torch::Tensor bias;
  };
  struct Part {
    std::unique_ptr<Backbone> backbone;
    /// Of its feature maps.
    std::vector<Projection> projections;
  };

  std::vector<torch::Tensor> features(const Part& part, const std::vector<Picture>& pictures) const;
  Projection projection_of(const torch::Tensor& mean, const torch::Tensor& std,
                           const torch::Tensor& mix) const;

  const DistillOptions& options_;
  torch::Device device_;
  std::string precision_;
  std::vector<Part> parts_;
};

}  // namespace efficientad
