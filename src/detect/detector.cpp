#include "efficientad/detect/detector.h"

#include <torch/utils.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "efficientad/core/error.h"
#include "efficientad/core/log.h"
#include "efficientad/detect/threshold.h"
#include "efficientad/engine/cpu_engine.h"
#include "efficientad/engine/reference_engine.h"
#include "efficientad/nn/imagenet.h"

namespace efficientad {

DetectorNetworks networks_of(const ModelBundle& bundle) {
  return {.teacher = bundle.teacher,
          .student = bundle.student,
          .autoencoder = bundle.autoencoder,
          .teacher_mean = bundle.teacher_mean,
          .teacher_std = bundle.teacher_std,
          .autoencoder_input = bundle.autoencoder_input};
}

std::string resolve_engine(const std::string& name, torch::Device device) {
  if (name == "auto") {
    if (device.is_cpu()) return "cpu";
    const std::string problem = cuda_engine_problem(device);
    if (problem.empty()) return "cuda";
    spdlog::info("engine: reference ({})", problem);
    return "reference";
  }
  require_usage(name != "cpu" || device.is_cpu(), "engine cpu cannot run on device {}",
                device.str());
  if (name == "cuda") {
    require_usage(device.is_cuda(), "engine cuda cannot run on device {}", device.str());
    const std::string problem = cuda_engine_problem(device);
    require(problem.empty(), "engine cuda cannot be used: {}; use --engine reference", problem);
  }
  require_usage(std::find(kEngines.begin(), kEngines.end(), name) != kEngines.end(),
                "engine \"{}\" is none of {}", name, join(kEngines));
  return name;
}

std::string resolve_engine_precision(const std::string& name, const std::string& engine) {
  if (name == "auto") return engine == "cuda" ? "fp16" : "fp32";
  require_usage(std::find(kEnginePrecisions.begin(), kEnginePrecisions.end(), name) !=
                    kEnginePrecisions.end(),
                "precision \"{}\" is none of {}", name, join(kEnginePrecisions));
  require_usage(engine == "cuda" || name == "fp32", "engine {} computes in fp32 only, not in {}",
                engine, name);
  return name;
}

std::unique_ptr<Engine> make_engine(const ModelBundle& bundle, const std::string& name,
                                    torch::Device device, const std::string& precision) {
  const std::string engine = resolve_engine(name, device);
  const std::string type = resolve_engine_precision(precision, engine);
  if (engine == "cpu") return std::make_unique<CpuEngine>(networks_of(bundle), bundle.image_hw);
  if (engine == "cuda") {
    const MapQuantiles& q = bundle.quantiles;
    return std::make_unique<CudaEngine>(networks_of(bundle), bundle.image_hw,
                                        MapCombination{.q_a_st = q.q_a_st,
                                                       .scale_st = map_scale(q.q_a_st, q.q_b_st),
                                                       .q_a_ae = q.q_a_ae,
                                                       .scale_ae = map_scale(q.q_a_ae, q.q_b_ae)},
                                        device, type, bundle.equalize_exposure);
  }
  return std::make_unique<ReferenceEngine>(networks_of(bundle), device);
}

namespace {

/// Means over shifts of each image (rows in dimension `dim_h`), at its size: [N, kinds, H, W].
/// `maps_of` gives the maps of a batch: [N, kinds, h, w].
template <class MapsOf>
torch::Tensor mean_over_shifts(const torch::Tensor& images, int64_t dim_h,
                               const std::vector<Shift>& shifts, MapsOf maps_of) {
  const std::array<int64_t, 2> size_hw = {images.size(dim_h), images.size(dim_h + 1)};
  std::vector<torch::Tensor> means;
  // One image's shifts together: a batch for a GPU, and no more memory for a larger batch.
  for (const auto& image : images.split(1)) {
    std::vector<torch::Tensor> shifted;
    for (const Shift& shift : shifts) {
      shifted.push_back(shift_content(image, dim_h, shift, Fill::kReplicate));
    }
    const torch::Tensor at_input = resize_map(maps_of(torch::cat(shifted)), size_hw);
    torch::Tensor sum;
    for (size_t i = 0; i < shifts.size(); ++i) {
      const torch::Tensor back =
          shift_content(at_input.narrow(0, static_cast<int64_t>(i), 1), /*dim_h=*/2,
                        {.dy = -shifts[i].dy, .dx = -shifts[i].dx}, Fill::kReplicate);
      sum = sum.defined() ? sum.add_(back) : back.clone();
    }
    means.push_back(sum.div_(static_cast<double>(shifts.size())));
  }
  return torch::cat(means);
}

}  // namespace

Detector::Detector(ModelBundle bundle, torch::Device device, const std::string& engine,
                   const std::string& precision, int64_t shift_average)
    : bundle_(std::move(bundle)),
      engine_(make_engine(bundle_, engine, device, precision)),
      cuda_(dynamic_cast<const CudaEngine*>(engine_.get())),
      shifts_(shifts_of_average(shift_average)) {}

std::array<int64_t, 2> Detector::input_hw() const { return bundle_.image_hw; }

const ModelBundle& Detector::bundle() const { return bundle_; }

torch::Tensor Detector::maps(const torch::Tensor& images) const {
  return all_maps(images).combined;
}

torch::Tensor Detector::maps_of_bytes(const torch::Tensor& images_u8) const {
  TORCH_CHECK(
      images_u8.dim() == 4 && images_u8.size(3) == 3 && images_u8.scalar_type() == torch::kUInt8,
      "expected uint8 [N, H, W, 3], was given ", images_u8.scalar_type(), " ", images_u8.sizes());
  if (cuda_ != nullptr) {
    if (shifts_.size() == 1) return cuda_->combined_maps(images_u8);
    return mean_over_shifts(images_u8, /*dim_h=*/1, shifts_, [&](const torch::Tensor& shifted) {
      return cuda_->combined_maps(shifted);
    });
  }
  return maps(images_u8.permute({0, 3, 1, 2}).to(torch::kFloat32).div(255).contiguous());
}

DetectorMaps Detector::all_maps(const torch::Tensor& images) const {
  TORCH_CHECK(images.dim() == 4 && images.size(1) == 3 && images.size(2) == bundle_.image_hw[0] &&
                  images.size(3) == bundle_.image_hw[1] && images.scalar_type() == torch::kFloat32,
              "a detector for images of ", bundle_.image_hw[0], "x", bundle_.image_hw[1],
              " was given ", images.scalar_type(), " ", images.sizes());
  const torch::NoGradGuard no_grad;
  if (shifts_.size() == 1) return maps_of_one_shift(images);
  const torch::Tensor means =
      mean_over_shifts(images, /*dim_h=*/2, shifts_, [&](const torch::Tensor& shifted) {
        const DetectorMaps maps = maps_of_one_shift(shifted);
        return torch::cat({maps.combined, maps.st, maps.ae}, /*dim=*/1);
      });
  const auto kind = [&](int64_t i) { return means.narrow(1, i, 1).contiguous(); };
  return {.combined = kind(0), .st = kind(1), .ae = kind(2)};
}

DetectorMaps Detector::maps_of_one_shift(const torch::Tensor& images) const {
  // The CPU engine takes the images of a batch one after another. Prepared one by one too, each is
  // still in the cache then.
  const bool one_by_one = dynamic_cast<const CpuEngine*>(engine_.get()) != nullptr;
  std::vector<torch::Tensor> st;
  std::vector<torch::Tensor> ae;
  for (const auto& part : images.split(one_by_one ? 1 : std::max<int64_t>(1, images.size(0)))) {
    const RawMaps maps = engine_->maps(network_input(part, bundle_.equalize_exposure));
    st.push_back(maps.st);
    ae.push_back(maps.ae);
  }
  const RawMaps raw = {.st = torch::cat(st), .ae = torch::cat(ae)};
  const MapQuantiles& q = bundle_.quantiles;
  const auto finished = [&](const torch::Tensor& map) {
    return (bundle_.padding ? map : add_map_border(map)).to(torch::kCPU);
  };
  return {.combined = finished(combine_maps(raw, q)),
          .st = finished(normalize_map(raw.st, q.q_a_st, q.q_b_st)),
          .ae = finished(normalize_map(raw.ae, q.q_a_ae, q.q_b_ae))};
}

Detection Detector::finish(const torch::Tensor& map, std::array<int64_t, 2> size_hw) const {
  TORCH_CHECK(map.dim() == 2 || (map.dim() == 3 && map.size(0) == 1),
              "expected one map, was given ", map.sizes());
  const torch::Tensor at_image =
      resize_map(map.reshape({1, 1, map.size(-2), map.size(-1)}), size_hw)[0][0];
  return decide(at_image, at_image.max().item<double>());
}

bool Detector::judges_frames() const { return cuda_ != nullptr && shifts_.size() == 1; }

std::optional<Detection> Detector::judge(const torch::Tensor& image_u8, bool want_map) const {
  TORCH_CHECK(judges_frames(), "this engine takes images of its own size only");
  const auto judgement = cuda_->judge(image_u8, want_map);
  if (!judgement) return std::nullopt;
  return decide(judgement->map_at_image, judgement->score);
}

Detection Detector::decide(const torch::Tensor& map_at_image, double score) const {
  // What is no number is not to be called good.
  Detection detection = {
      .map_at_image = map_at_image, .score = score, .anomalous = !(score <= bundle_.threshold)};
  if (!bundle_.normal_scores.empty() && bundle_.normal_images != NormalImages::kTrainedOn) {
    detection.normal_share = normal_share(bundle_.normal_scores, score);
  }
  return detection;
}

}  // namespace efficientad
