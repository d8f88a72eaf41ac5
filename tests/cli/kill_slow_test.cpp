#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <random>
#include <thread>

#include "cli/program.h"
#include "efficientad/data/image.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

int64_t rows_of(const fs::path& log) {
  const std::string text = read_text(log);
  return std::count(text.begin(), text.end(), '\n');
}

TEST(Kill, ATrainingThatIsKilledAgainAndAgainEndsWithTheSameWeights) {
  const TempDir dir;
  for (int i = 0; i < 6; ++i) {
    write_image(dir.path / "data/normal" / (std::to_string(i) + ".png"),
                torch::randint(0, 256, {64, 64, 3}, torch::kUInt8));
  }
  // A checkpoint after every step makes a killed run lose as little as it can, but takes longer
  // than the step.
  const auto arguments = [&](const std::string& output, int checkpoint_minutes) {
    return "train --dataset folder --data " + (dir.path / "data").string() +
           " --teacher random --image-size 64 --steps 90 --optimizer muon --ema-decay 0.9"
           " --autoencoder-init lsuv --device cpu --checkpoint-minutes " +
           std::to_string(checkpoint_minutes) + " --output " + (dir.path / output).string();
  };
  ASSERT_EQ(run_program(EFFICIENTAD_PROGRAM, arguments("whole", 60)).status, 0);

  constexpr int kKills = 20;
  const fs::path log = dir.path / "parts/train_log.csv";
  std::mt19937 random(7);
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    const bool resume = kill_number > 0;
    const int64_t before = rows_of(log);
    const pid_t child =
        start_program(EFFICIENTAD_PROGRAM, arguments("parts", 0) + (resume ? " --resume" : ""));
    ASSERT_GT(child, 0);
    // Some are killed before they did anything, most after a step or two.
    if (random() % 4 > 0) {
      for (int i = 0; i < 3000 && rows_of(log) <= before; ++i) {
        ASSERT_EQ(waitpid(child, nullptr, WNOHANG), 0) << "ended by itself";
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "ended by itself, before kill " << kill_number;
    // The first may have been killed before its folder was there.
    if (!fs::exists(log)) --kill_number;
  }
  // Steps were kept.
  EXPECT_GT(rows_of(log), kKills / 2);
  const auto last = run_program(EFFICIENTAD_PROGRAM, arguments("parts", 60) + " --resume");
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_EQ(read_text(dir.path / "parts/model.safetensors"),
            read_text(dir.path / "whole/model.safetensors"));
  // No temporary files are left.
  for (const auto& entry : fs::directory_iterator(dir.path / "parts")) {
    EXPECT_NE(entry.path().filename().string()[0], '.') << entry.path();
  }
}

}  // namespace
}  // namespace efficientad
