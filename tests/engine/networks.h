#pragma once

#include <torch/types.h>

#include <string>

#include "efficientad/engine/reference_engine.h"

namespace efficientad {

/// Networks with random weights and outputs of about unit size.
inline DetectorNetworks random_networks(const std::string& model_size, bool padding) {
  DetectorNetworks networks = {
      .teacher = Pdn(PdnOptions{.model_size = model_size, .padding = padding}),
      .student = Pdn(PdnOptions{.model_size = model_size, .out_channels = 768, .padding = padding}),
      .autoencoder = Autoencoder(),
      .teacher_mean = torch::randn({1, 384, 1, 1}),
      .teacher_std = torch::rand({1, 384, 1, 1}) + 0.5};
  return networks;
}

}  // namespace efficientad
