#include "efficientad/detect/calibration.h"

#include <torch/types.h>

#include <algorithm>

#include "efficientad/core/error.h"
#include "efficientad/detect/detector.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/quantile.h"

namespace efficientad {

namespace {

/// While one lives, convolutions on a GPU compute in float32 itself.
class WithoutTf32 {
 public:
  explicit WithoutTf32(torch::Device device)
      : active_(device.is_cuda()), before_(active_ && at::globalContext().allowTF32CuDNN()) {
    if (active_) at::globalContext().setAllowTF32CuDNN(false);
  }
  ~WithoutTf32() {
    if (active_) at::globalContext().setAllowTF32CuDNN(before_);
  }
  WithoutTf32(const WithoutTf32&) = delete;
  WithoutTf32& operator=(const WithoutTf32&) = delete;

 private:
  bool active_;
  bool before_;
};

}  // namespace

MapQuantiles quantiles_of_maps(const std::vector<RawMaps>& maps, double q_a, double q_b) {
  require(!maps.empty(), "no held-out normal images to calibrate on");
  const auto gather = [&](torch::Tensor RawMaps::*kind) {
    std::vector<float> values;
    for (const auto& map : maps) {
      const torch::Tensor flat = (map.*kind).to(torch::kCPU, torch::kFloat32).contiguous();
      const float* begin = flat.data_ptr<float>();
      values.insert(values.end(), begin, begin + flat.numel());
    }
    return values;
  };
  MapQuantiles quantiles;
  std::vector<float> values = gather(&RawMaps::st);
  quantiles.q_a_st = quantile_of(values, q_a);
  quantiles.q_b_st = quantile_of(values, q_b);
  values = gather(&RawMaps::ae);
  quantiles.q_a_ae = quantile_of(values, q_a);
  quantiles.q_b_ae = quantile_of(values, q_b);
  return quantiles;
}

void set_normal_scores(ModelBundle& bundle, NormalScores normal, double max_fpr) {
  const Threshold threshold =
      threshold_of_normal_scores(normal.scores, max_fpr, normal.which, normal.images);
  bundle.threshold = threshold.value;
  bundle.threshold_rule = threshold.rule;
  bundle.threshold_shift_average = normal.shift_average;
  std::sort(normal.scores.begin(), normal.scores.end());
  bundle.normal_scores = std::move(normal.scores);
  bundle.normal_images = normal.images;
  bundle.normal_scores_shift_average = normal.shift_average;
}

void calibrate(ModelBundle& bundle, torch::Device device,
               const std::function<std::optional<CalibrationImage>()>& next, double q_a, double q_b,
               double max_fpr, bool held_out) {
  for (auto* network : {&bundle.teacher, &bundle.student}) {
    (*network)->to(device);
    (*network)->eval();
  }
  bundle.autoencoder->to(device);
  bundle.autoencoder->eval();
  // The engine that will judge images: another's rounding could put the highest normal score above
  // its own threshold. On a GPU its first images take seconds; so the reference there, in float32.
  const WithoutTf32 without_tf32(device);
  const auto engine = make_engine(bundle, device.is_cpu() ? "auto" : "reference", device);
  std::vector<RawMaps> maps;
  std::vector<std::array<int64_t, 2>> sizes;
  while (const auto image = next()) {
    const RawMaps raw =
        engine->maps(network_input(image->image.unsqueeze(0), bundle.equalize_exposure));
    maps.push_back({.st = raw.st.to(torch::kCPU), .ae = raw.ae.to(torch::kCPU)});
    sizes.push_back(image->size_hw);
  }
  bundle.quantiles = quantiles_of_maps(maps, q_a, q_b);
  std::vector<double> scores;
  for (size_t i = 0; i < maps.size(); ++i) {
    torch::Tensor map = combine_maps(maps[i], bundle.quantiles);
    if (!bundle.padding) map = add_map_border(map);
    scores.push_back(resize_map(map, sizes[i]).max().item<double>());
  }
  NormalScores normal = {.scores = std::move(scores)};
  if (!held_out) {
    normal.which = "altered copies of training images";
    normal.images = NormalImages::kTrainedOn;
  }
  set_normal_scores(bundle, std::move(normal), max_fpr);
}

}  // namespace efficientad
