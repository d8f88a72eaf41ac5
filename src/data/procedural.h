#pragma once

// Arithmetic for procedural pictures. Only operations that IEEE 754 rounds exactly (no libm
// transcendentals), so that a seed gives the same bytes on every machine; files that include this
// are compiled without contraction to fused multiply-adds.

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace efficientad::procedural {

inline float clamp01(float x) { return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x); }
inline float mix(float a, float b, float t) { return a + (b - a) * t; }
inline float smoothstep(float low, float high, float x) {
  const float t = clamp01((x - low) / (high - low));
  return t * t * (3.0f - 2.0f * t);
}
inline int floor_int(float x) {
  const int i = static_cast<int>(x);
  return i - (x < static_cast<float>(i) ? 1 : 0);
}

/// Well-mixed 32 bits of a lattice point.
inline uint32_t hash(int x, int y, uint32_t seed) {
  uint32_t h = static_cast<uint32_t>(x) * 0x9e3779b1u + static_cast<uint32_t>(y) * 0x85ebca77u +
               seed * 0xc2b2ae3du;
  h ^= h >> 15;
  h *= 0x2c1b3c6du;
  h ^= h >> 12;
  h *= 0x297a2d39u;
  h ^= h >> 15;
  return h;
}

/// Uniform in [0, 1) of a lattice point.
inline float hash_unit(int x, int y, uint32_t seed) {
  return static_cast<float>(hash(x, y, seed) >> 8) * 0x1.0p-24f;
}

/// Smoothly interpolated lattice noise in [-1, 1]; features one unit wide.
inline float value_noise(float x, float y, uint32_t seed) {
  const int ix = floor_int(x);
  const int iy = floor_int(y);
  const float fx = x - static_cast<float>(ix);
  const float fy = y - static_cast<float>(iy);
  const float sx = fx * fx * (3.0f - 2.0f * fx);
  const float sy = fy * fy * (3.0f - 2.0f * fy);
  const float top = mix(hash_unit(ix, iy, seed), hash_unit(ix + 1, iy, seed), sx);
  const float bottom = mix(hash_unit(ix, iy + 1, seed), hash_unit(ix + 1, iy + 1, seed), sx);
  return 2.0f * mix(top, bottom, sy) - 1.0f;
}

/// Octaves of value_noise(), each of half the size and `gain` of the strength.
inline float fractal_noise(float x, float y, uint32_t seed, int octaves, float gain = 0.5f) {
  float sum = 0.0f;
  float strength = 1.0f;
  for (int octave = 0; octave < octaves; ++octave) {
    sum += strength * value_noise(x, y, seed + static_cast<uint32_t>(octave) * 101u);
    strength *= gain;
    x = 2.0f * x + 17.3f;
    y = 2.0f * y + 5.1f;
  }
  return sum;
}

/// Nearly normal noise of a lattice point: mean 0, standard deviation 1 (sum of four uniforms).
inline float hash_normal(int x, int y, uint32_t seed) {
  const uint32_t a = hash(x, y, seed);
  const uint32_t b = a * 0x9e3779b1u ^ (a >> 16);
  const float sum = static_cast<float>(a & 0xffffu) + static_cast<float>(a >> 16) +
                    static_cast<float>(b & 0xffffu) + static_cast<float>(b >> 16);
  return (sum * (1.0f / 65536.0f) - 2.0f) * 1.7320508f;
}

struct Rotation {
  float c = 1.0f;
  float s = 0.0f;
};

/// Cosine and sine of an angle in turns (Taylor polynomials on an eighth of a turn).
inline Rotation rotation_of(double turns) {
  double t = turns - std::floor(turns);
  const int octant = static_cast<int>(t * 8.0);
  const int quadrant = ((octant + 1) / 2) % 4;
  double x = t - 0.25 * static_cast<double>((octant + 1) / 2);
  x *= 6.283185307179586;
  const double q = x * x;
  const double sine = x * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0))));
  const double cosine =
      1.0 - q / 2.0 * (1.0 - q / 12.0 * (1.0 - q / 30.0 * (1.0 - q / 56.0 * (1.0 - q / 90.0))));
  const double c[4] = {cosine, -sine, -cosine, sine};
  const double s[4] = {sine, cosine, -sine, -cosine};
  return {static_cast<float>(c[quadrant]), static_cast<float>(s[quadrant])};
}

/// Angle of a vector in turns, in [0, 1); good to about a thousandth of a turn.
inline float turns_of(float x, float y) {
  const float ax = std::fabs(x);
  const float ay = std::fabs(y);
  const float high = std::max(ax, ay);
  if (high == 0.0f) return 0.0f;
  const float t = std::min(ax, ay) / high;
  float turns = t * (0.159155f - t * t * (0.0457f - 0.01155f * t * t));
  if (ay > ax) turns = 0.25f - turns;
  if (x < 0.0f) turns = 0.5f - turns;
  if (y < 0.0f) turns = 1.0f - turns;
  return turns;
}

/// A triangle wave of period 1 in [-1, 1], its top at 0.
inline float triangle_wave(float x) {
  const float f = x - static_cast<float>(floor_int(x));
  return 4.0f * std::fabs(f - 0.5f) - 1.0f;
}

/// Distance to a rectangle with rounded corners around the origin; negative inside.
inline float rounded_box(float x, float y, float half_x, float half_y, float radius) {
  const float dx = std::fabs(x) - half_x + radius;
  const float dy = std::fabs(y) - half_y + radius;
  const float ox = std::max(dx, 0.0f);
  const float oy = std::max(dy, 0.0f);
  return std::sqrt(ox * ox + oy * oy) + std::min(std::max(dx, dy), 0.0f) - radius;
}

}  // namespace efficientad::procedural
