#include "efficientad/train/trainer.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/data/dataset.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"
#include "efficientad/detect/model_bundle.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/train/checkpoint.h"
#include "efficientad/train/training_images.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"
#include "train/training_folder.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// A folder of small normal images, options for a run of a few steps, and a teacher.
class TrainerTest : public testing::Test {
 protected:
  TrainerTest() {
    torch::manual_seed(5);
    for (int i = 0; i < 5; ++i) {
      const auto image = torch::randint(0, 256, {70, 80, 3}).to(torch::kUInt8);
      write_image(dir_.path / "data" / "normal" / fmt::format("{}.png", i), image);
    }
    options_.dataset = "folder";
    options_.data = (dir_.path / "data").string();
    options_.output = (dir_.path / "first").string();
    options_.image_size = 64;
    options_.steps = 4;
    options_.checkpoint_minutes = 1000;
    options_.validation_fraction = 0.4;
    options_.threads = 2;
  }

  void TearDown() override { request_interrupt(false); }

  TrainResult train(const TrainOptions& options, int64_t interrupt_after = -1) {
    request_interrupt(false);
    return train_detector(options, random_teacher("small", options.padding, 1), torch::kCPU,
                          [&](const TrainProgress& now) {
                            stages_.push_back(now.stage);
                            if (now.stage == "train" && now.done == interrupt_after) {
                              request_interrupt(true);
                            }
                          });
  }

  TrainOptions options_to(const std::string& output) const {
    TrainOptions options = options_;
    options.output = (dir_.path / output).string();
    return options;
  }

  std::string bytes(const std::string& output, const char* name = "model.safetensors") const {
    return read_file(dir_.path / output / name);
  }

  void expect_resumed_equals_uninterrupted() {
    train(options_to("whole"));
    EXPECT_ERROR(train(options_to("parts"), 2), Interrupted, "interrupted after step 2 of 4");
    EXPECT_FALSE(fs::exists(dir_.path / "parts" / "model.safetensors"));
    TrainOptions rest = options_to("parts");
    rest.resume = true;
    train(rest);
    EXPECT_EQ(bytes("parts"), bytes("whole"));
  }

  TempDir dir_;
  TrainOptions options_;
  std::vector<std::string> stages_;
};

TEST_F(TrainerTest, WritesModelOptionsAndLog) {
  const TrainResult result = train(options_);
  EXPECT_EQ(result.train_images, 3);
  EXPECT_EQ(result.validation_images, 2);
  const ModelBundle bundle = load_bundle(result.model);
  EXPECT_EQ(bundle.threshold, result.threshold);
  EXPECT_EQ(bundle.threshold_rule, result.threshold_rule);
  EXPECT_EQ(bundle.image_range.aspect_ratios, (std::array<double, 2>{80.0 / 70, 80.0 / 70}));
  // Every image, those of the calibration too.
  ImageRange expected;
  for (const auto& entry : fs::directory_iterator(dir_.path / "data" / "normal")) {
    expected.add_levels(grey_levels(read_resized(entry.path(), {64, 64})));
  }
  EXPECT_EQ(bundle.image_range.brightness, expected.brightness);
  EXPECT_EQ(bundle.image_range.contrast, expected.contrast);
  EXPECT_EQ(bundle.image_hw, (std::array<int64_t, 2>{64, 64}));
  EXPECT_EQ(bundle.options.at("steps"), 4);
  EXPECT_EQ(bundle.provenance.at("penalty"), "dead leaves");
  EXPECT_EQ(bundle.provenance.at("train_images"), "3");
  EXPECT_EQ(bundle.provenance.at("teacher.backbone"), "none: random weights, seed 1");

  const std::string log = bytes("first", "train_log.csv");
  EXPECT_EQ(log.rfind("step,seconds,loss_hard,loss_penalty,loss_ae,loss_stae,learning_rate\n1,", 0),
            0U);
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 5);

  TrainOptions again;
  options_from_json(read_json(dir_.path / "first" / "options.json"), "options.json", again);
  EXPECT_EQ(options_to_json(again), options_to_json(options_));
  EXPECT_EQ(std::count(stages_.begin(), stages_.end(), "statistics"), 3);
  EXPECT_EQ(std::count(stages_.begin(), stages_.end(), "train"), 4);
  EXPECT_EQ(std::count(stages_.begin(), stages_.end(), "calibrate"), 2);
}

TEST_F(TrainerTest, TeacherStatisticsAreOverTheTrainingImages) {
  const ModelBundle bundle = load_bundle(train(options_).model);
  Dataset dataset =
      open_dataset("folder", options_.data, "", {.normal_dir = "normal"}, DatasetPart::kTraining);
  split_validation(dataset, options_.validation_fraction, options_.seed);
  ASSERT_EQ(dataset.train.size(), 3u);
  const Teacher teacher = random_teacher("small", options_.padding, 1);
  const auto outputs_of = [&](const std::vector<Sample>& samples) {
    const torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> outputs;
    for (const Sample& sample : samples) {
      const torch::Tensor image = to_float_chw(read_resized(sample.image_path, {64, 64}));
      Pdn network = teacher.network;
      outputs.push_back(network->forward(imagenet_normalize(image.unsqueeze(0)))[0]);
    }
    return torch::cat(outputs, /*dim=*/1).flatten(1).to(torch::kFloat64);
  };
  const torch::Tensor outputs = outputs_of(dataset.train);
  const auto as_stored = [](const torch::Tensor& values) {
    return values.to(torch::kFloat32).view({1, -1, 1, 1});
  };
  expect_near(bundle.teacher_mean, as_stored(outputs.mean(1)), 1e-4, 1e-5);
  expect_near(bundle.teacher_std, as_stored(outputs.std(1, /*unbiased=*/false)), 1e-4, 1e-5);
  // Which those of the others are not.
  EXPECT_FALSE(torch::allclose(bundle.teacher_mean,
                               as_stored(outputs_of(dataset.validation).mean(1)), 1e-4, 1e-5));
}

TEST_F(TrainerTest, TheModelOfAnAverageIsTheAverage) {
  const auto weights_in = [&](const fs::path& file) {
    return load_bundle(dir_.path / file).student->named_parameters()["conv2.weight"].detach();
  };
  TrainOptions options = options_to("still");
  options.steps = 1;
  options.learning_rate = 1e-12;
  train(options);
  options = options_to("without");
  options.learning_rate = 1e-3;
  options.steps = 3;
  options.snapshot_steps = 1;
  train(options);
  options = options_to("with");
  options.learning_rate = 1e-3;
  options.steps = 3;
  options.ema_decay = 0.24;
  train(options);
  torch::Tensor average = weights_in("still/model.safetensors");
  int step = 0;
  for (const char* file : {"without/snapshots/step_1.safetensors",
                           "without/snapshots/step_2.safetensors", "without/model.safetensors"}) {
    // At first (1 + step) / (10 + step), so that the initial weights are soon forgotten.
    const double decay = std::min(0.24, (1.0 + step) / (10.0 + step));
    ++step;
    average = decay * average + (1 - decay) * weights_in(file);
  }
  const torch::Tensor last = weights_in("without/model.safetensors");
  const double change = (last - average).abs().max().item<double>();
  ASSERT_GT(change, 1e-5);
  expect_near(weights_in("with/model.safetensors"), average, 0, 1e-3 * change);
}

TEST_F(TrainerTest, SameSeedSameBytes) {
  train(options_);
  train(options_to("second"));
  EXPECT_EQ(bytes("first"), bytes("second"));
  TrainOptions options = options_to("third");
  options.workers = 3;
  options.cache_mb = 0;
  train(options);
  EXPECT_EQ(bytes("first"), bytes("third"));
  options = options_to("fourth");
  options.seed = 1;
  train(options);
  EXPECT_NE(bytes("first"), bytes("fourth"));
}

TEST_F(TrainerTest, AFinishedRunIsLeftAsItIs) {
  const auto trained = train(options_);
  ModelBundle bundle = load_bundle(trained.model);
  bundle.threshold = 42;
  save_bundle(trained.model, bundle);
  TrainOptions again = options_;
  again.resume = true;
  EXPECT_EQ(train(again).threshold, 42);
  EXPECT_EQ(load_bundle(trained.model).threshold, 42);
}

TEST_F(TrainerTest, ResumedEqualsUninterrupted) { expect_resumed_equals_uninterrupted(); }

TEST_F(TrainerTest, ResumedEqualsUninterruptedWithEveryExtra) {
  options_.image_size = 72;
  options_.image_width = 80;
  options_.crop_size = 64;
  options_.batch_size = 2;
  options_.penalty_batch_size = 1;
  options_.autoencoder_batch_size = 1;
  options_.autoencoder_plain_batch_size = 1;
  options_.optimizer = "muon";
  options_.schedule = "cosine";
  options_.warmup_fraction = 0.25;
  options_.ema_decay = 0.99;
  options_.autoencoder_init = "lsuv";
  // bfloat16 where that is fast; elsewhere a step of it takes a minute.
  options_.precision = "auto";
  options_.equalize_exposure = true;
  expect_resumed_equals_uninterrupted();
}

TEST_F(TrainerTest, ResumedEqualsUninterruptedIfSomeTeacherOutputsAreKept) {
  // Of 3 training images, the outputs of 2 fit: 384 channels of 36x36 float32 each.
  options_.image_size = 176;
  options_.crop_size = 64;
  options_.batch_size = 2;
  options_.teacher_cache_mb = 4;
  expect_resumed_equals_uninterrupted();
}

TEST_F(TrainerTest, KeptTeacherOutputsChangeNothing) {
  options_.crop_size = 64;
  options_.image_size = 96;
  options_.steps = 1;
  const auto log = [&](const std::string& output, int64_t budget) {
    TrainOptions options = options_to(output);
    options.teacher_cache_mb = budget;
    train(options);
    const std::string text = bytes(output, "train_log.csv");
    return text.substr(text.rfind("\n1,") + 3);
  };
  const std::string kept = log("kept", 1536);
  const std::string plain = log("plain", 0);
  // The loss of the first step.
  const auto loss = [](const std::string& row) { return std::stod(row.substr(row.find(',') + 1)); };
  EXPECT_NEAR(loss(kept), loss(plain), 1e-4 * loss(plain));
}

TEST_F(TrainerTest, UnitVarianceInitialisationBeginsAtTheMeanOfTheTeacher) {
  options_.steps = 1;
  const auto largest_of_last_layer = [&](const std::string& output, const std::string& init) {
    TrainOptions options = options_to(output);
    options.autoencoder_init = init;
    const ModelBundle bundle = load_bundle(train(options).model);
    return bundle.autoencoder->named_parameters()["decoder.deconv8.weight"]
        .abs()
        .max()
        .item<double>();
  };
  // Adam's first step is as long as the learning rate, from 0.
  EXPECT_LE(largest_of_last_layer("lsuv", "lsuv"), 1.01 * options_.learning_rate);
  EXPECT_GT(largest_of_last_layer("uniform", "uniform"), 10 * options_.learning_rate);
}

TEST_F(TrainerTest, OneImageLeavesTheAutoencoderInBounds) {
  options_.autoencoder_init = "lsuv";
  options_.shots = 1;
  options_.jitter = 0.5;
  train(options_);
  std::istringstream log(bytes("first", "train_log.csv"));
  std::string line;
  std::getline(log, line);
  int64_t steps = 0;
  double first = 0;
  for (; std::getline(log, line); ++steps) {
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) std::getline(fields, field, ',');
    // It begins with zeros.
    if (steps == 0) first = std::stod(field);
    EXPECT_LT(std::stod(field), 5 * first) << line;
  }
  EXPECT_EQ(steps, 4);
}

TEST_F(TrainerTest, TheDeviceStepGivesTheSame) {
  options_.image_size = 72;
  options_.crop_size = 64;
  options_.batch_size = 2;
  options_.autoencoder_batch_size = 1;
  options_.autoencoder_plain_batch_size = 1;
  options_.autoencoder_init = "lsuv";
  options_.hard_quantile = 0.9;
  options_.learning_rate = 0.001;
  const ModelBundle usual = load_bundle(train(options_).model);
  const auto distance = [&](const ModelBundle& other) {
    const auto expected = usual.student->parameters();
    const auto found = other.student->parameters();
    double sum = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      sum += (found[i] - expected[i]).square().sum().item<double>();
    }
    return std::sqrt(sum);
  };
  TrainOptions options = options_to("other");
  options.hard_quantile = 0.5;
  const double far = distance(load_bundle(train(options).model));
  // Images and teacher outputs on the device, images alone, neither.
  for (const auto& [images_mb, outputs_mb] : {std::pair{512, 1536}, {512, 0}, {0, 0}}) {
    SCOPED_TRACE(images_mb + outputs_mb);
    options = options_to(fmt::format("device_{}_{}", images_mb, outputs_mb));
    options.device_step = "on";
    options.cache_mb = images_mb;
    options.teacher_cache_mb = outputs_mb;
    // Adam makes much of rounding where there is next to no gradient.
    EXPECT_LT(distance(load_bundle(train(options).model)), 0.02 * far);
  }
  EXPECT_EQ(std::count(stages_.begin(), stages_.end(), "images"), 2 * (3 + 1000));
  options.device_step = "on";
  options.plain_step = true;
  EXPECT_ERROR(train(options), UsageError, "contradict");
}

TEST_F(TrainerTest, AFewShotsAreCalibratedOnAlteredCopies) {
  options_.steps = 1;
  options_.shots = 1;
  TrainResult result = train(options_);
  EXPECT_EQ(result.train_images, 1);
  EXPECT_EQ(result.validation_images, 10);
  const ModelBundle bundle = load_bundle(result.model);
  EXPECT_EQ(bundle.provenance.at("validation_images"),
            "10 (altered copies of the training images)");
  // They differ (but where all of a map is below its 0.9-quantile, the score is the border's 0).
  EXPECT_GT(std::set<double>(bundle.normal_scores.begin(), bundle.normal_scores.end()).size(), 2u);
  EXPECT_EQ(bundle.normal_images, NormalImages::kTrainedOn);
  EXPECT_NE(bundle.threshold_rule.find("no false-positive rate can be promised"), std::string::npos)
      << bundle.threshold_rule;
  TrainOptions options = options_to("three");
  options.shots = 3;
  result = train(options);
  // 0.4 of 3 is more than one image.
  EXPECT_EQ(result.train_images, 2);
  EXPECT_EQ(result.validation_images, 1);
  options = options_to("too_many");
  options.shots = 6;
  EXPECT_ERROR(train(options), Error, "shots is 6");
}

TEST_F(TrainerTest, CrossFittingJudgesEveryTrainingImageOnce) {
  for (int i = 5; i < 12; ++i) {
    write_image(dir_.path / "data" / "normal" / fmt::format("{}.png", i),
                torch::randint(0, 256, {70, 80, 3}).to(torch::kUInt8));
  }
  options_.validation_fraction = 0.25;
  options_.steps = 2;
  options_.max_fpr = 0.3;
  train(options_);
  TrainOptions options = options_to("crossed");
  options.cross_fit = 3;
  const TrainResult result = train(options);
  const ModelBundle bundle = load_bundle(result.model);
  EXPECT_EQ(bundle.normal_scores.size(), 9u);
  EXPECT_EQ(bundle.normal_images, NormalImages::kCrossFitted);
  EXPECT_NE(bundle.threshold_rule.find("9 cross-fitted training images"), std::string::npos)
      << bundle.threshold_rule;
  EXPECT_NE(bundle.threshold_rule.find("as an estimate"), std::string::npos)
      << bundle.threshold_rule;
  // The model itself is the one without cross-fitting.
  const ModelBundle without = load_bundle(dir_.path / "first" / "model.safetensors");
  EXPECT_EQ(without.normal_scores.size(), 3u);
  EXPECT_TRUE(torch::equal(bundle.student->parameters()[0], without.student->parameters()[0]));
  const fs::path folds = dir_.path / "crossed" / "cross_fit";
  EXPECT_TRUE(fs::exists(folds / "fold_3" / "normal_scores.json"));
  EXPECT_FALSE(fs::exists(folds / "fold_3" / "checkpoint.safetensors"));

  // Stopped in the second fold's first step, it goes on from the first fold's scores.
  options = options_to("parts");
  options.cross_fit = 3;
  int steps = 0;
  request_interrupt(false);
  EXPECT_ERROR(train_detector(options, random_teacher("small", false, 1), torch::kCPU,
                              [&](const TrainProgress& now) {
                                steps += now.stage == "train" ? 1 : 0;
                                if (steps == 3) request_interrupt(true);
                              }),
               Interrupted, "--resume");
  EXPECT_TRUE(fs::exists(dir_.path / "parts/cross_fit/fold_1/normal_scores.json"));
  EXPECT_ERROR(train(options), Error, "already holds cross_fit");
  EXPECT_TRUE(training_has_begun(options.output));
  options.resume = true;
  TrainOptions other = options;
  for (const int64_t now : {0, 2}) {
    other.cross_fit = now;
    EXPECT_ERROR(train(other), UsageError, fmt::format("cross_fit was 3, but now is {}", now));
  }
  train(options);
  EXPECT_EQ(bytes("parts"), bytes("crossed"));
  // A run that replaces it, stopped between folds, goes on as a new one; the old files are kept.
  options = options_to("parts");
  options.cross_fit = 3;
  options.overwrite = true;
  steps = 0;
  request_interrupt(false);
  EXPECT_ERROR(train_detector(options, random_teacher("small", false, 1), torch::kCPU,
                              [&](const TrainProgress& now) {
                                steps += now.stage == "train" ? 1 : 0;
                                if (steps == 3) request_interrupt(true);
                              }),
               Interrupted, "--resume");
  EXPECT_EQ(read_file(dir_.path / "parts/replaced/model.safetensors"), bytes("crossed"));
  options.overwrite = false;
  options.resume = true;
  train(options);
  EXPECT_EQ(bytes("parts"), bytes("crossed"));
  // A fold that is lost is made again, also if the model itself was begun.
  fs::remove_all(dir_.path / "parts/cross_fit/fold_2");
  fs::remove(dir_.path / "parts/model.safetensors");
  train(options);
  EXPECT_EQ(bytes("parts"), bytes("crossed"));
  options = options_to("one");
  options.cross_fit = 1;
  EXPECT_ERROR(train(options), UsageError, "must be 0 or from 2 to 20");
  options = options_to("too_few");
  options.cross_fit = 5;
  EXPECT_ERROR(train(options), Error, "too few for cross_fit 5");
}

TEST_F(TrainerTest, SnapshotsAreModelsOfTheWayThereAndChangeNothing) {
  options_.ema_decay = 0.9;
  train(options_);
  TrainOptions options = options_to("snapshots");
  options.snapshot_steps = 2;
  train(options);
  EXPECT_EQ(bytes("snapshots"), bytes("first"));
  EXPECT_EQ(std::count(stages_.begin(), stages_.end(), "calibrate"), 2 * 2);
  const fs::path folder = dir_.path / "snapshots" / "snapshots";
  // The last one is the model.
  EXPECT_EQ(read_file(folder / "step_4.safetensors"), bytes("first"));
  const ModelBundle half = load_bundle(folder / "step_2.safetensors");
  const ModelBundle whole = load_bundle(folder / "step_4.safetensors");
  EXPECT_GT(half.threshold, 0);
  EXPECT_FALSE(torch::equal(half.student->parameters()[0], whole.student->parameters()[0]));
  EXPECT_FALSE(fs::exists(folder / "step_1.safetensors"));
  // One that was not written before the run was stopped is written when it goes on.
  TrainOptions parts = options_to("parts");
  parts.snapshot_steps = 2;
  EXPECT_ERROR(train(parts, 2), Interrupted, "--resume");
  EXPECT_FALSE(fs::exists(dir_.path / "parts/snapshots/step_2.safetensors"));
  parts.resume = true;
  train(parts);
  const ModelBundle late = load_bundle(dir_.path / "parts/snapshots/step_2.safetensors");
  EXPECT_EQ(late.threshold, half.threshold);
  EXPECT_TRUE(torch::equal(late.student->parameters()[0], half.student->parameters()[0]));
  EXPECT_EQ(bytes("parts"), bytes("first"));
  // Another run moves them away with the rest.
  options.overwrite = true;
  options.snapshot_steps = 0;
  train(options);
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(TrainerTest, LogIsCutToTheCheckpoint) {
  EXPECT_ERROR(train(options_, 2), Interrupted, "--resume");
  const fs::path log = dir_.path / "first" / "train_log.csv";
  write_file(log, read_file(log) + "3,9.0,1,1,1,1,1\n4,9");
  TrainOptions rest = options_;
  rest.resume = true;
  train(rest);
  const std::string text = read_file(log);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
  EXPECT_EQ(text.find("9.0,1,1"), std::string::npos);
}

TEST_F(TrainerTest, ResumeNeedsTheSameRun) {
  EXPECT_ERROR(train(options_, 2), Interrupted, "--resume");
  TrainOptions rest = options_;
  rest.resume = true;
  rest.learning_rate = 1e-3;
  EXPECT_ERROR(train(rest), UsageError, "learning_rate was 0.0001, but now is 0.001");
  rest = options_;
  rest.resume = true;
  fs::remove(dir_.path / "data" / "normal" / "4.png");
  EXPECT_ERROR(train(rest), UsageError, "set was");
  rest.output = (dir_.path / "nowhere").string();
  EXPECT_ERROR(train(rest), Error, "no checkpoint.safetensors to resume from");
  EXPECT_FALSE(fs::exists(dir_.path / "nowhere"));
}

TEST_F(TrainerTest, DamagedCheckpointIsRefused) {
  EXPECT_ERROR(train(options_, 2), Interrupted, "--resume");
  const fs::path path = dir_.path / "first" / "checkpoint.safetensors";
  const std::string whole = read_file(path);
  write_file(path, whole.substr(0, whole.size() / 2));
  TrainOptions rest = options_;
  rest.resume = true;
  EXPECT_ERROR(train(rest), Error, "checkpoint.safetensors");
}

TEST_F(TrainerTest, DamagedTensorsOfACheckpointAreNamed) {
  EXPECT_ERROR(train(options_, 2), Interrupted, "--resume");
  const fs::path path = dir_.path / "first" / "checkpoint.safetensors";
  const std::string whole = read_file(path);
  TrainOptions rest = options_;
  rest.resume = true;
  const auto resume_with = [&](const std::function<void(Checkpoint&)>& damage,
                               const std::string& message) {
    write_file(path, whole);
    Checkpoint checkpoint = load_checkpoint(path);
    damage(checkpoint);
    save_checkpoint(path, checkpoint);
    EXPECT_ERROR(train(rest), Error, "checkpoint.safetensors: " + message);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  resume_with([&](Checkpoint& c) { c.weights["student.conv1.bias"][0] = nan; },
              "student.conv1.bias holds values that are not finite");
  resume_with([&](Checkpoint& c) { c.teacher_std.neg_(); }, "teacher_std holds values");
  resume_with([&](Checkpoint& c) { c.teacher_mean = c.teacher_mean.flatten(); },
              "teacher_mean has another shape");
  resume_with([&](Checkpoint& c) { c.optimizer.clear(); }, "the optimizer's state");
  resume_with([&](Checkpoint& c) { c.optimizer["student.conv1.bias.step"] = torch::ones({2}); },
              "the optimizer's state student.conv1.bias.step is damaged");
  EXPECT_FALSE(fs::exists(dir_.path / "first" / "model.safetensors"));
}

TEST_F(TrainerTest, AModelThatDivergedInItsLastStepIsNotWritten) {
  options_.steps = 1;
  options_.learning_rate = 10;
  EXPECT_ERROR(train(options_), Error, "not finite");
  EXPECT_FALSE(fs::exists(dir_.path / "first" / "model.safetensors"));
}

TEST_F(TrainerTest, TwoRunsCannotHaveOneOutput) {
  fs::create_directories(options_.output);
  const FolderLock lock(options_.output, "unused");
  EXPECT_ERROR(train(options_), Error, "first: another training is writing to it");
  EXPECT_TRUE(fs::is_empty(options_.output));
}

TEST_F(TrainerTest, ARunThatIsToReplaceOneInProgressLeavesItsFiles) {
  options_.validation_fraction = 0.2;
  EXPECT_ERROR(train(options_, 2), Interrupted, "--resume");
  const fs::path checkpoint = dir_.path / "first" / "checkpoint.safetensors";
  options_.overwrite = true;
  for (const int64_t folds : {0, 2}) {
    options_.cross_fit = folds;
    const FolderLock lock(options_.output, "unused");
    EXPECT_ERROR(train(options_), Error, "first: another training is writing to it");
    EXPECT_TRUE(fs::exists(checkpoint));
    EXPECT_TRUE(fs::exists(dir_.path / "first" / "options.json"));
    EXPECT_FALSE(fs::exists(dir_.path / "first" / "replaced"));
    EXPECT_FALSE(fs::exists(dir_.path / "first" / "cross_fit"));
  }
}

TEST_F(TrainerTest, GoingOnFromTheCheckpointBeforeKeepsItUntilThereIsAnother) {
  options_.checkpoint_minutes = 0;
  EXPECT_ERROR(train(options_, 3), Interrupted, "--resume");
  const fs::path last = dir_.path / "first" / "checkpoint.safetensors";
  const fs::path previous = dir_.path / "first" / "checkpoint_previous.safetensors";
  const std::string good = read_file(previous);
  write_file(last, "damaged");
  TrainingFolder folder(options_.output);
  const Checkpoint loaded = folder.load();
  EXPECT_EQ(loaded.step, 2);
  folder.save(loaded);
  EXPECT_EQ(read_file(previous), good);
  EXPECT_EQ(load_checkpoint(last).step, 2);
  // From then on, each takes the other's place again.
  write_file(previous, "old");
  folder.save(loaded);
  EXPECT_EQ(load_checkpoint(previous).step, 2);
}

TEST_F(TrainerTest, PlainStepsAreTheSameWithinRounding) {
  options_.steps = 1;
  const auto log_of = [&](const std::string& output, bool plain) {
    TrainOptions options = options_to(output);
    options.plain_step = plain;
    train(options);
    const std::string text = bytes(output, "train_log.csv");
    // Behind step and seconds.
    std::vector<double> losses;
    std::istringstream row(text.substr(text.rfind("\n1,") + 3));
    for (std::string field; std::getline(row, field, ',');) losses.push_back(std::stod(field));
    losses.erase(losses.begin());
    return losses;
  };
  const auto fast = log_of("fast", false);
  const auto plain = log_of("plain", true);
  ASSERT_EQ(fast.size(), 5u);
  for (size_t i = 0; i < fast.size(); ++i) EXPECT_NEAR(fast[i], plain[i], 1e-5 * plain[i]);
}

TEST_F(TrainerTest, ResumeOfAFinishedRunWritesTheModelAnew) {
  train(options_);
  const std::string before = bytes("first");
  fs::remove(dir_.path / "first" / "model.safetensors");
  TrainOptions rest = options_;
  rest.resume = true;
  train(rest);
  EXPECT_EQ(bytes("first"), before);
}

TEST_F(TrainerTest, AnOutputInUseIsNotTouched) {
  options_.steps = 1;
  train(options_);
  const std::string log = bytes("first", "train_log.csv");
  options_.seed = 1;
  EXPECT_ERROR(train(options_), Error, "already holds model.safetensors");
  EXPECT_EQ(bytes("first", "train_log.csv"), log);
  const std::string before = bytes("first");
  options_.overwrite = true;
  options_.steps = 2;
  // Until the new run is done, the earlier one's files are kept.
  for (int i = 0; i < 2; ++i) {
    EXPECT_ERROR(train(options_, 1), Interrupted, "interrupted");
    EXPECT_EQ(bytes("first/replaced"), before);
    EXPECT_FALSE(fs::exists(dir_.path / "first" / "model.safetensors"));
  }
  train(options_);
  EXPECT_NE(bytes("first"), before);
  EXPECT_FALSE(fs::exists(dir_.path / "first" / "replaced"));
}

TEST_F(TrainerTest, ADamagedValidationImageStopsTheRunBeforeItBegins) {
  // Which images are for validation is drawn, so all are damaged.
  for (int i = 0; i < 5; ++i) {
    const fs::path path = dir_.path / "data" / "normal" / fmt::format("{}.png", i);
    const std::string whole = read_file(path);
    write_file(path, whole.substr(0, whole.size() / 2));
  }
  EXPECT_ERROR(train(options_), Error, "damaged PNG file");
  EXPECT_FALSE(fs::exists(options_.output));
}

TEST_F(TrainerTest, ADamagedImageOfAFoldStopsTheRunBeforeItBegins) {
  options_.validation_fraction = 0.2;
  options_.cross_fit = 2;
  for (int i = 0; i < 5; ++i) {
    const fs::path path = dir_.path / "data" / "normal" / fmt::format("{}.png", i);
    const std::string whole = read_file(path);
    write_file(path, whole.substr(0, whole.size() / 2));
    // One of the four that are trained on and judged by turns, or the one to calibrate on.
    EXPECT_ERROR(train(options_), Error, fmt::format("{}.png: damaged PNG file", i));
    EXPECT_EQ(std::count(stages_.begin(), stages_.end(), "train"), 0);
    write_file(path, whole);
    fs::remove_all(options_.output);
  }
}

TEST_F(TrainerTest, ADamagedPenaltyImageIsPassedOver) {
  const fs::path photos = dir_.path / "photos";
  write_file(photos / "0.png", "no image");
  options_.penalty_images = photos.string();
  EXPECT_ERROR(train(options_), Error, "no penalty image can be read");
  write_image(photos / "1.png", torch::full({90, 60, 3}, 9, torch::kUInt8));
  options_ = options_to("second");
  EXPECT_NO_THROW(train(options_));
}

TEST_F(TrainerTest, LossThatIsNotFiniteStopsTheRun) {
  options_.learning_rate = 10;
  options_.steps = 50;
  options_.penalty = false;
  EXPECT_ERROR(train(options_), Error, "the loss is not finite at step");
  EXPECT_FALSE(fs::exists(dir_.path / "first" / "model.safetensors"));
}

TEST_F(TrainerTest, PenaltyImagesOfAFolder) {
  write_image(dir_.path / "photos" / "a" / "0.png", torch::full({90, 60, 3}, 9, torch::kUInt8));
  write_image(dir_.path / "photos" / "1.png", torch::full({90, 60, 3}, 200, torch::kUInt8));
  options_.penalty_images = (dir_.path / "photos").string() + "/";
  options_.steps = 1;
  EXPECT_EQ(load_bundle(train(options_).model).provenance.at("penalty"), "images: 2 from photos");
  options_ = options_to("none");
  options_.penalty_images = (dir_.path / "data" / "empty").string();
  fs::create_directory(options_.penalty_images);
  EXPECT_ERROR(train(options_), Error, "has no images");
  EXPECT_FALSE(fs::exists(dir_.path / "none"));
}

TEST_F(TrainerTest, MissingDataIsAnErrorBeforeAnythingIsWritten) {
  options_.data = (dir_.path / "nowhere").string();
  EXPECT_ERROR(train(options_), Error, "nowhere");
  EXPECT_FALSE(fs::exists(options_.output));
}

TEST_F(TrainerTest, OptionsThatCannotBe) {
  const auto expect_refused = [&](auto change, const char* message) {
    TrainOptions options = options_;
    change(options);
    EXPECT_ERROR(check_train_options(options), UsageError, message);
  };
  check_train_options(options_);
  expect_refused([](auto& o) { o.crop_size = 64, o.padding = true; }, "needs padding off");
  expect_refused([](auto& o) { o.crop_size = 68; }, "crop_size is 68");
  expect_refused([](auto& o) { o.crop_size = 32; }, "crop_size is 32");
  expect_refused([](auto& o) { o.penalty_batch_size = 2; }, "penalty_batch_size is 2");
  expect_refused([](auto& o) { o.autoencoder_batch_size = 2; }, "autoencoder_batch_size is 2");
  expect_refused([](auto& o) { o.autoencoder_plain_batch_size = 2; },
                 "autoencoder_plain_batch_size is 2");
  expect_refused([](auto& o) { o.autoencoder_input = "full"; }, "at least 256 px");
  expect_refused([](auto& o) { o.image_width = 32; }, "image_width is 32");
  expect_refused([](auto& o) { o.resume = o.overwrite = true; }, "contradict");
  expect_refused([](auto& o) { o.penalty = false, o.penalty_images = "x"; }, "penalty is off");
  expect_refused([](auto& o) { o.quantile_a = 0.999; }, "quantile_b");
  expect_refused([](auto& o) { o.steps = 0; }, "steps is 0");
  expect_refused([](auto& o) { o.optimizer = "sgd"; }, "optimizer is \"sgd\"");
  expect_refused([](auto& o) { o.data.clear(); }, "data is missing");
}

TEST(TrainOptions, EveryHyperParameterSaysWhereItComesFrom) {
  // All others are.
  const std::set<std::string> no_hyper_parameters = {
      "dataset",        "data",      "category",         "shard",
      "normal_dir",     "output",    "teacher",          "shots",
      "penalty_images", "seed",      "plain_step",       "device_step",
      "device",         "threads",   "workers",          "cache_mb",
      "snapshot_steps", "overwrite", "teacher_cache_mb", "checkpoint_minutes",
      "resume"};
  TrainOptions options;
  std::set<std::string> names;
  for (const auto& [name, field, info] : list_options(options)) {
    EXPECT_FALSE(info.help.empty()) << name;
    EXPECT_EQ(info.source.empty(), no_hyper_parameters.count(name) == 1) << name;
    names.insert(name);
  }
  for (const auto& name : no_hyper_parameters) EXPECT_TRUE(names.count(name)) << name;
}

TEST(TrainOptions, PaperConfigsAreTheDefaults) {
  for (const std::string size : {"small", "medium"}) {
    const std::string path =
        std::string(EFFICIENTAD_SOURCE_DIR) + "/configs/train_paper_" + size + ".json";
    TrainOptions options;
    options_from_json(read_json(path), path, options);
    TrainOptions expected;
    expected.model_size = size;
    EXPECT_EQ(options_to_json(options), options_to_json(expected));
  }
  const std::string fast = std::string(EFFICIENTAD_SOURCE_DIR) + "/configs/train_fast.json";
  TrainOptions options;
  options_from_json(read_json(fast), fast, options);
  options.data = options.output = "somewhere";
  check_train_options(options);
}

TEST_F(TrainerTest, EachEpochHasEveryImage) {
  options_.penalty = false;
  const fs::path folder = dir_.path / "data" / "normal";
  TrainingImages images(options_, list_images(folder));
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    torch::Tensor sum = torch::zeros({64, 64, 3}, torch::kInt64);
    torch::Tensor expected = torch::zeros({64, 64, 3}, torch::kInt64);
    for (int64_t i = 0; i < 5; ++i) {
      sum += images.draw(5 * epoch + i).images[0];
      expected += images.train_image(i);
    }
    expect_same_bits(sum, expected);
  }
}

TEST_F(TrainerTest, DrawnStepsDependOnTheStepOnly) {
  options_.image_size = 96;
  options_.crop_size = 64;
  TrainingImages images(options_, list_images(dir_.path / "data" / "normal"));
  const TrainBatch third = images.prepare(images.draw(3), torch::kCPU);
  images.draw(4);
  TrainingImages anew(options_, list_images(dir_.path / "data" / "normal"));
  const TrainBatch again = anew.prepare(anew.draw(3), torch::kCPU);
  expect_same_bits(again.images, third.images);
  expect_same_bits(again.jittered, third.jittered);
  expect_same_bits(again.penalty, third.penalty);
  EXPECT_EQ(again.jittered_corners, third.jittered_corners);
  EXPECT_EQ(third.images.sizes(), (std::vector<int64_t>{1, 3, 64, 64}));
  EXPECT_EQ(third.jittered.sizes(), (std::vector<int64_t>{1, 3, 96, 96}));
  EXPECT_EQ(third.jittered_corners[0][0] % 4, 0);
}

TEST(ImageCache, StopsAtItsBudget) {
  ImageCache cache(/*budget_bytes=*/100);
  int made = 0;
  const auto make = [&] {
    ++made;
    return torch::full({60}, made, torch::kUInt8);
  };
  EXPECT_EQ(cache.get(1, make)[0].item<int>(), 1);
  EXPECT_EQ(cache.get(2, make)[0].item<int>(), 2);
  EXPECT_EQ(cache.get(1, make)[0].item<int>(), 1);
  EXPECT_EQ(cache.get(2, make)[0].item<int>(), 3);
}

}  // namespace
}  // namespace efficientad
