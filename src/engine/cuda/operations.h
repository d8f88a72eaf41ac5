#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/cuda/schedule.h"

namespace efficientad::cuda {

/// (map - q_a) * scale of both maps, halved and added.
struct MapNormalization {
  float q_a_st = 0;
  float scale_st = 0;
  float q_a_ae = 0;
  float scale_ae = 0;
};

/// ResizeTaps on the device, int32: `first` and `count` [positions], `weights` [positions, stride].
struct DeviceTaps {
  torch::Tensor first;
  torch::Tensor count;
  torch::Tensor weights;
};

/// What a program for the GPU is made of, so that its order can be tried on the CPU too. All
/// activations are channels-last [N, C, H, W] of one element type; results are written to tensors
/// that are there already, but for convolution(). Nothing waits for the GPU.
class Operations {
 public:
  virtual ~Operations() = default;

  /// Bytes from one memory to another. The host's should be page-locked: others are waited for.
  virtual void copy(torch::Tensor to, const torch::Tensor& from) const = 0;

  /// uint8 [N, H, W, 3] to ImageNet-normalised [N, 4, H, W], whose last channel is 0; if
  /// `equalize`, after equalize_exposure().
  virtual void normalize(const torch::Tensor& images_u8, bool equalize, torch::Tensor to) const = 0;

  /// Without a bias: x [N, C, H, W], weight [K, C, h, w].
  virtual torch::Tensor convolution(const torch::Tensor& x, const torch::Tensor& weight,
                                    int64_t stride, int64_t padding) const = 0;

  /// relu(convolution + bias); bias [K] of x's type.
  virtual torch::Tensor convolution_relu(const torch::Tensor& x, const torch::Tensor& weight,
                                         const torch::Tensor& bias, int64_t stride,
                                         int64_t padding) const = 0;

  /// 2x2 means, `padding` zeros around them (and counted), of relu(x + bias) of those channels that
  /// begin at `first_channel`; bias float32 [C], as in all that follows.
  virtual void bias_relu_pool(const torch::Tensor& x, int64_t first_channel,
                              const torch::Tensor& bias, int64_t padding,
                              torch::Tensor to) const = 0;

  /// Bilinear resize (corners not aligned) of x + bias, or relu(x + bias).
  virtual void bias_upsample(const torch::Tensor& x, const torch::Tensor& bias, bool relu,
                             torch::Tensor to) const = 0;

  /// Whether first_layer() takes this element type.
  virtual bool has_first_layer(torch::ScalarType type) const = 0;

  /// 4x4 convolution of x [N, 4, H, W] with `padding`, bias, ReLU and 2x2 mean (with padding 1 if
  /// the convolution's is not 0) for teacher and student. `packed`: by pack_first_layer(); bias
  /// [2 C], the teacher's first.
  virtual void first_layer(const torch::Tensor& x, const torch::Tensor& packed,
                           const torch::Tensor& bias, int64_t padding, torch::Tensor teacher,
                           torch::Tensor student) const = 0;

  /// Means over channels of (teacher - student's first half + bias_st)^2 and (autoencoder -
  /// student's second half + bias_ae)^2 to `st` and `ae`, float32 [N, 1, h, w]; both normalised and
  /// combined to the inside of `combined`, float32 [N, 1, h + 2 b, w + 2 b].
  virtual void maps(const torch::Tensor& teacher, const torch::Tensor& student,
                    const torch::Tensor& autoencoder, const torch::Tensor& bias_st,
                    const torch::Tensor& bias_ae, const MapNormalization& normalization,
                    torch::Tensor st, torch::Tensor ae, torch::Tensor combined) const = 0;

  /// The passes of resize_pil_bilinear(), uint8 [H, W, 3] to [H, positions, 3] or [positions, W,
  /// 3].
  virtual void resize_width(const torch::Tensor& image_u8, const DeviceTaps& taps,
                            torch::Tensor to) const = 0;
  virtual void resize_height(const torch::Tensor& image_u8, const DeviceTaps& taps,
                             torch::Tensor to) const = 0;

  /// Bilinear resize (corners not aligned) of a map float32 [1, 1, h, w] to `size_hw`: its values
  /// to `to`, float32 of that size, if that is defined, and the greatest, as order_of() gives it,
  /// to `greatest`, int32 [1].
  virtual void upsample_map(const torch::Tensor& map, std::array<int64_t, 2> size_hw,
                            torch::Tensor to, torch::Tensor greatest) const = 0;

  /// Does all of these; side by side if it can.
  virtual void parallel(const std::vector<std::function<void()>>& branches) const = 0;
};

/// Runs of a session after which its work is recorded, at the latest.
inline constexpr int kRunsToRecord = 3;

/// Operations on a GPU that are queued, at first one by one, then as a graph that was recorded of
/// them. One thread may use a session at a time.
class Session : public Operations {
 public:
  /// Does `before`, `work` and `after`, in this order, and waits for them. `work` must do the same
  /// on the same memory each time, also when it is repeated, as it is while it is recorded; the
  /// others, which are not recorded, are done once a run.
  virtual void run(const std::function<void()>& work, const std::function<void()>& before = {},
                   const std::function<void()>& after = {}) = 0;
  /// Does `work` once, one operation after another, and says what each took.
  struct Timing {
    /// For example "convolution 128 to 256, 4x4, at 123x123".
    std::string name;
    double milliseconds = 0;
    double multiply_adds = 0;
  };
  virtual std::vector<Timing> time(const std::function<void()>& work) = 0;
  /// How branches lie in what is recorded from now on. Without it, each of schedules() is tried
  /// when work is recorded that is short enough to gain by it, and the fastest stays.
  virtual void set_schedule(const Schedule& schedule) = 0;
  /// What was tried for the last recording; nothing if its schedule was set.
  virtual const std::vector<Trial>& trials() const = 0;
  /// Gives up what was recorded, and the memory that it worked in.
  virtual void forget() = 0;
};

}  // namespace efficientad::cuda
