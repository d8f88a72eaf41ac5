#include "efficientad/detect/threshold.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "efficientad/core/error.h"

namespace efficientad {

std::optional<int64_t> exceedances_allowed(int64_t count, double max_fpr) {
  TORCH_CHECK(max_fpr > 0 && max_fpr < 1, "a false-positive rate is between 0 and 1");
  const auto n = static_cast<double>(count);
  double cumulative = 0;
  for (int64_t m = 0; m < count; ++m) {
    const auto k = static_cast<double>(m);
    cumulative += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) +
                           k * std::log(max_fpr) + (n - k) * std::log1p(-max_fpr));
    if (cumulative > 1 - kThresholdConfidence) {
      return m > 0 ? std::optional<int64_t>(m - 1) : std::nullopt;
    }
  }
  return std::nullopt;
}

int64_t normals_needed(double max_fpr) {
  return static_cast<int64_t>(std::ceil(std::log(1 - kThresholdConfidence) / std::log1p(-max_fpr)));
}

double promised_fpr(int64_t count) {
  return 1 - std::pow(1 - kThresholdConfidence, 1 / static_cast<double>(count));
}

namespace {

/// To two digits, for a bound must not be shown lower than it is.
double rounded_up(double value) {
  const double unit = std::pow(10, std::floor(std::log10(value)) - 1);
  // Not above what is as long already.
  constexpr double kRounding = 1e-9;
  return unit * std::ceil(value / unit - kRounding);
}

}  // namespace

Threshold threshold_of_normal_scores(const std::vector<double>& scores, double max_fpr,
                                     const std::string& which, NormalImages images) {
  require(!scores.empty(), "no {} to choose a threshold from", which);
  std::vector<double> sorted = scores;
  std::sort(sorted.begin(), sorted.end());
  for (const double score : sorted) {
    require(std::isfinite(score), "a score of the {} is not finite", which);
  }
  const auto count = static_cast<int64_t>(sorted.size());
  if (images == NormalImages::kTrainedOn) {
    return {.value = sorted.back(),
            .rule = fmt::format("highest score of {} {}: they were trained on, so that no "
                                "false-positive rate can be promised",
                                count, which)};
  }
  const auto allowed = exceedances_allowed(count, max_fpr);
  constexpr double kPercent = 100;
  const char* const promise = images == NormalImages::kHeldOut
                                  ? "with 95 % confidence"
                                  : "as an estimate (other models judged them)";
  if (!allowed) {
    return {.value = sorted.back(),
            .rule = fmt::format("highest score of {} {}: at most {:.2g} % false positives {} "
                                "({:.2g} % needs {} images)",
                                count, which, rounded_up(kPercent * promised_fpr(count)), promise,
                                rounded_up(kPercent * max_fpr), normals_needed(max_fpr))};
  }
  const auto place = static_cast<size_t>(count - 1 - *allowed);
  return {
      .value = sorted[place],
      .rule = fmt::format("score {} of {} {} from the highest: at most {:.2g} % false positives {}",
                          *allowed + 1, count, which, rounded_up(kPercent * max_fpr), promise)};
}

namespace {

/// What a threshold does: of all anomalous images those that are missed, and false alarms.
struct Mistakes {
  int64_t missed;
  int64_t false_alarms;
};

/// Tries every threshold between two neighbouring scores, and below and above all, and takes that
/// of the least loss; of several, the one in the widest gap.
double least_loss(std::vector<LabelledScore> scores,
                  const std::function<double(const Mistakes&)>& loss) {
  std::sort(scores.begin(), scores.end(),
            [](const LabelledScore& a, const LabelledScore& b) { return a.score < b.score; });
  Mistakes mistakes = {0, 0};
  for (const auto& one : scores) mistakes.false_alarms += one.anomalous ? 0 : 1;
  double best = std::numeric_limits<double>::infinity();
  double best_gap = 0;
  double best_threshold = 0;
  const auto consider = [&](double threshold, double gap) {
    const double now = loss(mistakes);
    if (now < best || (now == best && gap > best_gap)) {
      best = now;
      best_gap = gap;
      best_threshold = threshold;
    }
  };
  // Below the lowest: all are called anomalous.
  constexpr double kBelow = 1e-6;
  const double lowest = scores.front().score;
  consider(lowest - kBelow * std::max(1.0, std::abs(lowest)), 0);
  for (size_t i = 0; i < scores.size(); ++i) {
    (scores[i].anomalous ? mistakes.missed : mistakes.false_alarms) += scores[i].anomalous ? 1 : -1;
    if (i + 1 == scores.size()) {
      consider(scores[i].score, 0);
    } else if (scores[i + 1].score > scores[i].score) {
      consider((scores[i].score + scores[i + 1].score) / 2, scores[i + 1].score - scores[i].score);
    }
  }
  return best_threshold;
}

int64_t require_both_kinds(const std::vector<LabelledScore>& scores) {
  int64_t anomalous = 0;
  for (const auto& one : scores) {
    require(std::isfinite(one.score), "a score is not finite");
    anomalous += one.anomalous ? 1 : 0;
  }
  require(anomalous > 0 && anomalous < static_cast<int64_t>(scores.size()),
          "{} good and {} anomalous images, but both kinds are needed",
          static_cast<int64_t>(scores.size()) - anomalous, anomalous);
  return anomalous;
}

/// What a threshold does on the images that it was chosen with.
std::string result_of(const std::vector<LabelledScore>& scores, double threshold) {
  int64_t anomalous = 0;
  Mistakes mistakes = {0, 0};
  for (const auto& one : scores) {
    anomalous += one.anomalous ? 1 : 0;
    mistakes.missed += one.anomalous && one.score <= threshold ? 1 : 0;
    mistakes.false_alarms += !one.anomalous && one.score > threshold ? 1 : 0;
  }
  return fmt::format("{} of {} good images called anomalous, {} of {} anomalous ones missed",
                     mistakes.false_alarms, static_cast<int64_t>(scores.size()) - anomalous,
                     mistakes.missed, anomalous);
}

}  // namespace

Threshold threshold_of_best_f1(const std::vector<LabelledScore>& scores) {
  const int64_t anomalous = require_both_kinds(scores);
  const double threshold = least_loss(scores, [&](const Mistakes& mistakes) {
    const auto found = static_cast<double>(anomalous - mistakes.missed);
    const auto wrong = static_cast<double>(mistakes.missed + mistakes.false_alarms);
    return -2 * found / (2 * found + wrong);
  });
  return {.value = threshold, .rule = "largest F1: " + result_of(scores, threshold)};
}

Threshold threshold_of_least_cost(const std::vector<LabelledScore>& scores, double cost_ratio) {
  require_both_kinds(scores);
  require(cost_ratio > 0, "the cost ratio is {}, but must be positive", cost_ratio);
  const double threshold = least_loss(scores, [&](const Mistakes& mistakes) {
    return cost_ratio * static_cast<double>(mistakes.missed) +
           static_cast<double>(mistakes.false_alarms);
  });
  return {.value = threshold,
          .rule = fmt::format("least cost, a missed defect costing {:.4g} false alarms: {}",
                              cost_ratio, result_of(scores, threshold))};
}

double normal_share(const std::vector<double>& sorted, double score) {
  TORCH_CHECK(!sorted.empty(), "no normal scores");
  const auto below = std::lower_bound(sorted.begin(), sorted.end(), score) - sorted.begin();
  return static_cast<double>(below) / static_cast<double>(sorted.size());
}

}  // namespace efficientad
