#include "engine/cpu/program.h"

#include <ATen/Parallel.h>
#include <torch/nn/modules/conv.h>
#include <torch/utils.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "efficientad/core/buffer.h"
#include "efficientad/core/error.h"
#include "efficientad/core/threads.h"
#include "engine/cpu/weights.h"

namespace efficientad::cpu {

namespace {

/// Channels between the autoencoder's layers but the first two.
constexpr int64_t kDecoderChannels = 64;

/// A layer of both PDNs.
struct Layer {
  int64_t kernel;
  int64_t padding;
  bool pool;

  /// Zeros around its input, so that every window of every output lies inside.
  int64_t halo() const { return padding + margin(); }
  /// Rows of zeros that a padded pool sees around the convolution's outputs.
  int64_t margin() const { return pool && padding > 0 ? 1 : 0; }
  int64_t outputs(int64_t side) const { return side + 2 * padding - kernel + 1 + 2 * margin(); }
  int64_t result(int64_t side) const { return pool ? outputs(side) / 2 : outputs(side); }
  bool by_winograd() const { return kernel == 3 || kernel == 4; }
  /// What the grid of its input must have at least.
  int64_t grid_side(int64_t side, int64_t least_halo) const {
    int64_t need = side + 2 * std::max(halo(), least_halo);
    if (by_winograd()) {
      const int64_t tile = 9 - kernel;
      const int64_t tiles = (outputs(side) + tile - 1) / tile;
      need = std::max(need, tiles * tile + kernel - 1);
    }
    return need;
  }
};

/// The layers after the first.
std::vector<Layer> layers_of(bool medium, bool padding) {
  const int64_t three = padding ? 3 : 0;
  const int64_t one = padding ? 1 : 0;
  if (medium) {
    return {{4, three, true}, {1, 0, false}, {3, one, false}, {4, 0, false}, {1, 0, false}};
  }
  return {{4, three, true}, {3, one, false}, {4, 0, false}};
}

torch::Tensor parameter(const torch::nn::Module& module, const std::string& name) {
  return module.named_parameters()[name].detach().to(torch::kCPU, torch::kFloat64);
}

PackedLayer pack_winograd(const torch::Tensor& weight, const torch::Tensor& bias,
                          const Kernels& kernels) {
  return {pack_winograd_weights(weight, kernels.panel), bias.to(torch::kFloat32).contiguous()};
}

PackedLayer pack_direct(const torch::Tensor& rows, const torch::Tensor& bias,
                        const Kernels& kernels) {
  return {pack_weights(rows, kernels.panel), bias.to(torch::kFloat32).contiguous()};
}

PackedLayer pack(const torch::nn::Module& module, const std::string& name, bool winograd,
                 const Kernels& kernels) {
  const torch::Tensor weight = parameter(module, name + ".weight");
  const torch::Tensor bias = parameter(module, name + ".bias");
  return winograd ? pack_winograd(weight, bias, kernels)
                  : pack_direct(rows_of(weight), bias, kernels);
}

std::vector<Source> sources(int64_t from, int64_t to) {
  // As LibTorch computes them, in float32, corners not aligned.
  std::vector<Source> all;
  const float scale = static_cast<float>(from) / static_cast<float>(to);
  for (int64_t i = 0; i < to; ++i) {
    const float at = std::max(0.0f, scale * (static_cast<float>(i) + 0.5f) - 0.5f);
    const int64_t first = std::min(static_cast<int64_t>(at), from - 1);
    all.push_back({.first = first,
                   .second = std::min(first + 1, from - 1),
                   .weight = at - static_cast<float>(first)});
  }
  return all;
}

/// Segments of a kernel's window in a grid.
std::vector<Segment> window(const Grid& grid, int64_t kernel, int64_t channel, int64_t channels) {
  std::vector<Segment> segments;
  for (int64_t y = 0; y < kernel; ++y) {
    // A row is one segment where no other channels lie between.
    if (channels == grid.channels) {
      segments.push_back({y * grid.row_stride(), kernel * channels});
      continue;
    }
    for (int64_t x = 0; x < kernel; ++x) {
      segments.push_back({y * grid.row_stride() + x * grid.channels + channel, channels});
    }
  }
  return segments;
}

Product product_of(const PackedLayer& layer) {
  Product product;
  product.channels = layer.bias.size(0);
  product.weights = layer.weights.data_ptr<float>();
  product.bias = layer.bias.data_ptr<float>();
  return product;
}

/// Bytes of a core's second cache.
int64_t second_cache_bytes() {
  constexpr int64_t kUnknown = 1 << 20;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  const long found = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (found > 0) return found;
#endif
  return kUnknown;
}

/// Lays out the tiles and cuts them into tasks, of which `together` convolutions like this one are
/// done side by side.
void choose_tasks(WinogradConvolution& conv, int64_t together, int64_t panel) {
  const int64_t m = conv.tile();
  const int64_t tiles_y = (conv.outputs.height + m - 1) / m;
  const int64_t tiles_x = (conv.outputs.width + m - 1) / m;
  const bool pools = std::any_of(conv.products.begin(), conv.products.end(),
                                 [](const Product& p) { return p.then == Then::kPool; });
  const int64_t side = pools ? 2 : 1;
  for (int64_t y = 0; y < tiles_y; y += side) {
    for (int64_t x = 0; x < tiles_x; x += side) {
      conv.groups.push_back(static_cast<int64_t>(conv.tiles.size()));
      for (int64_t i = y; i < std::min(y + side, tiles_y); ++i) {
        for (int64_t j = x; j < std::min(x + side, tiles_x); ++j) {
          conv.tiles.push_back({static_cast<int32_t>(i), static_cast<int32_t>(j)});
        }
      }
    }
  }
  const auto groups = static_cast<int64_t>(conv.groups.size());
  const auto tiles = static_cast<int64_t>(conv.tiles.size());
  conv.groups.push_back(tiles);

  // A chunk's inputs and a panel of products fit the second cache, so that the weights alone come
  // from further away; if those are too few tiles to be worth the weights' way, in phases.
  constexpr double kShareOfCache = 0.84;
  constexpr int64_t kTilesInPhases = 160;
  // A tile takes longer with narrow vectors, so that the weights' way is hidden behind fewer
  // (measured on a Xeon with AVX-512 and 2 MB of second cache, and on a Zen 3 with AVX2 and 512
  // KB).
  constexpr int64_t kFewTiles = 28;
  constexpr int64_t kFewNarrowTiles = 10;
  constexpr int64_t kWidePanel = 32;
  const int64_t few_tiles = panel < kWidePanel ? kFewNarrowTiles : kFewTiles;
  const auto bytes_a_tile = static_cast<double>(64 * (conv.channels + panel)) * sizeof(float);
  const auto fitting = static_cast<int64_t>(
      kShareOfCache * static_cast<double>(second_cache_bytes()) / bytes_a_tile);
  conv.in_phases = fitting < std::min(tiles, few_tiles);
  const int64_t tiles_a_chunk = conv.in_phases ? kTilesInPhases : fitting;
  int64_t chunks = (tiles + tiles_a_chunk - 1) / tiles_a_chunk;
  if (!conv.in_phases && tiles > kFewTiles) {
    // No thread should wait for another.
    const int64_t threads = at::get_num_threads();
    while (chunks * together % threads != 0 && chunks < groups) ++chunks;
  }
  chunks = std::min(chunks, groups);
  for (int64_t i = 0; i <= chunks; ++i) conv.chunk_groups.push_back(i * groups / chunks);
}

/// Rows of a task of a direct convolution: about a quarter of a thread's share, a multiple of
/// `step`.
int64_t choose_rows(int64_t rows, int64_t step) {
  const int64_t tasks = 4 * std::max(2, at::get_num_threads());
  return std::max<int64_t>(1, (rows + tasks * step - 1) / (tasks * step)) * step;
}

/// Multiply-adds of a convolution without short cuts.
double direct_multiplications(const OutputSize& outputs, int64_t kernel, int64_t inputs,
                              int64_t channels) {
  return static_cast<double>((outputs.height - 2 * outputs.margin) *
                             (outputs.width - 2 * outputs.margin) * kernel * kernel * inputs *
                             channels);
}

int64_t tasks_of(const WinogradConvolution& conv) { return conv.in_phases ? 0 : conv.chunks(); }

template <class Work>
int64_t tasks_of(const Work& work) {
  return work.tasks();
}

template <class Work>
int64_t count_tasks(const std::vector<Work>& all) {
  int64_t tasks = 0;
  for (const auto& work : all) tasks += tasks_of(work);
  return tasks;
}

}  // namespace

PackedNetworks::PackedNetworks(const DetectorNetworks& networks, const Kernels& kernels) {
  const torch::NoGradGuard no_grad;
  const auto& options = networks.teacher->options();
  medium = options.model_size == "medium";
  padding = options.padding;
  autoencoder_fixed = networks.autoencoder_input == "fixed";
  const auto& teacher_net = *networks.teacher;
  const auto& student_net = *networks.student;
  const auto joined = [](const torch::Tensor& a, const torch::Tensor& b) {
    return torch::cat({a, b});
  };
  conv1 = pack_direct(
      rows_of(
          joined(parameter(teacher_net, "conv1.weight"), parameter(student_net, "conv1.weight"))),
      joined(parameter(teacher_net, "conv1.bias"), parameter(student_net, "conv1.bias")), kernels);
  const auto layers = layers_of(medium, padding);
  for (size_t i = 0; i + 1 < layers.size(); ++i) {
    const std::string name = "conv" + std::to_string(i + 2);
    teacher.push_back(pack(teacher_net, name, layers[i].by_winograd(), kernels));
    student.push_back(pack(student_net, name, layers[i].by_winograd(), kernels));
  }

  const std::string last = "conv" + std::to_string(layers.size() + 1);
  const torch::Tensor mean = networks.teacher_mean.to(torch::kCPU, torch::kFloat64).flatten();
  const torch::Tensor std = networks.teacher_std.to(torch::kCPU, torch::kFloat64).flatten();
  const torch::Tensor teacher_weight =
      parameter(teacher_net, last + ".weight") / std.view({-1, 1, 1, 1});
  const torch::Tensor teacher_bias = (parameter(teacher_net, last + ".bias") - mean) / std;
  const torch::Tensor student_weight = parameter(student_net, last + ".weight");
  const torch::Tensor student_bias = parameter(student_net, last + ".bias");
  const int64_t c = teacher_bias.size(0);
  channels = c;
  TORCH_CHECK(student_bias.size(0) == 2 * c, "a student of ", student_bias.size(0),
              " channels for a teacher of ", c);
  const torch::Tensor decoder_weight =
      parameter(*networks.autoencoder, "decoder.deconv8.weight");  // [C, 64, 3, 3]
  const torch::Tensor decoder_bias = parameter(*networks.autoencoder, "decoder.deconv8.bias");

  const torch::Tensor bias_st = teacher_bias - student_bias.narrow(0, 0, c);
  const torch::Tensor bias_ae = decoder_bias - student_bias.narrow(0, c, c);
  const torch::Tensor minus_st = -student_weight.narrow(0, 0, c);
  const torch::Tensor minus_ae = -student_weight.narrow(0, c, c);
  if (medium) {
    difference_st =
        pack_direct(torch::cat({rows_of(teacher_weight), rows_of(minus_st)}), bias_st, kernels);
    difference_ae =
        pack_direct(torch::cat({rows_of(minus_ae), rows_of(decoder_weight)}), bias_ae, kernels);
  } else {
    difference_st = pack_winograd(torch::cat({teacher_weight, minus_st}, 1), bias_st, kernels);
    // The 3x3 kernel as a 4x4 one whose last row and column are zero.
    difference_ae = pack_winograd(
        torch::cat({minus_ae, torch::constant_pad_nd(decoder_weight, {0, 1, 0, 1}, 0)}, 1), bias_ae,
        kernels);
  }

  for (int i = 1; i <= 6; ++i) {
    encoder.push_back(pack(*networks.autoencoder, "encoder.enconv" + std::to_string(i),
                           /*winograd=*/false, kernels));
  }
  for (int i = 1; i <= 7; ++i) {
    decoder.push_back(pack(*networks.autoencoder, "decoder.deconv" + std::to_string(i),
                           /*winograd=*/true, kernels));
  }
}

Grid Program::make_grid(int64_t height, int64_t width, int64_t channels) {
  memory_.push_back(make_buffer(height * width * channels));
  return {memory_.back().data_ptr<float>(), height, width, channels};
}

Program::Program(const PackedNetworks& networks, const Kernels& kernels,
                 std::array<int64_t, 2> image_hw)
    : kernels_(kernels),
      map_hw_({pdn_output_side(image_hw[0], networks.padding),
               pdn_output_side(image_hw[1], networks.padding)}) {
  build_networks(networks, image_hw);
  // Stages follow one another, so that they may share the memory of phases.
  int64_t most = 0;
  for (auto& stage : stages_) {
    int64_t size = 0;
    for (const auto& conv : stage.winograds) {
      if (conv.in_phases) size += kernels_.winograd_phase_memory(conv);
    }
    most = std::max(most, size);
  }
  memory_.push_back(make_buffer(most));
  for (auto& stage : stages_) {
    auto* at = memory_.back().data_ptr<float>();
    for (auto& conv : stage.winograds) {
      if (!conv.in_phases) continue;
      conv.memory = at;
      at += kernels_.winograd_phase_memory(conv);
    }
  }
}

void Program::build_networks(const PackedNetworks& networks, std::array<int64_t, 2> image_hw) {
  const auto layers = layers_of(networks.medium, networks.padding);
  const auto grid_for = [&](const Layer& layer, std::array<int64_t, 2> hw, int64_t channels,
                            int64_t least_halo = 0) {
    return make_grid(layer.grid_side(hw[0], least_halo), layer.grid_side(hw[1], least_halo),
                     channels);
  };
  const auto outputs_of = [](const Layer& layer, std::array<int64_t, 2> hw) {
    return OutputSize{layer.outputs(hw[0]), layer.outputs(hw[1]), layer.margin()};
  };
  const auto put = [](Product& product, const Grid& grid, int64_t halo, int64_t channel,
                      bool pool) {
    product.then = pool ? Then::kPool : Then::kStore;
    product.relu = true;
    product.to = grid;
    product.y = halo;
    product.x = halo;
    product.channel = channel;
  };

  // The first layer, of both networks at once.
  const Layer first = {4, networks.padding ? 3 : 0, true};
  std::array<int64_t, 2> hw = image_hw;
  const Grid image = make_grid(hw[0] + 2 * first.halo(), hw[1] + 2 * first.halo(), 3);
  stages_.emplace_back().name = "image";
  stages_.back().interleavings.push_back(
      {nullptr, hw[0], hw[1], image, first.halo(), first.halo()});
  DirectConvolution conv1;
  conv1.from = image;
  conv1.outputs = outputs_of(first, hw);
  conv1.task_rows = choose_rows(conv1.outputs.height, 2);
  conv1.products.push_back(product_of(networks.conv1));
  conv1.products[0].segments = window(image, 4, 0, 3);
  hw = {first.result(hw[0]), first.result(hw[1])};
  Grid grid = grid_for(layers[0], hw, conv1.products[0].channels);
  put(conv1.products[0], grid, layers[0].halo(), 0, first.pool);
  Stage& first_stage = stages_.emplace_back();
  first_stage.name = "conv1";
  first_stage.direct_multiplications =
      direct_multiplications(conv1.outputs, 4, 3, conv1.products[0].channels);
  first_stage.directs.push_back(std::move(conv1));

  // The layers between: teacher and student side by side.
  std::array<int64_t, 2> channels = {grid.channels / 2, grid.channels / 2};
  for (size_t i = 0; i + 1 < layers.size(); ++i) {
    const Layer& layer = layers[i];
    const bool before_last = i + 2 == layers.size();
    const std::array<int64_t, 2> result = {layer.result(hw[0]), layer.result(hw[1])};
    const std::array<Product, 2> products = {product_of(networks.teacher[i]),
                                             product_of(networks.student[i])};
    const std::array<int64_t, 2> next_channels = {products[0].channels, products[1].channels};
    // The last layer's grid also holds the autoencoder's features, which need a halo of one.
    const Layer& next = layers[i + 1];
    const int64_t least_halo = before_last && networks.medium ? 1 : 0;
    const Grid to = grid_for(
        next, result, next_channels[0] + next_channels[1] + (before_last ? kDecoderChannels : 0),
        least_halo);
    Stage& stage = stages_.emplace_back();
    stage.name = "conv" + std::to_string(i + 2);
    for (size_t n = 0; n < 2; ++n) {
      stage.direct_multiplications += direct_multiplications(outputs_of(layer, hw), layer.kernel,
                                                             channels[n], products[n].channels);
      const int64_t channel = n == 0 ? 0 : channels[0];
      Product product = products[n];
      put(product, to, std::max(next.halo(), least_halo), n == 0 ? 0 : next_channels[0],
          layer.pool);
      if (layer.by_winograd()) {
        WinogradConvolution conv;
        conv.kernel = layer.kernel;
        conv.from = grid;
        conv.channel = channel;
        conv.channels = channels[n];
        conv.outputs = outputs_of(layer, hw);
        product.segments = {{0, channels[n]}};
        conv.products = {product};
        choose_tasks(conv, 2, kernels_.panel);
        stage.winograds.push_back(std::move(conv));
      } else {
        DirectConvolution conv;
        conv.from = grid;
        conv.outputs = outputs_of(layer, hw);
        conv.task_rows = choose_rows(conv.outputs.height, 1);
        product.segments = window(grid, layer.kernel, channel, channels[n]);
        conv.products = {product};
        stage.directs.push_back(std::move(conv));
      }
    }
    hw = result;
    grid = to;
    channels = next_channels;
  }

  const int64_t features = channels[0] + channels[1];
  build_autoencoder(networks, image_hw, grid, features);

  // The last layers, whose outputs are differences.
  Product st = product_of(networks.difference_st);
  Product ae = product_of(networks.difference_ae);
  st.then = Then::kMeanSquare;
  ae.then = Then::kMeanSquare;
  Stage& stage = stages_.emplace_back();
  const Layer& last = layers.back();
  stage.name = "conv" + std::to_string(layers.size() + 1) + " + deconv8";
  // The teacher's channels, the student's twice as many, and the autoencoder's.
  stage.direct_multiplications =
      direct_multiplications(outputs_of(last, hw), last.kernel, channels[0] + 2 * channels[1],
                             networks.channels) +
      direct_multiplications(outputs_of(last, hw), 3, kDecoderChannels, networks.channels);
  if (last.by_winograd()) {
    WinogradConvolution conv;
    conv.kernel = last.kernel;
    conv.from = grid;
    conv.channels = grid.channels;
    conv.outputs = outputs_of(last, hw);
    st.segments = {{0, features}};
    ae.segments = {{channels[0], channels[1] + kDecoderChannels}};
    conv.products = {st, ae};
    choose_tasks(conv, 1, kernels_.panel);
    stage.winograds.push_back(std::move(conv));
  } else {
    DirectConvolution conv;
    conv.from = grid;
    conv.outputs = outputs_of(last, hw);
    conv.task_rows = choose_rows(conv.outputs.height, 1);
    const int64_t centre = grid.row_stride() + grid.channels;
    st.segments = {{centre, features}};
    ae.segments = window(grid, 3, features, kDecoderChannels);
    ae.segments.insert(ae.segments.begin(), {centre + channels[0], channels[1]});
    conv.products = {st, ae};
    stage.directs.push_back(std::move(conv));
  }
}

void Program::build_autoencoder(const PackedNetworks& networks, std::array<int64_t, 2> image_hw,
                                const Grid& to, int64_t to_channel) {
  const std::array<int64_t, 2> input_hw =
      networks.autoencoder_fixed ? std::array<int64_t, 2>{kAutoencoderSide, kAutoencoderSide}
                                 : image_hw;
  // Side by side with what the other networks do, which takes longer.
  size_t at = 0;
  const auto stage = [&](const std::string& name) -> Stage& {
    if (at == stages_.size()) stages_.emplace_back();
    Stage& next = stages_[at++];
    next.name += (next.name.empty() ? "" : " + ") + name;
    return next;
  };

  std::array<int64_t, 2> hw = input_hw;
  Grid grid = make_grid(hw[0] + 2, hw[1] + 2, 3);
  stage("its resized copy").interleavings.push_back({nullptr, hw[0], hw[1], grid, 1, 1});
  for (size_t i = 0; i < networks.encoder.size(); ++i) {
    const bool last = i + 1 == networks.encoder.size();
    DirectConvolution conv;
    conv.from = grid;
    Product product = product_of(networks.encoder[i]);
    product.segments = window(grid, last ? 8 : 4, 0, grid.channels);
    product.relu = !last;
    conv.stride = last ? 1 : 2;
    hw = last ? std::array<int64_t, 2>{hw[0] - 7, hw[1] - 7}
              : std::array<int64_t, 2>{hw[0] / 2, hw[1] / 2};
    conv.outputs = {hw[0], hw[1], 0};
    conv.task_rows = choose_rows(hw[0], 1);
    // Zeros around the input of a padded convolution: all but the last.
    const int64_t halo = i + 2 < networks.encoder.size() ? 1 : 0;
    grid = make_grid(hw[0] + 2 * halo, hw[1] + 2 * halo, product.channels);
    product.to = grid;
    product.y = halo;
    product.x = halo;
    conv.products = {product};
    Stage& now = stage("enconv" + std::to_string(i + 1));
    now.direct_multiplications +=
        direct_multiplications(conv.outputs, last ? 8 : 4, conv.from.channels, product.channels);
    now.directs.push_back(std::move(conv));
  }

  const std::array<int64_t, 6> divisors = {64, 32, 16, 8, 4, 2};
  const std::array<int64_t, 6> less = {1, 0, 1, 0, 1, 1};
  for (size_t i = 0; i < networks.decoder.size(); ++i) {
    const bool last = i + 1 == networks.decoder.size();
    const Layer layer = {last ? 3 : 4, last ? 1 : 2, false};
    const std::array<int64_t, 2> size =
        last ? map_hw_
             : std::array<int64_t, 2>{input_hw[0] / divisors[i] - less[i],
                                      input_hw[1] / divisors[i] - less[i]};
    const Grid large =
        make_grid(layer.grid_side(size[0], 0), layer.grid_side(size[1], 0), kDecoderChannels);
    Upsampling resize;
    resize.from = grid;
    resize.to = large;
    resize.to_y = layer.padding;
    resize.to_x = layer.padding;
    resize.rows = sources(hw[0], size[0]);
    resize.columns = sources(hw[1], size[1]);
    stage("upsample" + std::to_string(i + 1)).upsamplings.push_back(std::move(resize));

    WinogradConvolution conv;
    conv.kernel = layer.kernel;
    conv.from = large;
    conv.channels = kDecoderChannels;
    conv.outputs = {layer.outputs(size[0]), layer.outputs(size[1]), 0};
    Product product = product_of(networks.decoder[i]);
    product.segments = {{0, kDecoderChannels}};
    product.relu = true;
    hw = {conv.outputs.height, conv.outputs.width};
    if (last) {
      product.to = to;
      product.y = 1;
      product.x = 1;
      product.channel = to_channel;
    } else {
      grid = make_grid(hw[0], hw[1], product.channels);
      product.to = grid;
    }
    conv.products = {product};
    choose_tasks(conv, 1, kernels_.panel);
    Stage& now = stage("deconv" + std::to_string(i + 1));
    now.direct_multiplications +=
        direct_multiplications(conv.outputs, layer.kernel, kDecoderChannels, product.channels);
    now.winograds.push_back(std::move(conv));
  }
}

void Program::run_task(const Stage& stage, int64_t task, float* scratch) const {
  for (const auto& conv : stage.winograds) {
    if (task < tasks_of(conv)) return kernels_.winograd(conv, task, scratch);
    task -= tasks_of(conv);
  }
  for (const auto& conv : stage.directs) {
    if (task < conv.tasks()) return kernels_.direct(conv, task, scratch);
    task -= conv.tasks();
  }
  for (const auto& resize : stage.upsamplings) {
    if (task < resize.tasks()) return kernels_.upsample(resize, task);
    task -= resize.tasks();
  }
  for (const auto& images : stage.interleavings) {
    if (task < images.tasks()) return kernels_.interleave(images, task);
    task -= images.tasks();
  }
}

void Program::run_tasks(int64_t tasks, const std::function<void(int64_t, float*)>& run) {
  efficientad::run_tasks(tasks, static_cast<int64_t>(scratch_.size()),
                         [&](int64_t task, int64_t thread) {
                           run(task, scratch_[static_cast<size_t>(thread)].data_ptr<float>());
                         });
}

void Program::run_stage(const Stage& stage) {
  run_tasks(count_tasks(stage.winograds) + count_tasks(stage.directs) +
                count_tasks(stage.upsamplings) + count_tasks(stage.interleavings),
            [&](int64_t task, float* scratch) { run_task(stage, task, scratch); });
  int64_t chunks = 0;
  for (const auto& conv : stage.winograds) {
    if (conv.in_phases) chunks = std::max(chunks, conv.chunks());
  }
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (const Phase phase : {Phase::kInputs, Phase::kProducts, Phase::kOutputs}) {
      const auto parts_of = [&](const WinogradConvolution& conv) -> int64_t {
        if (!conv.in_phases || chunk >= conv.chunks()) return 0;
        return kernels_.winograd_parts(conv, chunk, phase);
      };
      int64_t all = 0;
      for (const auto& conv : stage.winograds) all += parts_of(conv);
      run_tasks(all, [&](int64_t part, float* scratch) {
        for (const auto& conv : stage.winograds) {
          const int64_t parts = parts_of(conv);
          if (part < parts) return kernels_.winograd_phase(conv, chunk, phase, part, scratch);
          part -= parts;
        }
      });
    }
  }
}

void Program::prepare(const float* image, const float* autoencoder_image, float* map_st,
                      float* map_ae) {
  stages_[0].interleavings[0].planes = image;
  stages_[0].interleavings[1].planes = autoencoder_image;
  Stage& last = stages_.back();
  auto& products = last.winograds.empty() ? last.directs[0].products : last.winograds[0].products;
  products[0].map = map_st;
  products[1].map = map_ae;
  const auto threads = static_cast<size_t>(at::get_num_threads());
  if (scratch_.size() == threads) return;
  int64_t size = 1;
  for (const auto& stage : stages_) {
    for (const auto& conv : stage.winograds) {
      size = std::max(size, kernels_.winograd_scratch(conv));
    }
    for (const auto& conv : stage.directs) size = std::max(size, kernels_.direct_scratch(conv));
  }
  scratch_.clear();
  for (size_t i = 0; i < threads; ++i) scratch_.push_back(make_buffer(size));
}

void Program::run(const float* image, const float* autoencoder_image, float* map_st,
                  float* map_ae) {
  prepare(image, autoencoder_image, map_st, map_ae);
  for (const auto& stage : stages_) run_stage(stage);
}

void Program::run_timed(const float* image, const float* autoencoder_image, float* map_st,
                        float* map_ae, std::vector<std::vector<double>>& times) {
  prepare(image, autoencoder_image, map_st, map_ae);
  times.resize(stages_.size());
  for (size_t i = 0; i < stages_.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    run_stage(stages_[i]);
    times[i].push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
}

std::vector<LayerTime> Program::layers() const {
  std::vector<LayerTime> layers;
  for (const auto& stage : stages_) {
    LayerTime layer = {.name = stage.name, .direct_multiplications = stage.direct_multiplications};
    const auto add = [&](int64_t outputs, const std::vector<Product>& products) {
      for (const auto& product : products) {
        for (const auto& segment : product.segments) {
          layer.multiplications += static_cast<double>(outputs * segment.count * product.channels);
        }
      }
    };
    for (const auto& conv : stage.winograds) {
      add(static_cast<int64_t>(conv.tiles.size()) * 64, conv.products);
    }
    for (const auto& conv : stage.directs) {
      add(conv.outputs.height * conv.outputs.width, conv.products);
    }
    layers.push_back(layer);
  }
  return layers;
}

}  // namespace efficientad::cpu
