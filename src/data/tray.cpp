#include "tray.h"

#include <algorithm>
#include <cmath>

#include "tray_scene.h"

namespace efficientad {

TrayPicture render_tray(int size, TrayDefect defect, uint64_t seed, uint64_t stream,
                        uint64_t index) {
  using namespace tray;
  // One Rng for the good tray, one for what is wrong with it.
  Rng rng(seed, 2 * stream, index);
  Rng wrong(seed, 2 * stream + 1, index);

  const int samples = size <= 128 ? 4 : (size <= 1024 ? 2 : 1);
  Field field;
  field.side = size * samples;
  field.per_unit = static_cast<float>(field.side) / 256.0f;
  field.surface.resize(static_cast<size_t>(field.side) * field.side);
  field.defect.assign(field.surface.size(), 0);

  Pose pose;
  pose.shift = {uniform(rng, -2.5, 2.5), uniform(rng, -2.5, 2.5)};
  pose.rotation = rotation_of(rng.uniform(-0.0045, 0.0045));
  pose.zoom = uniform(rng, 0.99, 1.01);
  paint_tray(field, pose, rng);
  std::vector<Part> parts = make_parts(rng);

  const Rotation azimuth = rotation_of(-0.375 + rng.uniform(-0.055, 0.055));
  const float elevation = uniform(rng, 1.05, 1.5);
  Light light;
  const float norm = 1.0f / std::sqrt(1.0f + elevation * elevation);
  light.x = azimuth.c * norm;
  light.y = azimuth.s * norm;
  light.z = elevation * norm;
  light.strength = uniform(rng, 0.8, 1.25);
  for (Patch& patch : light.patches) {
    patch.center = {uniform(rng, -0.55, 0.55), uniform(rng, -0.55, 0.55)};
    patch.radius = uniform(rng, 0.22, 0.6);
    patch.gain = uniform(rng, -0.34, 0.34);
  }
  light.ambient = uniform(rng, 0.34, 0.48);
  const uint32_t dither = static_cast<uint32_t>(rng.bits());
  const uint32_t noise_seed = static_cast<uint32_t>(rng.bits());
  const float exposure = uniform(rng, 1.1, 1.5);
  const Color tint = {uniform(rng, 0.93, 1.07), 1.0f, uniform(rng, 0.92, 1.08)};
  const float vignette = uniform(rng, 0.12, 0.30);
  const Vec2 vignette_at = {uniform(rng, -0.08, 0.08), uniform(rng, -0.08, 0.08)};
  const float sigma = uniform(rng, 0.45, 0.75) * static_cast<float>(samples) *
                      std::max(1.0f, static_cast<float>(size) / 512.0f);
  const float noise = uniform(rng, 0.008, 0.016);

  std::vector<Part> marked;
  bool broken_part = false;
  switch (defect) {
    case TrayDefect::kMissing:
      lose_part(wrong, parts, marked);
      break;
    case TrayDefect::kExtra:
      add_part(wrong, parts, marked);
      break;
    case TrayDefect::kMisplaced:
      misplace_part(wrong, parts, marked);
      break;
    case TrayDefect::kWrongPart:
      exchange_part(wrong, parts, marked);
      break;
    case TrayDefect::kBreak:
      broken_part = wrong.chance(0.45);
      if (broken_part) break_part(wrong, parts, marked);
      break;
    default:
      break;
  }
  for (const Part& part : parts) paint_part(field, pose, part);
  sprinkle_dust(field, rng);
  for (const Part& part : marked) mark_part(field, pose, part);
  if (defect == TrayDefect::kScratch) scratch(field, pose, wrong);
  if (defect == TrayDefect::kCrack) crack(field, pose, wrong);
  if (defect == TrayDefect::kStain) stain(field, pose, wrong);
  if (defect == TrayDefect::kDent) dent(field, pose, wrong);
  if (defect == TrayDefect::kBreak && !broken_part) break_tray(field, pose, wrong);

  std::vector<Color> light_map = shade(field, light, dither);
  blur_lens(light_map, field.side, sigma);

  TrayPicture picture;
  picture.rgb.resize(static_cast<size_t>(size) * size * 3);
  picture.mask.resize(static_cast<size_t>(size) * size);
  const float share = 1.0f / static_cast<float>(samples * samples);
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      Color sum;
      int marks = 0;
      for (int dy = 0; dy < samples; ++dy) {
        for (int dx = 0; dx < samples; ++dx) {
          const size_t i = static_cast<size_t>(y * samples + dy) * field.side + (x * samples + dx);
          sum = {sum.r + light_map[i].r, sum.g + light_map[i].g, sum.b + light_map[i].b};
          marks += field.defect[i];
        }
      }
      const float u = (x + 0.5f) / size - 0.5f - vignette_at.x;
      const float v = (y + 0.5f) / size - 0.5f - vignette_at.y;
      const float gain = exposure * share * (1.0f - 2.0f * vignette * (u * u + v * v));
      const float values[3] = {sum.r * gain * tint.r, sum.g * gain * tint.g, sum.b * gain * tint.b};
      const size_t at = static_cast<size_t>(y) * size + x;
      for (int c = 0; c < 3; ++c) {
        const float value = tone(values[c]);
        const float shot =
            noise * (0.6f + 0.6f * value) *
            (0.75f * procedural::hash_normal(x, y, noise_seed + static_cast<uint32_t>(c)) +
             0.65f * procedural::hash_normal(x, y, noise_seed + 77u));
        picture.rgb[3 * at + static_cast<size_t>(c)] =
            static_cast<uint8_t>(clamp01(value + shot) * 255.0f + 0.5f);
      }
      picture.mask[at] = 3 * marks >= samples * samples ? 1 : 0;
    }
  }
  return picture;
}

}  // namespace efficientad
