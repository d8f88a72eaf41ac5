#include "leaves.h"

#include <array>
#include <cstddef>

#include "efficientad/core/random.h"
#include "procedural.h"

namespace efficientad {
namespace {

using procedural::clamp01;
using procedural::floor_int;
using procedural::hash_normal;
using procedural::hash_unit;
using procedural::mix;
using procedural::Rotation;
using procedural::rotation_of;
using procedural::rounded_box;
using procedural::smoothstep;
using procedural::triangle_wave;
using procedural::turns_of;

constexpr uint64_t kStream = 0x6c656166;  // "leaf"
/// Pixels of a tile that is passed over once it is covered.
constexpr int kTile = 16;
/// What shines through counts as covered below this.
constexpr float kOpaque = 0.02f;

float uniform(Rng& rng, double low, double high) {
  return static_cast<float>(rng.uniform(low, high));
}

/// Nearly normal: the sum of four uniforms.
float normal(Rng& rng) {
  double sum = 0.0;
  for (int i = 0; i < 4; ++i) sum += rng.uniform();
  return static_cast<float>((sum - 2.0) * 1.7320508);
}

struct Color {
  float r = 0.0f;
  float g = 0.0f;
  float b = 0.0f;
};

/// Noise with a 1/f amplitude spectrum on a torus, mean 0, standard deviation about 1, computed
/// once and only read afterwards.
class NoiseTile {
 public:
  static constexpr int kSide = 256;

  NoiseTile() : values_(static_cast<size_t>(kSide) * kSide) {
    for (int octave = 1; octave <= 7; ++octave) {
      const int cells = 1 << octave;
      const float strength = 1.0f / static_cast<float>(cells);
      const float scale = static_cast<float>(cells) / kSide;
      for (int y = 0; y < kSide; ++y) {
        for (int x = 0; x < kSide; ++x) {
          const float fx = static_cast<float>(x) * scale;
          const float fy = static_cast<float>(y) * scale;
          const int ix = floor_int(fx);
          const int iy = floor_int(fy);
          const float sx = smoothstep(0.0f, 1.0f, fx - static_cast<float>(ix));
          const float sy = smoothstep(0.0f, 1.0f, fy - static_cast<float>(iy));
          const int jx = (ix + 1) % cells;
          const int jy = (iy + 1) % cells;
          const uint32_t seed = 900u + static_cast<uint32_t>(octave);
          const float top = mix(hash_unit(ix, iy, seed), hash_unit(jx, iy, seed), sx);
          const float bottom = mix(hash_unit(ix, jy, seed), hash_unit(jx, jy, seed), sx);
          at(x, y) += strength * (mix(top, bottom, sy) - 0.5f);
        }
      }
    }
    double sum = 0.0;
    double squares = 0.0;
    for (const float v : values_) {
      sum += v;
      squares += static_cast<double>(v) * v;
    }
    const double mean = sum / static_cast<double>(values_.size());
    const float scale = static_cast<float>(
        1.0 / std::sqrt(squares / static_cast<double>(values_.size()) - mean * mean));
    for (float& v : values_) v = (v - static_cast<float>(mean)) * scale;
  }

  /// Bilinear, repeating.
  float sample(float x, float y) const {
    const int ix = floor_int(x);
    const int iy = floor_int(y);
    const float fx = x - static_cast<float>(ix);
    const float fy = y - static_cast<float>(iy);
    const int x0 = ix & (kSide - 1);
    const int y0 = iy & (kSide - 1);
    const int x1 = (ix + 1) & (kSide - 1);
    const int y1 = (iy + 1) & (kSide - 1);
    return mix(mix(get(x0, y0), get(x1, y0), fx), mix(get(x0, y1), get(x1, y1), fx), fy);
  }

 private:
  float& at(int x, int y) { return values_[static_cast<size_t>(y) * kSide + x]; }
  float get(int x, int y) const { return values_[static_cast<size_t>(y) * kSide + x]; }

  std::vector<float> values_;
};

const NoiseTile& noise_tile() {
  static const NoiseTile tile;
  return tile;
}

/// A colour by its lightness, warmth and greenness, as they spread in photographs: much grey and
/// brown, some green and blue, little that is vivid.
Color natural_color(Rng& rng) {
  const float light = clamp01(0.45f + 0.24f * normal(rng));
  const float vivid = rng.chance(0.15) ? 2.4f : 1.0f;
  const float warm = std::clamp(vivid * (0.08f + 0.16f * normal(rng)), -0.5f, 0.6f);
  const float green = vivid * (0.02f + 0.09f * normal(rng));
  const float level = 0.06f + 0.88f * light;
  return {clamp01(level * (1.0f + warm - 0.5f * green)), clamp01(level * (1.0f + green)),
          clamp01(level * (1.0f - 1.1f * warm - 0.5f * green))};
}

enum class Shape { kDisc, kEllipse, kBox, kPolygon, kStrip, kFlower };
enum class Texture { kPlain, kNoise, kStreaks, kStripes, kChecker, kDots, kBricks, kGrain };

struct Leaf {
  float x = 0.0f;
  float y = 0.0f;
  /// Half of the extent along and across.
  float half_u = 0.0f;
  float half_v = 0.0f;
  Shape shape = Shape::kDisc;
  Rotation rotation;
  int corners = 0;
  std::array<Rotation, 7> normals;
  std::array<float, 7> offsets{};
  float wave = 0.0f;
  float softness = 0.7f;

  Color color;
  Color second;
  Texture texture = Texture::kPlain;
  Rotation texture_rotation;
  float scale_u = 1.0f;
  float scale_v = 1.0f;
  float offset_u = 0.0f;
  float offset_v = 0.0f;
  float warp = 0.0f;
  float strength = 0.0f;
  float duty = 0.0f;
  uint32_t seed = 0;

  float gradient_x = 0.0f;
  float gradient_y = 0.0f;
  float bulge = 0.0f;
  float shadow = 0.0f;
  float shadow_reach = 0.0f;

  /// Distance to the outline in pixels (of an ellipse or flower, nearly); negative inside.
  float distance(float u, float v) const {
    switch (shape) {
      case Shape::kDisc:
        return std::sqrt(u * u + v * v) - half_u;
      case Shape::kEllipse: {
        const float a = u / half_u;
        const float b = v / half_v;
        const float k = std::sqrt(a * a + b * b);
        return (k - 1.0f) * std::min(half_u, half_v);
      }
      case Shape::kBox:
      case Shape::kStrip:
        return rounded_box(u, v, half_u, half_v, 0.15f * half_v);
      case Shape::kPolygon: {
        float d = -1e9f;
        for (int i = 0; i < corners; ++i) {
          const auto at = static_cast<size_t>(i);
          d = std::max(d, normals[at].c * u + normals[at].s * v - offsets[at]);
        }
        return d;
      }
      case Shape::kFlower: {
        const float r = std::sqrt(u * u + v * v);
        if (r > half_u) return r - half_u;
        const float lobes = triangle_wave(turns_of(u, v) * static_cast<float>(corners));
        return r - half_u * (1.0f - wave * (0.5f - 0.5f * lobes));
      }
    }
    return 1e9f;
  }

  /// The texture at (x, y) relative to the middle: how much of the second colour, and a gain.
  void paint(float px, float py, float u, float v, float& blend, float& gain) const {
    const NoiseTile& noise = noise_tile();
    const float tx = texture_rotation.c * px + texture_rotation.s * py;
    const float ty = texture_rotation.c * py - texture_rotation.s * px;
    blend = 0.0f;
    gain = 1.0f + gradient_x * px + gradient_y * py;
    if (bulge > 0.0f) {
      const float a = u / half_u;
      const float b = v / half_v;
      gain *= 1.0f - bulge * (a * a + b * b);
    }
    switch (texture) {
      case Texture::kPlain:
        break;
      case Texture::kNoise:
      case Texture::kStreaks:
        gain *= 1.0f + strength * noise.sample(tx * scale_u + offset_u, ty * scale_v + offset_v);
        break;
      case Texture::kStripes: {
        const float bend = warp * noise.sample(tx * 0.5f + offset_v, ty * 0.5f + offset_u);
        const float wave_value = triangle_wave(tx * scale_u + offset_u + bend);
        blend = strength * clamp01(0.5f + (wave_value - duty) * scale_v);
        break;
      }
      case Texture::kChecker: {
        const float a = triangle_wave(tx * scale_u + offset_u) * scale_v;
        const float b = triangle_wave(ty * scale_u + offset_v) * scale_v;
        const float sign = clamp01(0.5f + 0.5f * a) - 0.5f;
        blend = strength * (0.5f + 2.0f * sign * (clamp01(0.5f + 0.5f * b) - 0.5f));
        break;
      }
      case Texture::kDots: {
        const float a = tx * scale_u + offset_u;
        const float b = ty * scale_u + offset_v;
        const int ia = floor_int(a);
        const int ib = floor_int(b);
        const float jitter_a = 0.5f + warp * (hash_unit(ia, ib, seed) - 0.5f);
        const float jitter_b = 0.5f + warp * (hash_unit(ia, ib, seed + 1u) - 0.5f);
        const float da = a - static_cast<float>(ia) - jitter_a;
        const float db = b - static_cast<float>(ib) - jitter_b;
        blend = strength * clamp01(0.5f + (duty - std::sqrt(da * da + db * db)) * scale_v);
        break;
      }
      case Texture::kBricks: {
        const float b = ty * scale_u + offset_v;
        const int row = floor_int(b);
        const float a = tx * scale_u * 0.45f + offset_u + ((row & 1) != 0 ? 0.5f : 0.0f);
        const int column = floor_int(a);
        const float da = std::fabs(a - static_cast<float>(column) - 0.5f);
        const float db = std::fabs(b - static_cast<float>(row) - 0.5f);
        blend = std::max(clamp01((db - 0.42f) * scale_v), clamp01((da - 0.46f) * 2.0f * scale_v));
        gain *= 1.0f + strength * (hash_unit(column, row, seed) - 0.5f) +
                0.08f * noise.sample(tx + offset_u, ty + offset_v);
        break;
      }
      case Texture::kGrain: {
        const int a = floor_int(tx * scale_u);
        const int b = floor_int(ty * scale_u);
        gain *= 1.0f + strength * 2.0f * (hash_unit(a, b, seed) - 0.5f);
        break;
      }
    }
  }
};

/// What all leaves of an image share.
struct Style {
  float smallest;
  float largest;
  std::array<Color, 6> palette;
  float texture_share;
  float shadow_x;
  float shadow_y;
  float shadow;
  float common_turn;
  float alignment;
};

Leaf make_leaf(Rng& rng, const Style& style, int size) {
  Leaf leaf;
  // Density proportional to r^-3 between the smallest and the largest.
  const float ratio = style.smallest / style.largest;
  const float t = uniform(rng, 0.0, 1.0);
  const float radius = style.smallest / std::sqrt(1.0f - t * (1.0f - ratio * ratio));
  leaf.half_u = radius;
  leaf.half_v = radius;
  const double turn =
      rng.chance(style.alignment) ? style.common_turn + 0.02 * normal(rng) : rng.uniform();
  leaf.rotation = rotation_of(turn);
  leaf.seed = static_cast<uint32_t>(rng.bits());
  const double kind = rng.uniform();
  if (kind < 0.25) {
    leaf.shape = Shape::kDisc;
  } else if (kind < 0.40) {
    leaf.shape = Shape::kEllipse;
    leaf.half_v = radius * uniform(rng, 0.25, 0.9);
  } else if (kind < 0.55) {
    leaf.shape = Shape::kBox;
    leaf.half_v = radius * uniform(rng, 0.3, 1.0);
  } else if (kind < 0.78) {
    leaf.shape = Shape::kPolygon;
    leaf.corners = static_cast<int>(rng.between(3, 7));
    for (int i = 0; i < leaf.corners; ++i) {
      const auto at = static_cast<size_t>(i);
      leaf.normals[at] =
          rotation_of((i + rng.uniform(-0.25, 0.25)) / static_cast<double>(leaf.corners));
      leaf.offsets[at] = radius * uniform(rng, 0.45, 0.8);
    }
    // A triangle's corners are up to twice as far away as its sides; cut what is too far.
    leaf.half_u = radius * 1.15f;
    leaf.half_v = radius * 1.15f;
  } else if (kind < 0.92) {
    leaf.shape = Shape::kStrip;
    leaf.half_u = radius * uniform(rng, 1.5, 3.5);
    leaf.half_v = radius * uniform(rng, 0.08, 0.35);
  } else {
    leaf.shape = Shape::kFlower;
    leaf.corners = static_cast<int>(rng.between(3, 9));
    leaf.wave = uniform(rng, 0.2, 0.6);
  }
  leaf.x = uniform(rng, -0.5 * radius, size + 0.5 * radius);
  leaf.y = uniform(rng, -0.5 * radius, size + 0.5 * radius);
  leaf.softness = rng.chance(0.12) ? uniform(rng, 1.0, 1.0 + 0.12 * radius) : 0.7f;

  const auto pick = [&] {
    Color c = style.palette[static_cast<size_t>(rng.below(6))];
    const float gain = 1.0f + 0.22f * normal(rng);
    c = {clamp01(c.r * gain + 0.03f * normal(rng)), clamp01(c.g * gain + 0.03f * normal(rng)),
         clamp01(c.b * gain + 0.03f * normal(rng))};
    return c;
  };
  leaf.color = pick();
  leaf.second = pick();
  leaf.texture_rotation = rotation_of(rng.chance(0.3) ? turn : rng.uniform());
  leaf.offset_u = uniform(rng, 0.0, 200.0);
  leaf.offset_v = uniform(rng, 0.0, 200.0);
  // A wavelength between 2.5 px and half of the leaf, all octaves alike: the sum of two uniforms
  // on a power scale stands in for a logarithm.
  const float span = std::max(1.0f, radius * 0.2f);
  const float position = uniform(rng, 0.0, 1.0);
  const float wavelength = 2.5f * (1.0f + (span - 1.0f) * position * position * position);
  if (rng.chance(style.texture_share)) {
    switch (rng.below(9)) {
      case 0:
      case 1:
        leaf.texture = Texture::kNoise;
        leaf.scale_u = uniform(rng, 0.3, 1.6);
        leaf.scale_v = leaf.scale_u;
        leaf.strength = uniform(rng, 0.06, 0.32);
        break;
      case 2:
        leaf.texture = Texture::kStreaks;
        leaf.scale_u = uniform(rng, 0.05, 0.25);
        leaf.scale_v = uniform(rng, 0.8, 2.5);
        leaf.strength = uniform(rng, 0.08, 0.35);
        break;
      case 3:
      case 4:
        leaf.texture = Texture::kStripes;
        leaf.scale_u = 1.0f / (1.4f * wavelength);
        leaf.scale_v = rng.chance(0.5) ? uniform(rng, 0.5, 0.9) : uniform(rng, 1.5, 4.0);
        leaf.duty = uniform(rng, -0.6, 0.6);
        leaf.warp = rng.chance(0.5) ? uniform(rng, 0.0, 0.35) : 0.0f;
        leaf.strength = uniform(rng, 0.25, 1.0);
        break;
      case 5:
        leaf.texture = Texture::kChecker;
        leaf.scale_u = 1.0f / (2.0f * wavelength);
        leaf.scale_v = std::max(1.0f, 1.2f * wavelength);
        leaf.strength = uniform(rng, 0.25, 1.0);
        break;
      case 6:
        leaf.texture = Texture::kDots;
        leaf.scale_u = 1.0f / (1.5f * wavelength);
        leaf.scale_v = 1.5f * wavelength;
        leaf.duty = uniform(rng, 0.15, 0.4);
        leaf.warp = rng.chance(0.5) ? uniform(rng, 0.2, 0.7) : 0.0f;
        leaf.strength = uniform(rng, 0.3, 1.0);
        break;
      case 7:
        leaf.texture = Texture::kBricks;
        leaf.scale_u = 1.0f / (2.5f * wavelength);
        leaf.scale_v = 2.5f * wavelength;
        leaf.strength = uniform(rng, 0.1, 0.5);
        break;
      default:
        leaf.texture = Texture::kGrain;
        leaf.scale_u = uniform(rng, 0.3, 0.8);
        leaf.strength = uniform(rng, 0.08, 0.4);
        break;
    }
  }
  leaf.gradient_x = 0.25f * normal(rng) / radius;
  leaf.gradient_y = 0.25f * normal(rng) / radius;
  leaf.bulge = rng.chance(0.4) ? uniform(rng, 0.1, 0.6) : 0.0f;
  if (radius > 5.0f) {
    leaf.shadow = style.shadow * uniform(rng, 0.3, 1.0);
    leaf.shadow_reach = std::min(2.0f + 0.25f * radius, 16.0f);
  }
  return leaf;
}

/// Pixels in the making, front to back.
struct Canvas {
  int size = 0;
  int tiles = 0;
  std::vector<Color> color;
  /// How much of what lies behind is still seen.
  std::vector<float> open;
  /// How much light the leaves in front leave to those behind.
  std::vector<float> light;
  std::vector<int> tile_open;
  int64_t pixels_open = 0;
};

void draw(Canvas& canvas, const Leaf& leaf, const Style& style) {
  const int size = canvas.size;
  const float margin = leaf.shadow_reach + 2.0f;
  const float c = std::fabs(leaf.rotation.c);
  const float s = std::fabs(leaf.rotation.s);
  const float reach_x = c * leaf.half_u + s * leaf.half_v + margin;
  const float reach_y = s * leaf.half_u + c * leaf.half_v + margin;
  const int x0 = std::clamp(floor_int(leaf.x - reach_x), 0, size);
  const int x1 = std::clamp(floor_int(leaf.x + reach_x) + 1, 0, size);
  const int y0 = std::clamp(floor_int(leaf.y - reach_y), 0, size);
  const int y1 = std::clamp(floor_int(leaf.y + reach_y) + 1, 0, size);
  const float shift_x = style.shadow_x * leaf.shadow_reach * 0.5f;
  const float shift_y = style.shadow_y * leaf.shadow_reach * 0.5f;
  const float inverse_softness = 1.0f / (2.0f * leaf.softness);
  for (int y = y0; y < y1; ++y) {
    for (int x = x0; x < x1; ++x) {
      int& tile = canvas.tile_open[static_cast<size_t>(y / kTile) * canvas.tiles + x / kTile];
      if (tile == 0) {
        x = (x / kTile + 1) * kTile - 1;
        continue;
      }
      const size_t at = static_cast<size_t>(y) * size + x;
      float& open = canvas.open[at];
      if (open < kOpaque) continue;
      const float px = static_cast<float>(x) + 0.5f - leaf.x;
      const float py = static_cast<float>(y) + 0.5f - leaf.y;
      const float u = leaf.rotation.c * px + leaf.rotation.s * py;
      const float v = leaf.rotation.c * py - leaf.rotation.s * px;
      if (std::fabs(u) > leaf.half_u + margin || std::fabs(v) > leaf.half_v + margin) continue;
      float d = leaf.distance(u, v);
      if (leaf.shape == Shape::kPolygon) {
        d = std::max(d, std::sqrt(u * u + v * v) - leaf.half_u);
      }
      const float cover = clamp01(0.5f - d * inverse_softness);
      if (cover > 0.0f) {
        float blend = 0.0f;
        float gain = 1.0f;
        leaf.paint(px, py, u, v, blend, gain);
        const float weight = open * cover * canvas.light[at] * gain;
        Color& sum = canvas.color[at];
        sum.r += weight * mix(leaf.color.r, leaf.second.r, blend);
        sum.g += weight * mix(leaf.color.g, leaf.second.g, blend);
        sum.b += weight * mix(leaf.color.b, leaf.second.b, blend);
        open *= 1.0f - cover;
        if (open < kOpaque) {
          --tile;
          --canvas.pixels_open;
          continue;
        }
      }
      if (leaf.shadow > 0.0f) {
        const float su = u - leaf.rotation.c * shift_x - leaf.rotation.s * shift_y;
        const float sv = v - leaf.rotation.c * shift_y + leaf.rotation.s * shift_x;
        const float near = clamp01(0.5f - leaf.distance(su, sv) / leaf.shadow_reach);
        canvas.light[at] *= 1.0f - leaf.shadow * near * near * (3.0f - 2.0f * near);
      }
    }
  }
}

}  // namespace

std::vector<uint8_t> render_leaves(int size, uint64_t seed, uint64_t index) {
  Rng rng(seed, kStream, index);
  const size_t count = static_cast<size_t>(size) * size;
  Canvas canvas;
  canvas.size = size;
  canvas.tiles = (size + kTile - 1) / kTile;
  canvas.color.resize(count);
  canvas.open.assign(count, 1.0f);
  canvas.light.assign(count, 1.0f);
  canvas.pixels_open = static_cast<int64_t>(count);
  canvas.tile_open.assign(static_cast<size_t>(canvas.tiles) * canvas.tiles, 0);
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      ++canvas.tile_open[static_cast<size_t>(y / kTile) * canvas.tiles + x / kTile];
    }
  }

  Style style;
  // The same picture statistics at every size, as far as pixels can show them.
  const float zoom = static_cast<float>(size) / 512.0f;
  style.smallest = std::max(uniform(rng, 2.5, 8.0) * zoom, 1.0f);
  style.largest = static_cast<float>(size) * uniform(rng, 0.25, 0.6);
  style.largest = std::max(style.largest, 2.0f * style.smallest);
  for (Color& color : style.palette) color = natural_color(rng);
  style.texture_share = uniform(rng, 0.4, 0.9);
  const Rotation sun = rotation_of(rng.uniform());
  style.shadow_x = sun.c;
  style.shadow_y = sun.s;
  style.shadow = uniform(rng, 0.1, 0.7);
  style.common_turn = uniform(rng, 0.0, 1.0);
  style.alignment = rng.chance(0.4) ? uniform(rng, 0.2, 0.8) : 0.0f;

  // The last percent of the pixels would cost as many leaves as all before.
  const int64_t enough = static_cast<int64_t>(count) / 100;
  for (int leaf = 0; leaf < 20000 && canvas.pixels_open > enough; ++leaf) {
    draw(canvas, make_leaf(rng, style, size), style);
  }
  Leaf ground = make_leaf(rng, style, size);
  ground.shape = Shape::kDisc;
  ground.half_u = ground.half_v = 4.0f * static_cast<float>(size);
  ground.x = ground.y = 0.5f * static_cast<float>(size);
  ground.gradient_x = ground.gradient_y = ground.bulge = ground.shadow = ground.shadow_reach = 0.0f;
  draw(canvas, ground, style);

  // Lens: a kernel [a 1 a] in both directions; broad light; sensor noise.
  const float side = uniform(rng, 0.1, 0.5) * std::min(zoom, 1.0f);
  const float scale = 1.0f / (1.0f + 2.0f * side);
  const float noise = rng.chance(0.5) ? uniform(rng, 0.0, 0.03) : 0.0f;
  const uint32_t noise_seed = static_cast<uint32_t>(rng.bits());
  const float light_x = uniform(rng, -0.35, 0.35);
  const float light_y = uniform(rng, -0.35, 0.35);
  const float exposure = uniform(rng, 0.8, 1.3);
  std::vector<Color> row(count);
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const size_t line = static_cast<size_t>(y) * size;
      const Color& a = canvas.color[line + static_cast<size_t>(std::max(x - 1, 0))];
      const Color& b = canvas.color[line + static_cast<size_t>(x)];
      const Color& c = canvas.color[line + static_cast<size_t>(std::min(x + 1, size - 1))];
      row[line + static_cast<size_t>(x)] = {scale * (b.r + side * (a.r + c.r)),
                                            scale * (b.g + side * (a.g + c.g)),
                                            scale * (b.b + side * (a.b + c.b))};
    }
  }
  std::vector<uint8_t> rgb(3 * count);
  for (int y = 0; y < size; ++y) {
    const Color* above = row.data() + static_cast<size_t>(std::max(y - 1, 0)) * size;
    const Color* here = row.data() + static_cast<size_t>(y) * size;
    const Color* below = row.data() + static_cast<size_t>(std::min(y + 1, size - 1)) * size;
    for (int x = 0; x < size; ++x) {
      const float u = static_cast<float>(x) / static_cast<float>(size) - 0.5f;
      const float v = static_cast<float>(y) / static_cast<float>(size) - 0.5f;
      const float gain = exposure * scale * (1.0f + light_x * u + light_y * v);
      float values[3] = {gain * (here[x].r + side * (above[x].r + below[x].r)),
                         gain * (here[x].g + side * (above[x].g + below[x].g)),
                         gain * (here[x].b + side * (above[x].b + below[x].b))};
      uint8_t* out = rgb.data() + 3 * (static_cast<size_t>(y) * size + static_cast<size_t>(x));
      for (int c = 0; c < 3; ++c) {
        if (noise > 0.0f) {
          values[c] += noise * hash_normal(x, y, noise_seed + static_cast<uint32_t>(c));
        }
        out[c] = static_cast<uint8_t>(clamp01(values[c]) * 255.0f + 0.5f);
      }
    }
  }
  return rgb;
}

}  // namespace efficientad
