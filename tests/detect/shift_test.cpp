#include "efficientad/detect/shift.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <set>

#include "efficientad/detect/detector.h"
#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

ModelBundle random_bundle() {
  ModelBundle bundle;
  bundle.image_hw = {96, 112};
  bundle.teacher = random_teacher("small", /*padding=*/false, 1).network;
  bundle.student = Pdn(PdnOptions{.out_channels = 768});
  bundle.autoencoder = Autoencoder();
  bundle.teacher_mean = torch::zeros({1, 384, 1, 1});
  bundle.teacher_std = torch::ones({1, 384, 1, 1});
  bundle.quantiles = {.q_a_st = 0.001, .q_b_st = 0.003, .q_a_ae = 0.001, .q_b_ae = 0.003};
  return bundle;
}

Detector averaging(int64_t count) {
  torch::manual_seed(1);
  return Detector(random_bundle(), torch::kCPU, "auto", "auto", count);
}

TEST(Shift, MovesContentAndFillsWhatComesIn) {
  const torch::Tensor image = torch::arange(20, torch::kUInt8).reshape({1, 1, 4, 5});
  const torch::Tensor moved = shift_content(image, 2, {.dy = 1, .dx = -2}, Fill::kReplicate);
  for (int64_t y = 0; y < 4; ++y) {
    for (int64_t x = 0; x < 5; ++x) {
      const int64_t from_y = std::max<int64_t>(y - 1, 0);
      const int64_t from_x = std::min<int64_t>(x + 2, 4);
      EXPECT_EQ(moved[0][0][y][x].item<int64_t>(), 5 * from_y + from_x);
    }
  }
  const torch::Tensor row = torch::arange(5).reshape({1, 5, 1});
  EXPECT_TRUE(shift_content(row, 0, {.dy = 0, .dx = 2}, Fill::kReflect)
                  .flatten()
                  .equal(torch::tensor({2, 1, 0, 1, 2})));
  EXPECT_TRUE(shift_content(row, 0, {.dy = 0, .dx = -2}, Fill::kReflect)
                  .flatten()
                  .equal(torch::tensor({2, 3, 4, 3, 2})));
  EXPECT_TRUE(shift_content(row, 0, {}, Fill::kReflect).equal(row));
}

TEST(Shift, ShiftsOfAnAverageAreALatticeInACell) {
  for (const int64_t count : {1, 2, 4, 8, 16}) {
    const auto shifts = shifts_of_average(count);
    ASSERT_EQ(static_cast<int64_t>(shifts.size()), count);
    EXPECT_EQ(shifts[0].dy, 0);
    EXPECT_EQ(shifts[0].dx, 0);
    std::set<std::pair<int64_t, int64_t>> places;
    for (const auto& shift : shifts) {
      EXPECT_TRUE(shift.dy >= -2 && shift.dy <= 1 && shift.dx >= -2 && shift.dx <= 1);
      places.insert({(shift.dy + 4) % 4, (shift.dx + 4) % 4});
    }
    EXPECT_EQ(static_cast<int64_t>(places.size()), count);
    // Evenly: seen from each place, the others lie the same (across the cells' edges).
    for (const auto& [y0, x0] : places) {
      for (const auto& [y1, x1] : places) {
        EXPECT_EQ(places.count({(y0 + y1) % 4, (x0 + x1) % 4}), 1u) << count;
      }
    }
  }
  for (const int64_t count : {0, 3, 5, 32, -1}) {
    EXPECT_THROW(shifts_of_average(count), UsageError);
  }
}

TEST(ShiftAverage, OneIsThePlainDetector) {
  const torch::Tensor images = torch::rand({2, 3, 96, 112});
  torch::manual_seed(1);
  const Detector plain(random_bundle());
  expect_same_bits(averaging(1).maps(images), plain.maps(images));
}

TEST(ShiftAverage, IsTheMeanOfMapsMovedBack) {
  const torch::Tensor image = torch::rand({1, 3, 96, 112});
  const Detector plain = averaging(1);
  torch::Tensor sum = torch::zeros({1, 1, 96, 112});
  for (const auto& shift : shifts_of_average(4)) {
    const torch::Tensor map = resize_map(
        plain.maps(shift_content(image, 2, shift, Fill::kReplicate).contiguous()), {96, 112});
    for (int64_t y = 0; y < 96; ++y) {
      for (int64_t x = 0; x < 112; ++x) {
        const int64_t from_y = std::clamp<int64_t>(y + shift.dy, 0, 95);
        const int64_t from_x = std::clamp<int64_t>(x + shift.dx, 0, 111);
        sum[0][0][y][x] += map[0][0][from_y][from_x];
      }
    }
  }
  // The same sums in another order.
  expect_near(averaging(4).maps(image), sum / 4, 1e-5, 1e-5);
  const torch::Tensor bytes = torch::randint(0, 256, {2, 96, 112, 3}, torch::kUInt8);
  expect_same_bits(averaging(4).maps_of_bytes(bytes),
                   averaging(4).maps(bytes.permute({0, 3, 1, 2}).to(torch::kFloat32).div(255)));
}

TEST(ShiftAverage, ChangesNothingOfAnImageWithoutContent) {
  // In the middle: the border of zeros is averaged with the map beside it.
  const torch::Tensor image = torch::full({1, 3, 96, 112}, 0.4);
  const auto middle = [&](int64_t count) {
    const torch::Tensor map = resize_map(averaging(count).all_maps(image).st, {96, 112});
    return map.slice(2, 24, 72).slice(3, 24, 88).contiguous();
  };
  const torch::Tensor once = middle(1);
  for (const int64_t count : {2, 4}) expect_near(middle(count), once, 1e-4, 1e-5);
}

/// How much student and teacher's map of an image's middle changes, as a share of its range, if the
/// image is moved by one pixel, at worst of two ways.
double change(const Detector& detector, const torch::Tensor& image) {
  const auto middle = [&](Shift shift) {
    const torch::Tensor moved = shift_content(image, 2, shift, Fill::kReflect).contiguous();
    const torch::Tensor map = resize_map(detector.all_maps(moved).st, {96, 112});
    return map.slice(2, 28 + shift.dy, 68 + shift.dy).slice(3, 28 + shift.dx, 84 + shift.dx);
  };
  const torch::Tensor unmoved = middle({});
  double worst = 0;
  for (const Shift shift : {Shift{0, 1}, Shift{2, -1}}) {
    worst = std::max(worst, (middle(shift) - unmoved).abs().max().item<double>());
  }
  return worst / (unmoved.max() - unmoved.min()).item<double>();
}

TEST(ShiftAverage, MapsDependLessOnWhereContentLies) {
  const torch::Tensor image = torch::rand({1, 3, 96, 112});
  const double once = change(averaging(1), image);
  const double four = change(averaging(4), image);
  const double sixteen = change(averaging(16), image);
  EXPECT_GT(once, 0.05);
  EXPECT_LT(four, 0.7 * once);
  // All places of a cell are in it: what is left is rounding.
  EXPECT_LT(sixteen, 1e-3);
}

}  // namespace
}  // namespace efficientad
