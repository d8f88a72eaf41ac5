#include "efficientad/detect/model_bundle.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <fstream>

#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
#include "efficientad/core/safetensors.h"
#include "efficientad/detect/calibration.h"
#include "efficientad/detect/detector.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

ModelBundle small_bundle(bool padding = false) {
  ModelBundle bundle;
  bundle.padding = padding;
  bundle.image_hw = {64, 96};
  bundle.teacher = random_teacher("small", padding, 1).network;
  bundle.student = Pdn(PdnOptions{.out_channels = 768, .padding = padding});
  bundle.autoencoder = Autoencoder();
  bundle.teacher_mean = torch::rand({1, 384, 1, 1});
  bundle.teacher_std = torch::rand({1, 384, 1, 1}) + 0.5;
  bundle.quantiles = {.q_a_st = 0.1, .q_b_st = 1.0 / 3.0, .q_a_ae = 0.2, .q_b_ae = 0.7};
  bundle.threshold = 0.123456789012345;
  bundle.threshold_rule = "a rule";
  bundle.threshold_shift_average = 4;
  bundle.image_range.brightness = {100.5, 123.25};
  bundle.image_range.contrast = {0, 1.0 / 3.0};
  bundle.options = {{"steps", 3}, {"model_size", "small"}};
  bundle.provenance = {{"penalty", "none"}, {"teacher.backbone", "random"}};
  return bundle;
}

TEST(ModelBundle, LoadedGivesTheSameOutput) {
  for (const bool padding : {false, true}) {
    const TempDir dir;
    const auto path = dir.path / "model.safetensors";
    ModelBundle made = small_bundle(padding);
    made.equalize_exposure = padding;
    const Detector before(std::move(made));
    save_bundle(path, before.bundle());
    const Detector after(load_bundle(path));
    const torch::Tensor images = torch::rand({1, 3, 64, 96});
    expect_same_bits(after.maps(images), before.maps(images));
    EXPECT_EQ(after.maps(images).sizes(), (std::vector<int64_t>{1, 1, 16, 24}));
    const ModelBundle& bundle = after.bundle();
    EXPECT_EQ(bundle.padding, padding);
    EXPECT_EQ(bundle.equalize_exposure, padding);
    EXPECT_EQ(bundle.image_hw, before.bundle().image_hw);
    EXPECT_EQ(bundle.quantiles.q_b_st, 1.0 / 3.0);
    EXPECT_EQ(bundle.threshold, 0.123456789012345);
    EXPECT_EQ(bundle.threshold_rule, "a rule");
    EXPECT_EQ(bundle.threshold_shift_average, 4);
    EXPECT_EQ(bundle.image_range.aspect_ratios, std::nullopt);
    EXPECT_EQ(bundle.image_range.brightness, (std::array<double, 2>{100.5, 123.25}));
    EXPECT_EQ(bundle.image_range.contrast, (std::array<double, 2>{0, 1.0 / 3.0}));
    EXPECT_EQ(bundle.options, before.bundle().options);
    EXPECT_EQ(bundle.provenance, before.bundle().provenance);
  }
}

TEST(ModelBundle, TeacherOfAFloat16FileStaysFloat16) {
  const TempDir dir;
  save_teacher(dir.path / "teacher.safetensors", random_teacher("small", false, 1));
  ModelBundle bundle = small_bundle();
  save_bundle(dir.path / "float32.safetensors", bundle);
  bundle.teacher = load_teacher(dir.path / "teacher.safetensors", "small", false).network;
  save_bundle(dir.path / "float16.safetensors", bundle);
  const auto type_in = [&](const char* name) {
    return read_safetensors(dir.path / name).tensors.at("teacher.conv2.weight").scalar_type();
  };
  EXPECT_EQ(type_in("float32.safetensors"), torch::kFloat32);
  EXPECT_EQ(type_in("float16.safetensors"), torch::kFloat16);
}

TEST(ModelBundle, TeacherKeepsItsMetadata) {
  const TempDir dir;
  const auto path = dir.path / "teacher.safetensors";
  Teacher teacher = random_teacher("small", false, 1);
  teacher.metadata["explained_variance"] = "0.5";
  save_teacher(path, teacher);
  const Teacher loaded = load_teacher(path, "", /*padding=*/true);
  EXPECT_EQ(loaded.metadata.at("explained_variance"), "0.5");
  EXPECT_EQ(loaded.metadata.at("format"), kTeacherFormat);
  EXPECT_TRUE(loaded.network->options().padding);
  EXPECT_ERROR(load_teacher(path, "medium", false), Error, "is a teacher of size small");
}

TEST(ModelBundle, RandomTeachersDifferBySeedOnly) {
  const auto weight = [](int64_t seed) {
    return random_teacher("small", false, seed).network->parameters()[0].detach().clone();
  };
  expect_same_bits(weight(3), weight(3));
  EXPECT_FALSE(torch::equal(weight(3), weight(4)));
}

TEST(ModelBundle, OtherFilesAreRefused) {
  const TempDir dir;
  const auto teacher = dir.path / "teacher.safetensors";
  const auto model = dir.path / "model.safetensors";
  save_teacher(teacher, random_teacher("small", false, 1));
  save_bundle(model, small_bundle());
  EXPECT_ERROR(load_bundle(teacher), Error, "but this is a teacher");
  EXPECT_ERROR(load_teacher(model, "small", false), Error, "but this is a trained model");
  EXPECT_ERROR(load_bundle(dir.path / "missing"), Error, "no such file");

  const std::string bytes = read_file(model);
  write_file(dir.path / "short", bytes.substr(0, bytes.size() - 1000));
  EXPECT_ERROR(load_bundle(dir.path / "short"), Error, "truncated");
  write_file(dir.path / "text", "this is no model, whatever it is called");
  EXPECT_ERROR(load_bundle(dir.path / "text"), Error, "not a valid safetensors file");
}

TEST(ModelBundle, DamageIsNamed) {
  const TempDir dir;
  const auto path = dir.path / "model.safetensors";
  save_bundle(path, small_bundle());
  const TensorFile whole = read_safetensors(path);
  const auto expect_refused = [&](const TensorFile& file, const char* message) {
    write_safetensors(dir.path / "damaged.safetensors", file);
    EXPECT_ERROR(load_bundle(dir.path / "damaged.safetensors"), Error, message);
  };
  TensorFile file = whole;
  file.tensors.erase("student.conv4.bias");
  expect_refused(file, "has no tensor named student.conv4.bias");
  file = whole;
  file.tensors["student.conv4.bias"] = torch::zeros({5});
  expect_refused(file, "student.conv4.bias should have the shape [768]");
  file = whole;
  file.tensors["student.conv9.bias"] = torch::zeros({5});
  expect_refused(file, "student.conv9.bias that does not belong there");
  file = whole;
  file.tensors["teacher_mean"] = torch::full({1, 384, 1, 1}, NAN);
  expect_refused(file, "not finite");
  file = whole;
  file.tensors["teacher_std"] = torch::zeros({1, 384, 1, 1});
  expect_refused(file, "not positive");
  file = whole;
  file.tensors["teacher_std"] = torch::ones({1, 384, 1, 1}, torch::kInt64);
  expect_refused(file, "no floating-point numbers");
  file = whole;
  file.metadata["format_version"] = "2";
  expect_refused(file, "format version 2");
  file = whole;
  file.metadata["model_size"] = "large";
  expect_refused(file, "model_size is \"large\"");
  file = whole;
  file.metadata["detector"] = "{}";
  expect_refused(file, "no valid padding");
  file = whole;
  file.metadata["options"] = "[";
  expect_refused(file, "options: no valid JSON");
  file.metadata["options"] = "[]";
  expect_refused(file, "options is no JSON object");
  file = whole;
  auto detector = parse_json<nlohmann::ordered_json>(file.metadata.at("detector"), "detector");
  detector["brightness"] = {1, 2, 3};
  file.metadata["detector"] = dump_json(detector);
  expect_refused(file, "no valid brightness");
  detector.erase("brightness");
  detector["q_a_ae"] = 1e9;
  file.metadata["detector"] = dump_json(detector);
  expect_refused(file, "a quantile q_a is above q_b");
  file = whole;
  file.metadata.erase("provenance");
  expect_refused(file, "has no provenance");
}

TEST(Detector, BatchEqualsOneByOne) {
  const Detector detector(small_bundle());
  const torch::Tensor images = torch::rand({3, 3, 64, 96});
  const torch::Tensor together = detector.maps(images);
  for (int64_t i = 0; i < 3; ++i) {
    // Convolutions may choose another order of summation for another batch size.
    expect_near(together.narrow(0, i, 1), detector.maps(images.narrow(0, i, 1)), 1e-4, 1e-5);
  }
}

TEST(Detector, ExposureMattersUnlessItIsEqualized) {
  const torch::Tensor image = 0.5 * torch::rand({1, 3, 64, 96});
  const Detector plain(small_bundle());
  EXPECT_GT((plain.maps(image) - plain.maps(1.5 * image)).abs().max().item<double>(), 1e-4);
  ModelBundle bundle = small_bundle();
  bundle.equalize_exposure = true;
  const Detector equalizing(std::move(bundle));
  // The images differ by rounding.
  expect_near(equalizing.maps(image), equalizing.maps(1.5 * image), 1e-5, 2e-6);
}

TEST(Detector, WhatIsNoNumberIsNotGood) {
  const Detector detector(small_bundle());
  torch::Tensor map = torch::zeros({1, 4, 4});
  map[0][1][2] = NAN;
  EXPECT_TRUE(std::isnan(detector.finish(map, {16, 20}).score));
  EXPECT_TRUE(detector.finish(map, {16, 20}).anomalous);
}

TEST(Detector, UnknownNamesAreUsageErrors) {
  EXPECT_ERROR(Detector(small_bundle(), torch::kCPU, "fast"), UsageError,
               "engine \"fast\" is none of auto, reference, cpu, cuda");
  EXPECT_ERROR(Detector(small_bundle(), torch::kCPU, "cpu", "fp8"), UsageError,
               "precision \"fp8\" is none of");
}

TEST(Detector, ScoreIsTheMaximumAtTheImagesSize) {
  ModelBundle bundle = small_bundle();
  bundle.threshold = 0.5;
  const Detector detector(std::move(bundle));
  torch::Tensor map = torch::zeros({1, 4, 4});
  map[0][1][2] = 1;
  const Detection detection = detector.finish(map, {16, 20});
  EXPECT_EQ(detection.map_at_image.sizes(), (std::vector<int64_t>{16, 20}));
  EXPECT_EQ(detection.score, detection.map_at_image.max().item<double>());
  EXPECT_TRUE(detection.anomalous);
  EXPECT_FALSE(detector.finish(map * 0.4, {16, 20}).anomalous);
  EXPECT_EQ(detector.finish(map, {4, 4}).score, 1.0);
}

TEST(Calibration, NormalImagesAreNotCalledAnomalous) {
  ModelBundle bundle = small_bundle();
  std::vector<CalibrationImage> images;
  for (int i = 0; i < 3; ++i) {
    images.push_back({.image = torch::rand({3, 64, 96}), .size_hw = {50 + 20 * i, 70}});
  }
  size_t next = 0;
  calibrate(bundle, torch::kCPU, [&]() -> std::optional<CalibrationImage> {
    if (next == images.size()) return std::nullopt;
    return images[next++];
  });
  EXPECT_LT(bundle.quantiles.q_a_st, bundle.quantiles.q_b_st);
  EXPECT_LT(bundle.quantiles.q_a_ae, bundle.quantiles.q_b_ae);
  EXPECT_EQ(bundle.threshold_rule.rfind("highest score of 3 held-out normal images", 0), 0u);
  EXPECT_EQ(bundle.normal_scores.size(), 3u);
  EXPECT_EQ(bundle.normal_scores.back(), bundle.threshold);
  const Detector detector(std::move(bundle));
  double highest = -1e300;
  for (const auto& image : images) {
    const auto detection =
        detector.finish(detector.maps(image.image.unsqueeze(0))[0], image.size_hw);
    EXPECT_FALSE(detection.anomalous);
    EXPECT_LT(detection.normal_share.value(), 1.0);
    highest = std::max(highest, detection.score);
  }
  EXPECT_EQ(highest, detector.bundle().threshold);
}

}  // namespace
}  // namespace efficientad
