#pragma once

#include <torch/types.h>

#include <string>

#include "efficientad/engine/engine.h"
#include "efficientad/nn/autoencoder.h"
#include "efficientad/nn/pdn.h"

namespace efficientad {

/// The networks of a detector and what belongs to them. The modules are handles: whoever copies
/// this shares them.
struct DetectorNetworks {
  Pdn teacher = nullptr;
  Pdn student = nullptr;
  Autoencoder autoencoder = nullptr;
  /// Of the teacher's output over the training images: float32 [1, C, 1, 1].
  torch::Tensor teacher_mean;
  torch::Tensor teacher_std;
  /// What the autoencoder sees: "fixed", the image resized to kAutoencoderSide squared, or "full",
  /// the image as it is.
  std::string autoencoder_input = "fixed";
};

/// (teacher - mean) / std, channel by channel (paper, section 3.2).
torch::Tensor normalize_teacher(const torch::Tensor& teacher, const torch::Tensor& mean,
                                const torch::Tensor& std);

/// The autoencoder's output on the PDN's grid for whole `images` [N, 3, H, W]
/// (ImageNet-normalised): [N, C, h, w] with h = pdn_output_side(H, padding). `dropout_seeds`: for
/// training, as Autoencoder takes them.
torch::Tensor run_autoencoder(Autoencoder& autoencoder, const std::string& autoencoder_input,
                              bool padding, const torch::Tensor& images,
                              const std::vector<uint64_t>& dropout_seeds = {});

/// What the three networks say of some images: float32 [N, C or 2C, h, w].
struct NetworkOutputs {
  torch::Tensor normalized_teacher;
  torch::Tensor student;
  torch::Tensor autoencoder;
};

/// Both maps of what the networks gave.
RawMaps raw_maps(const NetworkOutputs& outputs);

/// Inference with LibTorch's own operations, as the method is written down: what faster engines are
/// compared with. It moves the networks it is given to `device` and puts them in eval mode.
class ReferenceEngine : public Engine {
 public:
  ReferenceEngine(DetectorNetworks networks, torch::Device device);

  /// float32 [N, 3, H, W], ImageNet-normalised, on any device; the results are on the engine's.
  NetworkOutputs run(const torch::Tensor& images) const;

  RawMaps maps(const torch::Tensor& images) const override;

 private:
  DetectorNetworks networks_;
  torch::Device device_;
};

}  // namespace efficientad
