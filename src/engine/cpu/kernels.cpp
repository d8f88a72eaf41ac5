// Compiled once for each instruction set by Highway's foreach_target.h.
#include "engine/cpu/kernels.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/cpu/kernels.cpp"
// What is left: SSE2 (or what the compiler's baseline has), AVX2, AVX-512; NEON on ARM.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2)
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "nn/cpu/blocks-inl.h"
#include "nn/cpu/instruction_sets.h"

HWY_BEFORE_NAMESPACE();
namespace efficientad::cpu {
namespace HWY_NAMESPACE {

/// How a chunk of a Winograd convolution lies in memory.
struct Chunk {
  int64_t first_group;
  int64_t last_group;
  int64_t first_tile;
  int64_t tiles;
  /// Transformed inputs: [position][tile][channel].
  int64_t input_position;
  /// Products: [panel][position][tile][channel of the panel].
  int64_t product_position;

  int64_t input_size() const { return kPositions * input_position; }
  int64_t product_panel() const { return kPositions * product_position; }
};

/// A part of a chunk's tiles.
struct Part {
  int64_t first_group;
  int64_t last_group;
  int64_t first_tile;
  int64_t last_tile;
};

/// A cache line more than a power of two, so that the 64 positions do not fall into one cache set.
constexpr int64_t kSpread = kLine;

Part MakePart(const WinogradConvolution& conv, int64_t first_group, int64_t last_group) {
  return {first_group, last_group, conv.groups[static_cast<size_t>(first_group)],
          conv.groups[static_cast<size_t>(last_group)]};
}

Chunk MakeChunk(const WinogradConvolution& conv, int64_t index) {
  const Part all = MakePart(conv, conv.chunk_groups[static_cast<size_t>(index)],
                            conv.chunk_groups[static_cast<size_t>(index) + 1]);
  Chunk chunk = {};
  chunk.first_group = all.first_group;
  chunk.last_group = all.last_group;
  chunk.first_tile = all.first_tile;
  chunk.tiles = all.last_tile - all.first_tile;
  chunk.input_position = chunk.tiles * conv.channels + kSpread;
  chunk.product_position = chunk.tiles * kPanel + kSpread;
  return chunk;
}

/// Tiles of a part of the first and last phase, about.
constexpr int64_t kPartTiles = 8;

int64_t PartCount(const Chunk& chunk) { return (chunk.tiles + kPartTiles - 1) / kPartTiles; }

Part MakePart(const WinogradConvolution& conv, const Chunk& chunk, int64_t index) {
  const int64_t groups = chunk.last_group - chunk.first_group;
  const int64_t parts = PartCount(chunk);
  return MakePart(conv, chunk.first_group + index * groups / parts,
                  chunk.first_group + (index + 1) * groups / parts);
}

/// Outputs of a group of tiles and a panel, [row][column][channel], to be pooled.
int64_t PoolSize(const WinogradConvolution& conv) { return 4 * conv.tile() * conv.tile() * kPanel; }

/// Sums of squares: [tile][output][lane].
int64_t SquaresSize(const WinogradConvolution& conv, int64_t tiles) {
  return tiles * conv.tile() * conv.tile() * kLanes;
}

int64_t WinogradScratch(const WinogradConvolution& conv) {
  int64_t size = 0;
  for (int64_t i = 0; i < conv.chunks(); ++i) {
    const Chunk chunk = MakeChunk(conv, i);
    const int64_t here = conv.in_phases ? 0 : chunk.input_size() + chunk.product_panel();
    size = std::max(size, here + PoolSize(conv) + SquaresSize(conv, chunk.tiles));
  }
  return size;
}

int64_t WinogradPhaseMemory(const WinogradConvolution& conv) {
  int64_t panels = 0;
  for (const auto& product : conv.products) panels += product.channels / kPanel;
  int64_t size = 0;
  for (int64_t i = 0; i < conv.chunks(); ++i) {
    const Chunk chunk = MakeChunk(conv, i);
    size = std::max(size, chunk.input_size() + panels * chunk.product_panel());
  }
  return size;
}

void TransformInputs(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                     float* inputs) {
  const int64_t m = conv.tile();
  const auto first_number = [&](int64_t tile) {
    const TileAt at = conv.tiles[static_cast<size_t>(tile)];
    return conv.from.at(at.y * m, at.x * m) + conv.channel;
  };
  for (int64_t i = part.first_tile; i < part.last_tile; ++i) {
    TransformInputTile({first_number(i), conv.from.row_stride(), conv.from.channels},
                       first_number(std::min(i + 1, part.last_tile - 1)), conv.channels,
                       inputs + (i - chunk.first_tile) * conv.channels, chunk.input_position);
  }
}

/// Means of 2x2 windows of a panel's outputs [rows][columns][kPanel], of which the first is output
/// (y, x) of the convolution, both even; windows that are not whole are left out.
void PoolOutputs(const OutputSize& size, const Product& product, int64_t panel,
                 const float* outputs, int64_t y, int64_t x, int64_t rows, int64_t columns,
                 int64_t column_count) {
  const V quarter = Number(0.25f);
  rows = std::min(rows, size.height - y) / 2;
  columns = std::min(columns, size.width - x) / 2;
  for (int64_t i = 0; i < rows; ++i) {
    const float* const upper = outputs + 2 * i * column_count * kPanel;
    const float* const lower = upper + column_count * kPanel;
    float* to =
        product.to.at(product.y + y / 2 + i, product.x + x / 2) + product.channel + panel * kPanel;
    for (int64_t j = 0; j < columns; ++j, to += product.to.channels) {
      for (int64_t c = 0; c < kPanel; c += kLanes) {
        const int64_t at = 2 * j * kPanel + c;
        const V sum = hn::Add(hn::Add(Load(upper + at), Load(upper + at + kPanel)),
                              hn::Add(Load(lower + at), Load(lower + at + kPanel)));
        Store(hn::Mul(sum, quarter), to + c);
      }
    }
  }
}

/// Sets to zero what lies in the margin of a panel's outputs.
void ClearMargin(const OutputSize& size, float* outputs, int64_t y, int64_t x, int64_t rows,
                 int64_t columns, int64_t column_count) {
  if (size.margin == 0) return;
  for (int64_t i = 0; i < rows; ++i) {
    const bool row_in_margin = y + i < size.margin || y + i >= size.height - size.margin;
    for (int64_t j = 0; j < columns; ++j) {
      if (!row_in_margin && x + j >= size.margin && x + j < size.width - size.margin) continue;
      std::fill_n(outputs + (i * column_count + j) * kPanel, kPanel, 0.0f);
    }
  }
}

/// The mean over `channels`, of whose sum each lane of `sums` holds a part.
HWY_INLINE float MeanOfLanes(const float* sums, int64_t channels) {
  return hn::GetLane(hn::SumOfLanes(D(), Load(sums))) / static_cast<float>(channels);
}

/// What follows a panel of products: the outputs of one tile, one vector of channels.
template <int kOut>
HWY_INLINE void Activate(const float* out, const V bias, bool relu, float* to, int64_t row_stride,
                         int64_t column_stride, int64_t rows, int64_t columns) {
  const V zero = hn::Zero(D());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      V value = hn::Add(Load(out + (i * kOut + j) * kLanes), bias);
      if (relu) value = hn::Max(value, zero);
      Store(value, to + i * row_stride + j * column_stride);
    }
  }
}

template <int kOut>
void StoreOutputs(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                  const Product& product, int64_t panel, const float* products) {
  HWY_ALIGN float between[kOut * kTile * kLanes];
  HWY_ALIGN float out[kOut * kOut * kLanes];
  for (int64_t i = part.first_tile; i < part.last_tile; ++i) {
    const TileAt at = conv.tiles[static_cast<size_t>(i)];
    const int64_t y = at.y * kOut;
    const int64_t x = at.x * kOut;
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      TransformTile<kOut>(products + (i - chunk.first_tile) * kPanel + c, chunk.product_position,
                          between, out);
      Activate<kOut>(
          out, Load(product.bias + panel * kPanel + c), product.relu,
          product.to.at(product.y + y, product.x + x) + product.channel + panel * kPanel + c,
          product.to.row_stride(), product.to.channels,
          std::min<int64_t>(kOut, conv.outputs.height - y),
          std::min<int64_t>(kOut, conv.outputs.width - x));
    }
  }
}

template <int kOut>
void PoolGroups(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                const Product& product, int64_t panel, const float* products, float* outputs) {
  HWY_ALIGN float between[kOut * kTile * kLanes];
  HWY_ALIGN float out[kOut * kOut * kLanes];
  constexpr int64_t kColumns = 2 * kOut;
  for (int64_t group = part.first_group; group < part.last_group; ++group) {
    const int64_t begin = conv.groups[static_cast<size_t>(group)];
    const int64_t end = conv.groups[static_cast<size_t>(group) + 1];
    const TileAt first = conv.tiles[static_cast<size_t>(begin)];
    for (int64_t i = begin; i < end; ++i) {
      const TileAt at = conv.tiles[static_cast<size_t>(i)];
      for (int64_t c = 0; c < kPanel; c += kLanes) {
        TransformTile<kOut>(products + (i - chunk.first_tile) * kPanel + c, chunk.product_position,
                            between, out);
        Activate<kOut>(
            out, Load(product.bias + panel * kPanel + c), product.relu,
            outputs + ((at.y - first.y) * kOut * kColumns + (at.x - first.x) * kOut) * kPanel + c,
            kColumns * kPanel, kPanel, kOut, kOut);
      }
    }
    const int64_t y = first.y * kOut;
    const int64_t x = first.x * kOut;
    ClearMargin(conv.outputs, outputs, y, x, kColumns, kColumns, kColumns);
    PoolOutputs(conv.outputs, product, panel, outputs, y, x, kColumns, kColumns, kColumns);
  }
}

template <int kOut>
void SquareOutputs(const Chunk& chunk, const Part& part, const Product& product, int64_t panel,
                   const float* products, float* squares) {
  HWY_ALIGN float between[kOut * kTile * kLanes];
  HWY_ALIGN float out[kOut * kOut * kLanes];
  for (int64_t i = part.first_tile; i < part.last_tile; ++i) {
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      TransformTile<kOut>(products + (i - chunk.first_tile) * kPanel + c, chunk.product_position,
                          between, out);
      const V bias = Load(product.bias + panel * kPanel + c);
      float* sums = squares + (i - part.first_tile) * kOut * kOut * kLanes;
      for (int64_t j = 0; j < kOut * kOut; ++j, sums += kLanes) {
        const V value = hn::Add(Load(out + j * kLanes), bias);
        Store(hn::MulAdd(value, value, Load(sums)), sums);
      }
    }
  }
}

template <int kOut>
void WriteMeanSquares(const WinogradConvolution& conv, const Part& part, const Product& product,
                      const float* squares) {
  for (int64_t t = part.first_tile; t < part.last_tile; ++t) {
    const TileAt at = conv.tiles[static_cast<size_t>(t)];
    const int64_t y = at.y * kOut;
    const int64_t x = at.x * kOut;
    const int64_t rows = std::min<int64_t>(kOut, conv.outputs.height - y);
    const int64_t columns = std::min<int64_t>(kOut, conv.outputs.width - x);
    const float* const sums = squares + (t - part.first_tile) * kOut * kOut * kLanes;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        product.map[(y + i) * conv.outputs.width + x + j] =
            MeanOfLanes(sums + (i * kOut + j) * kLanes, product.channels);
      }
    }
  }
}

/// The products of one position and one panel of all tiles of a chunk. `next` is the panel of
/// weights that will be needed after this one.
void MultiplyTiles(const WinogradConvolution& conv, const Chunk& chunk, const Product& product,
                   int64_t position, const float* weights, const float* next, const float* inputs,
                   float* products) {
  const Segment all = product.segments[0];
  for (int64_t k = 0; k < all.count; k += kDepth) {
    const Segment part = {all.offset + k, std::min(kDepth, all.count - k)};
    const bool last = k + kDepth >= all.count;
    Rows rows = {.a = inputs + position * chunk.input_position,
                 .a_stride = conv.channels,
                 .segments = &part,
                 .segment_count = 1,
                 .b = weights,
                 .c = products + position * chunk.product_position,
                 .c_stride = kPanel,
                 .accumulate = k > 0,
                 .next = last ? next : weights + part.count * kPanel};
    MultiplyRows(chunk.tiles, rows,
                 std::min(kDepth, last ? all.count : all.count - k - kDepth) * kPanel);
    weights += part.count * kPanel;
  }
}

/// What follows the products of one panel.
template <int kOut>
void FinishPanel(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                 const Product& product, int64_t panel, const float* products, float* outputs,
                 float* squares) {
  switch (product.then) {
    case Then::kStore:
      StoreOutputs<kOut>(conv, chunk, part, product, panel, products);
      break;
    case Then::kPool:
      PoolGroups<kOut>(conv, chunk, part, product, panel, products, outputs);
      break;
    case Then::kMeanSquare:
      SquareOutputs<kOut>(chunk, part, product, panel, products, squares);
      break;
  }
}

int64_t WeightsOfPanel(const Product& product) {
  return kPositions * product.segments[0].count * kPanel;
}

template <int kOut>
void WinogradOf(const WinogradConvolution& conv, int64_t index, float* scratch) {
  const Chunk chunk = MakeChunk(conv, index);
  const Part all = MakePart(conv, chunk.first_group, chunk.last_group);
  float* const inputs = scratch;
  float* const products = inputs + chunk.input_size();
  float* const outputs = products + chunk.product_panel();
  float* const squares = outputs + PoolSize(conv);
  TransformInputs(conv, chunk, all, inputs);
  for (const auto& product : conv.products) {
    std::fill_n(squares, SquaresSize(conv, chunk.tiles), 0.0f);
    const float* weights = product.weights;
    for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
      for (int64_t position = 0; position < kPositions; ++position) {
        const float* const next = weights + product.segments[0].count * kPanel;
        MultiplyTiles(conv, chunk, product, position, weights, next, inputs, products);
        weights = next;
      }
      FinishPanel<kOut>(conv, chunk, all, product, panel, products, outputs, squares);
    }
    if (product.then == Then::kMeanSquare) WriteMeanSquares<kOut>(conv, all, product, squares);
  }
}

void Winograd(const WinogradConvolution& conv, int64_t chunk, float* scratch) {
  if (conv.kernel == 4) {
    WinogradOf<5>(conv, chunk, scratch);
  } else {
    WinogradOf<6>(conv, chunk, scratch);
  }
}

int64_t WinogradParts(const WinogradConvolution& conv, int64_t chunk, Phase phase) {
  if (phase == Phase::kProducts) {
    return kPositions * static_cast<int64_t>(conv.products.size());
  }
  return PartCount(MakeChunk(conv, chunk));
}

template <int kOut>
void OutputsPhase(const WinogradConvolution& conv, const Chunk& chunk, const Part& part,
                  const float* products, float* scratch) {
  float* const outputs = scratch;
  float* const squares = outputs + PoolSize(conv);
  for (const auto& product : conv.products) {
    if (product.then == Then::kMeanSquare) {
      std::fill_n(squares, SquaresSize(conv, part.last_tile - part.first_tile), 0.0f);
    }
    for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
      FinishPanel<kOut>(conv, chunk, part, product, panel, products, outputs, squares);
      products += chunk.product_panel();
    }
    if (product.then == Then::kMeanSquare) WriteMeanSquares<kOut>(conv, part, product, squares);
  }
}

void WinogradPhase(const WinogradConvolution& conv, int64_t index, Phase phase, int64_t part,
                   float* scratch) {
  const Chunk chunk = MakeChunk(conv, index);
  float* const inputs = conv.memory;
  float* products = inputs + chunk.input_size();
  if (phase == Phase::kInputs) {
    TransformInputs(conv, chunk, MakePart(conv, chunk, part), inputs);
    return;
  }
  if (phase == Phase::kOutputs) {
    const Part tiles = MakePart(conv, chunk, part);
    if (conv.kernel == 4) {
      OutputsPhase<5>(conv, chunk, tiles, products, scratch);
    } else {
      OutputsPhase<6>(conv, chunk, tiles, products, scratch);
    }
    return;
  }
  for (int64_t i = 0; i < part / kPositions; ++i) {
    products += conv.products[static_cast<size_t>(i)].channels / kPanel * chunk.product_panel();
  }
  const Product& product = conv.products[static_cast<size_t>(part / kPositions)];
  const int64_t position = part % kPositions;
  const float* weights = product.weights + position * product.segments[0].count * kPanel;
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    const float* const next = weights + WeightsOfPanel(product);
    MultiplyTiles(conv, chunk, product, position, weights, next, inputs, products);
    weights = next;
    products += chunk.product_panel();
  }
}

/// Columns of two rows that are computed before they are pooled, at most.
constexpr int64_t kPoolColumns = 2 * kMaxRows;

int64_t DirectScratch(const DirectConvolution& conv) {
  int64_t size = 0;
  for (const auto& product : conv.products) {
    if (product.then == Then::kPool) size = std::max(size, 2 * kPoolColumns * kPanel);
    if (product.then == Then::kMeanSquare) {
      size = std::max(size, conv.outputs.width * (kPanel + conv.task_rows * kLanes));
    }
  }
  return size;
}

/// The product of `count` outputs of a row from (y, x) on and a panel of weights.
void MultiplyOutputs(const DirectConvolution& conv, const Product& product, int64_t panel,
                     int64_t y, int64_t x, int64_t count, float* to, int64_t to_stride) {
  int64_t numbers = 0;
  for (const auto& segment : product.segments) numbers += segment.count;
  Rows rows = {.a = conv.from.at(y * conv.stride, x * conv.stride),
               .a_stride = conv.stride * conv.from.channels,
               .segments = product.segments.data(),
               .segment_count = static_cast<int64_t>(product.segments.size()),
               .b = product.weights + panel * numbers * kPanel,
               .c = to,
               .c_stride = to_stride,
               .bias = product.bias + panel * kPanel,
               .relu = product.relu};
  MultiplyRows(count, rows);
}

void PoolRows(const DirectConvolution& conv, const Product& product, int64_t begin, int64_t end,
              float* outputs) {
  // As many columns at a time as make pieces of equal size.
  const int64_t width = conv.outputs.width;
  const int64_t pieces = (width + kPoolColumns - 1) / kPoolColumns;
  const int64_t step = ((width + pieces - 1) / pieces + 1) / 2 * 2;
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    for (int64_t y = begin; y < end; y += 2) {
      for (int64_t x = 0; x < width; x += step) {
        const int64_t columns = std::min(step, width - x);
        for (int64_t i = 0; i < 2 && y + i < conv.outputs.height; ++i) {
          MultiplyOutputs(conv, product, panel, y + i, x, columns,
                          outputs + i * kPoolColumns * kPanel, kPanel);
        }
        ClearMargin(conv.outputs, outputs, y, x, 2, columns, kPoolColumns);
        PoolOutputs(conv.outputs, product, panel, outputs, y, x, 2, columns, kPoolColumns);
      }
    }
  }
}

void StoreRows(const DirectConvolution& conv, const Product& product, int64_t begin, int64_t end) {
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    for (int64_t y = begin; y < end; ++y) {
      MultiplyOutputs(conv, product, panel, y, 0, conv.outputs.width,
                      product.to.at(product.y + y, product.x) + product.channel + panel * kPanel,
                      product.to.channels);
    }
  }
}

void SquareRows(const DirectConvolution& conv, const Product& product, int64_t begin, int64_t end,
                float* scratch) {
  const int64_t width = conv.outputs.width;
  float* const outputs = scratch;
  float* const squares = scratch + width * kPanel;
  std::fill_n(squares, (end - begin) * width * kLanes, 0.0f);
  for (int64_t panel = 0; panel < product.channels / kPanel; ++panel) {
    for (int64_t y = begin; y < end; ++y) {
      MultiplyOutputs(conv, product, panel, y, 0, width, outputs, kPanel);
      float* sums = squares + (y - begin) * width * kLanes;
      for (int64_t x = 0; x < width; ++x, sums += kLanes) {
        const V left = Load(outputs + x * kPanel);
        const V right = Load(outputs + x * kPanel + kLanes);
        Store(hn::MulAdd(left, left, hn::MulAdd(right, right, Load(sums))), sums);
      }
    }
  }
  for (int64_t i = 0; i < (end - begin) * width; ++i) {
    product.map[begin * width + i] = MeanOfLanes(squares + i * kLanes, product.channels);
  }
}

void Direct(const DirectConvolution& conv, int64_t index, float* scratch) {
  const int64_t begin = index * conv.task_rows;
  const int64_t end = std::min(begin + conv.task_rows, conv.outputs.height);
  for (const auto& product : conv.products) {
    switch (product.then) {
      case Then::kStore:
        StoreRows(conv, product, begin, end);
        break;
      case Then::kPool:
        PoolRows(conv, product, begin, end, scratch);
        break;
      case Then::kMeanSquare:
        SquareRows(conv, product, begin, end, scratch);
        break;
    }
  }
}

void Upsample(const Upsampling& resize, int64_t row) {
  const Source& vertical = resize.rows[static_cast<size_t>(row)];
  const float* const upper = resize.from.at(vertical.first, 0);
  const float* const lower = resize.from.at(vertical.second, 0);
  const V down = Number(vertical.weight);
  const V up = Number(1.0f - vertical.weight);
  float* to = resize.to.at(resize.to_y + row, resize.to_x);
  const int64_t channels = resize.from.channels;
  for (const auto& horizontal : resize.columns) {
    const int64_t first = horizontal.first * channels;
    const int64_t second = horizontal.second * channels;
    const V right = Number(horizontal.weight);
    const V left = Number(1.0f - horizontal.weight);
    for (int64_t c = 0; c < channels; c += kLanes) {
      const V above =
          hn::MulAdd(left, Load(upper + first + c), hn::Mul(right, Load(upper + second + c)));
      const V below =
          hn::MulAdd(left, Load(lower + first + c), hn::Mul(right, Load(lower + second + c)));
      Store(hn::MulAdd(up, above, hn::Mul(down, below)), to + c);
    }
    to += resize.to.channels;
  }
}

void Interleave(const Interleaving& images, int64_t row) {
  const int64_t plane = images.height * images.width;
  const float* const from = images.planes + row * images.width;
  float* const to = images.to.at(images.to_y + row, images.to_x);
  for (int64_t x = 0; x < images.width; ++x) {
    to[3 * x] = from[x];
    to[3 * x + 1] = from[x + plane];
    to[3 * x + 2] = from[x + 2 * plane];
  }
}

double Saturate(int64_t times, float* scratch) {
  constexpr int64_t kRowsOfA = 2 * kMaxRows;
  constexpr int64_t kCount = 128;
  const Segment all = {0, kCount};
  float* const b = scratch + kRowsOfA * kCount;
  float* const c = b + kCount * kPanel;
  for (int64_t i = 0; i < times; ++i) {
    Rows rows = {.a = scratch,
                 .a_stride = kCount,
                 .segments = &all,
                 .segment_count = 1,
                 .b = b,
                 .c = c,
                 .c_stride = kPanel,
                 .accumulate = true};
    MultiplyRows(kRowsOfA, rows);
  }
  return static_cast<double>(times * kRowsOfA * kCount * kPanel);
}

const Kernels* GetKernels() {
  static const Kernels table = {hwy::TargetName(HWY_TARGET),
                                kPanel,
                                WinogradScratch,
                                Winograd,
                                WinogradPhase,
                                WinogradParts,
                                WinogradPhaseMemory,
                                DirectScratch,
                                Direct,
                                Upsample,
                                Interleave,
                                Saturate};
  return &table;
}

}  // namespace HWY_NAMESPACE
}  // namespace efficientad::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace efficientad::cpu {

HWY_EXPORT(GetKernels);

const Kernels& kernels() { return *HWY_DYNAMIC_DISPATCH(GetKernels)(); }

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all = {&kernels()};
  for_each_instruction_set([&] {
    const Kernels* found = &kernels();
    if (std::find(all.begin(), all.end(), found) == all.end()) all.push_back(found);
  });
  return all;
}

}  // namespace efficientad::cpu
#endif
