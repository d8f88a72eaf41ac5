#include "engine/cuda/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <stdexcept>

namespace efficientad::cuda {
namespace {

/// Where recordings take the milliseconds of their place in schedules(), or fail if that is
/// negative.
struct Gpu {
  std::vector<double> milliseconds;
  std::vector<Schedule> recorded = {};
  std::vector<int> runs = {};

  std::vector<Trial> record_fastest() {
    return cuda::record_fastest(
        [&](const Schedule& schedule) {
          recorded.push_back(schedule);
          if (time() < 0) throw std::runtime_error("no memory");
        },
        [&](int count) {
          runs.push_back(count);
          return time();
        });
  }
  double time() const {
    const std::vector<Schedule> all = schedules();
    return milliseconds[std::find(all.begin(), all.end(), recorded.back()) - all.begin()];
  }
};

TEST(CudaSchedule, AllDiffer) {
  std::set<std::string> names;
  for (const Schedule& schedule : schedules()) names.insert(to_string(schedule));
  EXPECT_EQ(names.size(), 9);
  EXPECT_EQ(schedules().size(), 9);
  EXPECT_EQ(schedules().front(), Schedule());
}

TEST(CudaSchedule, TheFastestStays) {
  for (size_t best = 0; best < 9; ++best) {
    Gpu gpu = {.milliseconds = {0.6, 0.5, 0.7, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6}};
    gpu.milliseconds[best] = 0.4;
    const std::vector<Trial> trials = gpu.record_fastest();
    ASSERT_EQ(trials.size(), 9);
    for (size_t i = 0; i < 9; ++i) {
      EXPECT_EQ(trials[i].schedule, schedules()[i]);
      EXPECT_EQ(trials[i].milliseconds, gpu.milliseconds[i]);
    }
    EXPECT_EQ(fastest(trials), schedules()[best]);
    EXPECT_EQ(gpu.recorded.back(), schedules()[best]);
    // The last one tried is there already.
    EXPECT_EQ(gpu.recorded.size(), best == 8 ? 9 : 10);
  }
}

TEST(CudaSchedule, TheUsualStaysIfOthersAreHardlyFaster) {
  Gpu gpu = {.milliseconds = {0.5, 0.495, 0.5, 0.493, 0.5, 0.5, 0.5, 0.5, 0.5}};
  gpu.record_fastest();
  EXPECT_EQ(gpu.recorded.back(), Schedule());
  gpu.milliseconds[3] = 0.485;
  gpu.record_fastest();
  EXPECT_EQ(gpu.recorded.back(), schedules()[3]);
}

TEST(CudaSchedule, WhatCannotBeRecordedIsPassedOver) {
  Gpu gpu = {.milliseconds = {0.6, -1, 0.5, -1, 0.7, -1, -1, -1, -1}};
  const std::vector<Trial> trials = gpu.record_fastest();
  EXPECT_EQ(trials.size(), 3);
  EXPECT_EQ(gpu.recorded.back(), schedules()[2]);
  // Also if it would have been the last recording.
  gpu = {.milliseconds = {0.6, -1, -1, -1, -1, -1, -1, -1, -1}};
  EXPECT_EQ(gpu.record_fastest().size(), 1);
  EXPECT_EQ(gpu.recorded.back(), Schedule());
  gpu = {.milliseconds = {-1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5}};
  EXPECT_THROW(gpu.record_fastest(), std::runtime_error);
}

TEST(CudaSchedule, LongWorkIsNotTried) {
  Gpu gpu = {.milliseconds = {2.5, 1, 1, 1, 1, 1, 1, 1, 1}};
  const std::vector<Trial> trials = gpu.record_fastest();
  ASSERT_EQ(trials.size(), 1);
  EXPECT_EQ(trials.front().milliseconds, 2.5);
  EXPECT_EQ(gpu.recorded, std::vector<Schedule>{Schedule()});
  EXPECT_EQ(gpu.runs.size(), 1);
}

}  // namespace
}  // namespace efficientad::cuda
