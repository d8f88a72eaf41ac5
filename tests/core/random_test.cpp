#include "efficientad/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace efficientad {
namespace {

TEST(Rng, IsTheSameEverywhere) {
  // std::mt19937_64's sequence is fixed by the C++ standard, mix64 by splitmix64's constants.
  Rng first(7, 1, 2);
  Rng again(7, 1, 2);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(first.bits(), again.bits());
  std::set<uint64_t> starts;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    for (uint64_t stream = 0; stream < 5; ++stream) {
      for (uint64_t index = 0; index < 5; ++index) starts.insert(Rng(seed, stream, index).bits());
    }
  }
  EXPECT_EQ(starts.size(), 125u);
}

TEST(Rng, UniformAndNormalHaveTheirMoments) {
  Rng rng(1);
  constexpr int kCount = 200000;
  double sum = 0;
  double normal_sum = 0;
  double normal_squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    const double n = rng.normal();
    normal_sum += n;
    normal_squares += n * n;
  }
  // Five standard errors.
  EXPECT_NEAR(sum / kCount, 0.5, 5 * std::sqrt(1.0 / 12 / kCount));
  EXPECT_NEAR(normal_sum / kCount, 0.0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(normal_squares / kCount, 1.0, 5 * std::sqrt(2.0 / kCount));
}

TEST(Rng, BelowCoversItsRangeEvenly) {
  Rng rng(3);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts[static_cast<size_t>(rng.below(7))];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(rng.below(1), 0);
}

TEST(Rng, ShuffleIsAPermutation) {
  std::vector<int> items(50);
  for (int i = 0; i < 50; ++i) items[static_cast<size_t>(i)] = i;
  std::vector<int> shuffled = items;
  Rng(5).shuffle(shuffled);
  EXPECT_NE(shuffled, items);
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(shuffled, items);
}

}  // namespace
}  // namespace efficientad
