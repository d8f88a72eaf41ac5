#include "tray_scene.h"

#include <algorithm>
#include <cmath>

namespace efficientad::tray {
namespace {

using procedural::floor_int;
using procedural::triangle_wave;
using procedural::turns_of;

/// The part's surface at a point of its own coordinates; false where there is none.
bool part_surface(const Part& part, float u, float v, Surface& s) {
  s.albedo = part.color;
  s.material = Material::kPart;
  s.metal = 0.0f;
  switch (part.kind) {
    case Kind::kNut:
    case Kind::kSquareNut: {
      const float x = u / part.size;
      const float y = v / part.size;
      const float r = std::sqrt(x * x + y * y);
      float edge;
      if (part.kind == Kind::kNut) {
        const float a = std::fabs(x);
        const float b = std::fabs(0.5f * x + 0.8660254f * y);
        const float c = std::fabs(0.5f * x - 0.8660254f * y);
        edge = std::max(a, std::max(b, c)) - 12.8f;
      } else {
        edge = std::max(std::fabs(x), std::fabs(y)) - 11.6f;
      }
      if (edge > 0.0f || r < 6.3f) return false;
      float h = 8.5f;
      if (r > 12.0f) h -= 0.55f * (r - 12.0f);
      if (edge > -1.0f) h -= 1.2f * (edge + 1.0f);
      if (r < 8.0f) {
        h -= 1.9f * (8.0f - r);
        s.albedo = part.color * 0.6f;
      }
      s.height = h + 0.07f * value_noise(u * 1.6f, v * 0.25f, part.seed);
      s.metal = 1.0f;
      s.specular = 0.5f;
      s.gloss = 5;
      return true;
    }
    case Kind::kWasher: {
      const float r = std::sqrt(u * u + v * v) / part.size;
      if (r > 14.0f || r < 6.6f) return false;
      float h = 2.6f;
      if (r > 12.8f) h -= 0.9f * (r - 12.8f);
      if (r < 7.6f) h -= 0.9f * (7.6f - r);
      s.height = h + 0.035f * value_noise(r * 2.1f, 0.0f, part.seed);
      s.metal = 1.0f;
      s.specular = 0.5f;
      s.gloss = 5;
      return true;
    }
    case Kind::kCap: {
      const float r = std::sqrt(u * u + v * v) / part.size;
      if (r > 14.2f) return false;
      float h = 10.0f;
      const float knurl = triangle_wave(turns_of(u, v) * 28.0f);
      if (r > 14.0f + 0.3f * knurl) return false;
      if (r > 10.5f) {
        const float t = (r - 10.5f) / 3.5f;
        h -= 5.0f * t * t + 0.25f * (1.0f + knurl) * smoothstep(11.5f, 13.5f, r);
      }
      if (r < 8.2f) h -= 1.1f * smoothstep(8.2f, 7.0f, r);
      // A raised bar across the middle.
      if (r < 6.2f) h += 1.0f * smoothstep(2.2f, 1.4f, std::fabs(v));
      s.height = h;
      s.specular = 0.55f;
      s.gloss = 5;
      return true;
    }
    case Kind::kPeg:
    case Kind::kPin: {
      const float end = std::fabs(u) - part.size;
      if (end > 0.0f) return false;
      float radius = part.kind == Kind::kPeg ? 5.6f : 4.0f;
      if (end > -2.2f) radius -= 0.7f * (end + 2.2f);
      if (std::fabs(v) > radius) return false;
      const float axis = part.kind == Kind::kPeg ? 5.6f : 4.0f;
      s.height = axis + std::sqrt(radius * radius - v * v);
      if (part.kind == Kind::kPeg) {
        const float grain = value_noise(u * 0.09f, v * 0.9f, part.seed) +
                            0.5f * value_noise(u * 0.35f, v * 2.2f, part.seed + 1u);
        s.albedo = part.color * (1.0f + 0.20f * grain);
        s.specular = 0.06f;
        s.gloss = 3;
      } else {
        s.metal = 1.0f;
        s.specular = 0.6f;
        s.gloss = 5;
      }
      return true;
    }
    case Kind::kScrew: {
      const float from_head = u + part.size;
      const float to_tip = part.size - u;
      if (from_head < 0.0f || to_tip < 0.0f) return false;
      const float axis = mix(8.0f, 4.6f, from_head / (2.0f * part.size));
      float radius;
      s.metal = 1.0f;
      s.specular = 0.6f;
      s.gloss = 5;
      if (from_head < 7.5f) {
        const float t = 1.0f - from_head / 7.5f;
        radius = 9.0f * std::sqrt(std::max(1.0f - 0.85f * t * t, 0.0f));
      } else {
        radius = 3.7f;
        if (from_head > 22.0f) {
          radius = 4.0f + 0.85f * triangle_wave(u * 0.27f + v * 0.045f);
        }
        if (to_tip < 9.0f) radius *= 0.15f + 0.85f * to_tip / 9.0f;
      }
      if (std::fabs(v) > radius) return false;
      s.height = axis + std::sqrt(radius * radius - v * v);
      return true;
    }
    case Kind::kRing: {
      const float r = std::sqrt(u * u + v * v) - 11.2f * part.size;
      if (std::fabs(r) > 3.3f) return false;
      s.height = 3.3f + std::sqrt(3.3f * 3.3f - r * r);
      s.specular = 0.35f;
      s.gloss = 3;
      return true;
    }
    case Kind::kSpring: {
      if (std::fabs(u) > part.size || std::fabs(v) > 9.0f) return false;
      constexpr float kPitch = 5.2f;
      constexpr float kWire = 1.35f;
      s.metal = 1.0f;
      s.specular = 0.6f;
      s.gloss = 5;
      const auto wire = [&](float slope) {
        const float phase = (u + slope * v) / kPitch;
        const float f = phase - static_cast<float>(floor_int(phase)) - 0.5f;
        return f * kPitch;
      };
      const float arch = std::sqrt(std::max(81.0f - v * v, 0.0f));
      const float top = wire(0.14f);
      if (std::fabs(top) < kWire) {
        s.height = 9.0f + 0.55f * arch + std::sqrt(kWire * kWire - top * top);
        return true;
      }
      const float bottom = wire(-0.14f);
      if (std::fabs(bottom) < kWire) {
        s.height = 2.0f + std::sqrt(kWire * kWire - bottom * bottom);
        s.albedo = part.color * 0.7f;
        return true;
      }
      return false;
    }
  }
  return false;
}

/// Calls f(x, y, surface, gone) where the part is; `gone` where it is broken off.
template <class F>
void for_part(const Field& field, const Pose& pose, const Part& part, F&& f) {
  around(field, pose, part.position, part.reach(), [&](int x, int y, Vec2 p) {
    const float dx = p.x - part.position.x;
    const float dy = p.y - part.position.y;
    const float u = part.rotation.c * dx + part.rotation.s * dy;
    const float v = part.rotation.c * dy - part.rotation.s * dx;
    Surface s;
    if (!part_surface(part, u, v, s)) return;
    bool gone = false;
    if (part.broken) {
      const float along = part.break_normal.c * u + part.break_normal.s * v;
      const float sideways = part.break_normal.c * v - part.break_normal.s * u;
      const float jag = 1.6f * value_noise(sideways * 0.45f, 0.0f, part.seed + 31u) +
                        0.7f * value_noise(sideways * 1.3f, 0.0f, part.seed + 37u);
      gone = along + jag > part.break_at;
    }
    s.height += part.base;
    f(x, y, s, gone);
  });
}

}  // namespace

void paint_part(Field& field, const Pose& pose, const Part& part) {
  for_part(field, pose, part, [&](int x, int y, const Surface& s, bool gone) {
    if (gone) return;
    Surface& below = field.at(x, y);
    if (s.height > below.height) below = s;
  });
}

void mark_part(Field& field, const Pose& pose, const Part& part) {
  for_part(field, pose, part, [&](int x, int y, const Surface&, bool gone) {
    if (gone || !part.broken) field.defect_at(x, y) = 1;
  });
  if (part.broken || part.hole() == 0.0f) return;
  around(field, pose, part.position, part.hole(), [&](int x, int y, Vec2 p) {
    const float dx = p.x - part.position.x;
    const float dy = p.y - part.position.y;
    if (dx * dx + dy * dy < part.hole() * part.hole()) field.defect_at(x, y) = 1;
  });
}

}  // namespace efficientad::tray
