#pragma once

#include <algorithm>
#include <array>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "efficientad/core/error.h"
#include "efficientad/core/log.h"

namespace efficientad::cuda {

/// How branches lie on a GPU's streams. The stream of the outermost ones has a high priority, so
/// that it gets the multiprocessors that become free first; all streams beside it, and with them
/// the branches within a branch there, have a low one.
enum class BranchOrder {
  /// Side by side, the first branch on the stream of what comes before and after.
  kFirstAhead,
  /// Side by side, the last branch on that stream.
  kLastAhead,
  /// One after another on that stream.
  kInTurn,
};

/// The orders of branches and of the branches within these.
struct Schedule {
  BranchOrder outer = BranchOrder::kFirstAhead;
  BranchOrder inner = BranchOrder::kFirstAhead;

  bool operator==(const Schedule& other) const = default;
};

/// For example "last ahead, inner in turn".
inline std::string to_string(const Schedule& schedule) {
  const auto name = [](BranchOrder order) {
    switch (order) {
      case BranchOrder::kFirstAhead:
        return "first ahead";
      case BranchOrder::kLastAhead:
        return "last ahead";
      case BranchOrder::kInTurn:
        break;
    }
    return "in turn";
  };
  return fmt::format("{}, inner {}", name(schedule.outer), name(schedule.inner));
}

/// Those worth a trial; the first is the one that is used without.
inline std::vector<Schedule> schedules() {
  std::vector<Schedule> all;
  constexpr std::array kOrders = {BranchOrder::kFirstAhead, BranchOrder::kLastAhead,
                                  BranchOrder::kInTurn};
  for (const BranchOrder inner : kOrders) {
    for (const BranchOrder outer : kOrders) all.push_back({outer, inner});
  }
  return all;
}

/// What a work took when it was recorded in this order.
struct Trial {
  Schedule schedule;
  double milliseconds = 0;
};

/// The fastest of trials, of which there is at least one, the usual order's first: that one stays
/// unless another is faster by more than chance makes it.
inline Schedule fastest(const std::vector<Trial>& trials) {
  constexpr double kByChance = 0.02;
  const auto best = std::min_element(
      trials.begin(), trials.end(),
      [](const Trial& a, const Trial& b) { return a.milliseconds < b.milliseconds; });
  const bool faster = best->milliseconds < (1 - kByChance) * trials.front().milliseconds;
  return faster ? best->schedule : trials.front().schedule;
}

/// Work that takes longer is recorded in the usual order without trials: its operations fill a GPU
/// one by one.
inline constexpr double kWorthTrialsMilliseconds = 2.0;

/// Records work in the order that is fastest, and says what was tried. `record` puts a recording in
/// the place of the one before; `median` gives the milliseconds of what is recorded, the median of
/// `runs`. Throws what they throw for the usual order, or for the fastest in the end.
inline std::vector<Trial> record_fastest(const std::function<void(const Schedule&)>& record,
                                         const std::function<double(int runs)>& median) {
  constexpr int kRunsBefore = 3;
  constexpr int kRuns = 15;
  const std::vector<Schedule> all = schedules();
  record(all.front());
  std::vector<Trial> trials = {{.schedule = all.front(), .milliseconds = median(kRunsBefore)}};
  if (trials.front().milliseconds > kWorthTrialsMilliseconds) return trials;
  trials.front().milliseconds = median(kRuns);
  Schedule recorded = all.front();
  bool usable = true;
  for (size_t i = 1; i < all.size(); ++i) {
    recorded = all[i];
    usable = false;
    try {
      record(recorded);
      trials.push_back({.schedule = recorded, .milliseconds = median(kRuns)});
      usable = true;
    } catch (const std::exception& error) {
      // For example for want of memory: it is none of those to choose from.
      spdlog::info("no CUDA graph in the order {} ({})", to_string(recorded), error.what());
    }
  }
  const Schedule best = fastest(trials);
  if (!usable || recorded != best) record(best);
  return trials;
}

}  // namespace efficientad::cuda
