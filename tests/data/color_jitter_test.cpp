#include "efficientad/data/color_jitter.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/golden.h"
#include "support/near.h"

namespace efficientad {
namespace {

using Adjust = torch::Tensor (*)(const torch::Tensor&, double);

void check_cases(const std::string& name, Adjust adjust) {
  const auto golden = load_golden("color_jitter.json");
  int cases = 0;
  for (const auto& [key, set] : golden.items()) {
    if (!set.is_object() || !set.contains("cases")) continue;
    const torch::Tensor image =
        golden_image(set.at("height"), set.at("width"), set.at("image_phase")).unsqueeze(0);
    for (const auto& one : set.at("cases").at(name)) {
      SCOPED_TRACE(fmt::format("{} {} {}", key, name, one.at("factor").get<double>()));
      // A few float roundings: sums of three products and a mean.
      expect_summary(adjust(image, one.at("factor")), one.at("out"), /*rtol=*/1e-6);
      ++cases;
    }
  }
  EXPECT_GT(cases, 0);
}

TEST(golden_color_jitter, brightness) { check_cases("brightness", adjust_brightness); }
TEST(golden_color_jitter, contrast) { check_cases("contrast", adjust_contrast); }
TEST(golden_color_jitter, saturation) { check_cases("saturation", adjust_saturation); }

TEST(color_jitter, follows_the_formulae_on_one_pixel) {
  const torch::Tensor image = torch::tensor({0.2F, 0.4F, 0.6F}).view({3, 1, 1});
  const double grey = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6;
  const auto near = [&](const torch::Tensor& actual, double red, double green, double blue) {
    expect_near(actual, torch::tensor({red, green, blue}, torch::kFloat).view({3, 1, 1}),
                /*rtol=*/1e-6, /*atol=*/0);
  };
  near(adjust_brightness(image, 2.0), 0.4, 0.8, 1.0);
  near(adjust_saturation(image, 0.5), 0.1 + grey / 2, 0.2 + grey / 2, 0.3 + grey / 2);
  near(adjust_contrast(image, 0.5), 0.1 + grey / 2, 0.2 + grey / 2, 0.3 + grey / 2);
  near(to_grey(image), grey, grey, grey);
}

TEST(color_jitter, takes_the_mean_of_each_image_of_a_batch) {
  const torch::Tensor batch = torch::rand({3, 3, 8, 9});
  std::vector<torch::Tensor> alone;
  for (int64_t i = 0; i < 3; ++i) alone.push_back(adjust_contrast(batch[i], 0.3));
  // The mean may be summed in another order.
  expect_near(adjust_contrast(batch, 0.3), torch::stack(alone), /*rtol=*/1e-6, /*atol=*/1e-7);
}

TEST(color_jitter, leaves_its_argument_alone) {
  const torch::Tensor image = torch::rand({3, 5, 5});
  const torch::Tensor before = image.clone();
  adjust_brightness(image, 1.3);
  adjust_contrast(image, 1.3);
  adjust_saturation(image, 1.3);
  to_grey(image);
  expect_same_bits(image, before);
}

TEST(color_jitter, rejects_what_is_no_colour_image) {
  EXPECT_THROW(adjust_contrast(torch::rand({1, 5, 5}), 1.0), c10::Error);
  EXPECT_THROW(to_grey(torch::zeros({3, 5, 5}, torch::kUInt8)), c10::Error);
}

}  // namespace
}  // namespace efficientad
