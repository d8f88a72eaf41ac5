#include "efficientad/train/distiller.h"

#include <torch/script.h>
#include <torch/utils.h>

#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/train/feature_cache.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// Images, a backbone that any PDN can imitate (local averages of the picture), and options for a
/// run of seconds.
class Distiller : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 6; ++i) {
      const torch::Tensor coarse = torch::rand({1, 3, 12, 12});
      const torch::Tensor image = torch::upsample_bilinear2d(coarse, {96, 96}, false)[0];
      write_image(dir_.path / "images" / (std::to_string(i) + ".png"),
                  (image.permute({1, 2, 0}) * 255).to(torch::kUInt8).contiguous());
    }
    torch::jit::Module backbone("backbone");
    backbone.define(R"(
      def forward(self, x):
          a = torch.avg_pool2d(x, 8)
          return (torch.cat([a, -a, a * a], 1), torch.avg_pool2d(a, 2))
    )");
    backbone.save((dir_.path / "backbone.pt").string());
    options_.backbone = {(dir_.path / "backbone.pt").string()};
    options_.images = {(dir_.path / "images").string()};
    options_.output = (dir_.path / "out" / "teacher.safetensors").string();
    options_.steps = 6;
    options_.batch_size = 2;
    options_.crop_size = 64;
    options_.held_out = 2;
    options_.precision = "fp32";
    options_.device = "cpu";
    options_.checkpoint_minutes = 1000;
  }
  void TearDown() override { request_interrupt(false); }

  static torch::Tensor weights(const fs::path& path) {
    const Teacher teacher = load_teacher(path, "small", /*padding=*/false);
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : teacher.network->parameters()) flat.push_back(parameter.flatten());
    return torch::cat(flat).detach();
  }
  static void ignore(const DistillProgress&) {}

  /// What a distillation of one step keeps in the folder `name`.
  FeatureCache cache_of(const std::string& name) {
    options_.steps = 1;
    options_.keep_cache = true;
    options_.cache = (dir_.path / name).string();
    options_.output = (dir_.path / name / "teacher.safetensors").string();
    distill(options_, ignore);
    return FeatureCache(dir_.path / name, read_file(dir_.path / name / "features.key"),
                        kDistillSide, kGrid, 384);
  }

  static constexpr int64_t kGrid = 56;

  TempDir dir_;
  DistillOptions options_;
};

TEST_F(Distiller, WritesATeacherWithItsProvenanceAndLearns) {
  options_.steps = 40;
  double first = 0;
  double last = 0;
  const DistillResult result = distill(options_, [&](const DistillProgress& progress) {
    if (progress.stage != "distill") return;
    if (progress.done == 1) first = progress.loss;
    last = progress.loss;
  });
  EXPECT_LT(last, 0.8 * first);
  EXPECT_GT(result.explained_variance, 0.2);
  Teacher teacher = load_teacher(options_.output, "small", false);
  EXPECT_EQ(teacher.metadata.at("steps"), "40");
  EXPECT_EQ(teacher.metadata.at("images"), "4 images of images");
  EXPECT_EQ(teacher.metadata.at("backbone_architecture"), "backbone.pt");
  EXPECT_EQ(teacher.metadata.count("explained_variance_deep"), 1u);
  EXPECT_FALSE(fs::exists(options_.output + ".checkpoint"));
  EXPECT_FALSE(fs::exists(options_.output + ".cache"));
  EXPECT_NE(read_file(options_.output + ".log.csv").find("\n40,"), std::string::npos);
}

TEST_F(Distiller, SameSeedSameWeightsAnotherSeedOthers) {
  distill(options_, ignore);
  const torch::Tensor first = weights(options_.output);
  EXPECT_ERROR(distill(options_, ignore), Error, "exists already");
  expect_same_bits(weights(options_.output), first);
  options_.overwrite = true;
  distill(options_, ignore);
  expect_same_bits(weights(options_.output), first);
  options_.seed = 1;
  distill(options_, ignore);
  EXPECT_FALSE(torch::equal(weights(options_.output), first));
}

TEST_F(Distiller, ResumedEqualsUninterruptedToTheBit) {
  distill(options_, ignore);
  const torch::Tensor whole = weights(options_.output);
  options_.output = (dir_.path / "other" / "teacher.safetensors").string();
  EXPECT_THROW(distill(options_,
                       [](const DistillProgress& progress) {
                         if (progress.stage == "distill" && progress.done == 3) {
                           request_interrupt(true);
                         }
                       }),
               Interrupted);
  request_interrupt(false);
  EXPECT_FALSE(fs::exists(options_.output));
  options_.resume = true;
  distill(options_, ignore);
  expect_same_bits(weights(options_.output), whole);
}

TEST_F(Distiller, InterruptedFeaturesAreKept) {
  EXPECT_THROW(distill(options_,
                       [](const DistillProgress& progress) {
                         if (progress.stage == "features" && progress.done == 2) {
                           request_interrupt(true);
                         }
                       }),
               Interrupted);
  request_interrupt(false);
  int64_t first = 0;
  distill(options_, [&](const DistillProgress& progress) {
    if (progress.stage == "features" && first == 0) first = progress.done;
  });
  EXPECT_EQ(first, 3);
}

TEST_F(Distiller, ExposureJitterMakesTheTeacherDependLessOnExposure) {
  options_.steps = 60;
  options_.crop_size = 96;
  const torch::Tensor image =
      to_float_chw(resize_pil_bilinear(read_image(dir_.path / "images" / "0.png"), {256, 256}));
  const auto dependence = [&] {
    torch::NoGradGuard no_grad;
    Teacher teacher = load_teacher(options_.output, "small", /*padding=*/false);
    const auto output = [&](double brightness) {
      return teacher.network->forward(imagenet_normalize(image * brightness).unsqueeze(0));
    };
    const torch::Tensor plain = output(1);
    return ((output(0.5) - plain).square().mean() / plain.var()).item<double>();
  };
  distill(options_, ignore);
  const double without = dependence();
  options_.exposure_jitter = 3;
  options_.overwrite = true;
  distill(options_, ignore);
  EXPECT_LT(dependence(), 0.7 * without);
}

TEST_F(Distiller, PatchTargetOfThePaper) {
  options_.target = "patch";
  options_.steps = 2;
  EXPECT_NO_THROW(distill(options_, ignore));
}

TEST_F(Distiller, AverageTargetIsTheSmoothedChannels) {
  options_.target = "average";
  options_.flip = false;
  options_.grey_probability = 0;
  const FeatureCache cache = cache_of("cache");
  ASSERT_EQ(cache.size(), 6);
  const torch::Tensor target = cache.target(0, 0, 0, kGrid, kGrid).to(torch::kFloat64);
  const torch::Tensor seen = cache.image(0, 0, 0, kDistillSide, kDistillSide);
  int matches = 0;
  for (const auto& path : list_images(dir_.path / "images", /*recursive=*/true)) {
    const torch::Tensor image = read_image(path);
    if (!torch::equal(resize_pil_bilinear(image, {kDistillSide, kDistillSide}), seen)) continue;
    ++matches;
    const torch::Tensor large = resize_pil_bilinear(image, {2 * kDistillSide, 2 * kDistillSide});
    const torch::Tensor red =
        torch::avg_pool2d(imagenet_normalize(to_float_chw(large).unsqueeze(0)).narrow(1, 0, 1), 8);
    const torch::Tensor smooth =
        torch::avg_pool2d(red, 3, 1, 1, /*ceil_mode=*/false, /*count_include_pad=*/false);
    // The first of the backbone's nine channels makes the first 21 of the target's; both up to
    // scale and shift.
    const torch::Tensor wanted = smooth[0][0].slice(0, 4, 60).slice(1, 4, 60).flatten();
    for (const int64_t channel : {0, 20}) {
      const torch::Tensor both =
          torch::stack({wanted.to(torch::kFloat64), target.select(2, channel).flatten()});
      EXPECT_GT(torch::corrcoef(both)[0][1].item<double>(), 0.9999) << channel;
    }
  }
  EXPECT_EQ(matches, 1);
}

TEST_F(Distiller, FurtherViewsArePartsOfTheTrainingImages) {
  const FeatureCache whole = cache_of("whole");
  options_.views = 3;
  const FeatureCache views = cache_of("views");
  ASSERT_EQ(whole.size(), 6);
  ASSERT_EQ(views.size(), 3 * 4 + 2);
  const auto seen = [](const FeatureCache& cache, int64_t i) {
    return cache.image(i, 0, 0, kDistillSide, kDistillSide);
  };
  // The images themselves come first, those held out last, each once.
  for (const int64_t i : {0, 1, 2, 3}) expect_same_bits(seen(views, i), seen(whole, i));
  for (const int64_t i : {4, 5}) expect_same_bits(seen(views, i + 8), seen(whole, i));
  for (int64_t i = 4; i < 12; ++i) {
    SCOPED_TRACE(i);
    for (int64_t j = 0; j < i; ++j) EXPECT_FALSE(torch::equal(seen(views, i), seen(views, j)));
    // The backbone saw what the teacher sees.
    const torch::Tensor red = torch::avg_pool2d(
        imagenet_normalize(to_float_chw(seen(views, i)).unsqueeze(0)).narrow(1, 0, 1), 4);
    const torch::Tensor smooth =
        torch::avg_pool2d(red, 3, 1, 1, /*ceil_mode=*/false, /*count_include_pad=*/false);
    const torch::Tensor target = views.target(i, 0, 0, kGrid, kGrid).to(torch::kFloat64);
    const torch::Tensor both =
        torch::stack({smooth[0][0].slice(0, 4, 60).slice(1, 4, 60).flatten().to(torch::kFloat64),
                      target.select(2, 0).flatten()});
    EXPECT_GT(torch::corrcoef(both)[0][1].item<double>(), 0.999);
  }
}

TEST_F(Distiller, FeaturesOfSeveralPicturesTogetherAreThoseOfEach) {
  for (const char* target : {"average", "projection", "patch"}) {
    SCOPED_TRACE(target);
    options_.target = target;
    options_.feature_batch = 1;
    const FeatureCache each = cache_of(std::string(target) + "_each");
    options_.feature_batch = 4;
    const FeatureCache together = cache_of(std::string(target) + "_together");
    ASSERT_EQ(each.size(), 6);
    ASSERT_EQ(together.size(), 6);
    for (int64_t i = 0; i < 6; ++i) {
      expect_same_bits(together.image(i, 0, 0, kDistillSide, kDistillSide),
                       each.image(i, 0, 0, kDistillSide, kDistillSide));
      // Both rounded to float16.
      expect_near(together.target(i, 0, 0, kGrid, kGrid).to(torch::kFloat32),
                  each.target(i, 0, 0, kGrid, kGrid).to(torch::kFloat32), 2e-3, 2e-3);
    }
  }
}

TEST_F(Distiller, BadInputIsOneClearError) {
  const auto expect_refused = [&](auto change, const char* part) {
    SCOPED_TRACE(part);
    DistillOptions options = options_;
    change(options);
    EXPECT_ERROR(distill(options, ignore), Error, part);
    EXPECT_FALSE(fs::exists(options.output));
  };
  expect_refused([](auto& o) { o.crop_size = 66; }, "multiple of 4");
  expect_refused([](auto& o) { o.images = {"/nonexistent"}; }, "/nonexistent");
  expect_refused([](auto& o) { o.held_out = 6; }, "too few");
  expect_refused([](auto& o) { o.backbone = {"/nonexistent.pt"}; }, "no such file");
  expect_refused([](auto& o) { o.taps = {"1", "2"}; }, "taps has 2 entries");
  expect_refused([](auto& o) { o.resume = true; }, "no checkpoint");
  expect_refused([](auto& o) { o.device = "tpu"; }, "tpu");
  fs::create_directories(dir_.path / "empty");
  expect_refused([&](auto& o) { o.images = {(dir_.path / "empty").string()}; }, "no images");
  write_file(dir_.path / "junk.pt", "junk");
  expect_refused([&](auto& o) { o.backbone = {(dir_.path / "junk.pt").string()}; },
                 "cannot be read as TorchScript");
}

TEST_F(Distiller, AnotherRunsCheckpointIsRefused) {
  EXPECT_THROW(distill(options_,
                       [](const DistillProgress& progress) {
                         if (progress.stage == "distill") request_interrupt(true);
                       }),
               Interrupted);
  request_interrupt(false);
  options_.resume = true;
  DistillOptions other = options_;
  other.steps = 7;
  EXPECT_ERROR(distill(other, ignore), UsageError, "other options");
  // Nor are the features lost.
  const auto features = [&] { return fs::file_size(options_.output + ".cache/features.bin"); };
  const uintmax_t before = features();
  other = options_;
  other.views = 2;
  EXPECT_ERROR(distill(other, ignore), UsageError, "other options");
  EXPECT_EQ(features(), before);
  const fs::path image = dir_.path / "images" / "new.png";
  fs::copy_file(dir_.path / "images" / "0.png", image);
  EXPECT_ERROR(distill(options_, ignore), Error, "other images or backbones");
  EXPECT_EQ(features(), before);
  fs::remove(image);
  distill(options_, ignore);
  EXPECT_TRUE(fs::exists(options_.output));
}

TEST_F(Distiller, ARunThatReplacesOneLeavesNoCheckpointOfIt) {
  const auto interrupted_at = [&](const char* stage) {
    EXPECT_THROW(distill(options_,
                         [&](const DistillProgress& progress) {
                           if (progress.stage == stage) request_interrupt(true);
                         }),
                 Interrupted);
    request_interrupt(false);
  };
  interrupted_at("distill");
  EXPECT_TRUE(fs::exists(options_.output + ".checkpoint"));
  options_.overwrite = true;
  options_.views = 2;
  bool seen = true;
  distill(options_, [&](const DistillProgress& progress) {
    if (progress.stage == "distill" && progress.done == 1) {
      seen = fs::exists(options_.output + ".checkpoint");
    }
  });
  EXPECT_FALSE(seen);
}

TEST_F(Distiller, AFinishedTeacherIsNotMadeAnewByResume) {
  options_.keep_cache = true;
  distill(options_, ignore);
  const std::string before = read_file(options_.output);
  options_.resume = true;
  EXPECT_ERROR(distill(options_, ignore), Error, "there is no checkpoint to resume from");
  EXPECT_EQ(read_file(options_.output), before);
}

TEST_F(Distiller, FeaturesInUseAreNotTouched) {
  cache_of("used");
  const std::string key = read_file(dir_.path / "used" / "features.key");
  const FolderLock lock(dir_.path / "used", "unused");
  options_.seed = 1;
  options_.overwrite = true;
  EXPECT_ERROR(distill(options_, ignore), Error, "another distillation is using it");
  EXPECT_EQ(read_file(dir_.path / "used" / "features.key"), key);
}

TEST_F(Distiller, FeaturesOfOtherOptionsAreKept) {
  cache_of("kept");
  options_.output = (dir_.path / "second.safetensors").string();
  options_.seed = 1;
  EXPECT_ERROR(distill(options_, ignore), Error, "features of other images, backbones or options");
  options_.seed = 0;
  distill(options_, ignore);
}

TEST_F(Distiller, AFileThatCannotBeReadIsPassedOver) {
  // Of training and held-out images, one part is left with none.
  const std::string good = read_file(dir_.path / "images" / "0.png");
  for (int i = 1; i < 6; ++i) {
    write_file(dir_.path / "images" / (std::to_string(i) + ".png"), good.substr(0, 100));
  }
  options_.output = (dir_.path / "t.safetensors").string();
  options_.cache.clear();
  EXPECT_ERROR(distill(options_, ignore), Error, "none of the images can be read");
  // Copies of one, and a broken one, in whose place another is taken.
  for (int i = 1; i < 6; ++i) write_file(dir_.path / "images" / (std::to_string(i) + ".png"), good);
  write_file(dir_.path / "images" / "3.png", "no image");
  options_.flip = false;
  options_.grey_probability = 0;
  const FeatureCache cache = cache_of("broken");
  for (int64_t i = 1; i < cache.size(); ++i) {
    expect_same_bits(cache.image(i, 0, 0, kDistillSide, kDistillSide),
                     cache.image(0, 0, 0, kDistillSide, kDistillSide));
  }
  EXPECT_EQ(cache.size(), 6);
}

}  // namespace
}  // namespace efficientad
