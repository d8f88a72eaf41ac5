#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "efficientad/engine/cpu_engine.h"
#include "efficientad/engine/reference_engine.h"
#include "engine/cpu/kernels.h"

namespace efficientad::cpu {

/// A layer's weights as a kernel wants them.
struct PackedLayer {
  torch::Tensor weights;
  /// float32 [channels].
  torch::Tensor bias;
};

/// All weights of a model, folded and laid out for one instruction set.
struct PackedNetworks {
  PackedNetworks(const DetectorNetworks& networks, const Kernels& kernels);

  bool medium = false;
  bool padding = false;
  bool autoencoder_fixed = false;
  int64_t channels = 0;
  /// Teacher and student in one.
  PackedLayer conv1;
  /// The layers after the first and before the last, one of each network.
  std::vector<PackedLayer> teacher;
  std::vector<PackedLayer> student;
  /// Normalised teacher minus student, and autoencoder minus student.
  PackedLayer difference_st;
  PackedLayer difference_ae;
  std::vector<PackedLayer> encoder;
  /// But its last layer, which is part of difference_ae.
  std::vector<PackedLayer> decoder;
};

/// The layers of a model for one image size with the memory they work in. One thread may use it at
/// a time; it spreads its work over OpenMP's threads.
class Program {
 public:
  /// `networks` must outlive it.
  Program(const PackedNetworks& networks, const Kernels& kernels, std::array<int64_t, 2> image_hw);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  std::array<int64_t, 2> map_hw() const { return map_hw_; }

  /// Planes [3, H, W] of an image, and as the autoencoder sees it, to both maps [h, w].
  void run(const float* image, const float* autoencoder_image, float* map_st, float* map_ae);

  /// The same, and adds each layer's time to `times`, which has an element for each of layers().
  void run_timed(const float* image, const float* autoencoder_image, float* map_st, float* map_ae,
                 std::vector<std::vector<double>>& times);
  std::vector<LayerTime> layers() const;

 private:
  /// What may be computed side by side.
  struct Stage {
    std::string name;
    double direct_multiplications = 0;
    std::vector<Interleaving> interleavings;
    std::vector<DirectConvolution> directs;
    std::vector<WinogradConvolution> winograds;
    std::vector<Upsampling> upsamplings;
  };

  Grid make_grid(int64_t height, int64_t width, int64_t channels);
  void build_networks(const PackedNetworks& networks, std::array<int64_t, 2> image_hw);
  void build_autoencoder(const PackedNetworks& networks, std::array<int64_t, 2> image_hw,
                         const Grid& to, int64_t to_channel);
  void prepare(const float* image, const float* autoencoder_image, float* map_st, float* map_ae);
  void run_stage(const Stage& stage);
  /// Calls run(task, scratch) for each task, on all threads.
  void run_tasks(int64_t tasks, const std::function<void(int64_t, float*)>& run);
  void run_task(const Stage& stage, int64_t task, float* scratch) const;

  const Kernels& kernels_;
  std::array<int64_t, 2> map_hw_ = {0, 0};
  std::vector<torch::Tensor> memory_;
  std::vector<Stage> stages_;
  std::vector<torch::Tensor> scratch_;
};

}  // namespace efficientad::cpu
