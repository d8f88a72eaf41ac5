#pragma once

#include <torch/utils.h>

#include <array>
#include <cmath>
#include <string>

#include "efficientad/engine/reference_engine.h"

namespace efficientad {

/// Networks with random weights. Outputs are of about unit size, and differ from image to image:
/// LibTorch's initial weights would let ReLU take that away layer by layer, He's do not.
inline DetectorNetworks random_networks(const std::string& model_size, bool padding) {
  DetectorNetworks networks = {
      .teacher = Pdn(PdnOptions{.model_size = model_size, .padding = padding}),
      .student = Pdn(PdnOptions{.model_size = model_size, .out_channels = 768, .padding = padding}),
      .autoencoder = Autoencoder(),
      .teacher_mean = 0.1 * torch::randn({1, 384, 1, 1}),
      .teacher_std = torch::rand({1, 384, 1, 1}) + 0.5};
  // LibTorch's have a variance of 1 / (3 inputs), He's of 2 / inputs.
  const torch::NoGradGuard no_grad;
  const double gain = std::sqrt(6.0);
  const std::array<torch::nn::Module*, 3> modules = {networks.teacher.get(), networks.student.get(),
                                                     networks.autoencoder.get()};
  for (torch::nn::Module* module : modules) {
    for (auto& parameter : module->parameters()) {
      if (parameter.dim() == 4) parameter.mul_(gain);
    }
  }
  return networks;
}

}  // namespace efficientad
