#include "efficientad/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

namespace efficientad {
namespace {

TEST(Rng, IsTheSameEverywhere) {
  // std::mt19937_64's sequence is fixed by the C++ standard, mix64 by splitmix64's constants; these
  // numbers are of a separate implementation of both in Python.
  EXPECT_EQ(splitmix64(0), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(mix64(7, 1, 2), 0x16e639e2c7aae6e3ULL);
  Rng rng(7, 1, 2);
  EXPECT_EQ(rng.bits(), 0x9542f420b5da8a3fULL);
  EXPECT_EQ(rng.bits(), 0xcd3b15d166ed5c19ULL);
  EXPECT_EQ(rng.uniform(), 0.6362183389818724);
  for (const int64_t value : {6, 2, 2, 1, 4}) EXPECT_EQ(rng.below(10), value);
  std::vector<int> order = {0, 1, 2, 3, 4, 5};
  rng.shuffle(order);
  EXPECT_EQ(order, (std::vector<int>{5, 3, 0, 4, 2, 1}));
  // The last bits are the C library's.
  EXPECT_NEAR(rng.normal(), -1.5516255279583535, 1e-14);
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
