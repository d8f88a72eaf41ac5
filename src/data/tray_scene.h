#pragma once

// The inside of render_tray(): the tray as a height field with materials, its parts, what can be
// wrong with them, and the light. Needs no LibTorch.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "efficientad/core/random.h"
#include "procedural.h"

namespace efficientad::tray {

using procedural::clamp01;
using procedural::mix;
using procedural::Rotation;
using procedural::rotation_of;
using procedural::smoothstep;
using procedural::value_noise;

// Lengths are in units of 1/256 of the image's side; y points down. The tray's own coordinates have
// their origin in its middle.

struct Vec2 {
  float x = 0.0f;
  float y = 0.0f;
};

struct Color {
  float r = 0.0f;
  float g = 0.0f;
  float b = 0.0f;
};

inline Color operator*(Color c, float f) { return {c.r * f, c.g * f, c.b * f}; }
inline Color mix(Color a, Color b, float t) {
  return {mix(a.r, b.r, t), mix(a.g, b.g, t), mix(a.b, b.b, t)};
}

inline float uniform(Rng& rng, double low, double high) {
  return static_cast<float>(rng.uniform(low, high));
}

enum class Material : uint8_t { kTable, kPlastic, kPart };

struct Surface {
  float height = 0.0f;
  Color albedo;
  /// 1: a metal, which reflects its surroundings in its own colour; 0: diffuse with a clear coat.
  float metal = 0.0f;
  float specular = 0.0f;
  /// The highlight's exponent is 2 to this.
  int gloss = 4;
  Material material = Material::kTable;
};

/// The scene as samples: several a pixel, each the topmost surface.
struct Field {
  int side = 0;
  float per_unit = 0.0f;
  std::vector<Surface> surface;
  std::vector<uint8_t> defect;

  Surface& at(int x, int y) { return surface[static_cast<size_t>(y) * side + x]; }
  uint8_t& defect_at(int x, int y) { return defect[static_cast<size_t>(y) * side + x]; }
};

/// Where the tray lies: image = 128 + shift + zoom * R * tray.
struct Pose {
  Vec2 shift;
  Rotation rotation;
  float zoom = 1.0f;

  Vec2 to_tray(Vec2 p) const {
    const float x = (p.x - 128.0f - shift.x) / zoom;
    const float y = (p.y - 128.0f - shift.y) / zoom;
    return {rotation.c * x + rotation.s * y, -rotation.s * x + rotation.c * y};
  }
  Vec2 to_image(Vec2 p) const {
    return {128.0f + shift.x + zoom * (rotation.c * p.x - rotation.s * p.y),
            128.0f + shift.y + zoom * (rotation.s * p.x + rotation.c * p.y)};
  }
};

/// Calls f(x, y, tray coordinates) for the samples within `reach` of a point of the tray.
template <class F>
void around(const Field& field, const Pose& pose, Vec2 center, float reach, F&& f) {
  const Vec2 p = pose.to_image(center);
  const float r = reach * pose.zoom + 1.0f;
  const auto clip = [&](float v) {
    return std::clamp(procedural::floor_int(v * field.per_unit), 0, field.side - 1);
  };
  const int x0 = clip(p.x - r);
  const int x1 = clip(p.x + r);
  const int y0 = clip(p.y - r);
  const int y1 = clip(p.y + r);
  const float step = 1.0f / field.per_unit;
  for (int y = y0; y <= y1; ++y) {
    for (int x = x0; x <= x1; ++x) {
      f(x, y, pose.to_tray({(x + 0.5f) * step, (y + 0.5f) * step}));
    }
  }
}

struct Box {
  float x0, y0, x1, y1;
};

constexpr float kRim = 20.0f;
constexpr float kFloor = 5.0f;
constexpr Vec2 kTrayHalf = {117.0f, 110.0f};

enum Compartment { kNuts, kWashers, kCaps, kPegs, kScrews, kRings };
constexpr std::array<Box, 6> kCompartments = {{{-109, -102, -33, 6},
                                               {-26, -102, 42, -38},
                                               {49, -102, 109, 6},
                                               {-26, -31, 42, 6},
                                               {-109, 13, 21, 102},
                                               {28, 13, 109, 102}}};

/// Height of the tray at a point, and whether there is any.
bool tray_height(Vec2 p, float& height);

/// Fills the field with the bench and the empty tray.
void paint_tray(Field& field, const Pose& pose, Rng& rng);

/// Every tray carries some dust; it is no defect.
void sprinkle_dust(Field& field, Rng& rng);

enum class Kind { kNut, kSquareNut, kWasher, kCap, kPeg, kPin, kScrew, kRing, kSpring };

struct Part {
  Kind kind = Kind::kNut;
  Compartment compartment = kNuts;
  Vec2 position;
  Rotation rotation;
  float base = kFloor;
  /// Half of the length of pegs, pins, screws and springs; a factor of the size of the others.
  float size = 1.0f;
  Color color;
  uint32_t seed = 0;
  /// A broken part: what lies beyond a jagged line is gone.
  bool broken = false;
  Rotation break_normal;
  float break_at = 0.0f;

  bool is_long() const {
    return kind == Kind::kPeg || kind == Kind::kPin || kind == Kind::kScrew ||
           kind == Kind::kSpring;
  }
  /// A radius that covers the hole; 0 without one.
  float hole() const {
    switch (kind) {
      case Kind::kNut:
      case Kind::kSquareNut:
      case Kind::kWasher:
      case Kind::kRing:
        return 9.0f * size;
      default:
        return 0.0f;
    }
  }
  float reach() const {
    switch (kind) {
      case Kind::kPeg:
      case Kind::kPin:
      case Kind::kSpring:
        return size + 9.0f;
      case Kind::kScrew:
        return size + 3.0f;
      default:
        return 16.5f * size;
    }
  }
};

/// Puts the part where it is above what is there.
void paint_part(Field& field, const Pose& pose, const Part& part);

/// Marks what a part covers as defect, its hole included; of a broken part, what is gone.
void mark_part(Field& field, const Pose& pose, const Part& part);

/// The bill of materials, laid out.
std::vector<Part> make_parts(Rng& rng);

// Logical anomalies: the tray is whole, its contents break the rules. `marked` receives the parts
// whose places the mask shows.
void lose_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked);
void add_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked);
void misplace_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked);
void exchange_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked);

// Structural anomalies. All but the first change the painted field and mark where.
void break_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked);
void break_tray(Field& field, const Pose& pose, Rng& rng);
void scratch(Field& field, const Pose& pose, Rng& rng);
void crack(Field& field, const Pose& pose, Rng& rng);
void stain(Field& field, const Pose& pose, Rng& rng);
void dent(Field& field, const Pose& pose, Rng& rng);

/// Broad patches of more and less light, as a window and passing people make.
struct Patch {
  Vec2 center;
  float radius = 0.0f;
  float gain = 0.0f;
};

struct Light {
  float x, y, z;
  float strength;
  float ambient;
  std::array<Patch, 4> patches;
};

/// The light that leaves each sample towards the camera; `seed` dithers the shadows.
std::vector<Color> shade(const Field& field, const Light& light, uint32_t seed);

/// A Gaussian blur of five taps in both directions.
void blur_lens(std::vector<Color>& image, int side, float sigma);

/// Brightness on film: a straight middle, a soft shoulder, and a gamma of 2.
float tone(float x);

}  // namespace efficientad::tray
