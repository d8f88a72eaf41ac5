#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "efficientad/detect/anomaly_map.h"
#include "efficientad/detect/model_bundle.h"
#include "efficientad/engine/reference_engine.h"

namespace efficientad {

/// The bundle's networks as an engine takes them; shared, not copied.
DetectorNetworks networks_of(const ModelBundle& bundle);

/// The engines by name, in the order that help shows them.
inline const std::vector<std::string> kEngines = {"auto", "reference", "cpu"};

/// What "auto" stands for on `device`: the fastest engine there. Throws UsageError if an engine
/// cannot run there.
std::string resolve_engine(const std::string& name, torch::Device device);

/// The bundle's networks made ready for inference at the bundle's image size.
std::unique_ptr<Engine> make_engine(const ModelBundle& bundle, const std::string& name,
                                    torch::Device device);

/// What a detector says of one image.
struct Detection {
  /// float32 [height, width] at the original image's size.
  torch::Tensor map_at_image;
  /// Maximum of map_at_image.
  double score = 0;
  /// score > the model's threshold.
  bool anomalous = false;
  /// The share of normal images that score lower (see ModelBundle::normal_scores), if it is known.
  std::optional<double> normal_share{};
};

/// A detector's maps of some images, each normalised and with the zero border of the unpadded PDN:
/// float32 [N, 1, h, w] on the CPU.
struct DetectorMaps {
  /// Mean of the other two: what decides.
  torch::Tensor combined;
  /// Student against teacher, and against autoencoder, by themselves.
  torch::Tensor st;
  torch::Tensor ae;
};

/// A model ready to score images. Threads may share one.
class Detector {
 public:
  explicit Detector(ModelBundle bundle, torch::Device device = torch::kCPU,
                    const std::string& engine = "auto");

  /// Height and width to which images must be resized before maps().
  std::array<int64_t, 2> input_hw() const;
  const ModelBundle& bundle() const;

  /// float32 [N, 3, H, W] in 0..1 (RGB, not ImageNet-normalised), H and W as input_hw(), to the
  /// combined, normalised maps with the zero border of the unpadded PDN: float32 [N, 1, h, w] on
  /// the CPU.
  torch::Tensor maps(const torch::Tensor& images) const;

  /// As maps(), with the two maps that are combined, to see what each is worth.
  DetectorMaps all_maps(const torch::Tensor& images) const;

  /// One map [1, h, w] or [h, w] of maps(), resized bilinearly to the original `size_hw`.
  Detection finish(const torch::Tensor& map, std::array<int64_t, 2> size_hw) const;

 private:
  ModelBundle bundle_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace efficientad
