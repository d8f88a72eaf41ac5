#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace efficientad {

/// A frozen ImageNet network whose inner feature maps a teacher learns to predict.
class Backbone {
 public:
  virtual ~Backbone() = default;

  /// Moves the weights, which are on the CPU at first.
  virtual void to(torch::Device device) = 0;

  /// Feature maps at the taps: images float32 [N, 3, S, S] in 0..1 to one [N, C, h, w] a tap.
  /// The images are where the weights are.
  virtual std::vector<torch::Tensor> features(const torch::Tensor& images) = 0;

  /// A PDN's unpadded output j of the same picture at half the size belongs to cell
  /// j + grid_offset() of a grid of S / 8 cells. It depends on how the backbone pads.
  virtual int64_t grid_offset() const = 0;

  /// Name, licence and origin, for provenance.
  virtual std::map<std::string, std::string> provenance() const = 0;
};

/// Opens a backbone file and taps it at the named places ("" for the kind's default):
///  - EfficientNet-Lite or VGG16 as safetensors of scripts/convert_backbone.py; taps are block
///    numbers ("6,14") or layer names ("conv4_3"),
///  - TorchScript (.pt, .ts) that maps ImageNet-normalised images to a tuple of feature maps,
///  finest
///    first (scripts/export_wide_resnet101.py); it takes no taps.
/// Throws Error for a file of another kind or a tap that does not exist.
std::unique_ptr<Backbone> open_backbone(const std::filesystem::path& path, const std::string& taps);

/// PatchCore-style features of the paper (section 3.1): of each map the 3x3 neighbourhoods (stride
/// 1, zero padding 1), the coarser ones resized bilinearly to the grid of the first, each patch
/// vector average-pooled to 1024 values, all of them stacked and average-pooled to `channels`.
/// [N, C_i, h_i, w_i] to [N, channels, h_0, w_0].
torch::Tensor patch_features(const std::vector<torch::Tensor>& maps, int64_t channels);

/// [N, C, h, w] to a grid of `side` cells: averaged where finer, resized bilinearly where coarser.
torch::Tensor to_grid(const torch::Tensor& map, int64_t side);

}  // namespace efficientad
