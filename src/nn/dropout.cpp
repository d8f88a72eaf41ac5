#include "efficientad/nn/dropout.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>

#include "efficientad/core/random.h"

namespace efficientad {

namespace {

/// One 64-bit random number serves so many values, with 16 bits each.
constexpr int64_t kValuesADraw = 4;
constexpr int64_t kBitsAValue = 16;
constexpr uint64_t kLevels = 1 << kBitsAValue;

template <class T>
void drop(const T* from, T* to, int64_t begin, int64_t end, uint64_t seed, uint64_t below,
          float scale) {
  for (int64_t i = begin; i < end; i += kValuesADraw) {
    const uint64_t bits = splitmix64(seed ^ static_cast<uint64_t>(i / kValuesADraw));
    for (int64_t k = 0; k < std::min(kValuesADraw, end - i); ++k) {
      const bool kept = (bits >> (kBitsAValue * k)) % kLevels >= below;
      to[i + k] = kept ? static_cast<T>(static_cast<float>(from[i + k]) * scale) : T(0);
    }
  }
}

/// `x` with the values of its images dropped, in the order in which they lie in memory.
torch::Tensor dropped(const torch::Tensor& x, double p, const std::vector<uint64_t>& seeds) {
  const torch::Tensor from = x.contiguous(x.suggest_memory_format());
  torch::Tensor to = torch::empty_like(from);
  const int64_t count = from.numel() / from.size(0);
  const auto below = static_cast<uint64_t>(std::lround(p * kLevels));
  const auto scale = static_cast<float>(1 / (1 - p));
  const auto run = [&](const auto* data, auto* out) {
    for (int64_t image = 0; image < from.size(0); ++image) {
      constexpr int64_t kDrawsAThread = 4096;
      at::parallel_for(0, (count + kValuesADraw - 1) / kValuesADraw, kDrawsAThread,
                       [&](int64_t begin, int64_t end) {
                         drop(data + image * count, out + image * count, begin * kValuesADraw,
                              std::min(end * kValuesADraw, count),
                              seeds[static_cast<size_t>(image)], below, scale);
                       });
    }
  };
  if (from.scalar_type() == torch::kBFloat16) {
    run(from.const_data_ptr<at::BFloat16>(), to.data_ptr<at::BFloat16>());
  } else {
    run(from.const_data_ptr<float>(), to.data_ptr<float>());
  }
  return to;
}

/// The gradient goes the values' way: 0 where they were dropped, else times the same factor.
struct Dropout : torch::autograd::Function<Dropout> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               double p, const std::vector<int64_t>& seeds) {
    context->saved_data["p"] = p;
    context->saved_data["seeds"] = seeds;
    context->saved_data["channels_last"] =
        x.suggest_memory_format() == torch::MemoryFormat::ChannelsLast;
    return dropped(x, p, {seeds.begin(), seeds.end()});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const std::vector<int64_t> seeds = context->saved_data["seeds"].toIntVector();
    // In the values' order, for the same of them to be dropped.
    const torch::Tensor gradient = gradients[0].contiguous(
        context->saved_data["channels_last"].toBool() ? torch::MemoryFormat::ChannelsLast
                                                      : torch::MemoryFormat::Contiguous);
    return {dropped(gradient, context->saved_data["p"].toDouble(), {seeds.begin(), seeds.end()}),
            {},
            {}};
  }
};

}  // namespace

torch::Tensor dropout(const torch::Tensor& x, double p, const std::vector<uint64_t>& seeds) {
  if (seeds.empty() || !x.is_cpu()) return torch::dropout(x, p, /*train=*/true);
  TORCH_CHECK(static_cast<int64_t>(seeds.size()) == x.size(0), "one seed an image is needed");
  TORCH_CHECK(
      x.dim() == 4 && (x.scalar_type() == torch::kFloat32 || x.scalar_type() == torch::kBFloat16),
      "dropout of [N, C, h, w], float32 or bfloat16");
  return Dropout::apply(x, p, std::vector<int64_t>(seeds.begin(), seeds.end()));
}

}  // namespace efficientad
