#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "efficientad/data/image.h"
#include "efficientad/detect/model_bundle.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// A model with random weights for 80 px, and images of 90x100.
class ProbeShift : public testing::Test {
 protected:
  ProbeShift() {
    ModelBundle bundle;
    bundle.image_hw = {80, 80};
    bundle.teacher = random_teacher("small", /*padding=*/false, 1).network;
    bundle.student = Pdn(PdnOptions{.out_channels = 768});
    bundle.autoencoder = Autoencoder();
    bundle.teacher_mean = torch::zeros({1, 384, 1, 1});
    bundle.teacher_std = torch::ones({1, 384, 1, 1});
    bundle.quantiles = {.q_a_st = 0.001, .q_b_st = 0.003, .q_a_ae = 0.001, .q_b_ae = 0.003};
    bundle.normal_scores = {0.1, 0.2, 0.3};
    bundle.options = {{"steps", 0}};
    save_bundle(model, bundle);
    for (const char* name : {"a.png", "b.png", "c.png"}) {
      write_image(images / name, torch::randint(0, 256, {100, 90, 3}, torch::kUInt8));
    }
    torch::Tensor mask = torch::zeros({100, 90}, torch::kUInt8);
    mask.slice(0, 40, 50).slice(1, 30, 45).fill_(255);
    write_image(dir.path / "mask.png", mask);
  }
  ProgramResult run(const std::string& command, const std::string& arguments) const {
    return run_program(EFFICIENTAD_PROGRAM,
                       command + " --model " + model.string() + " --device cpu " + arguments);
  }
  ProgramResult probe(const std::string& arguments) const {
    return run("probe-shift", images.string() + " " + arguments);
  }

  const TempDir dir;
  const fs::path model = dir.path / "model.safetensors";
  const fs::path images = dir.path / "images";
};

TEST_F(ProbeShift, MovesContent) {
  const fs::path output = dir.path / "out";
  auto result = probe("--images 1 --json --output " + output.string());
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("moved"), "content");
  EXPECT_EQ(json.at("images"), 1);
  EXPECT_EQ(json.at("stride").at("places"), 16);
  EXPECT_EQ(json.at("field").at("places"), 97);
  EXPECT_EQ(json.at("stride").at("decisions"), 16);
  EXPECT_GT(json.at("stride").at("score_std").get<double>(), 0);
  EXPECT_GT(json.at("stride").at("score_std_of_normal_std").get<double>(), 0);
  EXPECT_TRUE(json.at("stride").at("peak_distance_px").is_null());
  const std::string csv = read_text(output / "shifts.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 16 + 97);
  EXPECT_NE(read_text(output / "curve.svg").find("</svg>"), std::string::npos);
  EXPECT_TRUE(fs::exists(output / "options.json"));

  result = probe("--images 1 --scan stride --shift-average 4 --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto averaged = nlohmann::json::parse(result.out);
  EXPECT_FALSE(averaged.contains("field"));
  EXPECT_LT(averaged.at("stride").at("map_difference").get<double>(),
            0.7 * json.at("stride").at("map_difference").get<double>());
}

TEST_F(ProbeShift, MovesADefect) {
  const std::string defect =
      "--defect " + (images / "a.png").string() + " --mask " + (dir.path / "mask.png").string();
  for (const std::string& which : {defect, std::string("--synthetic scratch --size 10")}) {
    const auto result = probe("--images 1 --scan stride " + which);
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("the defect of 1 image moved"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("lies off the defect"), std::string::npos) << result.out;
  }
}

TEST_F(ProbeShift, RefusesWhatItCannotUse) {
  auto result = probe("--defect " + (images / "a.png").string());
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("--mask"), std::string::npos) << result.err;
  result = probe("--mask " + (dir.path / "mask.png").string());
  EXPECT_EQ(result.status, 2);
  result = probe("--defect " + (images / "none.png").string() + " --mask " +
                 (dir.path / "mask.png").string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("none.png"), std::string::npos) << result.err;
  write_image(dir.path / "small.png", torch::full({50, 50}, 255, torch::kUInt8));
  result = probe("--defect " + (images / "a.png").string() + " --mask " +
                 (dir.path / "small.png").string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("small.png is 50x50, but its image"), std::string::npos) << result.err;
  result = probe("--synthetic blob --defect " + (images / "a.png").string() + " --mask " +
                 (dir.path / "mask.png").string());
  EXPECT_EQ(result.status, 2);
  result = probe("--synthetic hole");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("blob"), std::string::npos) << result.err;
  result = probe("--synthetic blob --size 70");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("too large"), std::string::npos) << result.err;
  result = run("probe-shift", (dir.path / "nowhere").string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("nowhere"), std::string::npos) << result.err;

  // An image that cannot be read is told, and is no success.
  std::ofstream(images / "d.png") << "no image";
  result = probe("--scan stride --synthetic blob");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("d.png"), std::string::npos) << result.err;
  EXPECT_NE(result.out.find("the defect of 3 images moved"), std::string::npos) << result.out;
}

TEST_F(ProbeShift, OtherCommandsAverageToo) {
  const fs::path output = dir.path / "inferred";
  auto result = run("infer", images.string() + " --shift-average 4 --output " + output.string());
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(read_text(output / "options.json")).at("shift_average"), 4);
  EXPECT_NE(result.err.find("are of --shift-average 1"), std::string::npos) << result.err;
  result = run("bench", "--shift-average 2 --runs 2 --warmup 1 --json");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out).at("shift_average"), 2);
  result = run("verify", "--shift-average 2 " + images.string());
  EXPECT_EQ(result.status, 0) << result.out << result.err;
  result = run("infer", images.string() + " --shift-average 3 --output " + output.string());
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("1, 2, 4, 8 or 16"), std::string::npos) << result.err;

  result = run("threshold", "--shift-average 4");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("--normal-images"), std::string::npos) << result.err;
  result = run("threshold", "--shift-average 4 --json --normal-images " + images.string());
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("with --shift-average 4"), std::string::npos) << result.out;

  // The threshold fits now: nothing to warn of, and of progress nothing is shown to whom the log is
  // for warnings only.
  result = run("infer",
               images.string() + " --shift-average 4 --log-level warn --output " + output.string());
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
}

}  // namespace
}  // namespace efficientad
