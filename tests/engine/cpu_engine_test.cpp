#include "efficientad/engine/cpu_engine.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <thread>

#include "engine/networks.h"
#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

// Winograd's transforms lose about a digit: float32 errors of 1e-5 of the largest feature; the maps
// are squares of differences of features.
constexpr double kRtol = 1e-4;
constexpr double kAtol = 1e-5;

void expect_equal_engines(const DetectorNetworks& networks, int64_t height, int64_t width,
                          int64_t count = 1) {
  SCOPED_TRACE(testing::Message() << networks.teacher->options().model_size << " padding "
                                  << networks.teacher->options().padding << " "
                                  << networks.autoencoder_input << " " << height << "x" << width);
  const torch::Tensor images = torch::randn({count, 3, height, width});
  const RawMaps expected = ReferenceEngine(networks, torch::kCPU).maps(images);
  const RawMaps actual = CpuEngine(networks, {height, width}).maps(images);
  expect_near(actual.st, expected.st, kRtol, kAtol);
  expect_near(actual.ae, expected.ae, kRtol, kAtol);
}

TEST(CpuEngine, EqualsTheReference) {
  for (const bool padding : {false, true}) {
    const DetectorNetworks small = random_networks("small", padding);
    expect_equal_engines(small, 256, 256);
    for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{
             {64, 64}, {65, 66}, {67, 130}, {101, 71}, {142, 203}}) {
      expect_equal_engines(small, height, width);
    }
  }
}

TEST(CpuEngine, EqualsTheReferenceMedium) {
  for (const bool padding : {false, true}) {
    const DetectorNetworks medium = random_networks("medium", padding);
    expect_equal_engines(medium, 64, 97);
    expect_equal_engines(medium, 110, 75);
  }
}

TEST(CpuEngine, EqualsTheReferenceWithTheWholeImage) {
  DetectorNetworks networks = random_networks("small", false);
  networks.autoencoder_input = "full";
  expect_equal_engines(networks, 256, 256);
  expect_equal_engines(networks, 259, 331);
  EXPECT_ERROR(CpuEngine(networks, {128, 256}), Error, "at least 256x256");
}

TEST(CpuEngine, ABatchIsItsImages) {
  const DetectorNetworks networks = random_networks("small", false);
  const CpuEngine engine(networks, {80, 72});
  const torch::Tensor images = torch::randn({3, 3, 80, 72});
  const RawMaps batch = engine.maps(images);
  for (int64_t i = 0; i < 3; ++i) {
    const RawMaps one = engine.maps(images.narrow(0, i, 1));
    expect_same_bits(batch.st.narrow(0, i, 1), one.st);
    expect_same_bits(batch.ae.narrow(0, i, 1), one.ae);
  }
}

TEST(CpuEngine, ThreadsMayShareOne) {
  const DetectorNetworks networks = random_networks("small", false);
  const CpuEngine engine(networks, {80, 72});
  const torch::Tensor images = torch::randn({4, 3, 80, 72});
  const RawMaps expected = engine.maps(images);
  std::vector<RawMaps> actual(4);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int repeat = 0; repeat < 3; ++repeat) {
        actual[static_cast<size_t>(i)] = engine.maps(images.narrow(0, i, 1));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int64_t i = 0; i < 4; ++i) {
    expect_same_bits(actual[static_cast<size_t>(i)].st, expected.st.narrow(0, i, 1));
    expect_same_bits(actual[static_cast<size_t>(i)].ae, expected.ae.narrow(0, i, 1));
  }
}

TEST(CpuEngine, TheNumberOfThreadsChangesNothing) {
  const DetectorNetworks networks = random_networks("small", true);
  const CpuEngine engine(networks, {64, 100});
  const torch::Tensor images = torch::randn({1, 3, 64, 100});
  const int before = at::get_num_threads();
  const RawMaps expected = engine.maps(images);
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    const RawMaps actual = engine.maps(images);
    expect_same_bits(actual.st, expected.st);
    expect_same_bits(actual.ae, expected.ae);
  }
  at::set_num_threads(before);
}

TEST(CpuEngine, RefusesOtherSizes) {
  const DetectorNetworks networks = random_networks("small", false);
  EXPECT_ERROR(CpuEngine(networks, {63, 256}), Error, "at least 64 px");
  const CpuEngine engine(networks, {64, 64});
  EXPECT_THROW(engine.maps(torch::randn({1, 3, 64, 65})), c10::Error);
}

}  // namespace
}  // namespace efficientad
