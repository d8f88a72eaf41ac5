#pragma once

#include <torch/types.h>

#include <array>
#include <vector>

#include "efficientad/engine/reference_engine.h"
#include "engine/cuda/operations.h"

namespace efficientad::cuda {

struct Convolution {
  /// [K, C, h, w].
  torch::Tensor weight;
  /// float32 [K].
  torch::Tensor bias;
  /// The same in the weight's type.
  torch::Tensor typed_bias{};
};

/// A detector's weights, ready for the GPU: the teacher's normalisation is part of its last layer.
struct FoldedNetworks {
  /// In float32, on the CPU.
  explicit FoldedNetworks(const DetectorNetworks& networks);

  /// The same with weights of `type` on `device`.
  FoldedNetworks to(torch::Device device, torch::ScalarType type) const;

  bool medium = false;
  bool padding = false;
  bool autoencoder_fixed = false;
  /// Teacher and student in one, for an image with a fourth channel.
  Convolution first;
  /// As Operations::first_layer() takes it.
  torch::Tensor first_packed;
  /// The other layers but the last bias.
  std::vector<Convolution> teacher;
  std::vector<Convolution> student;
  std::vector<Convolution> encoder;
  std::vector<Convolution> decoder;
  /// What is to be added to differences of the outputs: float32 [C].
  torch::Tensor bias_st;
  torch::Tensor bias_ae;
};

/// The first layer's weight [2 C, 4, 4, 4] in the order in which the kernel reads it (kernels.cu):
/// [groups of 32 channels, tile of 8, half of the window's rows, lane, row, half of 16, 2], flat.
torch::Tensor pack_first_layer(const torch::Tensor& weight);

/// Memory for one batch that keeps its place from run to run.
struct Workspace {
  Workspace(const FoldedNetworks& networks, int64_t count, std::array<int64_t, 2> image_hw,
            torch::Device device, torch::ScalarType type);

  /// What the PDNs see: [N, 4, H, W].
  torch::Tensor image;
  /// What the autoencoder sees, if that is something else.
  torch::Tensor autoencoder_image;
  torch::Tensor teacher_pooled;
  torch::Tensor student_pooled;
  /// Both raw maps, [2, N, 1, h, w], and each of them, [N, 1, h, w] in the same memory.
  torch::Tensor raw;
  torch::Tensor st;
  torch::Tensor ae;
  /// [N, 1, H/4, W/4], with the border where the PDN is not padded.
  torch::Tensor combined;
};

/// From `workspace`'s image to its maps.
void run_networks(const FoldedNetworks& networks, const Operations& operations,
                  const MapNormalization& normalization, Workspace& workspace);

}  // namespace efficientad::cuda
