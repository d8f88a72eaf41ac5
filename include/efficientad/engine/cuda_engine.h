#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "efficientad/engine/engine.h"
#include "efficientad/engine/reference_engine.h"

namespace efficientad {

/// How the two maps are combined: (st - q_a_st) * scale_st and the same for ae, halved and added
/// (paper, section 3.4).
struct MapCombination {
  double q_a_st = 0;
  double scale_st = 0;
  double q_a_ae = 0;
  double scale_ae = 0;
};

/// Why a CUDA engine cannot be made on `device`, or nothing if it can: the CUDA part (a library
/// beside the program) is not there or of another release.
std::string cuda_engine_problem(torch::Device device);

/// Inference on an NVIDIA GPU: channels-last in `precision`, sums in float32, all of it one CUDA
/// graph for each batch size, with the copies to and from the GPU; cuDNN's convolutions, compared
/// with each other at the first use of a batch size, and kernels of our own for what lies between.
/// Teacher, student and autoencoder run side by side or in turn: for small batches, whichever order
/// is fastest when the graph is recorded.
///
/// If the GPU's memory does not hold a batch, half as many images are done at a time, and a warning
/// says so.
class CudaEngine : public Engine {
 public:
  /// A frame's map, and what decides of it.
  struct Judgement {
    /// float32 [H, W] on the CPU, if it was wanted.
    torch::Tensor map_at_image;
    /// Its greatest value.
    double score = 0;
  };

  /// For images of `image_hw`, at least 64 px a side. `precision` is fp16, bf16 or fp32 (without
  /// TF32). With `equalize_exposure`, combined_maps() begins with that. Throws Error if the
  /// networks cannot take images of this size, or if there is no CUDA part.
  CudaEngine(const DetectorNetworks& networks, std::array<int64_t, 2> image_hw,
             const MapCombination& combination, torch::Device device, const std::string& precision,
             bool equalize_exposure = false);
  ~CudaEngine() override;

  /// The maps are on the CPU.
  RawMaps maps(const torch::Tensor& images) const override;

  /// uint8 [N, H, W, 3] on the CPU (RGB) to the combined maps, with a border of zeros if the PDN is
  /// not padded: float32 [N, 1, ceil(H / 4), ceil(W / 4)] on the CPU.
  torch::Tensor combined_maps(const torch::Tensor& images_u8) const;

  /// One image of any size, uint8 [H, W, 3] on the CPU (RGB): resized to the networks' size as
  /// resize_pil_bilinear() does, to the last bit; then the combined map, resized bilinearly to H x
  /// W. All of it on the GPU, so that without `want_map` only the score comes back. Nothing, and a
  /// warning, if the GPU's memory does not hold it.
  std::optional<Judgement> judge(const torch::Tensor& image_u8, bool want_map) const;

  /// Median times of the operations, in the order in which they run when none runs beside another,
  /// over `runs` of uint8 [N, H, W, 3]; for benchmarks. Empty gaps between operations count too, if
  /// the host is slower than the GPU.
  std::vector<LayerTime> time_layers(const torch::Tensor& images_u8, int64_t runs) const;

  /// An order of the networks on the GPU, and the milliseconds of a batch in it.
  struct OrderTime {
    /// Of the two PDNs, which have an "inner" order of their own (teacher, student), and the
    /// autoencoder: for example "last ahead, inner in turn" (the autoencoder with priority; the
    /// teacher, then the student).
    std::string order;
    double milliseconds = 0;
    bool used = false;
  };
  /// What was tried when a graph for uint8 [count, H, W, 3] was recorded; one alone if batches take
  /// too long to gain by another. Empty if there was no such graph: combined_maps() of so many
  /// images not called yet, or done by a larger batch's, or in parts, or not recorded.
  std::vector<OrderTime> order_times(int64_t count) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace efficientad
