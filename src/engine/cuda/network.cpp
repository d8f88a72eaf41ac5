#include "engine/cuda/network.h"

#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include "efficientad/core/error.h"

namespace efficientad::cuda {

namespace {

/// Rows and columns of zeros around the unpadded PDN's maps, so that they cover the image.
constexpr int64_t kBorder = 4;

/// A PDN's layer after the first.
struct Layer {
  int64_t padding;
  bool pool;
};

std::vector<Layer> layers_of(bool medium, bool padding) {
  const int64_t three = padding ? 3 : 0;
  const int64_t one = padding ? 1 : 0;
  if (medium) return {{three, true}, {0, false}, {one, false}, {0, false}, {0, false}};
  return {{three, true}, {one, false}, {0, false}};
}

torch::Tensor parameter(const torch::nn::Module& module, const std::string& name) {
  return module.named_parameters()[name].detach().to(torch::kCPU, torch::kFloat64);
}

Convolution convolution(const torch::nn::Module& module, const std::string& name) {
  return {parameter(module, name + ".weight"), parameter(module, name + ".bias")};
}

Convolution with_fourth_channel(Convolution layer) {
  layer.weight = torch::constant_pad_nd(layer.weight, {0, 0, 0, 0, 0, 1});
  return layer;
}

void to_float(Convolution& layer) {
  layer.weight = layer.weight.to(torch::kFloat32);
  layer.bias = layer.bias.to(torch::kFloat32);
}

void move(Convolution& layer, torch::Device device, torch::ScalarType type) {
  layer.weight = layer.weight.to(device, type).contiguous(torch::MemoryFormat::ChannelsLast);
  layer.bias = layer.bias.to(device).contiguous();
  layer.typed_bias = layer.bias.to(type);
}

torch::Tensor activations(const torch::Tensor& like, int64_t channels, int64_t height,
                          int64_t width) {
  return torch::empty({like.size(0), channels, height, width},
                      like.options().memory_format(torch::MemoryFormat::ChannelsLast));
}

torch::Tensor pooled(const torch::Tensor& x, int64_t channels, bool padding) {
  const int64_t more = padding ? 2 : 0;
  return activations(x, channels, (x.size(2) + more) / 2, (x.size(3) + more) / 2);
}

torch::Tensor run_pdn(const std::vector<Convolution>& layers, bool medium, bool padding,
                      const Operations& operations, torch::Tensor x) {
  const std::vector<Layer> shapes = layers_of(medium, padding);
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool last = i + 1 == layers.size();
    if (!last && !shapes[i].pool) {
      x = operations.convolution_relu(x, layers[i].weight, layers[i].typed_bias, /*stride=*/1,
                                      shapes[i].padding);
      continue;
    }
    const torch::Tensor y =
        operations.convolution(x, layers[i].weight, /*stride=*/1, shapes[i].padding);
    if (last) return y;
    x = pooled(y, y.size(1), padding);
    operations.bias_relu_pool(y, 0, layers[i].bias, padding ? 1 : 0, x);
  }
  return x;
}

torch::Tensor run_autoencoder(const FoldedNetworks& networks, const Operations& operations,
                              torch::Tensor x, std::array<int64_t, 2> output_hw) {
  constexpr std::array<int64_t, 6> kDivisors = {64, 32, 16, 8, 4, 2};
  constexpr std::array<int64_t, 6> kLess = {1, 0, 1, 0, 1, 1};
  const int64_t height = x.size(2);
  const int64_t width = x.size(3);
  for (size_t i = 0; i < networks.encoder.size(); ++i) {
    const Convolution& layer = networks.encoder[i];
    const bool last = i + 1 == networks.encoder.size();
    x = last ? operations.convolution(x, layer.weight, /*stride=*/1, /*padding=*/0)
             : operations.convolution_relu(x, layer.weight, layer.typed_bias, /*stride=*/2,
                                           /*padding=*/1);
  }
  const torch::Tensor* bias = &networks.encoder.back().bias;
  for (size_t i = 0; i < kDivisors.size(); ++i) {
    torch::Tensor larger = activations(x, x.size(1), height / kDivisors[i] - kLess[i],
                                       width / kDivisors[i] - kLess[i]);
    operations.bias_upsample(x, *bias, /*relu=*/i > 0, larger);
    x = operations.convolution(larger, networks.decoder[i].weight, /*stride=*/1, /*padding=*/2);
    bias = &networks.decoder[i].bias;
  }
  torch::Tensor larger = activations(x, x.size(1), output_hw[0], output_hw[1]);
  operations.bias_upsample(x, *bias, /*relu=*/true, larger);
  x = operations.convolution_relu(larger, networks.decoder[6].weight,
                                  networks.decoder[6].typed_bias, /*stride=*/1, /*padding=*/1);
  return operations.convolution(x, networks.decoder[7].weight, /*stride=*/1, /*padding=*/1);
}

}  // namespace

torch::Tensor pack_first_layer(const torch::Tensor& weight) {
  constexpr int64_t kGroup = 32;
  TORCH_CHECK(weight.dim() == 4 && weight.size(0) % kGroup == 0 && weight.size(1) == 4 &&
                  weight.size(2) == 4 && weight.size(3) == 4,
              "a first layer of ", weight.sizes());
  // A lane's quad q holds column q of a tile, which is channel 8 (q / 2) + 2 tile + q % 2 of its
  // group; its place t in the quad values 2 t, 2 t + 1 and those 8 later of a window's row, which
  // are column k / 4 and channel k % 4.
  return weight
      .permute({0, 2, 3, 1})                  // [channel, row, column, input]
      .reshape({-1, 4, 4, 2, 2, 2, 2, 4, 2})  // [group, quad / 2, tile, quad % 2, row / 2,
                                              //  row % 2, k / 8, k / 2 % 4, k % 2]
      .permute({0, 2, 4, 1, 3, 7, 5, 6, 8})   // [group, tile, row / 2, lane (3), row % 2,
                                              //  k / 8, k % 2]
      .contiguous()
      .flatten();
}

FoldedNetworks::FoldedNetworks(const DetectorNetworks& networks) {
  const torch::NoGradGuard no_grad;
  const auto& options = networks.teacher->options();
  medium = options.model_size == "medium";
  padding = options.padding;
  autoencoder_fixed = networks.autoencoder_input == "fixed";
  const Convolution of_teacher = convolution(*networks.teacher, "conv1");
  const Convolution of_student = convolution(*networks.student, "conv1");
  first = with_fourth_channel({torch::cat({of_teacher.weight, of_student.weight}),
                               torch::cat({of_teacher.bias, of_student.bias})});
  const size_t layers = layers_of(medium, padding).size();
  for (size_t i = 0; i < layers; ++i) {
    const std::string name = "conv" + std::to_string(i + 2);
    teacher.push_back(convolution(*networks.teacher, name));
    student.push_back(convolution(*networks.student, name));
  }
  const torch::Tensor mean = networks.teacher_mean.to(torch::kCPU, torch::kFloat64).flatten();
  const torch::Tensor std = networks.teacher_std.to(torch::kCPU, torch::kFloat64).flatten();
  teacher.back().weight = teacher.back().weight / std.view({-1, 1, 1, 1});
  teacher.back().bias = (teacher.back().bias - mean) / std;
  for (int i = 1; i <= 6; ++i) {
    const Convolution layer =
        convolution(*networks.autoencoder, "encoder.enconv" + std::to_string(i));
    encoder.push_back(i == 1 ? with_fourth_channel(layer) : layer);
  }
  for (int i = 1; i <= 8; ++i) {
    decoder.push_back(convolution(*networks.autoencoder, "decoder.deconv" + std::to_string(i)));
  }
  const int64_t channels = teacher.back().bias.size(0);
  const torch::Tensor& student_bias = student.back().bias;
  TORCH_CHECK(student_bias.size(0) == 2 * channels, "a student of ", student_bias.size(0),
              " channels for a teacher of ", channels);
  bias_st =
      (teacher.back().bias - student_bias.narrow(0, 0, channels)).to(torch::kFloat32).contiguous();
  bias_ae = (decoder.back().bias - student_bias.narrow(0, channels, channels))
                .to(torch::kFloat32)
                .contiguous();
  to_float(first);
  for (auto* list : {&teacher, &student, &encoder, &decoder}) {
    for (auto& layer : *list) to_float(layer);
  }
  first_packed = pack_first_layer(first.weight);
}

FoldedNetworks FoldedNetworks::to(torch::Device device, torch::ScalarType type) const {
  FoldedNetworks moved = *this;
  move(moved.first, device, type);
  moved.first_packed = first_packed.to(device, type);
  for (auto* list : {&moved.teacher, &moved.student, &moved.encoder, &moved.decoder}) {
    for (auto& layer : *list) move(layer, device, type);
  }
  moved.bias_st = bias_st.to(device);
  moved.bias_ae = bias_ae.to(device);
  return moved;
}

Workspace::Workspace(const FoldedNetworks& networks, int64_t count, std::array<int64_t, 2> image_hw,
                     torch::Device device, torch::ScalarType type) {
  const auto options = torch::TensorOptions().device(device).dtype(type).memory_format(
      torch::MemoryFormat::ChannelsLast);
  image = torch::zeros({count, 4, image_hw[0], image_hw[1]},
                       torch::TensorOptions().device(device).dtype(type))
              .contiguous(torch::MemoryFormat::ChannelsLast);
  if (networks.autoencoder_fixed &&
      (image_hw[0] != kAutoencoderSide || image_hw[1] != kAutoencoderSide)) {
    autoencoder_image = torch::zeros({count, 4, kAutoencoderSide, kAutoencoderSide},
                                     torch::TensorOptions().device(device).dtype(type))
                            .contiguous(torch::MemoryFormat::ChannelsLast);
  }
  const int64_t channels = networks.first.bias.size(0) / 2;
  const auto pooled_side = [&](int64_t side) {
    return networks.padding ? (side + 3 + 2) / 2 : (side - 3) / 2;
  };
  const std::vector<int64_t> pooled_sizes = {count, channels, pooled_side(image_hw[0]),
                                             pooled_side(image_hw[1])};
  teacher_pooled = torch::empty(pooled_sizes, options);
  student_pooled = torch::empty(pooled_sizes, options);
  const int64_t h = pdn_output_side(image_hw[0], networks.padding);
  const int64_t w = pdn_output_side(image_hw[1], networks.padding);
  const int64_t border = networks.padding ? 0 : kBorder;
  raw = torch::zeros({2, count, 1, h, w}, torch::TensorOptions().device(device));
  st = raw[0];
  ae = raw[1];
  combined = torch::zeros({count, 1, h + 2 * border, w + 2 * border},
                          torch::TensorOptions().device(device));
}

void run_networks(const FoldedNetworks& networks, const Operations& operations,
                  const MapNormalization& normalization, Workspace& workspace) {
  const torch::NoGradGuard no_grad;
  torch::Tensor teacher;
  torch::Tensor student;
  torch::Tensor autoencoder;
  const auto autoencoder_branch = [&] {
    torch::Tensor seen = workspace.image;
    if (workspace.autoencoder_image.defined()) {
      seen = workspace.autoencoder_image;
      seen.narrow(1, 0, 3).copy_(autoencoder_input_fixed(
          workspace.image.narrow(1, 0, 3).to(torch::kFloat32).contiguous()));
    }
    autoencoder =
        run_autoencoder(networks, operations, seen, {workspace.st.size(2), workspace.st.size(3)});
  };
  const auto pdns = [&] {
    const int64_t padding = networks.padding ? 3 : 0;
    const int64_t channels = workspace.teacher_pooled.size(1);
    if (operations.has_first_layer(workspace.image.scalar_type())) {
      operations.first_layer(workspace.image, networks.first_packed, networks.first.bias, padding,
                             workspace.teacher_pooled, workspace.student_pooled);
    } else {
      const torch::Tensor both =
          operations.convolution(workspace.image, networks.first.weight, /*stride=*/1, padding);
      const int64_t pool_padding = networks.padding ? 1 : 0;
      operations.bias_relu_pool(both, 0, networks.first.bias.narrow(0, 0, channels), pool_padding,
                                workspace.teacher_pooled);
      operations.bias_relu_pool(both, channels, networks.first.bias.narrow(0, channels, channels),
                                pool_padding, workspace.student_pooled);
    }
    operations.parallel({[&] {
                           teacher = run_pdn(networks.teacher, networks.medium, networks.padding,
                                             operations, workspace.teacher_pooled);
                         },
                         [&] {
                           student = run_pdn(networks.student, networks.medium, networks.padding,
                                             operations, workspace.student_pooled);
                         }});
  };
  operations.parallel({pdns, autoencoder_branch});
  operations.maps(teacher, student, autoencoder, networks.bias_st, networks.bias_ae, normalization,
                  workspace.st, workspace.ae, workspace.combined);
}

}  // namespace efficientad::cuda
