#include "efficientad/eval/metrics.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>

#include "efficientad/core/error.h"

namespace efficientad {

namespace {

/// Turns counts of positives and negatives a distinct score, given from the highest score to the
/// lowest, into the metrics. Sums are in long double: products of pixel counts pass 2^53.
class Ranking {
 public:
  Ranking(int64_t positives, int64_t negatives) {
    result_.positives = positives;
    result_.negatives = negatives;
  }

  /// All items of the next lower score.
  void add(double score, int64_t positives, int64_t negatives) {
    // Each negative is below the positives so far, and ties with those of its own score.
    twice_area_ +=
        static_cast<long double>(negatives) * static_cast<long double>(2 * true_ + positives);
    true_ += positives;
    false_ += negatives;
    if (positives == 0) return;
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
    }
    return result_;
  }

 private:
  RankingMetrics result_;
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

/// A counter for each lower half that the pixels of a class can have.
using Table = std::vector<Counts>;

/// The pixels of the class of upper half `upper`, counted, from the highest.
void rank_table(uint32_t upper, const Table& table, Ranking& ranking) {
  for (int64_t lower = kHalf - 1; lower >= 0; --lower) {
    const Counts& counts = table[static_cast<size_t>(lower)];
    if (sum(counts) == 0) continue;
    ranking.add(score_of(upper << 16 | static_cast<uint32_t>(lower)), counts[1], counts[0]);
  }
}

/// The same from their lower halves, which are sorted in place.
void rank_sorted(uint32_t upper, uint16_t* const begin[2], const Counts& counts, Ranking& ranking) {
  const uint16_t* at[2];
  const uint16_t* end[2];
  for (int label = 0; label < 2; ++label) {
    std::sort(begin[label], begin[label] + counts[label], std::greater<>());
    at[label] = begin[label];
    end[label] = begin[label] + counts[label];
  }
  while (at[0] != end[0] || at[1] != end[1]) {
    const uint16_t lower =
        at[0] == end[0] || (at[1] != end[1] && *at[1] > *at[0]) ? *at[1] : *at[0];
    Counts equal = {0, 0};
    for (int label = 0; label < 2; ++label) {
      for (; at[label] != end[label] && *at[label] == lower; ++at[label]) ++equal[label];
    }
    ranking.add(score_of(upper << 16 | lower), equal[1], equal[0]);
  }
}

constexpr int64_t kTableBytes = kHalf * static_cast<int64_t>(sizeof(Counts));

/// Memory for the pixels of a class: their lower halves, or a table of counts where that is less.
int64_t bytes_of(const Counts& counts) {
  return std::min(sum(counts) * static_cast<int64_t>(sizeof(uint16_t)), kTableBytes);
}

bool has_table(const Counts& counts) { return bytes_of(counts) == kTableBytes; }

/// Ranks the classes first, first + 1, … last - 1 (by upper half), the highest first, with one pass
/// over the maps.
void rank_classes(const PixelSource& source, const std::vector<Counts>& classes, int64_t first,
                  int64_t last, Ranking& ranking) {
  const auto count = static_cast<size_t>(last - first);
  std::vector<std::unique_ptr<Table>> tables(count);
  // Where in `lower` the next pixel of a class and label goes.
  std::vector<std::array<int64_t, 2>> next(count);
  int64_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    const Counts& counts = classes[static_cast<size_t>(first) + i];
    if (has_table(counts)) {
      tables[i] = std::make_unique<Table>(static_cast<size_t>(kHalf), Counts{0, 0});
    } else {
      next[i] = {total, total + counts[0]};
      total += sum(counts);
    }
  }
  std::vector<uint16_t> lower(static_cast<size_t>(total));
  const std::vector<std::array<int64_t, 2>> begin = next;

  source([&](const float* scores, const uint8_t* defective, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
      const uint32_t key = key_of(scores[i]);
      const int64_t place = static_cast<int64_t>(key >> 16) - first;
      if (place < 0 || place >= last - first) continue;
      const auto c = static_cast<size_t>(place);
      const int label = defective[i] != 0 ? 1 : 0;
      const auto low = static_cast<uint16_t>(key & 0xffff);
      if (tables[c] != nullptr) {
        ++(*tables[c])[low][label];
      } else {
        const int64_t limit = begin[c][label] + classes[static_cast<size_t>(first + place)][label];
        TORCH_CHECK(next[c][label] < limit, "the maps have changed between two passes");
        lower[static_cast<size_t>(next[c][label]++)] = low;
      }
    }
  });

  Table shared(static_cast<size_t>(kHalf));
  for (int64_t upper = last - 1; upper >= first; --upper) {
    const auto c = static_cast<size_t>(upper - first);
    const Counts& counts = classes[static_cast<size_t>(upper)];
    if (tables[c] != nullptr) {
      rank_table(static_cast<uint32_t>(upper), *tables[c], ranking);
      tables[c].reset();
    } else if (sum(counts) >= kSortBelow) {
      std::fill(shared.begin(), shared.end(), Counts{0, 0});
      for (int label = 0; label < 2; ++label) {
        for (int64_t i = 0; i < counts[label]; ++i) {
          ++shared[lower[static_cast<size_t>(begin[c][label] + i)]][label];
        }
      }
      rank_table(static_cast<uint32_t>(upper), shared, ranking);
    } else {
      uint16_t* const starts[2] = {lower.data() + begin[c][0], lower.data() + begin[c][1]};
      rank_sorted(static_cast<uint32_t>(upper), starts, counts, ranking);
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

RankingMetrics pixel_metrics(const PixelSource& source, int64_t memory_bytes) {
  std::vector<Counts> classes(static_cast<size_t>(kHalf), Counts{0, 0});
  Counts total = {0, 0};
  source([&](const float* scores, const uint8_t* defective, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
      require(!std::isnan(scores[i]), "an anomaly map holds NaN, so pixels cannot be ranked");
      const int label = defective[i] != 0 ? 1 : 0;
      ++classes[key_of(scores[i]) >> 16][label];
      ++total[label];
    }
  });
  Ranking ranking(total[1], total[0]);
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
  return std::move(ranking).result();
}

}  // namespace efficientad
