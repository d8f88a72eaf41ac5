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
#include "efficientad/detect/shift.h"
#include "efficientad/engine/cuda_engine.h"
#include "efficientad/engine/reference_engine.h"

namespace efficientad {

/// The bundle's networks as an engine takes them; shared, not copied.
DetectorNetworks networks_of(const ModelBundle& bundle);

/// The engines by name, in the order that help shows them.
inline const std::vector<std::string> kEngines = {"auto", "reference", "cpu", "cuda"};

/// Element types of activations by name. Engines reference and cpu compute in fp32 only.
inline const std::vector<std::string> kEnginePrecisions = {"auto", "fp32", "fp16", "bf16"};

/// What "auto" stands for on `device`: the fastest engine there. Throws UsageError if there is no
/// such engine or it cannot run there, Error if the CUDA part is missing.
std::string resolve_engine(const std::string& name, torch::Device device);

/// What "auto" stands for with a resolved engine: fp16 with cuda, else fp32. Throws UsageError if
/// there is no such precision or the engine does not compute in it.
std::string resolve_engine_precision(const std::string& name, const std::string& engine);

/// The bundle's networks made ready for inference at the bundle's image size.
std::unique_ptr<Engine> make_engine(const ModelBundle& bundle, const std::string& name,
                                    torch::Device device, const std::string& precision = "auto");

/// What a detector says of one image.
struct Detection {
  /// float32 [height, width] at the original image's size; undefined if it was not wanted.
  torch::Tensor map_at_image;
  /// The map's maximum; NaN if the map has one, because weights are damaged or too large for fp16
  /// (see require_finite()).
  double score = 0;
  /// score > the model's threshold, or NaN.
  bool anomalous = false;
  /// The share of normal images that score lower (see ModelBundle::normal_scores), if it is known;
  /// of scores that were taken with the bundle's normal_scores_shift_average.
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
///
/// On a CPU each call uses all of LibTorch's threads (set_threads()): of several threads that call
/// it at once, each should call use_one_thread_here() first. On a GPU the first call, and the first
/// that runs beside another, prepare the engine for it, which takes up to seconds: before time
/// matters, let as many threads as will call it score an image at once.
///
/// The bundle's networks are handles, and engine reference moves them to `device`: for another
/// device load the bundle again.
class Detector {
 public:
  /// `shift_average` N (1, 2, 4, 8 or 16; UsageError for another): with more than 1, the maps are
  /// means over N shifts of the image by -2 to 1 px, for N times the time. A map has a cell every
  /// 4 px, so what it says of a defect depends on where the defect lies between two cells; the mean
  /// depends on it less, with 16 not at all (but for the autoencoder, and at the border). Each
  /// shifted image's map is resized to the networks' input and moved back there, exactly, before
  /// the mean is taken: the maps then have that size. Shifted images repeat their outermost pixels.
  /// Quantiles and threshold are used as they are.
  explicit Detector(ModelBundle bundle, torch::Device device = torch::kCPU,
                    const std::string& engine = "auto", const std::string& precision = "auto",
                    int64_t shift_average = 1);

  /// Height and width to which images must be resized before maps().
  std::array<int64_t, 2> input_hw() const;
  const ModelBundle& bundle() const;
  /// The engine, if it is this one, else nullptr.
  const CudaEngine* cuda_engine() const { return cuda_; }

  /// float32 [N, 3, H, W] in 0..1 (RGB, not ImageNet-normalised), H and W as input_hw(), to the
  /// combined, normalised maps with the zero border of the unpadded PDN: float32 [N, 1, h, w] on
  /// the CPU. h and w are a quarter of H and W, rounded up; with a mean over shifts, they are H and
  /// W.
  torch::Tensor maps(const torch::Tensor& images) const;

  /// As maps(), of uint8 [N, H, W, 3]: equal to maps() of the same divided by 255. The fastest way
  /// on a GPU.
  torch::Tensor maps_of_bytes(const torch::Tensor& images_u8) const;

  /// As maps(), with the two maps that are combined, to see what each is worth.
  DetectorMaps all_maps(const torch::Tensor& images) const;

  /// One map [1, h, w] or [h, w] of maps(), resized bilinearly to the original `size_hw`.
  Detection finish(const torch::Tensor& map, std::array<int64_t, 2> size_hw) const;

  /// Whether judge() may be called: with engine cuda and no mean over shifts.
  bool judges_frames() const;

  /// What resize_pil_bilinear() to input_hw(), maps_of_bytes() and finish() give of an image uint8
  /// [H, W, 3] of any size, all on the GPU. The networks see the same bytes; the map at the image's
  /// size may differ by rounding. Nothing, and a warning, if the GPU's memory does not hold it.
  std::optional<Detection> judge(const torch::Tensor& image_u8, bool want_map) const;

 private:
  Detection decide(const torch::Tensor& map_at_image, double score) const;
  DetectorMaps maps_of_one_shift(const torch::Tensor& images) const;

  ModelBundle bundle_;
  std::unique_ptr<Engine> engine_;
  /// The same engine, if it is this one.
  const CudaEngine* cuda_ = nullptr;
  std::vector<Shift> shifts_;
};

}  // namespace efficientad
