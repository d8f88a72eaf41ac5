#include "efficientad/eval/regions.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <opencv2/imgproc.hpp>

#include "efficientad/core/error.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

Overlap no_overlap(const torch::Tensor& like) {
  return {.per_pixel = torch::zeros({like.size(0), like.size(1)}, torch::kFloat32)};
}

}  // namespace

Overlap pro_overlap(const torch::Tensor& mask) {
  Overlap overlap = no_overlap(mask);
  const torch::Tensor contiguous = mask.contiguous();
  const cv::Mat image(static_cast<int>(mask.size(0)), static_cast<int>(mask.size(1)), CV_8UC1,
                      contiguous.data_ptr<uint8_t>());
  cv::Mat labels;
  cv::Mat statistics;
  cv::Mat centroids;
  const int count = cv::connectedComponentsWithStats(image, labels, statistics, centroids,
                                                     /*connectivity=*/8, CV_32S);
  std::vector<float> shares = {0.0f};
  for (int i = 1; i < count; ++i) {
    shares.push_back(1.0f / static_cast<float>(statistics.at<int>(i, cv::CC_STAT_AREA)));
  }
  const auto* from = labels.ptr<int>();
  auto* to = overlap.per_pixel.data_ptr<float>();
  for (int64_t i = 0; i < mask.numel(); ++i) to[i] = shares[static_cast<size_t>(from[i])];
  overlap.regions = count - 1;
  return overlap;
}

std::vector<AnomalousRegion> anomalous_regions(const torch::Tensor& map, double threshold) {
  TORCH_CHECK(map.dim() == 2 && map.scalar_type() == torch::kFloat32 && map.is_cpu(), "a map of ",
              map.sizes(), ", expected float32 [height, width] on the CPU");
  const torch::Tensor contiguous = map.contiguous();
  const auto height = static_cast<int>(map.size(0));
  const auto width = static_cast<int>(map.size(1));
  const auto* values = contiguous.data_ptr<float>();
  // As scores are compared.
  cv::Mat above(height, width, CV_8UC1);
  for (int64_t i = 0; i < map.numel(); ++i) {
    above.data[i] = static_cast<double>(values[i]) > threshold ? 1 : 0;
  }
  cv::Mat labels;
  cv::Mat statistics;
  cv::Mat centroids;
  const int count = cv::connectedComponentsWithStats(above, labels, statistics, centroids,
                                                     /*connectivity=*/8, CV_32S);
  std::vector<AnomalousRegion> regions;
  for (int i = 1; i < count; ++i) {
    regions.push_back({.left = statistics.at<int>(i, cv::CC_STAT_LEFT),
                       .top = statistics.at<int>(i, cv::CC_STAT_TOP),
                       .width = statistics.at<int>(i, cv::CC_STAT_WIDTH),
                       .height = statistics.at<int>(i, cv::CC_STAT_HEIGHT),
                       .area = statistics.at<int>(i, cv::CC_STAT_AREA),
                       .peak = -std::numeric_limits<double>::infinity()});
  }
  const auto* label = labels.ptr<int>();
  for (int64_t i = 0; i < map.numel(); ++i) {
    if (label[i] == 0) continue;
    AnomalousRegion& region = regions[static_cast<size_t>(label[i] - 1)];
    if (values[i] <= region.peak) continue;
    region.peak = values[i];
    region.peak_x = i % width;
    region.peak_y = i / width;
  }
  std::stable_sort(
      regions.begin(), regions.end(),
      [](const AnomalousRegion& a, const AnomalousRegion& b) { return a.peak > b.peak; });
  return regions;
}

nlohmann::ordered_json region_json(const AnomalousRegion& region) {
  return {{"left", region.left},     {"top", region.top},      {"width", region.width},
          {"height", region.height}, {"area", region.area},    {"peak", region.peak},
          {"peak_x", region.peak_x}, {"peak_y", region.peak_y}};
}

std::array<int64_t, 2> peak_of(const torch::Tensor& map) {
  const int64_t at = map.argmax().item<int64_t>();
  return {at % map.size(1), at / map.size(1)};
}

int64_t saturation_area(const SaturationRule& rule, int64_t area) {
  const auto whole = static_cast<double>(area);
  const double pixels = rule.relative ? rule.threshold * whole : std::min(rule.threshold, whole);
  return std::max<int64_t>(1, static_cast<int64_t>(pixels));
}

Overlap spro_overlap(const std::vector<torch::Tensor>& masks, const torch::Tensor& scores,
                     const std::vector<SaturationRule>& rules, const std::vector<fs::path>& files) {
  Overlap overlap = no_overlap(scores);
  auto* to = overlap.per_pixel.data_ptr<float>();
  const torch::Tensor contiguous_scores = scores.contiguous();
  const auto* score = contiguous_scores.data_ptr<float>();
  for (size_t m = 0; m < masks.size(); ++m) {
    const torch::Tensor mask = masks[m].contiguous();
    const auto* value = mask.data_ptr<uint8_t>();
    std::vector<int32_t> places;
    int64_t found = 0;
    for (int64_t i = 0; i < mask.numel(); ++i) {
      if (value[i] == 0) continue;
      require(found == 0 || value[i] == found,
              "{}: a mask of this layout has one value that is not zero, but this one has {} and "
              "{} (is the layout \"mvtec\"?)",
              files[m].string(), found, value[i]);
      found = value[i];
      places.push_back(static_cast<int32_t>(i));
    }
    if (places.empty()) continue;
    const auto rule = std::find_if(rules.begin(), rules.end(), [found](const SaturationRule& one) {
      return one.pixel_value == found;
    });
    require(rule != rules.end(), "{}: its value {} has no entry in defects_config.json",
            files[m].string(), found);
    const int64_t saturation = saturation_area(*rule, static_cast<int64_t>(places.size()));
    if (saturation < static_cast<int64_t>(places.size())) {
      std::nth_element(places.begin(), places.begin() + saturation, places.end(),
                       [score](int32_t a, int32_t b) { return score[a] > score[b]; });
      places.resize(static_cast<size_t>(saturation));
    }
    for (const int32_t place : places) to[place] += 1.0f / static_cast<float>(saturation);
    ++overlap.regions;
  }
  return overlap;
}

}  // namespace efficientad
