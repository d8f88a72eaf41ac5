#include "efficientad/eval/metrics.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>

#include "efficientad/core/error.h"

namespace efficientad {

namespace {

/// Keeps those points of a curve, whose x and y never fall, that are needed to draw it.
class CurveThinner {
 public:
  void add(CurvePoint point) {
    if (!kept_.empty()) {
      if (near(kept_.back(), point)) {
        last_ = point;
        return;
      }
      // A long line begins where the short steps ended.
      if (last_ && !near(*last_, point)) kept_.push_back(*last_);
    }
    kept_.push_back(point);
    last_.reset();
  }

  std::vector<CurvePoint> points() && {
    if (last_) kept_.push_back(*last_);
    return std::move(kept_);
  }

 private:
  static bool near(const CurvePoint& a, const CurvePoint& b) {
    constexpr double kStep = 1.0 / 250;
    constexpr double kFineStep = 1.0 / 2000;
    constexpr double kFineBelow = 0.05;
    return b.x - a.x < (a.x < kFineBelow ? kFineStep : kStep) && b.y - a.y < kStep;
  }

  std::vector<CurvePoint> kept_;
  /// The point before, if it was not kept.
  std::optional<CurvePoint> last_;
};

/// Turns counts of positives and negatives a distinct score, given from the highest score to the
/// lowest, into the metrics. Sums are in long double: products of pixel counts pass 2^53.
class Ranking {
 public:
  Ranking(int64_t positives, int64_t negatives) {
    result_.positives = positives;
    result_.negatives = negatives;
    roc_.add({0, 0});
  }

  /// The areas of overlap with `regions` regions up to each limit are wanted too.
  void want_overlap(const std::vector<double>& limits, int64_t regions) {
    limits_ = limits;
    regions_ = static_cast<double>(regions);
    areas_.assign(limits.size(), 0);
    overlap_curve_.add({0, 0});
  }

  /// All items of the next lower score, and what they add to the regions' overlaps.
  void add(double score, int64_t positives, int64_t negatives, double overlap = 0) {
    if (!limits_.empty()) add_overlap(negatives, overlap);
    // Each negative is below the positives so far, and ties with those of its own score.
    twice_area_ +=
        static_cast<long double>(negatives) * static_cast<long double>(2 * true_ + positives);
    true_ += positives;
    false_ += negatives;
    if (result_.positives > 0 && result_.negatives > 0) {
      roc_.add({static_cast<double>(false_) / static_cast<double>(result_.negatives),
                static_cast<double>(true_) / static_cast<double>(result_.positives)});
    }
    if (positives == 0) return;
    const auto note_rate = [&](double share, std::optional<double>& rate) {
      if (!rate && static_cast<double>(true_) >= share * static_cast<double>(result_.positives)) {
        rate = static_cast<double>(false_) / static_cast<double>(result_.negatives);
      }
    };
    if (result_.negatives > 0) {
      note_rate(0.95, result_.fpr_at_95_tpr);
      note_rate(0.99, result_.fpr_at_99_tpr);
    }
    precision_sum_ += static_cast<long double>(positives) * static_cast<long double>(true_) /
                      static_cast<long double>(true_ + false_);
    // A threshold that only adds negatives lowers F1, so those at positives are enough.
    const double f1 =
        2.0 * static_cast<double>(true_) / static_cast<double>(true_ + false_ + result_.positives);
    if (f1 > f1_max_) {
      f1_max_ = f1;
      f1_max_threshold_ = score;
    }
  }

  /// For each limit, divided by it.
  std::vector<double> overlap_areas() const {
    std::vector<double> areas;
    for (size_t i = 0; i < limits_.size(); ++i) {
      areas.push_back(static_cast<double>(areas_[i]) / limits_[i]);
    }
    return areas;
  }

  std::vector<CurvePoint> overlap_curve() const { return CurveThinner(overlap_curve_).points(); }

  RankingMetrics result() && {
    TORCH_CHECK(true_ == result_.positives && false_ == result_.negatives,
                "the ranking holds another number of items than announced");
    if (true_ > 0) {
      result_.average_precision = static_cast<double>(precision_sum_ / true_);
      result_.f1_max = f1_max_;
      result_.f1_max_threshold = f1_max_threshold_;
    }
    if (true_ > 0 && false_ > 0) {
      result_.auroc = static_cast<double>(twice_area_ / (2.0L * static_cast<long double>(true_) *
                                                         static_cast<long double>(false_)));
      result_.roc = std::move(roc_).points();
    }
    return std::move(result_);
  }

 private:
  /// The curve's next point; false_ is still that of the point before.
  void add_overlap(int64_t negatives, double overlap) {
    const auto good = static_cast<double>(result_.negatives);
    const double rate = static_cast<double>(false_) / good;
    const double next_rate = static_cast<double>(false_ + negatives) / good;
    const double mean = std::min(1.0, overlap_ / regions_);
    overlap_ += overlap;
    const double next_mean = std::min(1.0, overlap_ / regions_);
    for (size_t i = 0; i < limits_.size(); ++i) {
      if (rate >= limits_[i]) continue;
      double end = next_mean;
      const double cut = std::min(limits_[i], next_rate);
      if (cut < next_rate) end = mean + (next_mean - mean) * (cut - rate) / (next_rate - rate);
      areas_[i] += static_cast<long double>(0.5 * (mean + end) * (cut - rate));
    }
    overlap_curve_.add({next_rate, next_mean});
  }

  RankingMetrics result_;
  CurveThinner roc_;
  CurveThinner overlap_curve_;
  std::vector<double> limits_;
  std::vector<long double> areas_;
  double regions_ = 0;
  double overlap_ = 0;
  int64_t true_ = 0;
  int64_t false_ = 0;
  long double twice_area_ = 0;
  long double precision_sum_ = 0;
  double f1_max_ = -1;
  double f1_max_threshold_ = 0;
};

constexpr uint32_t kSign = 0x80000000u;
constexpr int64_t kHalf = 65536;
/// Classes with fewer pixels are sorted, those with more are counted.
constexpr int64_t kSortBelow = 4096;

/// Bits whose order as unsigned numbers is that of the floats; -0 and +0 give the same.
uint32_t key_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

float score_of(uint32_t key) {
  return std::bit_cast<float>((key & kSign) != 0 ? key & ~kSign : ~key);
}

/// Pixels of one class: [0] negatives, [1] positives.
using Counts = std::array<int64_t, 2>;

int64_t sum(const Counts& counts) { return counts[0] + counts[1]; }

/// Pixels of one score, and what they add to the regions' overlaps.
struct Cell {
  Counts counts = {0, 0};
  double overlap = 0;
};

/// A cell for each lower half that the pixels of a class can have.
using Table = std::vector<Cell>;

/// A defective pixel of a class.
struct Positive {
  uint16_t lower;
  float overlap;
};

/// The pixels of the class of upper half `upper`, counted, from the highest.
void rank_table(uint32_t upper, const Table& table, Ranking& ranking) {
  for (int64_t lower = kHalf - 1; lower >= 0; --lower) {
    const Cell& cell = table[static_cast<size_t>(lower)];
    if (sum(cell.counts) == 0) continue;
    ranking.add(score_of(upper << 16 | static_cast<uint32_t>(lower)), cell.counts[1],
                cell.counts[0], cell.overlap);
  }
}

/// The pixels of a class, not yet in order.
struct ClassPixels {
  uint16_t* negatives;
  Positive* positives;
  Counts counts;
};

/// The same of pixels that are sorted in place.
void rank_sorted(uint32_t upper, const ClassPixels& pixels, Ranking& ranking) {
  uint16_t* good = pixels.negatives;
  uint16_t* const good_end = good + pixels.counts[0];
  Positive* bad = pixels.positives;
  Positive* const bad_end = bad + pixels.counts[1];
  std::sort(good, good_end, std::greater<>());
  std::sort(bad, bad_end, [](const Positive& a, const Positive& b) { return a.lower > b.lower; });
  while (good != good_end || bad != bad_end) {
    const uint16_t lower =
        good == good_end || (bad != bad_end && bad->lower > *good) ? bad->lower : *good;
    Cell equal;
    for (; good != good_end && *good == lower; ++good) ++equal.counts[0];
    for (; bad != bad_end && bad->lower == lower; ++bad) {
      ++equal.counts[1];
      equal.overlap += bad->overlap;
    }
    ranking.add(score_of(upper << 16 | lower), equal.counts[1], equal.counts[0], equal.overlap);
  }
}

constexpr int64_t kTableBytes = kHalf * static_cast<int64_t>(sizeof(Cell));

/// Memory for the pixels of a class: themselves, or a table of counts where that is less.
int64_t bytes_of(const Counts& counts) {
  return std::min(counts[0] * static_cast<int64_t>(sizeof(uint16_t)) +
                      counts[1] * static_cast<int64_t>(sizeof(Positive)),
                  kTableBytes);
}

bool has_table(const Counts& counts) { return bytes_of(counts) == kTableBytes; }

/// Ranks the classes first, first + 1, … last - 1 (by upper half), the highest first, with one pass
/// over the maps.
void rank_classes(const PixelSource& source, const std::vector<Counts>& classes, int64_t first,
                  int64_t last, Ranking& ranking) {
  const auto count = static_cast<size_t>(last - first);
  std::vector<std::unique_ptr<Table>> tables(count);
  // Where the next pixel of a class and label goes.
  std::vector<Counts> next(count);
  Counts total = {0, 0};
  for (size_t i = 0; i < count; ++i) {
    const Counts& counts = classes[static_cast<size_t>(first) + i];
    if (has_table(counts)) {
      tables[i] = std::make_unique<Table>(static_cast<size_t>(kHalf));
    } else {
      next[i] = total;
      for (int label = 0; label < 2; ++label) total[label] += counts[label];
    }
  }
  std::vector<uint16_t> negatives(static_cast<size_t>(total[0]));
  std::vector<Positive> positives(static_cast<size_t>(total[1]));
  const std::vector<Counts> begin = next;

  source([&](const MapPixels& map) {
    for (int64_t i = 0; i < map.count; ++i) {
      const uint32_t key = key_of(map.scores[i]);
      const int64_t place = static_cast<int64_t>(key >> 16) - first;
      if (place < 0 || place >= last - first) continue;
      const auto c = static_cast<size_t>(place);
      const int label = map.defective[i] != 0 ? 1 : 0;
      const auto low = static_cast<uint16_t>(key & 0xffff);
      const float overlap = label == 1 && map.overlap != nullptr ? map.overlap[i] : 0.0f;
      if (tables[c] != nullptr) {
        Cell& cell = (*tables[c])[low];
        ++cell.counts[label];
        cell.overlap += overlap;
        continue;
      }
      const int64_t limit = begin[c][label] + classes[static_cast<size_t>(first + place)][label];
      TORCH_CHECK(next[c][label] < limit, "the maps have changed between two passes");
      const auto at = static_cast<size_t>(next[c][label]++);
      if (label == 0) {
        negatives[at] = low;
      } else {
        positives[at] = {low, overlap};
      }
    }
  });

  Table shared(static_cast<size_t>(kHalf));
  for (int64_t upper = last - 1; upper >= first; --upper) {
    const auto c = static_cast<size_t>(upper - first);
    const ClassPixels pixels = {.negatives = negatives.data() + begin[c][0],
                                .positives = positives.data() + begin[c][1],
                                .counts = classes[static_cast<size_t>(upper)]};
    if (tables[c] != nullptr) {
      rank_table(static_cast<uint32_t>(upper), *tables[c], ranking);
      tables[c].reset();
    } else if (sum(pixels.counts) >= kSortBelow) {
      std::fill(shared.begin(), shared.end(), Cell{});
      for (int64_t i = 0; i < pixels.counts[0]; ++i) ++shared[pixels.negatives[i]].counts[0];
      for (int64_t i = 0; i < pixels.counts[1]; ++i) {
        Cell& cell = shared[pixels.positives[i].lower];
        ++cell.counts[1];
        cell.overlap += pixels.positives[i].overlap;
      }
      rank_table(static_cast<uint32_t>(upper), shared, ranking);
    } else {
      rank_sorted(static_cast<uint32_t>(upper), pixels, ranking);
    }
  }
}

}  // namespace

RankingMetrics ranking_metrics(std::vector<Scored> items) {
  int64_t positives = 0;
  for (const auto& item : items) {
    require(!std::isnan(item.score), "a score is NaN, so images cannot be ranked");
    positives += item.positive ? 1 : 0;
  }
  std::sort(items.begin(), items.end(),
            [](const Scored& a, const Scored& b) { return a.score > b.score; });
  Ranking ranking(positives, static_cast<int64_t>(items.size()) - positives);
  for (size_t i = 0; i < items.size();) {
    const double score = items[i].score;
    Counts equal = {0, 0};
    for (; i < items.size() && items[i].score == score; ++i) ++equal[items[i].positive ? 1 : 0];
    ranking.add(score, equal[1], equal[0]);
  }
  return std::move(ranking).result();
}

std::optional<double> auroc_of_loco_script(std::vector<Scored> items) {
  const auto total = static_cast<int64_t>(items.size());
  int64_t positives = 0;
  for (const auto& item : items) {
    require(!std::isnan(item.score), "a score is NaN, so images cannot be ranked");
    positives += item.positive ? 1 : 0;
  }
  const int64_t negatives = total - positives;
  if (positives == 0 || negatives == 0) return std::nullopt;
  std::sort(items.begin(), items.end(), [](const Scored& a, const Scored& b) {
    return a.score != b.score ? a.score < b.score : a.positive < b.positive;
  });
  // The threshold rises from one item to the next; the curve runs from (1, 1) to (0, 0).
  int64_t true_left = positives;
  int64_t false_left = negatives;
  int64_t last_true = positives;
  int64_t last_false = negatives;
  double twice_area = 0;
  for (int64_t i = 0; i < total; ++i) {
    const auto& item = items[static_cast<size_t>(i)];
    --(item.positive ? true_left : false_left);
    const bool first = i == 0 || item.score != items[static_cast<size_t>(i - 1)].score;
    if (!first && i != total - 1) continue;
    twice_area +=
        static_cast<double>(last_false - false_left) * static_cast<double>(last_true + true_left);
    last_true = true_left;
    last_false = false_left;
  }
  return twice_area / (2.0 * static_cast<double>(positives) * static_cast<double>(negatives));
}

namespace {

constexpr double kPimoLowest = 1e-5;
constexpr double kPimoHighest = 1e-4;

/// A pixel of a normal map, and what finding it adds to the false-positive rate.
struct NormalPixel {
  float score;
  double rate;
};

/// Leaves those highest pixels, sorted, that together first pass the highest rate, and all that tie
/// with the last of them; pixels that tie become one.
void keep_highest(std::vector<NormalPixel>& pixels, double highest) {
  std::sort(pixels.begin(), pixels.end(),
            [](const NormalPixel& a, const NormalPixel& b) { return a.score > b.score; });
  double rate = 0;
  size_t kept = 0;
  for (const NormalPixel pixel : pixels) {
    const bool tie = kept > 0 && pixel.score == pixels[kept - 1].score;
    if (!tie && rate > highest) break;
    rate += pixel.rate;
    if (tie) {
      pixels[kept - 1].rate += pixel.rate;
    } else {
      pixels[kept++] = pixel;
    }
  }
  pixels.resize(kept);
}

bool is_normal(const MapPixels& map) {
  return std::all_of(map.defective, map.defective + map.count,
                     [](uint8_t defective) { return defective == 0; });
}

/// A threshold, above which scores count as found, and the part of the logarithm of the range of
/// rates that it serves: all above it give the lower of those rates, with it they would give the
/// higher.
struct PimoStep {
  float threshold;
  double weight;
};

/// The steps of the thresholds at the normal maps' scores, from the highest. Empty if the first is
/// beyond the range already.
std::vector<PimoStep> pimo_steps(const std::vector<NormalPixel>& pixels, int64_t maps) {
  std::vector<PimoStep> steps;
  double rate = 0;
  for (size_t i = 0; i < pixels.size() && rate < kPimoHighest;) {
    const float score = pixels[i].score;
    const double before = rate;
    for (; i < pixels.size() && pixels[i].score == score; ++i) {
      rate += pixels[i].rate / static_cast<double>(maps);
    }
    if (before == 0 && rate >= kPimoHighest) return {};
    const double low = std::max(before, kPimoLowest);
    const double high = std::min(rate, kPimoHighest);
    if (high > low) steps.push_back({score, std::log(high / low)});
  }
  return steps;
}

/// The mean of the share of its defective pixels that is found over the steps.
double pimo_of(const MapPixels& map, const std::vector<PimoStep>& steps) {
  std::vector<float> scores;
  int64_t defective = 0;
  for (int64_t i = 0; i < map.count; ++i) {
    if (map.defective[i] == 0) continue;
    ++defective;
    if (map.scores[i] > steps.back().threshold) scores.push_back(map.scores[i]);
  }
  std::sort(scores.begin(), scores.end(), std::greater<>());
  double sum = 0;
  size_t found = 0;
  for (const auto& step : steps) {
    while (found < scores.size() && scores[found] > step.threshold) ++found;
    sum += step.weight * static_cast<double>(found) / static_cast<double>(defective);
  }
  return sum / std::log(kPimoHighest / kPimoLowest);
}

}  // namespace

std::optional<double> aupimo(const PixelSource& source, int64_t maps) {
  const double needed = kPimoHighest * static_cast<double>(maps);
  constexpr size_t kMost = size_t{1} << 22;
  int64_t normal_maps = 0;
  std::vector<NormalPixel> highest;
  source([&](const MapPixels& map) {
    if (map.count == 0 || !is_normal(map)) return;
    ++normal_maps;
    const auto count = static_cast<double>(map.count);
    std::vector<float> scores(map.scores, map.scores + map.count);
    // More of one map are beyond the range of rates by themselves.
    const auto kept = static_cast<size_t>(std::min(count, std::ceil(needed * count) + 1));
    std::nth_element(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(kept) - 1,
                     scores.end(), std::greater<>());
    for (size_t i = 0; i < kept; ++i) highest.push_back({scores[i], 1 / count});
    if (highest.size() > kMost) keep_highest(highest, needed);
  });
  if (normal_maps == 0) return std::nullopt;
  keep_highest(highest, needed);
  const auto steps = pimo_steps(highest, normal_maps);
  if (steps.empty()) return std::nullopt;
  double sum = 0;
  int64_t anomalous = 0;
  source([&](const MapPixels& map) {
    if (is_normal(map)) return;
    sum += pimo_of(map, steps);
    ++anomalous;
  });
  if (anomalous == 0) return std::nullopt;
  return sum / static_cast<double>(anomalous);
}

PixelMetrics pixel_metrics(const PixelSource& source, const std::vector<double>& limits,
                           int64_t memory_bytes) {
  std::vector<Counts> classes(static_cast<size_t>(kHalf), Counts{0, 0});
  Counts total = {0, 0};
  int64_t regions = 0;
  source([&](const MapPixels& map) {
    for (int64_t i = 0; i < map.count; ++i) {
      require(!std::isnan(map.scores[i]), "an anomaly map holds NaN, so pixels cannot be ranked");
      const int label = map.defective[i] != 0 ? 1 : 0;
      ++classes[key_of(map.scores[i]) >> 16][label];
      ++total[label];
    }
    regions += map.regions;
  });
  Ranking ranking(total[1], total[0]);
  const bool curve = !limits.empty() && regions > 0 && total[0] > 0;
  if (curve) ranking.want_overlap(limits, regions);
  for (int64_t last = kHalf; last > 0;) {
    int64_t first = last - 1;
    int64_t bytes = bytes_of(classes[static_cast<size_t>(first)]);
    while (first > 0) {
      bytes += bytes_of(classes[static_cast<size_t>(first - 1)]);
      if (bytes > memory_bytes) break;
      --first;
    }
    bool any = false;
    for (int64_t c = first; c < last; ++c) any = any || sum(classes[static_cast<size_t>(c)]) > 0;
    if (any) rank_classes(source, classes, first, last, ranking);
    last = first;
  }
  PixelMetrics metrics;
  metrics.overlap_areas = ranking.overlap_areas();
  if (curve) metrics.overlap_curve = ranking.overlap_curve();
  static_cast<RankingMetrics&>(metrics) = std::move(ranking).result();
  return metrics;
}

}  // namespace efficientad
