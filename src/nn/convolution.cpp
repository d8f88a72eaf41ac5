#include "efficientad/nn/convolution.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/autograd.h>
#include <torch/utils.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "efficientad/core/buffer.h"
#include "efficientad/core/cuda_part.h"
#include "efficientad/core/threads.h"
#include "nn/cpu/convolution_kernels.h"

namespace efficientad {

namespace {

thread_local bool fast_convolutions = false;

constexpr auto kChannelsLast = torch::MemoryFormat::ChannelsLast;

/// Memory of this thread's convolutions, kept from one to the next.
float* workspace(int64_t size) {
  thread_local torch::Tensor memory;
  if (!memory.defined() || memory.numel() < size) {
    memory = torch::Tensor();
    memory = make_buffer(size);
  }
  return memory.data_ptr<float>();
}

/// A channels-last tensor as the kernels see it.
cpu::Images images_of(const torch::Tensor& tensor) {
  return {tensor.data_ptr<float>(), tensor.size(0), tensor.size(2), tensor.size(3), tensor.size(1)};
}

torch::Tensor empty_images(int64_t count, int64_t channels, int64_t height, int64_t width) {
  return torch::empty({count, channels, height, width},
                      torch::TensorOptions().dtype(torch::kFloat32).memory_format(kChannelsLast));
}

void run(int64_t tasks, const std::function<void(int64_t)>& task) {
  run_tasks(tasks, at::get_num_threads(), [&](int64_t i, int64_t) { task(i); });
}

/// Calls work(chunk) for pieces of all tiles, of which inputs and products stay in the third cache.
void for_chunks(const cpu::ConvolutionKernels& kernels, int64_t tiles, int64_t inputs,
                int64_t outputs, const std::function<void(const cpu::TileChunk&)>& work) {
  constexpr int64_t kPositions = 64;
  constexpr int64_t kFloats = int64_t{4} << 20;
  constexpr int64_t kLeast = 96;
  const int64_t most = std::max(kLeast, kFloats / (kPositions * (inputs + outputs)));
  const int64_t chunks = (tiles + most - 1) / most;
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t begin = i * tiles / chunks;
    work(kernels.chunk(begin, (i + 1) * tiles / chunks - begin, inputs));
  }
}

/// Calls work(begin, end) for a few tiles of a chunk each.
void for_tiles(const cpu::TileChunk& chunk, const std::function<void(int64_t, int64_t)>& work) {
  constexpr int64_t kTiles = 8;
  const int64_t parts = (chunk.count + kTiles - 1) / kTiles;
  run(parts, [&](int64_t i) { work(i * chunk.count / parts, (i + 1) * chunk.count / parts); });
}

/// Memory of the largest chunk.
int64_t chunk_size(const cpu::ConvolutionKernels& kernels, const cpu::Tiling& tiling,
                   int64_t inputs, int64_t outputs) {
  int64_t size = 0;
  for_chunks(kernels, tiling.tiles(), inputs, outputs, [&](const cpu::TileChunk& chunk) {
    size = std::max(size, chunk.input_size() + outputs / kernels.panel * chunk.product_panel());
  });
  return size;
}

/// `weights`: [k, k, inputs, outputs], contiguous.
torch::Tensor winograd(const torch::Tensor& images, const torch::Tensor& weights,
                       const torch::Tensor& bias, int64_t padding) {
  const cpu::ConvolutionKernels& kernels = cpu::convolution_kernels();
  const int64_t kernel = weights.size(0);
  const int64_t inputs = weights.size(2);
  const int64_t outputs = weights.size(3);
  const cpu::Images from = images_of(images);
  const cpu::Tiling tiling = {kernel, padding, from.count, from.height + 2 * padding - kernel + 1,
                              from.width + 2 * padding - kernel + 1};
  torch::Tensor result = empty_images(from.count, outputs, tiling.height, tiling.width);
  const cpu::Images to = images_of(result);
  const int64_t panels = outputs / kernels.panel;
  const int64_t panel_weights = 64 * inputs * kernels.panel;
  float* const packed =
      workspace(panels * panel_weights + chunk_size(kernels, tiling, inputs, outputs));
  float* const transformed = packed + panels * panel_weights;
  const auto* const plain = weights.data_ptr<float>();
  run(panels, [&](int64_t panel) {
    kernels.transform_weights(plain, kernel, inputs, outputs, panel,
                              packed + panel * panel_weights);
  });
  const float* const add = bias.defined() ? bias.data_ptr<float>() : nullptr;
  for_chunks(kernels, tiling.tiles(), inputs, outputs, [&](const cpu::TileChunk& chunk) {
    float* const products = transformed + chunk.input_size();
    for_tiles(chunk, [&](int64_t begin, int64_t end) {
      kernels.transform_inputs(from, tiling, chunk, begin, end, transformed);
    });
    run(64, [&](int64_t position) {
      for (int64_t panel = 0; panel < panels; ++panel) {
        const float* const weights_now = packed + panel * panel_weights;
        const float* const next = weights_now + (panel + 1 < panels ? panel_weights : 0);
        kernels.multiply(transformed, chunk, position, inputs, weights_now, next,
                         products + panel * chunk.product_panel());
      }
    });
    for_tiles(chunk, [&](int64_t begin, int64_t end) {
      kernels.transform_products(products, tiling, chunk, begin, end, add, to);
    });
  });
  return result;
}

/// The gradient of the weights, [k, k, inputs, outputs].
torch::Tensor winograd_weights(const torch::Tensor& images, const torch::Tensor& gradient,
                               int64_t kernel, int64_t padding) {
  const cpu::ConvolutionKernels& kernels = cpu::convolution_kernels();
  const cpu::Images from = images_of(images);
  const cpu::Images of_outputs = images_of(gradient);
  const int64_t inputs = from.channels;
  const int64_t outputs = of_outputs.channels;
  const cpu::Tiling tiling = {kernel, padding, from.count, of_outputs.height, of_outputs.width};
  torch::Tensor result = torch::empty({kernel, kernel, inputs, outputs});
  const int64_t panels = outputs / kernels.panel;
  const int64_t panel_weights = 64 * inputs * kernels.panel;
  float* const packed =
      workspace(panels * panel_weights + chunk_size(kernels, tiling, inputs, outputs));
  float* const transformed = packed + panels * panel_weights;
  for_chunks(kernels, tiling.tiles(), inputs, outputs, [&](const cpu::TileChunk& chunk) {
    float* const gradients = transformed + chunk.input_size();
    for_tiles(chunk, [&](int64_t begin, int64_t end) {
      kernels.transform_inputs(from, tiling, chunk, begin, end, transformed);
      kernels.transform_gradients(of_outputs, tiling, chunk, begin, end, gradients);
    });
    run(64, [&](int64_t position) {
      for (int64_t panel = 0; panel < panels; ++panel) {
        kernels.multiply_transposed(transformed, chunk, position, inputs,
                                    gradients + panel * chunk.product_panel(),
                                    packed + panel * panel_weights, chunk.first == 0);
      }
    });
  });
  auto* const plain = result.data_ptr<float>();
  run(panels, [&](int64_t panel) {
    kernels.finish_weights(plain, kernel, inputs, outputs, panel, packed + panel * panel_weights);
  });
  return result;
}

/// Outputs' gradients that are not zero, if they are few enough that to go through them one by one
/// is faster; else nothing.
std::optional<std::vector<cpu::Gradient>> few_gradients(const torch::Tensor& gradient) {
  constexpr int64_t kOneIn = 64;
  const cpu::Images all = images_of(gradient);
  const int64_t row = all.width * all.channels;
  const int64_t rows = all.count * all.height;
  const auto most = static_cast<size_t>(gradient.numel() / kOneIn);
  std::vector<cpu::Gradient> few;
  for (int64_t i = 0; i < rows; ++i) {
    const float* const values = all.data + i * row;
    for (int64_t k = 0; k < row; ++k) {
      if (values[k] == 0) continue;
      if (few.size() == most) return std::nullopt;
      few.push_back(
          {i / all.height, i % all.height, k / all.channels, k % all.channels, values[k]});
    }
  }
  return few;
}

/// Gradients of images and weights [D, C, k, k], where they are wanted.
std::pair<torch::Tensor, torch::Tensor> sparse_gradients(const torch::Tensor& images,
                                                         const torch::Tensor& weights,
                                                         int64_t padding,
                                                         std::vector<cpu::Gradient> gradients,
                                                         bool want_images, bool want_weights) {
  constexpr int64_t kChannels = 32;
  const torch::Tensor by_output = weights.permute({0, 2, 3, 1}).contiguous();
  torch::Tensor of_weights;
  torch::Tensor of_images;
  cpu::SparseGradients all;
  all.kernel = weights.size(2);
  all.padding = padding;
  all.inputs = images_of(images);
  all.weights = by_output.data_ptr<float>();
  all.gradients = std::move(gradients);
  if (want_images) {
    of_images =
        empty_images(images.size(0), images.size(1), images.size(2), images.size(3)).zero_();
    all.of_inputs = images_of(of_images);
  }
  if (want_weights) {
    of_weights = torch::zeros_like(by_output);
    all.of_weights = of_weights.data_ptr<float>();
    of_weights = of_weights.permute({0, 3, 1, 2});
  }
  run(images.size(1) / kChannels, [&](int64_t i) {
    cpu::convolution_kernels().add_sparse(all, i * kChannels, (i + 1) * kChannels);
  });
  return {of_images, of_weights};
}

/// See convolve().
class WinogradConvolution : public torch::autograd::Function<WinogradConvolution> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& images, const torch::Tensor& weights,
                               const torch::Tensor& bias, int64_t padding) {
    const torch::Tensor from = images.contiguous(kChannelsLast);
    context->save_for_backward({from, weights});
    context->saved_data["padding"] = padding;
    return winograd(from, weights.permute({2, 3, 1, 0}).contiguous(), bias.contiguous(), padding);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const int64_t padding = context->saved_data["padding"].toInt();
    const torch::Tensor& weights = saved[1];
    const torch::Tensor gradient = gradients[0].contiguous(kChannelsLast);
    torch::Tensor of_images;
    torch::Tensor of_weights;
    torch::Tensor of_bias;
    if (context->needs_input_grad(2)) of_bias = gradient.sum({0, 2, 3});
    if (auto few = few_gradients(gradient)) {
      std::tie(of_images, of_weights) =
          sparse_gradients(saved[0], weights, padding, std::move(*few),
                           context->needs_input_grad(0), context->needs_input_grad(1));
      return {of_images, of_weights, of_bias, torch::Tensor()};
    }
    if (context->needs_input_grad(0)) {
      // The correlation with the reversed kernels, of outputs and inputs exchanged.
      of_images = winograd(gradient, weights.flip({2, 3}).permute({2, 3, 0, 1}).contiguous(), {},
                           weights.size(2) - 1 - padding);
    }
    if (context->needs_input_grad(1)) {
      of_weights =
          winograd_weights(saved[0], gradient, weights.size(2), padding).permute({3, 2, 0, 1});
    }
    return {of_images, of_weights, of_bias, torch::Tensor()};
  }
};

/// See relu_pool().
class ReluPool : public torch::autograd::Function<ReluPool> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& images) {
    const torch::Tensor inputs = images.contiguous(kChannelsLast);
    context->save_for_backward({inputs});
    const torch::Tensor result =
        empty_images(images.size(0), images.size(1), images.size(2) / 2, images.size(3) / 2);
    const cpu::Images from = images_of(inputs);
    const cpu::Images to = images_of(result);
    run(to.count * to.height, [&](int64_t i) {
      cpu::convolution_kernels().relu_pool(from, to, i / to.height, i % to.height);
    });
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::Tensor inputs = context->get_saved_variables()[0];
    const torch::Tensor gradient = gradients[0].contiguous(kChannelsLast);
    const torch::Tensor result =
        empty_images(inputs.size(0), inputs.size(1), inputs.size(2), inputs.size(3));
    const cpu::Images from = images_of(inputs);
    const cpu::Images to = images_of(result);
    const int64_t rows = (from.height + 1) / 2;
    run(from.count * rows, [&](int64_t i) {
      cpu::convolution_kernels().relu_pool_back(from, images_of(gradient), to, i / rows, i % rows);
    });
    return {result};
  }
};

/// ReLU and pooling on a GPU, from the CUDA part.
struct GpuReluPool {
  ReluPoolForward* forward = nullptr;
  ReluPoolBack* backward = nullptr;
};

const GpuReluPool& gpu_relu_pool() {
  static const GpuReluPool found = [] {
    std::string problem;
    return GpuReluPool{
        .forward = reinterpret_cast<ReluPoolForward*>(cuda_symbol(kReluPool, problem)),
        .backward = reinterpret_cast<ReluPoolBack*>(cuda_symbol(kReluPoolBack, problem))};
  }();
  return found;
}

/// See conv_relu_pool(), on a GPU: of what the convolution gives without its bias.
class BiasReluPool : public torch::autograd::Function<BiasReluPool> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& bias) {
    const torch::Tensor from = x.contiguous(kChannelsLast);
    const torch::Tensor of_channels = bias.contiguous();
    context->save_for_backward({from, of_channels});
    torch::Tensor to = torch::empty({x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2},
                                    x.options().memory_format(kChannelsLast));
    gpu_relu_pool().forward(from, of_channels, to);
    return to;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor x_gradient = torch::empty_like(saved[0]);
    const torch::Tensor bias_gradient = torch::zeros_like(saved[1]);
    gpu_relu_pool().backward(saved[0], saved[1],
                             gradients[0].to(saved[0].scalar_type()).contiguous(kChannelsLast),
                             x_gradient, bias_gradient);
    return {x_gradient, bias_gradient};
  }
};

bool by_gpu_relu_pool(const torch::Tensor& images, const torch::Tensor& bias) {
  constexpr int64_t kThreads = 256;
  // As many as a pixel's channels are shared by in float16.
  const int64_t per_pixel = bias.numel() / 8;
  return fast_convolutions && images.is_cuda() && bias.scalar_type() == torch::kFloat32 &&
         bias.numel() % 8 == 0 && kThreads % (2 * per_pixel) == 0 &&
         gpu_relu_pool().backward != nullptr && gpu_relu_pool().forward != nullptr;
}

constexpr int64_t kMultiple = 32;

bool is_fast(const torch::Tensor& images) {
  return fast_convolutions && images.is_cpu() && images.scalar_type() == torch::kFloat32 &&
         images.size(1) % kMultiple == 0 && !at::autocast::is_autocast_enabled(torch::kCPU);
}

bool by_winograd(const torch::Tensor& images, const torch::Tensor& weights, int64_t padding) {
  const int64_t kernel = weights.size(2);
  return is_fast(images) && weights.scalar_type() == torch::kFloat32 &&
         (kernel == 3 || kernel == 4) && weights.size(3) == kernel && padding < kernel &&
         weights.size(0) % kMultiple == 0;
}

}  // namespace

FastConvolutions::FastConvolutions(bool active) : before_(fast_convolutions) {
  fast_convolutions = active;
}

FastConvolutions::~FastConvolutions() { fast_convolutions = before_; }

torch::Tensor convolve(const torch::Tensor& images, const torch::Tensor& weights,
                       const torch::Tensor& bias, int64_t padding) {
  if (by_winograd(images, weights, padding)) {
    TORCH_CHECK(
        images.dim() == 4 && images.size(1) == weights.size(1) && bias.numel() == weights.size(0),
        "images ", images.sizes(), ", weights ", weights.sizes(), " and bias ", bias.sizes(),
        " do not fit");
    return WinogradConvolution::apply(images, weights, bias, padding);
  }
  return torch::conv2d(images, weights, bias, /*stride=*/1, padding);
}

torch::Tensor conv_relu_pool(const torch::Tensor& images, const torch::Tensor& weights,
                             const torch::Tensor& bias) {
  if (by_gpu_relu_pool(images, bias)) {
    return BiasReluPool::apply(torch::conv2d(images, weights), bias);
  }
  return relu_pool(convolve(images, weights, bias, /*padding=*/0));
}

torch::Tensor relu_pool(const torch::Tensor& images) {
  if (is_fast(images)) return ReluPool::apply(images);
  return torch::avg_pool2d(torch::relu(images), /*kernel_size=*/2);
}

}  // namespace efficientad
