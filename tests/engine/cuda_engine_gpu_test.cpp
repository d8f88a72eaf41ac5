#include "efficientad/engine/cuda_engine.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/device.h"
#include "efficientad/core/gpu_usage.h"
#include "efficientad/data/resize.h"
#include "efficientad/detect/anomaly_map.h"
#include "efficientad/nn/convolution.h"
#include "efficientad/nn/imagenet.h"
#include "engine/cpu_operations.h"
#include "engine/cuda/frame.h"
#include "engine/cuda/network.h"
#include "engine/networks.h"
#include "support/near.h"

namespace efficientad {
namespace {

#define SKIP_WITHOUT_GPU() \
  if (!select_device("auto").is_cuda()) GTEST_SKIP() << "there is no CUDA device"

const std::vector<std::pair<torch::ScalarType, double>> kTypes = {
    // Rounding of one result: 2^-24, 2^-11, 2^-8.
    {torch::kFloat32, 1e-6},
    {torch::kFloat16, 1e-3},
    {torch::kBFloat16, 8e-3}};

/// The largest difference as a share of the largest value.
double largest_difference(const torch::Tensor& actual, const torch::Tensor& expected) {
  EXPECT_EQ(actual.sizes(), expected.sizes());
  EXPECT_TRUE(torch::isfinite(actual).all().item<bool>());
  return ((actual - expected).abs().max() / expected.abs().max()).item<double>();
}

class CudaOperations : public testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_GPU();
    std::string problem;
    const auto make = reinterpret_cast<MakeSession*>(cuda_symbol(kMakeSession, problem));
    ASSERT_NE(make, nullptr) << problem;
    session.reset(make(0));
  }

  static torch::Tensor random(std::vector<int64_t> sizes, torch::ScalarType type) {
    return torch::randn(sizes, torch::kCUDA).to(type).contiguous(torch::MemoryFormat::ChannelsLast);
  }
  static torch::Tensor empty_like(const torch::Tensor& x, std::vector<int64_t> sizes) {
    return torch::full(sizes, NAN, x.options()).contiguous(torch::MemoryFormat::ChannelsLast);
  }
  /// Once, as nothing recorded.
  void run(const std::function<void()>& work) {
    torch::zeros({1}, torch::kCUDA).cpu();  // What other streams do is done.
    session->forget();
    session->run(work);
  }
  static void expect_close(const torch::Tensor& actual, const torch::Tensor& expected, double tol) {
    expect_near(actual.to(torch::kCPU, torch::kFloat32).contiguous(),
                expected.to(torch::kCPU, torch::kFloat32).contiguous(), tol, tol);
  }

  std::unique_ptr<cuda::Session> session;
  const PlainOperations plain;
};

TEST_F(CudaOperations, Normalize) {
  const torch::Tensor images = torch::randint(0, 256, {3, 65, 70, 3}, torch::kUInt8).cuda();
  // So dark that the factor would be above its limit.
  images[1].floor_divide_(8);
  for (const auto& [type, tolerance] : kTypes) {
    for (const bool equalize : {false, true}) {
      const torch::Tensor actual = empty_like(random({1, 4, 1, 1}, type), {3, 4, 65, 70});
      const torch::Tensor expected = torch::empty_like(actual);
      run([&] { session->normalize(images, equalize, actual); });
      plain.normalize(images, equalize, expected);
      expect_close(actual, expected, tolerance);
    }
  }
}

TEST_F(CudaOperations, ConvolutionBiasReluPoolUpsample) {
  for (const auto& [type, tolerance] : kTypes) {
    const torch::Tensor x = random({2, 64, 33, 26}, type);
    const torch::Tensor bias = torch::randn({64}, torch::kCUDA);
    const torch::Tensor weight = random({96, 64, 3, 3}, type) / 24;
    const torch::Tensor typed = torch::randn({96}, torch::kCUDA).to(type);
    torch::Tensor actual;
    run([&] { actual = session->convolution_relu(x, weight, typed, /*stride=*/2, /*padding=*/1); });
    const auto on_cpu = [](const torch::Tensor& t) { return t.to(torch::kCPU, torch::kFloat32); };
    // Sums over 576 products, rounded once.
    expect_close(actual, plain.convolution_relu(on_cpu(x), on_cpu(weight), on_cpu(typed), 2, 1),
                 std::max(2 * tolerance, 1e-5));

    for (const int64_t padding : {0, 1}) {
      const std::vector<int64_t> sizes = {2, 32, padding > 0 ? 17 : 16, padding > 0 ? 14 : 13};
      const torch::Tensor pooled = empty_like(x, sizes);
      const torch::Tensor expected_pooled = empty_like(x, sizes);
      const torch::Tensor half = bias.narrow(0, 32, 32).contiguous();
      run([&] { session->bias_relu_pool(x, 32, half, padding, pooled); });
      plain.bias_relu_pool(x, 32, half, padding, expected_pooled);
      expect_close(pooled, expected_pooled, tolerance);
    }
    for (const bool relu : {false, true}) {
      for (const auto& size : std::vector<std::vector<int64_t>>{{63, 90}, {20, 26}}) {
        const torch::Tensor larger = empty_like(x, {2, 64, size[0], size[1]});
        const torch::Tensor expected_larger = empty_like(x, {2, 64, size[0], size[1]});
        run([&] { session->bias_upsample(x, bias, relu, larger); });
        plain.bias_upsample(x, bias, relu, expected_larger);
        expect_close(larger, expected_larger, std::max(tolerance, 1e-5));
      }
    }
  }
}

TEST_F(CudaOperations, FirstLayer) {
  for (const auto& [type, tolerance] : kTypes) {
    if (!session->has_first_layer(type)) continue;
    for (const int64_t channels : {128, 256}) {
      for (const int64_t padding : {0, 3}) {
        for (const auto& side : std::vector<std::vector<int64_t>>{{64, 65}, {256, 256}, {91, 70}}) {
          torch::Tensor x = random({3, 4, side[0], side[1]}, type);
          x.narrow(1, 3, 1).zero_();
          const torch::Tensor packed =
              cuda::pack_first_layer(torch::randn({2 * channels, 4, 4, 4})).to(torch::kCUDA, type);
          const torch::Tensor bias = torch::randn({2 * channels}, torch::kCUDA);
          std::vector<int64_t> sizes = {3, channels};
          for (const int64_t s : side) sizes.push_back(padding > 0 ? (s + 5) / 2 : (s - 3) / 2);
          const torch::Tensor teacher = empty_like(x, sizes);
          const torch::Tensor student = empty_like(x, sizes);
          const torch::Tensor expected_teacher = torch::empty_like(teacher, torch::kFloat32);
          const torch::Tensor expected_student = torch::empty_like(teacher, torch::kFloat32);
          run([&] { session->first_layer(x, packed, bias, padding, teacher, student); });
          // On the CPU, where nothing rounds to TF32.
          torch::Tensor t = expected_teacher.cpu();
          torch::Tensor s = expected_student.cpu();
          plain.first_layer(x.cpu(), packed.cpu(), bias.cpu(), padding, t, s);
          SCOPED_TRACE(testing::Message() << channels << " " << padding << " " << side);
          expect_close(teacher, t, tolerance);
          expect_close(student, s, tolerance);
        }
      }
    }
  }
}

TEST_F(CudaOperations, Maps) {
  for (const auto& [type, tolerance] : kTypes) {
    const torch::Tensor teacher = random({2, 384, 9, 11}, type);
    const torch::Tensor student = random({2, 768, 9, 11}, type);
    const torch::Tensor autoencoder = random({2, 384, 9, 11}, type);
    const torch::Tensor bias_st = torch::randn({384}, torch::kCUDA);
    const torch::Tensor bias_ae = torch::randn({384}, torch::kCUDA);
    const cuda::MapNormalization scale = {
        .q_a_st = 1.0f, .scale_st = 0.5f, .q_a_ae = 2.0f, .scale_ae = 0.25f};
    std::vector<torch::Tensor> results;
    for (const cuda::Operations* operations : {static_cast<const cuda::Operations*>(session.get()),
                                               static_cast<const cuda::Operations*>(&plain)}) {
      const torch::Tensor st = torch::zeros({2, 1, 9, 11}, torch::kCUDA);
      const torch::Tensor ae = torch::zeros({2, 1, 9, 11}, torch::kCUDA);
      const torch::Tensor combined = torch::zeros({2, 1, 17, 19}, torch::kCUDA);
      run([&] {
        operations->maps(teacher, student, autoencoder, bias_st, bias_ae, scale, st, ae, combined);
      });
      for (const auto& map : {st, ae, combined}) results.push_back(map);
    }
    // The inputs are the same; only the order of float32 sums differs.
    for (size_t i = 0; i < 3; ++i) expect_close(results[i], results[i + 3], 1e-5);
  }
}

TEST_F(CudaOperations, BranchesMeetAgain) {
  const torch::Tensor x = torch::ones({256, 256}, torch::kCUDA);
  torch::Tensor sum = torch::zeros({256, 256}, torch::kCUDA);
  const auto work = [&] {
    torch::Tensor a;
    torch::Tensor b;
    torch::Tensor c;
    session->parallel({[&] {
                         session->parallel({[&] { a = x.mm(x); }, [&] { b = x + 1; }});
                       },
                       [&] { c = x * 2; }});
    sum.copy_(a + b + c);
  };
  const auto expect_sums = [&] {
    for (int i = 0; i < 6; ++i) {
      x.fill_(i);
      torch::zeros({1}, torch::kCUDA).cpu();
      session->run(work);
      EXPECT_EQ(sum[3][4].item<float>(), static_cast<float>(256 * i * i + i + 1 + 2 * i));
    }
  };
  expect_sums();
  ASSERT_FALSE(session->trials().empty());
  // Unless the GPU was too busy.
  if (session->trials().front().milliseconds < cuda::kWorthTrialsMilliseconds) {
    EXPECT_EQ(session->trials().size(), cuda::schedules().size());
  }
  for (const cuda::Schedule& schedule : cuda::schedules()) {
    SCOPED_TRACE(cuda::to_string(schedule));
    session->forget();
    session->set_schedule(schedule);
    expect_sums();
    EXPECT_TRUE(session->trials().empty());
    // A branch that fails leaves all as it was.
    session->forget();
    const auto failing = [&] {
      session->parallel({[&] {
                           session->parallel(
                               {[&] { c10::detail::torchCheckFail("", "", 0, "a branch"); },
                                [&] { sum.add_(1); }});
                         },
                         [&] { sum.add_(1); }});
    };
    for (int i = 0; i < 4; ++i) EXPECT_THROW(session->run(failing), c10::Error);
    session->forget();
    expect_sums();
  }
}

TEST_F(CudaOperations, NetworksGiveTheSameInAnyOrder) {
  const torch::Device device(torch::kCUDA, 0);
  const auto folded =
      cuda::FoldedNetworks(random_networks("small", false)).to(device, torch::kFloat16);
  cuda::Workspace workspace(folded, 1, {256, 256}, device, torch::kFloat16);
  // Two images alternate, so that a value that is read too early is the other image's.
  std::vector<torch::Tensor> images;
  std::vector<torch::Tensor> expected;
  const auto maps_of = [&](size_t image) {
    workspace.image.narrow(1, 0, 3).copy_(images[image]);
    torch::zeros({1}, torch::kCUDA).cpu();
    session->run([&] { cuda::run_networks(folded, *session, {}, workspace); });
    return workspace.raw.cpu();
  };
  for (size_t i = 0; i < 2; ++i) {
    images.push_back(torch::randn({1, 3, 256, 256}, torch::kCUDA).to(torch::kFloat16));
    session->forget();
    expected.push_back(maps_of(i));
  }
  // Of both maps, so that each branch shows.
  for (int64_t map = 0; map < 2; ++map) {
    ASSERT_GT(largest_difference(expected[0][map], expected[1][map]), 0.02) << map;
  }
  for (const cuda::Schedule& schedule : cuda::schedules()) {
    SCOPED_TRACE(cuda::to_string(schedule));
    session->forget();
    session->set_schedule(schedule);
    for (size_t i = 0; i < 20; ++i) {
      // The same operations by the same algorithms.
      const torch::Tensor maps = maps_of(i % 2);
      for (int64_t map = 0; map < 2; ++map) {
        EXPECT_LT(largest_difference(maps[map], expected[i % 2][map]), 1e-3) << i << " " << map;
      }
    }
  }
}

TEST(ConvReluPoolOnAGpu, GivesWhatLibTorchGives) {
  SKIP_WITHOUT_GPU();
  std::string problem;
  ASSERT_NE(cuda_symbol(kReluPool, problem), nullptr) << problem;
  at::globalContext().setAllowTF32CuDNN(false);
  for (const int64_t channels : {128, 256, 512}) {
    for (const auto& side : std::vector<std::pair<int64_t, int64_t>>{{30, 33}, {67, 64}}) {
      const auto leaf = [](const torch::Tensor& x) { return x.cuda().requires_grad_(true); };
      const torch::Tensor x = leaf(torch::randn({3, 16, side.first, side.second}));
      const torch::Tensor weight = leaf(torch::randn({channels, 16, 4, 4}) / 16);
      const torch::Tensor bias = leaf(torch::randn({channels}));
      torch::Tensor toward;
      std::vector<std::vector<torch::Tensor>> results;
      for (const bool fast : {false, true}) {
        const FastConvolutions ways(fast);
        const torch::Tensor y = conv_relu_pool(x, weight, bias);
        if (!toward.defined()) toward = torch::randn_like(y);
        std::vector<torch::Tensor> result =
            torch::autograd::grad({(y * toward).sum()}, {x, weight, bias});
        result.push_back(y);
        results.push_back(result);
      }
      for (size_t i = 0; i < results[0].size(); ++i) {
        SCOPED_TRACE(testing::Message() << channels << " " << side.first << " " << i);
        const torch::Tensor expected = results[0][i].detach().cpu().contiguous();
        // Sums of up to 4,000 float32 numbers in another order.
        expect_near(results[1][i].detach().cpu().contiguous(), expected, 1e-4,
                    1e-5 * expected.abs().max().item<double>());
      }
    }
  }
}

struct Expected {
  RawMaps maps;
  torch::Tensor images_u8;
  torch::Tensor images;
};

Expected reference_of(const DetectorNetworks& networks, int64_t count, int64_t height,
                      int64_t width) {
  Expected expected;
  expected.images_u8 = torch::randint(0, 256, {count, height, width, 3}, torch::kUInt8);
  expected.images = imagenet_normalize(
      expected.images_u8.permute({0, 3, 1, 2}).to(torch::kFloat32).div(255).contiguous());
  expected.maps = ReferenceEngine(networks, torch::kCPU).maps(expected.images);
  return expected;
}

TEST(CudaEngineOnAGpu, IsTheReference) {
  SKIP_WITHOUT_GPU();
  const torch::Device device = select_device("auto");
  struct Case {
    std::string model_size;
    bool padding;
    int64_t height;
    int64_t width;
  };
  // Rounding of 24, 11 and 8 bits, and what some ten layers make of it.
  const std::vector<std::pair<std::string, double>> precisions = {
      {"fp32", 1e-4}, {"fp16", 5e-3}, {"bf16", 5e-2}};
  for (const auto& [model_size, padding, height, width] :
       std::vector<Case>{{"small", false, 256, 256},
                         {"small", true, 256, 256},
                         {"small", false, 101, 71},
                         {"medium", false, 256, 256},
                         {"medium", true, 90, 75}}) {
    const DetectorNetworks networks = random_networks(model_size, padding);
    const Expected expected = reference_of(networks, 3, height, width);
    for (const auto& [precision, tolerance] : precisions) {
      SCOPED_TRACE(testing::Message() << model_size << " padding " << padding << " " << height
                                      << "x" << width << " " << precision);
      const CudaEngine engine(networks, {height, width},
                              {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1}, device,
                              precision);
      // At first step by step, then from the graph.
      for (int i = 0; i < 4; ++i) {
        const RawMaps maps = engine.maps(expected.images);
        EXPECT_LT(largest_difference(maps.st, expected.maps.st), tolerance) << i;
        EXPECT_LT(largest_difference(maps.ae, expected.maps.ae), tolerance) << i;
        const torch::Tensor combined = engine.combined_maps(expected.images_u8);
        const int64_t border = padding ? 0 : 4;
        const torch::Tensor inside = combined.slice(2, border, combined.size(2) - border)
                                         .slice(3, border, combined.size(3) - border);
        EXPECT_LT(largest_difference(inside, 0.5 * expected.maps.st + 0.5 * expected.maps.ae),
                  tolerance)
            << i;
        if (border > 0) {
          EXPECT_EQ(combined.slice(2, 0, border).abs().max().item<float>(), 0);
        }
      }
      // One by one as in a batch.
      const torch::Tensor all = engine.combined_maps(expected.images_u8);
      for (int64_t i = 0; i < 3; ++i) {
        const torch::Tensor one = engine.combined_maps(expected.images_u8.narrow(0, i, 1));
        EXPECT_LT(largest_difference(one, all.narrow(0, i, 1)), tolerance) << i;
      }
    }
  }
}

TEST(CudaEngineOnAGpu, RefusesImagesOfAnotherSize) {
  SKIP_WITHOUT_GPU();
  const CudaEngine engine(random_networks("small", false), {128, 96},
                          {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1},
                          select_device("auto"), "fp16");
  EXPECT_NO_THROW(engine.combined_maps(torch::zeros({1, 128, 96, 3}, torch::kUInt8)));
  EXPECT_THROW(engine.combined_maps(torch::zeros({1, 96, 128, 3}, torch::kUInt8)), c10::Error);
  EXPECT_THROW(engine.combined_maps(torch::zeros({1, 1, 96, 3}, torch::kUInt8)), c10::Error);
  EXPECT_THROW(engine.maps(torch::zeros({1, 3, 256, 96})), c10::Error);
  EXPECT_THROW(engine.maps(torch::zeros({1, 4, 128, 96})), c10::Error);
  EXPECT_THROW(engine.maps(torch::zeros({1, 1, 128, 96})), c10::Error);
}

TEST(CudaEngineOnAGpu, EqualizesExposureOfBytes) {
  SKIP_WITHOUT_GPU();
  const DetectorNetworks networks = random_networks("small", true);
  const torch::Tensor images_u8 = torch::randint(0, 256, {3, 128, 128, 3}, torch::kUInt8);
  images_u8[1].floor_divide_(4);
  const torch::Tensor images = images_u8.permute({0, 3, 1, 2}).to(torch::kFloat32).div(255);
  const RawMaps expected =
      ReferenceEngine(networks, torch::kCPU).maps(network_input(images.contiguous(), true));
  const CudaEngine engine(networks, {128, 128},
                          {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1},
                          select_device("auto"), "fp32", /*equalize_exposure=*/true);
  for (int i = 0; i < 4; ++i) {
    EXPECT_LT(
        largest_difference(engine.combined_maps(images_u8), 0.5 * expected.st + 0.5 * expected.ae),
        1e-4)
        << i;
  }
}

TEST(CudaEngineOnAGpu, JudgesFramesOfAnySize) {
  SKIP_WITHOUT_GPU();
  const DetectorNetworks networks = random_networks("small", false);
  const CudaEngine engine(networks, {128, 96},
                          {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1},
                          select_device("auto"), "fp32");
  for (const auto& [height, width] : std::vector<std::array<int64_t, 2>>{
           {300, 401}, {128, 96}, {50, 70}, {300, 401}, {128, 500}, {999, 96}}) {
    SCOPED_TRACE(testing::Message() << height << "x" << width);
    const torch::Tensor frame = torch::randint(0, 256, {height, width, 3}, torch::kUInt8);
    const torch::Tensor map =
        engine.combined_maps(resize_pil_bilinear(frame, {128, 96}).unsqueeze(0));
    const torch::Tensor expected = resize_map(map, {height, width})[0][0];
    const auto without_map = engine.judge(frame, /*want_map=*/false);
    ASSERT_TRUE(without_map.has_value());
    EXPECT_FALSE(without_map->map_at_image.defined());
    const auto judgement = engine.judge(frame, /*want_map=*/true);
    ASSERT_TRUE(judgement.has_value());
    // The same bytes in the same networks; cuDNN may have chosen another algorithm for this graph.
    EXPECT_LT(largest_difference(judgement->map_at_image, expected), 1e-4);
    EXPECT_EQ(judgement->score, judgement->map_at_image.max().item<double>());
    EXPECT_EQ(without_map->score, judgement->score);
  }
}

TEST(CudaEngineOnAGpu, ThreadsMayJudgeFramesSideBySide) {
  SKIP_WITHOUT_GPU();
  const DetectorNetworks networks = random_networks("small", true);
  const CudaEngine engine(networks, {128, 128},
                          {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1},
                          select_device("auto"), "fp16", /*equalize_exposure=*/true);
  std::vector<torch::Tensor> frames;
  std::vector<torch::Tensor> expected;
  for (int64_t i = 0; i < 6; ++i) {
    frames.push_back(torch::randint(0, 256, {100 + 40 * i, 300 - 40 * i, 3}, torch::kUInt8));
    const torch::Tensor map =
        engine.combined_maps(resize_pil_bilinear(frames.back(), {128, 128}).unsqueeze(0));
    expected.push_back(resize_map(map, {100 + 40 * i, 300 - 40 * i})[0][0]);
  }
  constexpr size_t kThreads = 3;
  std::vector<double> worst(kThreads);
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t i = 0; i < 30; ++i) {
        const size_t at = (i + 2 * thread) % frames.size();
        const auto judgement = engine.judge(frames[at], /*want_map=*/i % 3 != 0);
        const double greatest = expected[at].max().item<double>();
        double difference = std::abs(judgement->score - greatest) / greatest;
        if (judgement->map_at_image.defined()) {
          difference =
              std::max(difference, largest_difference(judgement->map_at_image, expected[at]));
        }
        worst[thread] = std::max(worst[thread], difference);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const double difference : worst) EXPECT_LT(difference, 5e-3);
}

TEST_F(CudaOperations, ResizesToTheSameBytes) {
  const auto bytes = torch::dtype(torch::kUInt8).device(torch::kCUDA);
  for (const auto& [height, width] :
       std::vector<std::array<int64_t, 2>>{{301, 200}, {64, 64}, {20, 30}, {64, 99}, {99, 64}}) {
    SCOPED_TRACE(testing::Message() << height << "x" << width);
    const torch::Tensor frame = torch::randint(0, 256, {height, width, 3}, torch::kUInt8);
    const torch::Tensor images = torch::zeros({1, 64, 64, 3}, bytes);
    run([&] {
      cuda::FrameBuffers buffers({height, width}, {64, 64}, torch::kCUDA);
      session->copy(buffers.frame, frame);
      cuda::resize_frame(*session, buffers, images);
    });
    expect_same_bits(images[0].cpu(), resize_pil_bilinear(frame, {64, 64}));
  }
}

TEST(CudaEngineOnAGpu, ABrokenImageDoesNotSpoilTheNext) {
  SKIP_WITHOUT_GPU();
  const DetectorNetworks networks = random_networks("small", false);
  for (const std::string precision : {"fp32", "fp16", "bf16"}) {
    SCOPED_TRACE(precision);
    const CudaEngine engine(networks, {128, 128},
                            {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1},
                            select_device("auto"), precision);
    const torch::Tensor image = torch::randn({1, 3, 128, 128});
    const RawMaps expected = engine.maps(image);
    // What a layer left in memory stays there until the next run.
    const RawMaps broken = engine.maps(torch::full({1, 3, 128, 128}, NAN));
    // With ReLUs of our own; cuDNN's may make NaN 0.
    if (precision == "fp32") {
      EXPECT_TRUE(broken.st.isnan().any().item<bool>());
    }
    const RawMaps actual = engine.maps(image);
    EXPECT_LT(largest_difference(actual.st, expected.st), 5e-3);
    EXPECT_LT(largest_difference(actual.ae, expected.ae), 5e-3);
  }
}

TEST(CudaEngineOnAGpu, ThreadsMayShareOne) {
  SKIP_WITHOUT_GPU();
  const DetectorNetworks networks = random_networks("small", false);
  const CudaEngine engine(networks, {128, 128},
                          {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1},
                          select_device("auto"), "fp32");
  const torch::Tensor images = torch::randint(0, 256, {4, 128, 128, 3}, torch::kUInt8);
  const torch::Tensor expected = engine.combined_maps(images);
  std::vector<double> worst(4);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        const torch::Tensor actual = engine.combined_maps(images.narrow(0, i, 1));
        double& largest = worst[static_cast<size_t>(i)];
        largest = std::max(largest, largest_difference(actual, expected.narrow(0, i, 1)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const double share : worst) EXPECT_LT(share, 1e-4);
}

TEST(GpuUsage, GrowsWithWork) {
  SKIP_WITHOUT_GPU();
  const torch::Device device = select_device("auto");
  const auto before = gpu_usage(device);
  ASSERT_TRUE(before.has_value());
  const torch::Tensor x = torch::randn({4096, 4096}, device);
  for (int i = 0; i < 200; ++i) x.mm(x);
  x.cpu();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto after = gpu_usage(device);
  EXPECT_GE(after->peak_memory_mib, 64);
  if (!before->joules) GTEST_SKIP() << "NVML tells no energy";
  EXPECT_GT(*after->joules, *before->joules);
}

TEST(CudaEngineOnAGpu, TooLargeABatchIsHalved) {
  SKIP_WITHOUT_GPU();
  const DetectorNetworks networks = random_networks("small", false);
  const CudaEngine engine(networks, {256, 256},
                          {.q_a_st = 0, .scale_st = 1, .q_a_ae = 0, .scale_ae = 1},
                          select_device("auto"), "fp16");
  const torch::Tensor image = torch::randint(0, 256, {1, 256, 256, 3}, torch::kUInt8);
  const torch::Tensor expected = engine.combined_maps(image);
  // All of the GPU's memory but 4 GiB.
  std::vector<torch::Tensor> ballast;
  constexpr int64_t kGiB = int64_t{1} << 30;
  try {
    while (true)
      ballast.push_back(torch::empty({kGiB}, torch::dtype(torch::kUInt8).device(torch::kCUDA)));
  } catch (const c10::OutOfMemoryError&) {
    for (int i = 0; i < 4 && !ballast.empty(); ++i) ballast.pop_back();
  }
  const torch::Tensor maps = engine.combined_maps(image.repeat({256, 1, 1, 1}));
  ASSERT_EQ(maps.size(0), 256);
  for (const int64_t i : {0, 100, 255}) {
    EXPECT_LT(largest_difference(maps.narrow(0, i, 1), expected), 1e-2);
  }
}

}  // namespace
}  // namespace efficientad
