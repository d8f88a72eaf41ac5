#include <gtest/gtest.h>
#include <torch/utils.h>

#include "efficientad/core/device.h"
#include "efficientad/core/log.h"

namespace {

/// Every test starts from the same seed, whatever ran before it.
class SeedReset : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { torch::manual_seed(1234); }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  efficientad::start_logging("warn");
  // Before the seeds: LibTorch asks once whether there is CUDA.
  efficientad::select_device("auto");
  testing::UnitTest::GetInstance()->listeners().Append(new SeedReset);
  return RUN_ALL_TESTS();
}
