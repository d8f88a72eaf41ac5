#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "efficientad/engine/engine.h"
#include "efficientad/engine/reference_engine.h"

namespace efficientad {

/// Inference on the CPU in float32, made for one image size: the same numbers as ReferenceEngine's
/// up to rounding, in less time.
///
/// Teacher and student are one network whose layers share what they can; their normalised
/// difference is one convolution, and so is that of student and autoencoder, so that only its mean
/// square is ever written to memory. Convolutions of 3x3 and 4x4 go by Winograd's method, in
/// AVX-512, AVX2, NEON or plain vector instructions, whichever the machine has, on as many threads
/// as at::get_num_threads() says.
class CpuEngine : public Engine {
 public:
  /// For images of `image_hw`, at least 64 px a side. Copies what it needs of the networks. Throws
  /// Error if they cannot take images of this size.
  CpuEngine(const DetectorNetworks& networks, std::array<int64_t, 2> image_hw);
  ~CpuEngine() override;

  RawMaps maps(const torch::Tensor& images) const override;

  /// The instruction set in use, for example "AVX3".
  std::string instruction_set() const;

  /// Median times of the layers, in the order in which they run, over `runs` of an image [1, 3, H,
  /// W]; for benchmarks.
  std::vector<LayerTime> time_layers(const torch::Tensor& image, int64_t runs) const;

  /// Multiply-adds a second of the matrix product on data in the first cache, on all threads.
  double peak_multiplications() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace efficientad
