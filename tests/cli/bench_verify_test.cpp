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

/// A model with random weights for 64 px.
class BenchVerify : public testing::Test {
 protected:
  BenchVerify() {
    ModelBundle bundle;
    bundle.image_hw = {64, 64};
    bundle.teacher = random_teacher("small", /*padding=*/false, 1).network;
    bundle.student = Pdn(PdnOptions{.out_channels = 768});
    bundle.autoencoder = Autoencoder();
    bundle.teacher_mean = torch::zeros({1, 384, 1, 1});
    bundle.teacher_std = torch::ones({1, 384, 1, 1});
    bundle.quantiles = {.q_a_st = 0.1, .q_b_st = 0.3, .q_a_ae = 0.1, .q_b_ae = 0.3};
    bundle.options = {{"steps", 0}};
    save_bundle(model, bundle);
  }
  ProgramResult run(const std::string& command, const std::string& arguments) const {
    return run_program(EFFICIENTAD_PROGRAM,
                       command + " --model " + model.string() + " --device cpu " + arguments);
  }

  const TempDir dir;
  const fs::path model = dir.path / "model.safetensors";
};

TEST_F(BenchVerify, BenchPrintsOneObject) {
  for (const std::string engine : {"reference", "cpu"}) {
    const auto result =
        run("bench", "--engine " + engine + " --runs 3 --warmup 1 --batch 2 --json");
    ASSERT_EQ(result.status, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json.at("engine"), engine);
    EXPECT_GT(json.at("latency_ms_median").get<double>(), 0);
    EXPECT_GE(json.at("latency_ms_p95").get<double>(), json.at("latency_ms_median").get<double>());
    EXPECT_NEAR(json.at("images_per_second").get<double>(),
                2000 / json.at("latency_ms_median").get<double>(), 1e-6);
    const auto program = json.at("program_memory_mib").get<double>();
    const auto steady = json.at("steady_memory_mib").get<double>();
    EXPECT_GT(program, 1);
    EXPECT_GT(steady, program);
    EXPECT_GE(json.at("peak_memory_mib").get<double>(), steady);
  }
}

TEST_F(BenchVerify, BenchCountsImagesASecond) {
  const auto result = run("bench", "--runs 1 --warmup 1 --throughput --batches 1,3 --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto rows = nlohmann::json::parse(result.out).at("throughput");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].at("batch"), 3);
  EXPECT_GT(rows[1].at("images_per_second").get<double>(), 0);
  for (const char* bad : {"0", "1,x", "2000"}) {
    const auto refused = run("bench", std::string("--runs 1 --throughput --batches ") + bad);
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.err.find("is no batch size"), std::string::npos) << refused.err;
  }
}

TEST_F(BenchVerify, BenchTimesLayersAndOtherSizes) {
  auto result = run("bench", "--runs 2 --warmup 1 --size 72 --layers");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("72x72"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("| conv2 + enconv2 |"), std::string::npos) << result.out;
  result = run("bench", "--runs 1 --warmup 1 --size 97x64 --json");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out).at("image_hw"), nlohmann::json({64, 97}));
}

TEST_F(BenchVerify, BenchRefusesWhatItCannotUse) {
  auto result = run("bench", "--engine tensorrt");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("auto, reference, cpu"), std::string::npos) << result.err;
  for (const char* size :
       {"large", "64x", "x64", "64x64x64", "-64", "0", "5000", "1e2", "\" 64\""}) {
    result = run("bench", std::string("--size=") + size);
    EXPECT_EQ(result.status, 2) << size;
    EXPECT_NE(result.err.find("SIDE nor WIDTHxHEIGHT"), std::string::npos) << result.err;
  }
  result = run("bench", "--size 32");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("at least 64 px"), std::string::npos) << result.err;
  result = run("bench", "--image " + (dir.path / "none.png").string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("none.png"), std::string::npos) << result.err;
  result = run("bench", "--engine reference --layers --runs 1 --warmup 1");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("--layers"), std::string::npos) << result.err;
}

TEST_F(BenchVerify, VerifyComparesEngines) {
  auto result = run("verify", "");
  ASSERT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_NE(result.out.find("10 images"), std::string::npos) << result.out;

  const fs::path images = dir.path / "images";
  for (const char* name : {"a.png", "b.png"}) {
    write_image(images / name, torch::randint(0, 256, {40, 50, 3}, torch::kUInt8));
  }
  result = run("verify", "--json " + images.string());
  ASSERT_EQ(result.status, 0) << result.out << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("images"), 2);
  EXPECT_TRUE(json.at("equal"));
  EXPECT_EQ(json.at("tolerance"), 0.001);
  EXPECT_LT(json.at("map_difference_max").get<double>(), 1e-3);
  // Rounding differs; nothing is compared with itself.
  EXPECT_GT(json.at("map_difference_max").get<double>(), 0);

  EXPECT_EQ(run("verify", "--tolerance -0.5 " + images.string()).status, 2);
  result = run("verify", "--tolerance 0 " + images.string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.out.find("NOT equal"), std::string::npos) << result.out;

  // An image that cannot be read is told, and is no success.
  std::ofstream(images / "c.png") << "no image";
  result = run("verify", images.string());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("c.png"), std::string::npos) << result.err;
  EXPECT_NE(result.out.find("2 images"), std::string::npos) << result.out;
}

}  // namespace
}  // namespace efficientad
