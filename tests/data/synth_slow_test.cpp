#include <gtest/gtest.h>
#include <torch/types.h>

#include <vector>

#include "efficientad/data/dataset.h"
#include "efficientad/data/image.h"
#include "efficientad/data/synth.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

/// The chance that an anomaly scores higher than a good image; ties count half.
double auroc(const std::vector<double>& good, const std::vector<double>& bad) {
  double wins = 0.0;
  for (const double b : bad) {
    for (const double g : good) wins += b > g ? 1.0 : (b == g ? 0.5 : 0.0);
  }
  return wins / static_cast<double>(good.size() * bad.size());
}

/// float32 [3, height, width] in 0..1, blurred `blurs` times by a box of 5 px.
torch::Tensor load(const Sample& sample, int blurs) {
  torch::Tensor image =
      read_image(sample.image_path).to(torch::kFloat32).permute({2, 0, 1}).div(255.0);
  for (int i = 0; i < blurs; ++i) {
    image = torch::avg_pool2d(image.unsqueeze(0), 5, 1, 2, false, /*count_include_pad=*/false)
                .squeeze(0);
  }
  return image;
}

/// Image AUROC of |x - mean| / (std + 0.001) a pixel, by its maximum and its mean.
std::array<double, 2> mean_variance_auroc(const Dataset& set, int blurs) {
  std::vector<torch::Tensor> train;
  for (const Sample& sample : set.train) train.push_back(load(sample, blurs));
  const torch::Tensor stack = torch::stack(train);
  const torch::Tensor mean = stack.mean(0);
  const torch::Tensor deviation = stack.std(0) + 0.001;
  std::array<std::vector<double>, 2> good;
  std::array<std::vector<double>, 2> bad;
  for (const Sample& sample : set.test) {
    const torch::Tensor map = ((load(sample, blurs) - mean) / deviation).abs().mean(0);
    auto& scores = sample.anomalous() ? bad : good;
    scores[0].push_back(map.max().item<double>());
    scores[1].push_back(map.mean().item<double>());
  }
  return {auroc(good[0], bad[0]), auroc(good[1], bad[1])};
}

// The default set cannot be solved by comparing pixels: anomalies must be seen against the
// variation of pose, light and colour.
TEST(SynthSlow, MeanAndVarianceOfPixelsDoNotFindTheAnomalies) {
  const TempDir temp;
  SynthOptions options;
  options.output = temp.path.string();
  make_synth_dataset(options, nullptr);
  const Dataset set = open_dataset("loco", temp.path, "tray");
  for (const int blurs : {0, 1, 4}) {
    const auto [by_maximum, by_mean] = mean_variance_auroc(set, blurs);
    RecordProperty("auroc_by_maximum_blur_" + std::to_string(blurs), std::to_string(by_maximum));
    RecordProperty("auroc_by_mean_blur_" + std::to_string(blurs), std::to_string(by_mean));
    EXPECT_LT(by_maximum, 0.80) << blurs << " blurs";
    EXPECT_LT(by_mean, 0.80) << blurs << " blurs";
    // Nor is it a matter of chance.
    EXPECT_GT(by_maximum, 0.50) << blurs << " blurs";
  }
}

}  // namespace
}  // namespace efficientad
