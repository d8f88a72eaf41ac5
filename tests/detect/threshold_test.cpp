#include "efficientad/detect/threshold.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "efficientad/core/random.h"
#include "support/expect_error.h"

namespace efficientad {
namespace {

const std::string kWhich = "normal images";

std::vector<double> ramp(int64_t count) {
  std::vector<double> scores;
  for (int64_t i = count; i > 0; --i) scores.push_back(static_cast<double>(i));
  return scores;
}

TEST(Threshold, AsManyNormalsAsTheBinomialNeeds) {
  EXPECT_EQ(normals_needed(0.01), 299);
  EXPECT_EQ(normals_needed(0.05), 59);
  EXPECT_EQ(normals_needed(0.10), 29);
  EXPECT_FALSE(exceedances_allowed(298, 0.01));
  EXPECT_EQ(exceedances_allowed(299, 0.01), 0);
  // P(Binomial(473, 0.01) <= 1) = 0.0499, and with 472 it is 0.0503.
  EXPECT_EQ(exceedances_allowed(472, 0.01), 0);
  EXPECT_EQ(exceedances_allowed(473, 0.01), 1);
  EXPECT_NEAR(promised_fpr(299), 0.00997, 1e-5);
}

TEST(Threshold, IsTheOrderStatistic) {
  const Threshold enough = threshold_of_normal_scores(ramp(473), 0.01, kWhich);
  EXPECT_EQ(enough.value, 472);
  EXPECT_NE(enough.rule.find("at most 1 % false positives"), std::string::npos) << enough.rule;
  const Threshold few = threshold_of_normal_scores(ramp(71), 0.01, kWhich);
  EXPECT_EQ(few.value, 71);
  EXPECT_NE(few.rule.find("at most 4.2 %"), std::string::npos) << few.rule;
  EXPECT_NE(few.rule.find("needs 299 images"), std::string::npos) << few.rule;
  // Nor is a rate shown lower than it is.
  EXPECT_NE(threshold_of_normal_scores(ramp(473), 0.0304, kWhich).rule.find("at most 3.1 %"),
            std::string::npos);
  // What was trained on promises nothing, however many there are.
  const Threshold trained =
      threshold_of_normal_scores(ramp(473), 0.01, kWhich, NormalImages::kTrainedOn);
  EXPECT_EQ(trained.value, 473);
  EXPECT_EQ(trained.rule.find('%'), std::string::npos) << trained.rule;
  // The same place, but other models' scores bind this one's to nothing.
  const Threshold crossed =
      threshold_of_normal_scores(ramp(473), 0.01, kWhich, NormalImages::kCrossFitted);
  EXPECT_EQ(crossed.value, 472);
  EXPECT_EQ(crossed.rule.find("confidence"), std::string::npos) << crossed.rule;
  EXPECT_NE(crossed.rule.find("at most 1 % false positives as an estimate"), std::string::npos)
      << crossed.rule;
  EXPECT_ERROR(threshold_of_normal_scores({}, 0.01, kWhich), Error, "no normal images");
  EXPECT_ERROR(threshold_of_normal_scores({0.1, NAN}, 0.01, kWhich), Error, "not finite");
}

TEST(Threshold, KeepsItsPromiseInNineteenOfTwentySets) {
  // Scores uniform in 0..1: the false-positive rate of a threshold t is 1 - t.
  Rng rng(4);
  constexpr int kSets = 2000;
  int broken = 0;
  for (int set = 0; set < kSets; ++set) {
    std::vector<double> scores;
    for (int i = 0; i < 100; ++i) scores.push_back(rng.uniform());
    broken += threshold_of_normal_scores(scores, 0.05, kWhich).value < 0.95 ? 1 : 0;
  }
  // Exactly P(Binomial(100, 0.05) <= 1) = 3.7 %; four deviations of that count.
  EXPECT_NEAR(broken / static_cast<double>(kSets), 0.037, 0.017);
}

TEST(Threshold, BestF1PartsTheKinds) {
  const std::vector<LabelledScore> scores = {{0.1, false}, {0.2, false}, {0.6, false},
                                             {0.5, true},  {0.9, true},  {1.0, true}};
  // F1 at 0.35: 2 * 3 / (2 * 3 + 1); at 0.75: 2 * 2 / (2 * 2 + 1).
  const Threshold best = threshold_of_best_f1(scores);
  EXPECT_DOUBLE_EQ(best.value, 0.35);
  EXPECT_EQ(best.rule,
            "largest F1: 1 of 3 good images called anomalous, 0 of 3 anomalous ones missed");
  EXPECT_ERROR(threshold_of_best_f1({{0.1, false}}), Error, "both kinds are needed");
}

TEST(Threshold, CostsDecide) {
  const std::vector<LabelledScore> scores = {
      {0.1, false}, {0.4, true}, {0.6, false}, {0.7, false}, {0.9, true}};
  EXPECT_DOUBLE_EQ(threshold_of_least_cost(scores, 10).value, 0.25);
  EXPECT_DOUBLE_EQ(threshold_of_least_cost(scores, 0.5).value, 0.8);
  // Where a miss costs nothing to speak of, nothing is called anomalous but what is beyond doubt.
  EXPECT_GT(threshold_of_least_cost({{0.1, false}, {0.2, true}, {0.3, false}}, 0.1).value, 0.29);
}

TEST(Threshold, NormalShareIsTheRank) {
  const std::vector<double> sorted = {1, 2, 2, 4};
  EXPECT_EQ(normal_share(sorted, 0), 0.0);
  EXPECT_EQ(normal_share(sorted, 2), 0.25);
  EXPECT_EQ(normal_share(sorted, 3), 0.75);
  EXPECT_EQ(normal_share(sorted, 5), 1.0);
}

}  // namespace
}  // namespace efficientad
