#pragma once

#include <cstdint>
#include <functional>
#include <vector>

/// The loops of convolutions that are trained, compiled once for each instruction set and chosen at
/// run time. No LibTorch here: pointers to float32 numbers, channels last.
namespace efficientad::cpu {

/// Images [count][height][width][channels].
struct Images {
  float* data = nullptr;
  int64_t count = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;

  float* at(int64_t image, int64_t y, int64_t x) const {
    return data + ((image * height + y) * width + x) * channels;
  }
};

/// How the outputs of a convolution of stride 1, `padding` zeros around its inputs, are cut into
/// tiles for Winograd's method: F(6x6, 3x3) or F(5x5, 4x4). Tiles are numbered image by image, row
/// by row.
struct Tiling {
  int64_t kernel = 0;
  int64_t padding = 0;
  int64_t images = 0;
  /// Outputs of an image.
  int64_t height = 0;
  int64_t width = 0;

  int64_t side() const { return 9 - kernel; }
  int64_t tiles_y() const { return (height + side() - 1) / side(); }
  int64_t tiles_x() const { return (width + side() - 1) / side(); }
  int64_t tiles() const { return images * tiles_y() * tiles_x(); }
};

/// Tiles that are computed together. What belongs to them lies in memory by position of the
/// transformed tile, 64 of them.
struct TileChunk {
  int64_t first = 0;
  int64_t count = 0;
  /// Transformed inputs: [position][tile][channel], numbers from tile to tile and from position to
  /// position.
  int64_t input_tile = 0;
  int64_t input_position = 0;
  /// Products, or transformed gradients of outputs: [panel][position][tile][channel of the panel].
  int64_t product_position = 0;

  int64_t input_size() const { return 64 * input_position; }
  int64_t product_panel() const { return 64 * product_position; }
};

/// One number of the outputs' gradients that is not zero.
struct Gradient {
  int64_t image = 0;
  int64_t y = 0;
  int64_t x = 0;
  int64_t channel = 0;
  float value = 0;
};

/// A convolution of stride 1 whose outputs' gradients are few.
struct SparseGradients {
  int64_t kernel = 0;
  int64_t padding = 0;
  Images inputs;
  /// [output][row][column][input].
  const float* weights = nullptr;
  std::vector<Gradient> gradients;
  /// What they are added to: in the layout of weights, and as inputs; null: not wanted.
  float* of_weights = nullptr;
  Images of_inputs;
};

/// The kernels of one instruction set. Channels are multiples of `panel`.
struct ConvolutionKernels {
  const char* name;
  /// Output channels that the matrix product computes together.
  int64_t panel;
  TileChunk (*chunk)(int64_t first, int64_t count, int64_t inputs);

  /// G w G^T: a panel of weights [kernel * kernel][inputs][outputs] to [position][input][channel of
  /// the panel].
  void (*transform_weights)(const float* weights, int64_t kernel, int64_t inputs, int64_t outputs,
                            int64_t panel, float* packed);
  /// The transpose: what transform_weights() reads is written, what it writes is read.
  void (*finish_weights)(float* weights, int64_t kernel, int64_t inputs, int64_t outputs,
                         int64_t panel, const float* packed);
  /// B^T d B of the inputs of the chunk's tiles `begin` to `end` (counted in the chunk).
  void (*transform_inputs)(const Images& from, const Tiling& tiling, const TileChunk& chunk,
                           int64_t begin, int64_t end, float* inputs);
  /// A^T m A of the products of all panels, plus bias, to the outputs.
  void (*transform_products)(const float* products, const Tiling& tiling, const TileChunk& chunk,
                             int64_t begin, int64_t end, const float* bias, const Images& to);
  /// The transpose of it: A dy A^T of the outputs' gradients.
  void (*transform_gradients)(const Images& from, const Tiling& tiling, const TileChunk& chunk,
                              int64_t begin, int64_t end, float* gradients);
  /// Products of one position and one panel: inputs times weights. Meanwhile `next`, the weights of
  /// a panel that will be needed after these, is fetched.
  void (*multiply)(const float* inputs, const TileChunk& chunk, int64_t position, int64_t count,
                   const float* weights, const float* next, float* products);
  /// Gradients of transformed weights of one position and one panel: the transposed inputs times
  /// the gradients, set if `first`, added else.
  void (*multiply_transposed)(const float* inputs, const TileChunk& chunk, int64_t position,
                              int64_t count, const float* gradients, float* weights, bool first);

  /// All of it for the inputs' channels `begin` to `end`, a multiple of 16 apart.
  void (*add_sparse)(const SparseGradients& all, int64_t begin, int64_t end);

  /// Means of 2x2 windows of what is positive, with stride 2: row `y` of the outputs of an image.
  void (*relu_pool)(const Images& from, const Images& to, int64_t image, int64_t y);
  /// Its gradient: rows 2 y and 2 y + 1 of the inputs', from row y of the outputs'; zeros where
  /// there is no such row.
  void (*relu_pool_back)(const Images& inputs, const Images& of_outputs, const Images& of_inputs,
                         int64_t image, int64_t y);
};

/// The best that this machine can run.
const ConvolutionKernels& convolution_kernels();

/// Calls `work` once for each instruction set that this machine can run, while
/// convolution_kernels() are of that one. For tests.
void for_each_convolution_kernels(const std::function<void()>& work);

}  // namespace efficientad::cpu
