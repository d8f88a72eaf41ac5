#include "tray_scene.h"

#include <algorithm>
#include <cmath>

namespace efficientad::tray {
namespace {

float distance_to_compartment(const Box& box, Vec2 p) {
  return procedural::rounded_box(p.x - 0.5f * (box.x0 + box.x1), p.y - 0.5f * (box.y0 + box.y1),
                                 0.5f * (box.x1 - box.x0), 0.5f * (box.y1 - box.y0), 9.0f);
}

}  // namespace

bool tray_height(Vec2 p, float& height) {
  const float outer = procedural::rounded_box(p.x, p.y, kTrayHalf.x, kTrayHalf.y, 15.0f);
  if (outer > 0.0f) return false;
  float inner = 1e9f;
  for (const Box& box : kCompartments) inner = std::min(inner, distance_to_compartment(box, p));
  float h = mix(kFloor, kRim, smoothstep(-5.0f, 0.4f, inner));
  // A moulded bead along the rim, the rounded outer edge, and ejector marks on the floors.
  const float bead = 1.0f - std::fabs(outer + 3.6f) / 1.4f;
  if (bead > 0.0f) h += 1.1f * bead * (2.0f - bead);
  h -= 16.0f * (1.0f - smoothstep(0.0f, 2.2f, -outer));
  if (inner < -12.0f) {
    for (const Box& box : kCompartments) {
      const float dx = p.x - 0.5f * (box.x0 + box.x1);
      const float dy = p.y - 0.5f * (box.y0 + box.y1);
      const float ring = std::fabs(std::sqrt(dx * dx + dy * dy) - 5.0f);
      if (ring < 0.9f) h -= 0.5f * (1.0f - ring / 0.9f);
    }
  }
  height = h;
  return true;
}

void paint_tray(Field& field, const Pose& pose, Rng& rng) {
  const uint32_t grain = static_cast<uint32_t>(rng.bits());
  const uint32_t brush = static_cast<uint32_t>(rng.bits());
  const Rotation across = rotation_of(uniform(rng, -0.01, 0.01));
  const Vec2 offset = {uniform(rng, 0.0, 1000.0), uniform(rng, 0.0, 1000.0)};
  // Batches of plastic differ in colour, from bluish to sand.
  const float batch = uniform(rng, 0.0, 1.0);
  const float tone = uniform(rng, 0.88, 1.12);
  const Color plastic =
      mix(Color{0.165f, 0.225f, 0.275f}, Color{0.285f, 0.255f, 0.215f}, batch) * tone;
  const float step = 1.0f / field.per_unit;
  for (int y = 0; y < field.side; ++y) {
    for (int x = 0; x < field.side; ++x) {
      const Vec2 image = {(x + 0.5f) * step, (y + 0.5f) * step};
      const Vec2 p = pose.to_tray(image);
      Surface& s = field.at(x, y);
      float h = 0.0f;
      if (tray_height(p, h)) {
        const float fine = value_noise(p.x * 1.1f + offset.x, p.y * 1.1f + offset.y, grain);
        const float mottle = value_noise(p.x * 0.05f + offset.x, p.y * 0.05f, grain + 7u);
        s.height = h + 0.13f * fine;
        s.albedo = plastic * (1.0f + 0.05f * mottle + 0.03f * fine);
        s.metal = 0.0f;
        s.specular = 0.16f;
        s.gloss = 4;
        s.material = Material::kPlastic;
      } else {
        // The bench: brushed metal.
        const float u = across.c * image.x + across.s * image.y + offset.x;
        const float v = across.c * image.y - across.s * image.x + offset.y;
        const float lines = value_noise(u * 0.035f, v * 2.3f, brush) +
                            0.7f * value_noise(u * 0.09f, v * 1.1f, brush + 3u);
        s.height = 0.05f * lines;
        s.albedo = Color{0.34f, 0.345f, 0.355f} * (1.0f + 0.16f * lines);
        s.metal = 0.6f;
        s.specular = 0.2f;
        s.gloss = 3;
        s.material = Material::kTable;
      }
    }
  }
}

void sprinkle_dust(Field& field, Rng& rng) {
  const int64_t specks = rng.between(12, 28);
  for (int64_t i = 0; i < specks; ++i) {
    const float cx = uniform(rng, 0.0, 1.0) * static_cast<float>(field.side);
    const float cy = uniform(rng, 0.0, 1.0) * static_cast<float>(field.side);
    const float radius = uniform(rng, 0.45, 0.95) * field.per_unit;
    const float level = uniform(rng, 0.25, 0.7);
    const float cover = uniform(rng, 0.4, 0.9);
    const bool dark = rng.chance(0.35);
    for (int y = procedural::floor_int(cy - radius); y <= cy + radius; ++y) {
      for (int x = procedural::floor_int(cx - radius); x <= cx + radius; ++x) {
        if (x < 0 || y < 0 || x >= field.side || y >= field.side) continue;
        const float dx = static_cast<float>(x) - cx;
        const float dy = static_cast<float>(y) - cy;
        if (dx * dx + dy * dy > radius * radius) continue;
        Surface& s = field.at(x, y);
        s.albedo =
            mix(s.albedo, dark ? Color{0.03f, 0.03f, 0.03f} : Color{level, level, level}, cover);
        s.metal *= 1.0f - cover;
      }
    }
  }
}

}  // namespace efficientad::tray
