#include <gtest/gtest.h>
#include <torch/types.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "cli/program.h"
#include "efficientad/data/csv.h"
#include "efficientad/data/image.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

class Sweep : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"train/good/0", "train/good/1", "train/good/2", "test/good/3",
                             "test/cut/4", "test/cut/5"}) {
      write_image(dir_.path / "data/nut" / (std::string(name) + ".png"),
                  torch::randint(0, 256, {64, 64, 3}, torch::kUInt8));
    }
    std::ofstream(dir_.path / "config.json")
        << R"({"image_size": 64, "steps": 2, "autoencoder_init": "lsuv"})";
  }

  std::string arguments(const std::string& output) const {
    return "sweep --train-config " + (dir_.path / "config.json").string() +
           " --teacher random --data " + (dir_.path / "data").string() +
           " --category nut --shots 1,all --seeds 2 --set learning_rate=1e-4,1e-3 --device cpu"
           " --output " +
           (dir_.path / output).string();
  }

  /// The rows without what a clock says.
  std::vector<std::map<std::string, std::string>> rows_of(const std::string& output) const {
    auto rows = read_csv(dir_.path / output / "results.csv", {"shots", "seed", "image_auroc"});
    for (auto& row : rows) row.erase("seconds");
    return rows;
  }

  TempDir dir_;
};

TEST_F(Sweep, GivesARowARunAndGoesOnWhereItWasKilled) {
  const auto result = run_program(EFFICIENTAD_PROGRAM, arguments("whole"));
  ASSERT_EQ(result.status, 0) << result.err;
  const auto rows = rows_of("whole");
  ASSERT_EQ(rows.size(), 8u);
  EXPECT_EQ(rows[0].at("category"), "nut");
  EXPECT_EQ(rows[0].at("settings"), "learning_rate=1e-3");
  EXPECT_FALSE(rows[0].at("image_auroc").empty());
  const std::string summary = read_text(dir_.path / "whole/summary.md");
  EXPECT_NE(summary.find("| nut | learning_rate=1e-4 | all | 2 |"), std::string::npos) << summary;
  EXPECT_NE(read_text(dir_.path / "whole/curve.svg").find("<polyline"), std::string::npos);
  // Models are not kept.
  for (const auto& entry : fs::recursive_directory_iterator(dir_.path / "whole")) {
    EXPECT_NE(entry.path().filename(), "model.safetensors") << entry.path();
  }

  const fs::path csv = dir_.path / "parts/results.csv";
  for (int64_t killed = 0; killed < 3; ++killed) {
    const auto before = fs::exists(csv) ? rows_of("parts").size() : 0;
    const pid_t child = start_program(EFFICIENTAD_PROGRAM, arguments("parts"));
    for (int i = 0; i < 3000; ++i) {
      if (fs::exists(csv) && rows_of("parts").size() > before) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(300 * killed));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    waitpid(child, nullptr, 0);
  }
  const auto last = run_program(EFFICIENTAD_PROGRAM, arguments("parts"));
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_EQ(rows_of("parts"), rows);
}

TEST_F(Sweep, RefusesWhatItCannotUse) {
  const auto expect_usage_error = [&](const std::string& more, const std::string& part) {
    const auto result = run_program(EFFICIENTAD_PROGRAM, arguments("none") + " " + more);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(dir_.path / "none"));
  };
  expect_usage_error("--shots 1,x", "\"x\" is neither a number of images nor all");
  expect_usage_error("--set steps", "must be a training option and values");
  expect_usage_error("--set stepz=3", "unknown option stepz");
  expect_usage_error("--set steps=0", "steps is 0");
  expect_usage_error("--set shots=1,2", "shots is not for it");
  expect_usage_error("--set steps=2,2", "names a value twice");
  expect_usage_error("--set steps=1 --set steps=2", "set is given twice for one option");
  expect_usage_error("--shots 1,2,1", "names a number twice");
  // Another training's rows would stand beside these.
  ASSERT_EQ(run_program(EFFICIENTAD_PROGRAM, arguments("same") + " --shots 1 --seeds 1").status, 0);
  const auto evaluated = run_program(EFFICIENTAD_PROGRAM, arguments("same") + " --shift-average 2");
  EXPECT_EQ(evaluated.status, 2);
  EXPECT_NE(evaluated.err.find("evaluation.shift_average was 1"), std::string::npos)
      << evaluated.err;
  std::ofstream(dir_.path / "config.json") << R"({"image_size": 64, "steps": 3})";
  const auto other = run_program(EFFICIENTAD_PROGRAM, arguments("same"));
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("steps was 2 in the runs that are there, but now is 3"),
            std::string::npos)
      << other.err;
  // One run that cannot be done does not stop the others.
  const auto result =
      run_program(EFFICIENTAD_PROGRAM, arguments("some") + " --shots 9,1 --seeds 1");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("2 of 4 runs failed"), std::string::npos) << result.err;
  EXPECT_EQ(rows_of("some").size(), 2u);
}

}  // namespace
}  // namespace efficientad
