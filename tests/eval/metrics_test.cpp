#include "efficientad/eval/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "efficientad/core/random.h"
#include "support/expect_error.h"

namespace efficientad {
namespace {

/// The definitions, in the plainest way, O(n²).
RankingMetrics slow_metrics(const std::vector<Scored>& items) {
  RankingMetrics result;
  double wins = 0;
  std::set<double, std::greater<>> thresholds;
  for (const auto& item : items) {
    (item.positive ? result.positives : result.negatives) += 1;
    thresholds.insert(item.score);
    if (!item.positive) continue;
    for (const auto& other : items) {
      if (other.positive) continue;
      wins += item.score > other.score ? 1.0 : item.score == other.score ? 0.5 : 0.0;
    }
  }
  const auto positives = static_cast<double>(result.positives);
  const auto negatives = static_cast<double>(result.negatives);
  if (positives > 0 && negatives > 0) result.auroc = wins / (positives * negatives);
  if (positives == 0) return result;
  double last_recall = 0;
  result.average_precision = 0;
  result.f1_max = 0;
  for (const double threshold : thresholds) {
    double hits = 0;
    double called = 0;
    for (const auto& item : items) {
      called += item.score >= threshold ? 1 : 0;
      hits += item.score >= threshold && item.positive ? 1 : 0;
    }
    const double recall = hits / positives;
    const double precision = hits / called;
    *result.average_precision += (recall - last_recall) * precision;
    last_recall = recall;
    const double f1 = hits > 0 ? 2 * precision * recall / (precision + recall) : 0;
    if (f1 > *result.f1_max) {
      result.f1_max = f1;
      result.f1_max_threshold = threshold;
    }
  }
  return result;
}

/// A source that gives the items as maps of at most `pixels` pixels.
PixelSource source_of(const std::vector<Scored>& items, size_t pixels) {
  return [&items, pixels](const PixelVisitor& visit) {
    for (size_t first = 0; first < items.size(); first += pixels) {
      std::vector<float> scores;
      std::vector<uint8_t> labels;
      for (size_t i = first; i < std::min(items.size(), first + pixels); ++i) {
        scores.push_back(static_cast<float>(items[i].score));
        labels.push_back(items[i].positive ? 255 : 0);
      }
      visit({.scores = scores.data(),
             .defective = labels.data(),
             .count = static_cast<int64_t>(scores.size())});
    }
  };
}

// Both sides add the same at most 2000 fractions in double; only the order of rounding differs.
constexpr double kRounding = 1e-12;

void expect_same(const RankingMetrics& actual, const RankingMetrics& expected) {
  EXPECT_EQ(actual.positives, expected.positives);
  EXPECT_EQ(actual.negatives, expected.negatives);
  ASSERT_EQ(actual.auroc.has_value(), expected.auroc.has_value());
  if (expected.auroc) {
    EXPECT_NEAR(*actual.auroc, *expected.auroc, kRounding);
  }
  ASSERT_EQ(actual.f1_max.has_value(), expected.f1_max.has_value());
  if (!expected.f1_max) return;
  EXPECT_NEAR(*actual.average_precision, *expected.average_precision, kRounding);
  EXPECT_NEAR(*actual.f1_max, *expected.f1_max, kRounding);
}

/// `count` items, positives on average higher, rounded to `step` so that ties occur; 0: not
/// rounded.
std::vector<Scored> random_items(int count, double step, uint64_t seed) {
  Rng rng(seed);
  std::vector<Scored> items;
  for (int i = 0; i < count; ++i) {
    const bool positive = rng.chance(0.3);
    double score = rng.normal() + (positive ? 0.7 : 0.0);
    if (step > 0) score = std::round(score / step) * step;
    items.push_back({static_cast<double>(static_cast<float>(score)), positive});
  }
  return items;
}

TEST(Metrics, PerfectRankingScoresOne) {
  const auto metrics = ranking_metrics({{0.9, true}, {0.1, false}, {0.8, true}, {0.2, false}});
  EXPECT_EQ(metrics.auroc, 1.0);
  EXPECT_EQ(metrics.average_precision, 1.0);
  EXPECT_EQ(metrics.f1_max, 1.0);
  EXPECT_EQ(metrics.f1_max_threshold, 0.8);
}

TEST(Metrics, ReversedRankingScoresZero) {
  const auto metrics = ranking_metrics({{0.1, true}, {0.9, false}, {0.2, true}, {0.8, false}});
  EXPECT_EQ(metrics.auroc, 0.0);
  // Precision is 1/3 at the first positive, 1/2 at the second.
  EXPECT_DOUBLE_EQ(metrics.average_precision.value(), (1.0 / 3 + 1.0 / 2) / 2);
  EXPECT_DOUBLE_EQ(metrics.f1_max.value(), 2.0 / 3);
}

TEST(Metrics, AllTiedIsChance) {
  const auto metrics = ranking_metrics({{0.5, true}, {0.5, false}, {0.5, false}, {0.5, false}});
  EXPECT_EQ(metrics.auroc, 0.5);
  EXPECT_EQ(metrics.average_precision, 0.25);
  EXPECT_DOUBLE_EQ(metrics.f1_max.value(), 0.4);
}

TEST(Metrics, OneClassHasNoAuroc) {
  const auto good = ranking_metrics({{0.5, false}, {0.7, false}});
  EXPECT_FALSE(good.auroc || good.average_precision || good.f1_max || good.f1_max_threshold);
  EXPECT_EQ(good.negatives, 2);
  const auto bad = ranking_metrics({{0.5, true}, {0.7, true}});
  EXPECT_FALSE(bad.auroc);
  EXPECT_EQ(bad.average_precision, 1.0);
  EXPECT_EQ(bad.f1_max, 1.0);
}

TEST(Metrics, NothingToRank) {
  const auto metrics = ranking_metrics({});
  EXPECT_FALSE(metrics.auroc || metrics.average_precision || metrics.f1_max);
  const auto pixels = pixel_metrics([](const PixelVisitor&) {});
  EXPECT_FALSE(pixels.auroc || pixels.average_precision || pixels.f1_max);
}

TEST(Metrics, NanIsAnError) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_ERROR(ranking_metrics({{nan, true}, {0.1, false}}), Error, "NaN");
  const std::vector<Scored> items = {{nan, true}, {0.1, false}};
  EXPECT_ERROR(pixel_metrics(source_of(items, 2)), Error, "NaN");
}

TEST(Metrics, SameAsTheDefinitions) {
  for (const double step : {0.0, 0.01, 0.5}) {
    const auto items = random_items(500, step, 7);
    const auto expected = slow_metrics(items);
    const auto actual = ranking_metrics(items);
    expect_same(actual, expected);
    EXPECT_EQ(actual.f1_max_threshold, expected.f1_max_threshold);
  }
}

TEST(Metrics, LocoScriptAgreesWhereNothingTies) {
  const auto items = random_items(300, 0.0, 5);
  EXPECT_NEAR(auroc_of_loco_script(items).value(), slow_metrics(items).auroc.value(), kRounding);
  EXPECT_EQ(auroc_of_loco_script({{0.9, true}, {0.1, false}}), 1.0);
  EXPECT_EQ(auroc_of_loco_script({{0.1, true}, {0.9, false}}), 0.0);
  EXPECT_EQ(auroc_of_loco_script({{0.1, true}}), std::nullopt);
  EXPECT_EQ(auroc_of_loco_script({}), std::nullopt);
}

TEST(Metrics, LocoScriptPutsThePointBehindTheFirstOfATie) {
  // Good 0.1, 0.5, 0.7; anomalous 0.5, 0.9. In thirds and halves the script's points are (3, 2),
  // (2, 2), (1, 2) behind the good one at 0.5, (0, 1) behind 0.7, (0, 0): area 2 + 2 + 1.5 of 6.
  const std::vector<Scored> items = {
      {0.1, false}, {0.5, false}, {0.7, false}, {0.5, true}, {0.9, true}};
  EXPECT_DOUBLE_EQ(auroc_of_loco_script(items).value(), 5.5 / 6);
  EXPECT_DOUBLE_EQ(ranking_metrics(items).auroc.value(), 4.5 / 6);
}

TEST(PixelMetrics, SameAsTheDefinitionsWhateverTheMemory) {
  // 1 byte: a pass for each class of pixels; 600 bytes: several classes a pass.
  for (const double step : {0.0, 0.01, 0.5}) {
    const auto items = random_items(800, step, 11);
    const auto expected = slow_metrics(items);
    for (const int64_t memory : {int64_t{1}, int64_t{600}, kPixelMemory}) {
      const auto actual = pixel_metrics(source_of(items, 100), {}, memory);
      expect_same(actual, expected);
      EXPECT_EQ(actual.f1_max_threshold, expected.f1_max_threshold);
    }
  }
}

TEST(PixelMetrics, LargeClassesAreCountedNotSorted) {
  // 700,000 pixels that share the upper half of their bits take a table of counts (524,288 and
  // more), 40,000 that share another one are counted after the pass.
  std::vector<Scored> items;
  Rng rng(3);
  for (int i = 0; i < 740000; ++i) {
    const float base = i < 700000 ? 1.0f : 2.0f;
    const auto steps = static_cast<float>(rng.below(300));
    items.push_back({base + steps * 0x1.0p-20f, rng.chance(base > 1.5f ? 0.4 : 0.2)});
  }
  const auto expected = ranking_metrics(items);
  const auto actual = pixel_metrics(source_of(items, 100000));
  expect_same(actual, expected);
  EXPECT_EQ(actual.f1_max_threshold, expected.f1_max_threshold);
}

TEST(PixelMetrics, NegativeZeroTiesWithZeroAndInfinitiesRank) {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<Scored> zeros = {{-0.0, true}, {0.0, false}};
  EXPECT_EQ(pixel_metrics(source_of(zeros, 2)).auroc, 0.5);
  const std::vector<Scored> wide = {
      {infinity, true}, {1e-40, true}, {-1e-40, false}, {-infinity, false}};
  EXPECT_EQ(pixel_metrics(source_of(wide, 4)).auroc, 1.0);
}

/// Maps with regions that touch one another, and the slow definitions.
struct MapsWithRegions {
  struct Map {
    std::vector<float> scores;
    std::vector<uint8_t> defective;
    std::vector<float> overlap;
    int64_t regions = 0;
  };
  std::vector<Map> maps;

  MapsWithRegions(double step, uint64_t seed) {
    Rng rng(seed);
    for (int m = 0; m < 6; ++m) {
      Map map;
      constexpr int kPixels = 200;
      map.regions = m % 3;
      for (int i = 0; i < kPixels; ++i) {
        const int64_t region = map.regions > 0 ? i / 20 : 9;
        const bool bad = region < map.regions;
        double score = rng.normal() + (bad ? 0.5 : 0.0);
        if (step > 0) score = std::round(score / step) * step;
        map.scores.push_back(static_cast<float>(score));
        map.defective.push_back(bad ? 1 : 0);
        map.overlap.push_back(bad ? 1.0f / 20 : 0.0f);
      }
      maps.push_back(map);
    }
  }

  PixelSource source() const {
    return [this](const PixelVisitor& visit) {
      for (const auto& map : maps) {
        visit({.scores = map.scores.data(),
               .defective = map.defective.data(),
               .count = static_cast<int64_t>(map.scores.size()),
               .overlap = map.overlap.data(),
               .regions = map.regions});
      }
    };
  }

  std::set<float, std::greater<>> thresholds(bool normal_maps_only) const {
    std::set<float, std::greater<>> all;
    for (const auto& map : maps) {
      if (!normal_maps_only || map.regions == 0) all.insert(map.scores.begin(), map.scores.end());
    }
    return all;
  }

  /// Share of the pixels of one kind in a map that score at least `threshold`.
  static double found(const Map& map, bool defective, float threshold, int64_t region = -1) {
    double hits = 0;
    double all = 0;
    for (size_t i = 0; i < map.scores.size(); ++i) {
      if ((map.defective[i] != 0) != defective) continue;
      if (region >= 0 && static_cast<int64_t>(i / 20) != region) continue;
      all += 1;
      hits += map.scores[i] >= threshold ? 1 : 0;
    }
    return hits / all;
  }
};

TEST(PixelMetrics, OverlapAreasAreThoseOfTheDefinition) {
  const std::vector<double> limits = {0.05, 0.3, 1.0};
  for (const double step : {0.0, 0.25, 3.0}) {
    const MapsWithRegions set(step, 21);
    std::vector<double> expected(limits.size(), 0);
    double last_rate = 0;
    double last_overlap = 0;
    for (const float threshold : set.thresholds(false)) {
      double hits = 0;
      double good = 0;
      double overlap = 0;
      double regions = 0;
      for (const auto& map : set.maps) {
        const auto pixels = static_cast<double>(map.scores.size()) - 20.0 * double(map.regions);
        good += pixels;
        hits += pixels * MapsWithRegions::found(map, false, threshold);
        for (int64_t r = 0; r < map.regions; ++r) {
          overlap += MapsWithRegions::found(map, true, threshold, r);
          regions += 1;
        }
      }
      const double rate = hits / good;
      overlap /= regions;
      for (size_t i = 0; i < limits.size(); ++i) {
        if (last_rate >= limits[i]) continue;
        const double part = rate > limits[i] ? (limits[i] - last_rate) / (rate - last_rate) : 1.0;
        const double end = last_overlap + part * (overlap - last_overlap);
        expected[i] += (last_overlap + end) / 2 * part * (rate - last_rate) / limits[i];
      }
      last_rate = rate;
      last_overlap = overlap;
    }
    for (const int64_t memory : {int64_t{1}, int64_t{600}, kPixelMemory}) {
      const auto metrics = pixel_metrics(set.source(), limits, memory);
      ASSERT_EQ(metrics.overlap_areas.size(), limits.size());
      // A pixel's share of its region is rounded to float32.
      for (size_t i = 0; i < limits.size(); ++i) {
        EXPECT_NEAR(metrics.overlap_areas[i], expected[i], 1e-6) << step << " " << limits[i];
      }
    }
  }
  const std::vector<Scored> items = {{0.5, false}, {0.7, true}};
  EXPECT_TRUE(pixel_metrics(source_of(items, 1), limits).overlap_areas.empty());
}

TEST(Aupimo, IsThatOfTheDefinition) {
  // 1.2 million good pixels, so that rates of 1e-5 can be told.
  for (const double step : {0.0, 0.001}) {
    Rng rng(8);
    std::vector<MapsWithRegions::Map> maps;
    for (int m = 0; m < 8; ++m) {
      MapsWithRegions::Map map;
      const bool bad = m >= 6;
      // Normal maps of two sizes.
      const int pixels = m % 2 == 0 ? 150000 : 250000;
      for (int i = 0; i < pixels; ++i) {
        const bool defective = bad && i < 500;
        double score = rng.normal() + (defective ? 4.0 : 0.0);
        if (step > 0) score = std::round(score / step) * step;
        map.scores.push_back(static_cast<float>(score));
        map.defective.push_back(defective ? 1 : 0);
      }
      maps.push_back(map);
    }
    const PixelSource source = [&](const PixelVisitor& visit) {
      for (const auto& map : maps) {
        visit({.scores = map.scores.data(),
               .defective = map.defective.data(),
               .count = static_cast<int64_t>(map.scores.size())});
      }
    };
    std::set<float, std::greater<>> thresholds;
    for (int m = 0; m < 6; ++m) {
      for (const float score : maps[static_cast<size_t>(m)].scores) {
        if (score > 3) thresholds.insert(score);
      }
    }
    double expected = 0;
    double last_rate = 0;
    for (const float threshold : thresholds) {
      double rate = 0;
      for (int m = 0; m < 6; ++m) {
        rate += MapsWithRegions::found(maps[static_cast<size_t>(m)], false, threshold) / 6;
      }
      const double low = std::max(last_rate, 1e-5);
      const double high = std::min(rate, 1e-4);
      if (high > low) {
        // The lower rate is that of scores above the threshold.
        const float above = std::nextafter(threshold, 100.0F);
        const double found = (MapsWithRegions::found(maps[6], true, above) +
                              MapsWithRegions::found(maps[7], true, above)) /
                             2;
        expected += found * std::log(high / low) / std::log(10.0);
      }
      last_rate = rate;
      if (rate > 1e-4) break;
    }
    EXPECT_GT(expected, 0.2);
    EXPECT_NEAR(aupimo(source, 8).value(), expected, 1e-9);
  }
}

TEST(Aupimo, NothingIsFoundAtARateBeyondTheRange) {
  // 50 of a million good pixels are at 1, the others and the defect at 0: what finds the defect
  // finds all.
  std::vector<float> good(1000000, 0.0F);
  std::fill(good.begin(), good.begin() + 50, 1.0F);
  const std::vector<float> bad(1000, 0.0F);
  const std::vector<uint8_t> none(good.size(), 0);
  std::vector<uint8_t> defect(bad.size(), 0);
  std::fill(defect.begin(), defect.begin() + 10, 1);
  const auto aupimo_with = [&](const std::vector<float>& map) {
    return aupimo(
        [&](const PixelVisitor& visit) {
          visit({.scores = good.data(), .defective = none.data(), .count = 1000000});
          visit({.scores = map.data(), .defective = defect.data(), .count = 1000});
        },
        2);
  };
  EXPECT_EQ(aupimo_with(bad).value(), 0.0);
  std::vector<float> found = bad;
  std::fill(found.begin(), found.begin() + 10, 0.5F);
  // Above the rate of 5e-5 it is found.
  EXPECT_NEAR(aupimo_with(found).value(), std::log10(2.0), 1e-9);
}

TEST(Aupimo, IsEmptyWhereItCannotBeTold) {
  const std::vector<Scored> few = {{0.5, false}, {0.7, false}, {0.9, true}, {0.1, false}};
  EXPECT_FALSE(aupimo(source_of(few, 2), 2));
  EXPECT_FALSE(aupimo([](const PixelVisitor&) {}, 0));
}

TEST(Metrics, FalsePositiveRateWhereNearlyAllPositivesAreFound) {
  std::vector<Scored> items;
  for (int i = 1; i <= 100; ++i) items.push_back({static_cast<double>(i), true});
  for (const double score : {1.5, 2.5, 5.5, 6.5, 200.0}) items.push_back({score, false});
  const auto metrics = ranking_metrics(items);
  // 95 positives are at 6 and above, with two of the five negatives; 99 at 2 and above, with four.
  EXPECT_DOUBLE_EQ(metrics.fpr_at_95_tpr.value(), 2.0 / 5);
  EXPECT_DOUBLE_EQ(metrics.fpr_at_99_tpr.value(), 4.0 / 5);
  EXPECT_FALSE(ranking_metrics({{0.5, true}}).fpr_at_95_tpr);
}

TEST(PixelMetrics, OneClassHasNoAuroc) {
  const std::vector<Scored> items = {{0.5, false}, {0.7, false}};
  const auto metrics = pixel_metrics(source_of(items, 1));
  EXPECT_FALSE(metrics.auroc || metrics.average_precision || metrics.f1_max);
  EXPECT_EQ(metrics.negatives, 2);
}

/// The curve's height at `x`, by lines between its points; of several at one x the highest.
double height_at(const std::vector<CurvePoint>& curve, double x) {
  size_t i = 1;
  while (i + 1 < curve.size() && curve[i].x <= x) ++i;
  const CurvePoint& a = curve[i - 1];
  const CurvePoint& b = curve[i];
  return b.x == a.x ? b.y : a.y + (b.y - a.y) * std::clamp((x - a.x) / (b.x - a.x), 0.0, 1.0);
}

TEST(Curves, FewPointsAreThoseOfTheScores) {
  const auto roc = ranking_metrics({{4, true}, {3, false}, {2, true}, {1, false}}).roc;
  ASSERT_EQ(roc.size(), 5u);
  const CurvePoint expected[] = {{0, 0}, {0, 0.5}, {0.5, 0.5}, {0.5, 1}, {1, 1}};
  for (size_t i = 0; i < roc.size(); ++i) {
    EXPECT_EQ(roc[i].x, expected[i].x) << i;
    EXPECT_EQ(roc[i].y, expected[i].y) << i;
  }
  EXPECT_TRUE(ranking_metrics({{1, true}}).roc.empty());
  EXPECT_TRUE(ranking_metrics({{1, false}}).roc.empty());
}

TEST(Curves, ManyPointsAreThinnedButKeepTheCurve) {
  Rng rng(3, 0, 0);
  std::vector<Scored> items;
  for (int i = 0; i < 20000; ++i) {
    const bool positive = i % 3 == 0;
    items.push_back({rng.uniform() + (positive ? 0.3 * rng.uniform() : 0), positive});
  }
  // A long line, which needs both its ends.
  for (int i = 0; i < 5000; ++i) items.push_back({0.5, i % 2 == 0});
  const RankingMetrics metrics = ranking_metrics(items);
  EXPECT_GT(metrics.roc.size(), 200u);
  EXPECT_LT(metrics.roc.size(), 1200u);
  EXPECT_EQ(metrics.roc.back().x, 1);
  EXPECT_EQ(metrics.roc.back().y, 1);
  double area = 0;
  for (size_t i = 1; i < metrics.roc.size(); ++i) {
    const auto& a = metrics.roc[i - 1];
    const auto& b = metrics.roc[i];
    ASSERT_GE(b.x, a.x);
    ASSERT_GE(b.y, a.y);
    area += (b.x - a.x) * (a.y + b.y) / 2;
  }
  EXPECT_NEAR(area, metrics.auroc.value(), 2e-3);
  // Beside the definition, at many thresholds.
  for (double threshold = 1.2; threshold > 0; threshold -= 0.01) {
    double found = 0;
    double mistaken = 0;
    for (const auto& item : items) {
      if (item.score >= threshold) (item.positive ? found : mistaken) += 1;
    }
    const double x = mistaken / static_cast<double>(metrics.negatives);
    const double y = found / static_cast<double>(metrics.positives);
    // Within one step, in x or in y.
    EXPECT_LE(height_at(metrics.roc, x - 1.0 / 250) - 1.0 / 250, y) << threshold;
    EXPECT_GE(height_at(metrics.roc, x + 1.0 / 250) + 1.0 / 250, y) << threshold;
  }
}

TEST(Curves, OverlapCurveHasTheAreas) {
  Rng rng(4, 0, 0);
  std::vector<float> scores(20000);
  std::vector<uint8_t> defective(scores.size());
  std::vector<float> overlap(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    defective[i] = i % 10 == 0 ? 1 : 0;
    scores[i] = static_cast<float>(rng.uniform() + (defective[i] ? 0.4 : 0.0));
    overlap[i] = defective[i] ? 2.0f / static_cast<float>(scores.size() / 10) : 0.0f;
  }
  const PixelSource source = [&](const PixelVisitor& visit) {
    visit({.scores = scores.data(),
           .defective = defective.data(),
           .count = static_cast<int64_t>(scores.size()),
           .overlap = overlap.data(),
           .regions = 2});
  };
  const PixelMetrics metrics = pixel_metrics(source, {1.0, 0.05});
  ASSERT_GT(metrics.overlap_curve.size(), 100u);
  EXPECT_LT(metrics.overlap_curve.size(), 1200u);
  double area = 0;
  double start = 0;
  for (size_t i = 1; i < metrics.overlap_curve.size(); ++i) {
    const auto& a = metrics.overlap_curve[i - 1];
    const auto& b = metrics.overlap_curve[i];
    area += (b.x - a.x) * (a.y + b.y) / 2;
    if (b.x <= 0.05) start += (b.x - a.x) * (a.y + b.y) / 2;
  }
  // Thinned; and the piece that crosses 0.05 is left out.
  EXPECT_NEAR(area, metrics.overlap_areas[0], 2e-3);
  EXPECT_NEAR(start / 0.05, metrics.overlap_areas[1], 2e-2);
  EXPECT_TRUE(pixel_metrics(source).overlap_curve.empty());
}

}  // namespace
}  // namespace efficientad
