#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/cpu/segment.h"

/// The loops of the CPU engine, compiled once for each instruction set and chosen at run time. No
/// LibTorch here: pointers to float32 numbers, channels last.
namespace efficientad::cpu {

/// A grid of pixels [height, width, channels] with enough room around its content that no kernel
/// ever tests for borders: what lies outside of the content is zero and stays zero.
struct Grid {
  float* data = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;

  int64_t row_stride() const { return width * channels; }
  float* at(int64_t y, int64_t x) const { return data + (y * width + x) * channels; }
};

/// What becomes of the outputs of a product.
enum class Then {
  kStore,       // written to a grid
  kPool,        // mean of 2x2 windows with stride 2, written to a grid
  kMeanSquare,  // mean over channels of the squares, written to a map
};

/// A matrix product [outputs, segments' numbers] x [those, channels] and what follows it.
struct Product {
  std::vector<Segment> segments;
  /// Output channels: a multiple of 32.
  int64_t channels = 0;
  /// As pack_winograd_weights() or pack_weights() lay them out for panels of Kernels::panel.
  const float* weights = nullptr;
  /// One number a channel.
  const float* bias = nullptr;
  bool relu = false;
  Then then = Then::kStore;
  /// kStore, kPool: output (0, 0), or the first window, goes to pixel (y, x), channel `channel`.
  Grid to;
  int64_t y = 0;
  int64_t x = 0;
  int64_t channel = 0;
  /// kMeanSquare: float32 [height, width].
  float* map = nullptr;
};

/// Outputs of a convolution: `height` x `width` of them. With `margin` = 1, which kPool may have,
/// the first and last row and column are not computed but are zero, as a padded pool sees them.
struct OutputSize {
  int64_t height = 0;
  int64_t width = 0;
  int64_t margin = 0;
};

/// A tile of outputs, counted in tiles.
struct TileAt {
  int32_t y = 0;
  int32_t x = 0;
};

/// A convolution with stride 1 and a kernel of 3x3 or 4x4 by Winograd's method: F(6x6, 3x3) or
/// F(5x5, 4x4), both on tiles of 8x8 inputs.
struct WinogradConvolution {
  int64_t kernel = 0;
  Grid from;
  /// The input's channels that any of the products uses: a multiple of 16. The window of output
  /// (0, 0) begins at the input's first pixel.
  int64_t channel = 0;
  int64_t channels = 0;
  OutputSize outputs;
  /// Each has one segment, relative to `channel`.
  std::vector<Product> products;
  /// All tiles, those of a chunk one after another. Where a product pools, tiles are in groups of
  /// two by two (fewer at the lower and right edge), whose windows lie within the group.
  std::vector<TileAt> tiles;
  /// The first tile of each group, and the number of tiles.
  std::vector<int64_t> groups;
  /// The first group of each chunk, and the number of groups.
  std::vector<int64_t> chunk_groups;
  /// How a chunk is computed. Either by one task, whose data stay in the second cache, panel by
  /// panel; or in three phases, each by as many tasks as there are threads to do them, which read
  /// each weight once.
  bool in_phases = false;
  /// In phases: memory for a chunk, winograd_phase_memory() floats.
  float* memory = nullptr;

  int64_t tile() const { return 9 - kernel; }
  int64_t chunks() const { return static_cast<int64_t>(chunk_groups.size()) - 1; }
};

/// What is done to a chunk of tiles one after another: the inputs of all its tiles are transformed,
/// multiplied at each of the 64 positions, and the products transformed to outputs.
enum class Phase { kInputs, kProducts, kOutputs };

/// A convolution with any kernel and stride as a matrix product: the segments are relative to the
/// first number of an output's window.
struct DirectConvolution {
  /// The window of output (0, 0) begins at its first pixel.
  Grid from;
  int64_t stride = 1;
  OutputSize outputs;
  /// Rows of outputs that a task computes; even if a product pools.
  int64_t task_rows = 0;
  std::vector<Product> products;

  int64_t tasks() const { return (outputs.height + task_rows - 1) / task_rows; }
};

/// Where a row or column of a resized image comes from: (1 - weight) * first + weight * second.
struct Source {
  int64_t first = 0;
  int64_t second = 0;
  float weight = 0;
};

/// Bilinear resize; a task is a row.
struct Upsampling {
  Grid from;
  Grid to;
  int64_t to_y = 0;
  int64_t to_x = 0;
  std::vector<Source> rows;
  std::vector<Source> columns;

  int64_t tasks() const { return static_cast<int64_t>(rows.size()); }
};

/// Planes [3, height, width] to a grid of 3 channels; a task is a row.
struct Interleaving {
  const float* planes = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  Grid to;
  int64_t to_y = 0;
  int64_t to_x = 0;

  int64_t tasks() const { return height; }
};

/// The kernels of one instruction set.
struct Kernels {
  const char* name;
  /// Output channels that the matrix product computes together; weights are laid out by it.
  int64_t panel;
  /// Floats of scratch memory (aligned to 64 bytes) that a task needs.
  int64_t (*winograd_scratch)(const WinogradConvolution&);
  /// A whole chunk, if not in phases.
  void (*winograd)(const WinogradConvolution&, int64_t chunk, float* scratch);
  /// A part of a phase of a chunk, the number of parts, and the memory that the phases share.
  void (*winograd_phase)(const WinogradConvolution&, int64_t chunk, Phase phase, int64_t part,
                         float* scratch);
  int64_t (*winograd_parts)(const WinogradConvolution&, int64_t chunk, Phase phase);
  int64_t (*winograd_phase_memory)(const WinogradConvolution&);
  int64_t (*direct_scratch)(const DirectConvolution&);
  void (*direct)(const DirectConvolution&, int64_t task, float* scratch);
  void (*upsample)(const Upsampling&, int64_t task);
  void (*interleave)(const Interleaving&, int64_t task);
  /// Multiplies matrices that lie in the first cache (scratch: kSaturateScratch floats of zeros)
  /// `times` times, to measure what the product can reach at best; returns the multiply-adds.
  double (*saturate)(int64_t times, float* scratch);
};

inline constexpr int64_t kSaturateScratch = 1 << 14;

/// The best that this machine can run.
const Kernels& kernels();

/// All that this machine can run, for tests; the first is kernels().
std::vector<const Kernels*> all_kernels();

}  // namespace efficientad::cpu
