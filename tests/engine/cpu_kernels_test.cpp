#include "engine/cpu/kernels.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "engine/cpu/program.h"
#include "engine/cpu/weights.h"
#include "engine/networks.h"
#include "support/near.h"

namespace efficientad::cpu {
namespace {

// Winograd's transforms lose about a digit of float32.
constexpr double kRtol = 1e-4;
constexpr double kAtol = 1e-5;

TEST(CpuKernels, EveryInstructionSetEqualsTheReference) {
  const auto all = all_kernels();
  ASSERT_GE(all.size(), 1u);
  EXPECT_EQ(all.front(), &kernels());
  for (const std::string model_size : {"small", "medium"}) {
    for (const bool padding : {false, true}) {
      const DetectorNetworks networks = random_networks(model_size, padding);
      const torch::Tensor images = torch::randn({1, 3, 75, 98});
      const torch::Tensor resized = autoencoder_input_fixed(images).contiguous();
      const RawMaps expected = ReferenceEngine(networks, torch::kCPU).maps(images);
      for (const Kernels* kernels : all) {
        SCOPED_TRACE(testing::Message() << kernels->name << " " << model_size << " " << padding);
        const PackedNetworks packed(networks, *kernels);
        Program program(packed, *kernels, {75, 98});
        const torch::Tensor st = torch::empty_like(expected.st);
        const torch::Tensor ae = torch::empty_like(expected.ae);
        program.run(images.data_ptr<float>(), resized.data_ptr<float>(), st.data_ptr<float>(),
                    ae.data_ptr<float>());
        expect_near(st, expected.st, kRtol, kAtol);
        expect_near(ae, expected.ae, kRtol, kAtol);
      }
    }
  }
}

/// One convolution by Winograd's method, from a grid of exactly the size that it needs.
torch::Tensor winograd(const Kernels& kernels, const torch::Tensor& input,
                       const torch::Tensor& weights, const torch::Tensor& bias, bool in_phases) {
  const int64_t kernel = weights.size(2);
  const int64_t m = 9 - kernel;
  constexpr int64_t kChunks = 3;
  WinogradConvolution conv;
  conv.kernel = kernel;
  conv.outputs = {input.size(1) - kernel + 1, input.size(2) - kernel + 1, 0};
  const int64_t tiles_y = (conv.outputs.height + m - 1) / m;
  const int64_t tiles_x = (conv.outputs.width + m - 1) / m;
  torch::Tensor grid =
      torch::zeros({tiles_y * m + kernel - 1, tiles_x * m + kernel - 1, input.size(0)});
  grid.narrow(0, 0, input.size(1)).narrow(1, 0, input.size(2)).copy_(input.permute({1, 2, 0}));
  conv.from = {grid.data_ptr<float>(), grid.size(0), grid.size(1), grid.size(2)};
  conv.channels = input.size(0);
  for (int32_t y = 0; y < tiles_y; ++y) {
    for (int32_t x = 0; x < tiles_x; ++x) {
      conv.groups.push_back(static_cast<int64_t>(conv.tiles.size()));
      conv.tiles.push_back({y, x});
    }
  }
  const auto groups = static_cast<int64_t>(conv.groups.size());
  conv.groups.push_back(groups);
  for (int64_t i = 0; i <= kChunks; ++i) conv.chunk_groups.push_back(i * groups / kChunks);
  const torch::Tensor packed = pack_winograd_weights(weights, kernels.panel);
  torch::Tensor result = torch::zeros({conv.outputs.height, conv.outputs.width, weights.size(0)});
  Product product;
  product.segments = {{0, conv.channels}};
  product.channels = weights.size(0);
  product.weights = packed.data_ptr<float>();
  product.bias = bias.data_ptr<float>();
  product.to = {result.data_ptr<float>(), result.size(0), result.size(1), result.size(2)};
  conv.products = {product};
  conv.in_phases = in_phases;
  torch::Tensor memory = torch::empty({kernels.winograd_phase_memory(conv)});
  conv.memory = memory.data_ptr<float>();
  torch::Tensor scratch = torch::empty({kernels.winograd_scratch(conv)});
  for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
    if (!in_phases) {
      kernels.winograd(conv, chunk, scratch.data_ptr<float>());
      continue;
    }
    for (const Phase phase : {Phase::kInputs, Phase::kProducts, Phase::kOutputs}) {
      for (int64_t part = 0; part < kernels.winograd_parts(conv, chunk, phase); ++part) {
        kernels.winograd_phase(conv, chunk, phase, part, scratch.data_ptr<float>());
      }
    }
  }
  return result.permute({2, 0, 1}).contiguous();
}

TEST(CpuKernels, WinogradEqualsTheConvolution) {
  for (const Kernels* kernels : all_kernels()) {
    for (const int64_t kernel : {3, 4}) {
      for (const int64_t channels : {16, 48, 320}) {
        SCOPED_TRACE(testing::Message() << kernels->name << " " << kernel << " " << channels);
        const torch::Tensor input = torch::randn({channels, 21, 34});
        const torch::Tensor weights = torch::randn({64, channels, kernel, kernel});
        const torch::Tensor bias = torch::randn({64});
        const torch::Tensor expected =
            torch::conv2d(input.unsqueeze(0).to(torch::kFloat64), weights.to(torch::kFloat64),
                          bias.to(torch::kFloat64))[0]
                .to(torch::kFloat32);
        // Errors grow with the outputs' size, not each output's own.
        const double scale = expected.abs().max().item<double>();
        const torch::Tensor in_chunks = winograd(*kernels, input, weights, bias, false);
        expect_near(in_chunks, expected, 0, 3e-5 * scale);
        expect_same_bits(winograd(*kernels, input, weights, bias, true), in_chunks);
      }
    }
  }
}

TEST(CpuKernels, WinogradTransformIsExactForSmallWholeNumbers) {
  // G w G^T of a kernel of a single one is the outer product of two columns of G.
  const torch::Tensor g = winograd_g(4);
  torch::Tensor weights = torch::zeros({32, 16, 4, 4});
  weights[3][2][1][2] = 1;
  const torch::Tensor packed = pack_winograd_weights(weights, 16).view({2, 8, 8, 16, 16});
  expect_near(packed.select(0, 0).select(-1, 3).select(-1, 2).contiguous(),
              torch::outer(g.select(1, 1), g.select(1, 2)).to(torch::kFloat32), 1e-6, 1e-7);
}

}  // namespace
}  // namespace efficientad::cpu
