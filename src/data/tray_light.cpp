#include "tray_scene.h"

#include <algorithm>
#include <cmath>

namespace efficientad::tray {
namespace {

/// What a mirror sees in the direction (x, y, z): a softbox in the light's direction, a weaker one
/// opposite, a bright ceiling and dark walls.
float environment(float x, float y, float z, const Light& light) {
  const float toward = x * light.x + y * light.y + z * light.z;
  const float box = smoothstep(0.84f, 0.96f, toward);
  const float fill = smoothstep(0.86f, 0.98f, -x * light.x - y * light.y + z * light.z);
  return 0.05f + 0.34f * smoothstep(-0.1f, 1.0f, z) + 1.3f * box + 0.35f * fill;
}

/// A box blur of radius `radius`, twice; edges repeat.
void blur_heights(std::vector<float>& image, int side, int radius) {
  std::vector<float> line(static_cast<size_t>(side));
  const float scale = 1.0f / static_cast<float>(2 * radius + 1);
  const auto pass = [&](float* data, std::ptrdiff_t stride) {
    const auto at = [&](int i) { return data[std::clamp(i, 0, side - 1) * stride]; };
    float sum = 0.0f;
    for (int i = -radius; i <= radius; ++i) sum += at(i);
    for (int i = 0; i < side; ++i) {
      line[static_cast<size_t>(i)] = sum * scale;
      sum += at(i + radius + 1) - at(i - radius);
    }
    for (int i = 0; i < side; ++i) data[i * stride] = line[static_cast<size_t>(i)];
  };
  for (int i = 0; i < side; ++i) pass(image.data() + static_cast<size_t>(i) * side, 1);
  for (int i = 0; i < side; ++i) pass(image.data() + i, side);
}

}  // namespace

std::vector<Color> shade(const Field& field, const Light& light, uint32_t seed) {
  const int side = field.side;
  const size_t count = static_cast<size_t>(side) * side;
  std::vector<float> height(count);
  for (size_t i = 0; i < count; ++i) height[i] = field.surface[i].height;
  std::vector<float> near_mean = height;
  blur_heights(near_mean, side, std::max(1, static_cast<int>(2.0f * field.per_unit)));
  std::vector<float> far_mean = near_mean;
  blur_heights(far_mean, side, std::max(1, static_cast<int>(6.0f * field.per_unit)));

  // The light is near: its direction turns across the picture.
  std::vector<Color> result(count);
  const float flat = std::sqrt(light.x * light.x + light.y * light.y);
  const float rise = light.z / flat;
  const float dir_x = light.x / flat;
  const float dir_y = light.y / flat;
  constexpr int kSteps = 14;
  const float reach = 22.0f / rise;
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const size_t i = static_cast<size_t>(y) * side + x;
      const Surface& s = field.surface[i];
      const float h = height[i];
      const int x0 = std::max(x - 1, 0);
      const int x1 = std::min(x + 1, side - 1);
      const int y0 = std::max(y - 1, 0);
      const int y1 = std::min(y + 1, side - 1);
      const float half = 0.5f * field.per_unit;
      const float gx = std::clamp((height[static_cast<size_t>(y) * side + x1] -
                                   height[static_cast<size_t>(y) * side + x0]) *
                                      half,
                                  -3.0f, 3.0f);
      const float gy = std::clamp((height[static_cast<size_t>(y1) * side + x] -
                                   height[static_cast<size_t>(y0) * side + x]) *
                                      half,
                                  -3.0f, 3.0f);
      const float length = 1.0f / std::sqrt(1.0f + gx * gx + gy * gy);
      const float nx = -gx * length;
      const float ny = -gy * length;
      const float nz = length;

      // Soft shadow: how far anything on the way to the light stands above the ray.
      float shadow = 1.0f;
      const float dither = procedural::hash_unit(x, y, seed);
      for (int step = 0; step < kSteps; ++step) {
        const float t = reach * (static_cast<float>(step) + 0.35f + 0.65f * dither) / kSteps;
        const int sx = x + procedural::floor_int(dir_x * t * field.per_unit + 0.5f);
        const int sy = y + procedural::floor_int(dir_y * t * field.per_unit + 0.5f);
        if (sx < 0 || sy < 0 || sx >= side || sy >= side) break;
        const float above = height[static_cast<size_t>(sy) * side + sx] - h - t * rise;
        shadow = std::min(shadow, 1.0f - above / (0.6f + 0.28f * t));
      }
      shadow = clamp01(shadow);
      const float occlusion = clamp01(1.0f - 0.055f * std::max(near_mean[i] - h, 0.0f) -
                                      0.045f * std::max(far_mean[i] - h, 0.0f));

      const float u = (static_cast<float>(x) + 0.5f) / static_cast<float>(side) - 0.5f;
      const float v = (static_cast<float>(y) + 0.5f) / static_cast<float>(side) - 0.5f;
      float lx = light.x - 0.28f * u;
      float ly = light.y - 0.28f * v;
      const float l = 1.0f / std::sqrt(lx * lx + ly * ly + light.z * light.z);
      lx *= l;
      ly *= l;
      const float lz = light.z * l;
      float fall = 1.0f + 0.22f * (u * light.x + v * light.y);
      for (const Patch& patch : light.patches) {
        const float px = u - patch.center.x;
        const float py = v - patch.center.y;
        const float near = clamp01(1.0f - (px * px + py * py) / (patch.radius * patch.radius));
        fall += patch.gain * near * near;
      }
      const float diffuse = std::max(nx * lx + ny * ly + nz * lz, 0.0f);
      // The camera stands at a finite height too.
      const float vx = -0.25f * u;
      const float vy = -0.25f * v;
      float hx = lx + vx;
      float hy = ly + vy;
      float hz = lz + 1.0f;
      const float hl = 1.0f / std::sqrt(hx * hx + hy * hy + hz * hz);
      float highlight = std::max((nx * hx + ny * hy + nz * hz) * hl, 0.0f);
      const float facing = highlight;
      for (int g = 0; g < s.gloss; ++g) highlight *= highlight;
      highlight *= s.specular * (1.0f + 0.15f * static_cast<float>(1 << s.gloss)) * 0.35f;
      if (facing <= 0.0f) highlight = 0.0f;
      const float key = light.strength * fall * shadow;
      const float n_dot_v = std::clamp(nz + nx * vx + ny * vy, 0.0f, 1.0f);
      const float rx = 2.0f * n_dot_v * nx - vx;
      const float ry = 2.0f * n_dot_v * ny - vy;
      const float rz = 2.0f * n_dot_v * nz - 1.0f;
      const float mirror = environment(rx, ry, rz, light) * occlusion * mix(0.55f, 1.0f, shadow) *
                           (0.35f + 0.65f * light.strength);
      const float rim = 1.0f - n_dot_v;
      const float coat = s.specular * 0.22f * (0.25f + rim * rim) * mirror;
      const float lit =
          key * diffuse + light.ambient * (0.5f + 0.5f * fall) * occlusion * (0.55f + 0.45f * nz);
      const auto channel = [&](float albedo) {
        const float matte = albedo * lit + coat + highlight * key;
        const float metal = albedo * (mirror + highlight * key + 0.16f * lit);
        return mix(matte, metal, s.metal);
      };
      result[i] = {channel(s.albedo.r), channel(s.albedo.g), channel(s.albedo.b)};
    }
  }
  return result;
}

void blur_lens(std::vector<Color>& image, int side, float sigma) {
  // exp(-1 / 2s²) by (1 - x/64)^64, which needs no libm.
  const auto decay = [&](float d) {
    float base = std::max(1.0f - d * d / (2.0f * sigma * sigma) / 64.0f, 0.0f);
    for (int i = 0; i < 6; ++i) base *= base;
    return base;
  };
  const float w1 = decay(1.0f);
  const float w2 = decay(2.0f);
  const float scale = 1.0f / (1.0f + 2.0f * (w1 + w2));
  std::vector<Color> copy = image;
  for (int pass = 0; pass < 2; ++pass) {
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        const auto tap = [&](int d) -> const Color& {
          const int tx = pass == 0 ? std::clamp(x + d, 0, side - 1) : x;
          const int ty = pass == 0 ? y : std::clamp(y + d, 0, side - 1);
          return copy[static_cast<size_t>(ty) * side + tx];
        };
        const Color &a = tap(-2), &b = tap(-1), &c = tap(0), &d = tap(1), &e = tap(2);
        image[static_cast<size_t>(y) * side + x] = {
            scale * (c.r + w1 * (b.r + d.r) + w2 * (a.r + e.r)),
            scale * (c.g + w1 * (b.g + d.g) + w2 * (a.g + e.g)),
            scale * (c.b + w1 * (b.b + d.b) + w2 * (a.b + e.b))};
      }
    }
    copy = image;
  }
}

float tone(float x) {
  x = std::max(x, 0.0f);
  x = x * (1.0f + 0.12f * x) / (1.0f + 0.45f * x);
  const float y = std::sqrt(x) * 1.06f;
  return y - 0.10f * y * (1.0f - y) * (1.6f - 2.0f * y);
}

}  // namespace efficientad::tray
