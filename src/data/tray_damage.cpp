#include "tray_scene.h"

#include <algorithm>
#include <cmath>

namespace efficientad::tray {
namespace {

using procedural::fractal_noise;
using procedural::triangle_wave;
using procedural::turns_of;

bool is_plastic(Field& field, const Pose& pose, Vec2 p) {
  const Vec2 image = pose.to_image(p);
  const int x = procedural::floor_int(image.x * field.per_unit);
  const int y = procedural::floor_int(image.y * field.per_unit);
  if (x < 0 || y < 0 || x >= field.side || y >= field.side) return false;
  return field.at(x, y).material == Material::kPlastic;
}

/// The stroke of `tries` whose points lie on the tray's plastic the most.
template <class MakeStroke>
std::vector<Vec2> best_stroke(Field& field, const Pose& pose, int tries, MakeStroke&& make) {
  std::vector<Vec2> best;
  float best_share = -1.0f;
  for (int i = 0; i < tries; ++i) {
    const std::vector<Vec2> stroke = make();
    int inside = 0;
    for (const Vec2 p : stroke) inside += is_plastic(field, pose, p) ? 1 : 0;
    const float share = static_cast<float>(inside) / static_cast<float>(stroke.size());
    if (share > best_share) {
      best_share = share;
      best = stroke;
    }
  }
  return best;
}

/// Calls f(x, y, distance, place in 0..1 along the stroke) for the samples within `reach` of it.
/// Every sample is visited once, with its nearest segment.
template <class F>
void along_stroke(const Field& field, const Pose& pose, const std::vector<Vec2>& stroke,
                  float reach, F&& f) {
  Vec2 low = stroke[0];
  Vec2 high = stroke[0];
  for (const Vec2 p : stroke) {
    low = {std::min(low.x, p.x), std::min(low.y, p.y)};
    high = {std::max(high.x, p.x), std::max(high.y, p.y)};
  }
  const Vec2 center = {0.5f * (low.x + high.x), 0.5f * (low.y + high.y)};
  const float span = 0.5f * std::max(high.x - low.x, high.y - low.y);
  around(field, pose, center, span + reach + 2.0f, [&](int x, int y, Vec2 p) {
    float nearest = 1e9f;
    float place = 0.0f;
    for (size_t i = 0; i + 1 < stroke.size(); ++i) {
      const Vec2 a = stroke[i];
      const float ex = stroke[i + 1].x - a.x;
      const float ey = stroke[i + 1].y - a.y;
      const float t = clamp01(((p.x - a.x) * ex + (p.y - a.y) * ey) / (ex * ex + ey * ey + 1e-9f));
      const float dx = p.x - a.x - t * ex;
      const float dy = p.y - a.y - t * ey;
      const float d = dx * dx + dy * dy;
      if (d < nearest) {
        nearest = d;
        place = (static_cast<float>(i) + t) / static_cast<float>(stroke.size() - 1);
      }
    }
    nearest = std::sqrt(nearest);
    if (nearest < reach) f(x, y, nearest, place);
  });
}

Vec2 random_point(Rng& rng, float margin) {
  return {uniform(rng, -kTrayHalf.x + margin, kTrayHalf.x - margin),
          uniform(rng, -kTrayHalf.y + margin, kTrayHalf.y - margin)};
}

void crack_along(Field& field, const Pose& pose, const std::vector<Vec2>& stroke, float width,
                 uint32_t seed) {
  along_stroke(field, pose, stroke, width + 1.0f, [&](int x, int y, float d, float place) {
    const float half =
        0.5f * width * (1.0f - 0.7f * place) * (1.0f + 0.4f * value_noise(place * 30, 0, seed));
    const float cover = smoothstep(half + 0.5f, half - 0.3f, d);
    Surface& s = field.at(x, y);
    if (cover <= 0.0f || s.material != Material::kPlastic) return;
    s.height -= 4.0f * cover;
    s.albedo = mix(s.albedo, Color{0.012f, 0.012f, 0.013f}, cover);
    s.specular *= 1.0f - cover;
    s.metal *= 1.0f - cover;
    if (cover > 0.25f) field.defect_at(x, y) = 1;
  });
}

std::vector<Vec2> crack_path(Rng& rng, Vec2 start, double turn, float length) {
  std::vector<Vec2> points = {start};
  float done = 0.0f;
  double wander = turn;
  while (done < length) {
    const float step = uniform(rng, 2.5, 6.5);
    const Rotation r = rotation_of(wander + rng.uniform(-0.11, 0.11));
    const Vec2 last = points.back();
    points.push_back({last.x + r.c * step, last.y + r.s * step});
    wander += rng.uniform(-0.025, 0.025);
    done += step;
  }
  return points;
}

}  // namespace

void scratch(Field& field, const Pose& pose, Rng& rng) {
  const float length = uniform(rng, 45.0, 85.0);
  const std::vector<Vec2> stroke = best_stroke(field, pose, 24, [&] {
    const Vec2 start = random_point(rng, 6.0f);
    double turn = rng.uniform();
    std::vector<Vec2> points = {start};
    const double bend = rng.uniform(-0.012, 0.012);
    for (int i = 0; i < 12; ++i) {
      const Rotation r = rotation_of(turn);
      const Vec2 last = points.back();
      points.push_back({last.x + r.c * length / 12.0f, last.y + r.s * length / 12.0f});
      turn += bend + rng.uniform(-0.004, 0.004);
    }
    return points;
  });
  const uint32_t seed = static_cast<uint32_t>(rng.bits());
  const int lines = static_cast<int>(rng.between(1, 3));
  for (int line = 0; line < lines; ++line) {
    std::vector<Vec2> copy = stroke;
    const Vec2 aside = {uniform(rng, -4.0, 4.0), uniform(rng, -4.0, 4.0)};
    if (line > 0) {
      for (Vec2& p : copy) p = {p.x + aside.x, p.y + aside.y};
    }
    const float width = line == 0 ? uniform(rng, 1.6, 2.3) : uniform(rng, 0.9, 1.4);
    along_stroke(field, pose, copy, width + 0.5f, [&](int x, int y, float d, float place) {
      const float taper = smoothstep(0.0f, 0.12f, place) * smoothstep(1.0f, 0.88f, place);
      const float rough = 0.75f + 0.25f * value_noise(place * 40.0f, 0.0f, seed);
      const float half = 0.5f * width * (0.4f + 0.6f * taper) * (0.8f + 0.4f * rough);
      const float cover = smoothstep(half + 0.45f, half - 0.25f, d) * rough;
      if (cover <= 0.0f) return;
      Surface& s = field.at(x, y);
      s.height -= 0.7f * cover;
      s.albedo = mix(s.albedo, Color{0.80f, 0.82f, 0.83f}, 0.92f * cover);
      s.metal *= 1.0f - 0.5f * cover;
      if (cover > 0.25f) field.defect_at(x, y) = 1;
    });
  }
}

void crack(Field& field, const Pose& pose, Rng& rng) {
  double turn = 0.0;
  const float length = uniform(rng, 45.0, 80.0);
  const std::vector<Vec2> trunk = best_stroke(field, pose, 24, [&] {
    turn = rng.uniform();
    return crack_path(rng, random_point(rng, 4.0f), turn, length);
  });
  const uint32_t seed = static_cast<uint32_t>(rng.bits());
  crack_along(field, pose, trunk, uniform(rng, 1.7, 2.5), seed);
  const int branches = static_cast<int>(rng.between(1, 3));
  for (int i = 0; i < branches; ++i) {
    const size_t at = static_cast<size_t>(
        rng.between(2, std::max<int64_t>(2, static_cast<int64_t>(trunk.size()) - 3)));
    const Vec2 from = trunk[at];
    const Vec2 before = trunk[at - 1];
    const double heading = turns_of(from.x - before.x, from.y - before.y);
    const double side = rng.chance(0.5) ? 1.0 : -1.0;
    const double aside = side * rng.uniform(0.07, 0.16);
    const float branch_length = uniform(rng, 10.0, 26.0);
    const std::vector<Vec2> branch = crack_path(rng, from, heading + aside, branch_length);
    crack_along(field, pose, branch, uniform(rng, 1.0, 1.5), seed + 1u + static_cast<uint32_t>(i));
  }
}

void stain(Field& field, const Pose& pose, Rng& rng) {
  const std::vector<Vec2> place =
      best_stroke(field, pose, 4, [&] { return std::vector<Vec2>{random_point(rng, 18.0f)}; });
  const Color colors[4] = {{0.10f, 0.045f, 0.018f},   // coffee
                           {0.22f, 0.070f, 0.020f},   // rust
                           {0.022f, 0.020f, 0.020f},  // oil
                           {0.50f, 0.40f, 0.14f}};    // glue
  const Color color = colors[rng.below(4)];
  const float radius = uniform(rng, 12.0, 20.0);
  const float squash = uniform(rng, 0.65, 1.0);
  const Rotation r = rotation_of(rng.uniform());
  const uint32_t seed = static_cast<uint32_t>(rng.bits());
  const float strength = uniform(rng, 0.86, 1.0);
  const Vec2 center = place[0];
  const float splash_turn = uniform(rng, 0.0, 1.0);
  around(field, pose, center, 2.2f * radius, [&](int x, int y, Vec2 p) {
    const float dx = p.x - center.x;
    const float dy = p.y - center.y;
    const float u = (r.c * dx + r.s * dy) / radius;
    const float v = (r.c * dy - r.s * dx) / (radius * squash);
    float level = 1.0f - std::sqrt(u * u + v * v) +
                  0.34f * fractal_noise(p.x * 0.085f, p.y * 0.085f, seed, 3);
    // Two drops beside it.
    for (int drop = 0; drop < 2; ++drop) {
      const Rotation d = rotation_of(splash_turn + 0.23f * static_cast<float>(drop));
      const float ex = dx - d.c * radius * 1.45f;
      const float ey = dy - d.s * radius * 1.45f;
      level = std::max(level, 0.16f - std::sqrt(ex * ex + ey * ey) / radius);
    }
    const float cover = smoothstep(0.0f, 0.07f, level);
    if (cover <= 0.0f) return;
    const float rim = 1.0f - smoothstep(0.04f, 0.22f, level);
    Surface& s = field.at(x, y);
    const float alpha = cover * strength * (0.82f + 0.18f * rim);
    s.albedo = mix(s.albedo, color * (1.0f - 0.45f * rim), alpha);
    s.metal *= 1.0f - 0.85f * alpha;
    s.specular = mix(s.specular, 0.10f, alpha);
    if (cover > 0.5f) field.defect_at(x, y) = 1;
  });
}

void dent(Field& field, const Pose& pose, Rng& rng) {
  const float radius = uniform(rng, 10.5, 15.0);
  // On the plastic: most of a circle of points around the middle must lie there.
  const std::vector<Vec2> place = best_stroke(field, pose, 60, [&] {
    const Vec2 c = random_point(rng, 10.0f);
    std::vector<Vec2> ring = {c};
    for (int i = 0; i < 8; ++i) {
      const Rotation r = rotation_of(i / 8.0);
      ring.push_back({c.x + r.c * radius * 0.8f, c.y + r.s * radius * 0.8f});
    }
    return ring;
  });
  const Vec2 center = place[0];
  const float depth = uniform(rng, 6.0, 9.0);
  const float squash = uniform(rng, 0.7, 1.0);
  const Rotation r = rotation_of(rng.uniform());
  const uint32_t seed = static_cast<uint32_t>(rng.bits());
  around(field, pose, center, 1.5f * radius, [&](int x, int y, Vec2 p) {
    const float dx = p.x - center.x;
    const float dy = p.y - center.y;
    const float u = (r.c * dx + r.s * dy) / radius;
    const float v = (r.c * dy - r.s * dx) / (radius * squash);
    const float d =
        std::sqrt(u * u + v * v) * (1.0f + 0.12f * value_noise(p.x * 0.15f, p.y * 0.15f, seed));
    Surface& s = field.at(x, y);
    if (s.material == Material::kTable) return;
    const float inside = clamp01(1.0f - d * d);
    s.height -= depth * inside * (2.0f - inside);
    const float rim = clamp01(1.0f - std::fabs(d - 1.02f) / 0.2f);
    s.height += 1.3f * rim * rim * (3.0f - 2.0f * rim);
    // Stretched plastic turns pale at the edge and shines inside.
    s.albedo = mix(s.albedo, Color{0.55f, 0.57f, 0.58f}, 0.55f * rim * rim);
    s.specular = std::max(s.specular, 0.45f * smoothstep(1.05f, 0.9f, d));
    if (d < 1.12f) field.defect_at(x, y) = 1;
  });
}

void break_tray(Field& field, const Pose& pose, Rng& rng) {
  // A piece has come off the outer rim or a wall between compartments.
  Vec2 center;
  const bool outer = rng.chance(0.5);
  if (outer) {
    const double side = rng.uniform();
    const bool horizontal = rng.chance(0.5);
    const float along = uniform(rng, -0.85, 0.85);
    const float sign = side < 0.5 ? -1.0f : 1.0f;
    center = horizontal ? Vec2{along * kTrayHalf.x, sign * (kTrayHalf.y - 1.0f)}
                        : Vec2{sign * (kTrayHalf.x - 1.0f), along * kTrayHalf.y};
  } else {
    const Vec2 walls[6] = {{-29.5f, -50}, {45.5f, -50}, {8, -34.5f},
                           {-70, 9.5f},   {24.5f, 60},  {75, 9.5f}};
    center = walls[rng.below(6)];
    center = {center.x + uniform(rng, -8.0, 8.0), center.y + uniform(rng, -8.0, 8.0)};
    if (center.x == 0.0f) center.x = 0.5f;
  }
  const float radius = uniform(rng, 10.0, 16.0);
  const uint32_t seed = static_cast<uint32_t>(rng.bits());
  around(field, pose, center, 1.6f * radius, [&](int x, int y, Vec2 p) {
    Surface& s = field.at(x, y);
    if (s.material != Material::kPlastic) return;
    const float dx = p.x - center.x;
    const float dy = p.y - center.y;
    const float d = std::sqrt(dx * dx + dy * dy) / radius;
    const float turns = turns_of(dx, dy);
    // Jagged by whole facets: noise over the direction, folded so that its ends meet.
    const float fold = std::fabs(turns - 0.5f);
    const float limit = 1.0f + 0.30f * triangle_wave(fold * 5.3f + 0.01f * (seed % 100u)) * 0.6f +
                        0.25f * value_noise(fold * 16.0f, 0.0f, seed);
    if (d > limit) return;
    float rest = 0.0f;
    if (!tray_height(p, rest) || rest < kFloor + 3.0f) return;
    const float facets = fractal_noise(p.x * 0.16f, p.y * 0.16f, seed + 5u, 3);
    const float depth = smoothstep(limit, limit - 0.12f, d);
    const float broken = std::min(s.height, 7.5f + 3.2f * facets);
    s.height = mix(s.height, broken, depth);
    s.albedo = mix(s.albedo, Color{0.44f, 0.47f, 0.48f} * (1.0f + 0.22f * facets), depth);
    s.specular = 0.05f;
    field.defect_at(x, y) = 1;
  });
}

}  // namespace efficientad::tray
