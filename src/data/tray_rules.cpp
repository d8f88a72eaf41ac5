#include "tray_scene.h"

#include <utility>

namespace efficientad::tray {
namespace {

constexpr Color kSteel = {0.66f, 0.67f, 0.69f};
constexpr Color kBrass = {0.86f, 0.62f, 0.24f};
constexpr Color kWood = {0.62f, 0.40f, 0.20f};
constexpr Color kRubber = {0.030f, 0.030f, 0.032f};
constexpr Color kRed = {0.55f, 0.040f, 0.035f};
constexpr Color kYellow = {0.72f, 0.45f, 0.035f};
constexpr Color kBlue = {0.030f, 0.12f, 0.48f};
constexpr Color kGreen = {0.04f, 0.33f, 0.09f};
constexpr Color kWhite = {0.75f, 0.75f, 0.72f};

Part make_part(Rng& rng, Kind kind, Compartment compartment, Vec2 position) {
  Part part;
  part.kind = kind;
  part.compartment = compartment;
  part.seed = static_cast<uint32_t>(rng.bits());
  double turn = 1.0;
  Vec2 jitter = {2.0f, 2.0f};
  switch (kind) {
    case Kind::kNut:
    case Kind::kSquareNut:
      part.color = kSteel;
      break;
    case Kind::kWasher:
      part.color = kBrass;
      break;
    case Kind::kCap:
      part.color = kRed;
      jitter = {1.8f, 1.8f};
      break;
    case Kind::kPeg:
      part.color = kWood;
      part.size = 26.0f;
      turn = 0.008;
      jitter = {2.4f, 0.5f};
      break;
    case Kind::kPin:
      part.color = kSteel;
      part.size = 24.0f;
      turn = 0.008;
      jitter = {2.4f, 0.5f};
      break;
    case Kind::kScrew:
      part.color = Color{0.60f, 0.58f, 0.54f};
      part.size = 43.0f;
      turn = 0.012;
      jitter = {2.4f, 1.5f};
      break;
    case Kind::kRing:
      part.color = kRubber;
      break;
    case Kind::kSpring:
      part.color = Color{0.62f, 0.62f, 0.64f};
      part.size = 27.0f;
      turn = 0.010;
      jitter = {2.4f, 1.6f};
      break;
  }
  part.position = {position.x + uniform(rng, -jitter.x, jitter.x),
                   position.y + uniform(rng, -jitter.y, jitter.y)};
  part.rotation = rotation_of(turn == 1.0 ? rng.uniform() : rng.uniform(-turn, turn));
  part.color = part.color * uniform(rng, 0.95, 1.05);
  return part;
}

Part colored(Part part, Color color) {
  part.color = color;
  return part;
}

/// Places where a small part can lie without touching those that belong there.
struct Spot {
  Compartment compartment;
  Vec2 position;
};
constexpr std::array<Spot, 9> kFreeSpots = {{{kNuts, {-71, -48.5f}},
                                             {kWashers, {-8, -55}},
                                             {kWashers, {25, -86}},
                                             {kCaps, {93, -84}},
                                             {kCaps, {93, -12}},
                                             {kScrews, {4, 34}},
                                             {kScrews, {4, 58}},
                                             {kScrews, {4, 82}},
                                             {kRings, {68, 57}}}};

}  // namespace

std::vector<Part> make_parts(Rng& rng) {
  std::vector<Part> parts;
  for (const Vec2 p : {Vec2{-90, -77}, Vec2{-52, -77}, Vec2{-90, -20}, Vec2{-52, -20}}) {
    parts.push_back(make_part(rng, Kind::kNut, kNuts, p));
  }
  for (const Vec2 p : {Vec2{-7, -82}, Vec2{24, -60}}) {
    parts.push_back(make_part(rng, Kind::kWasher, kWashers, p));
  }
  parts.push_back(colored(make_part(rng, Kind::kCap, kCaps, {68, -82}), kRed));
  parts.push_back(colored(make_part(rng, Kind::kCap, kCaps, {91, -48}), kYellow));
  parts.push_back(colored(make_part(rng, Kind::kCap, kCaps, {68, -14}), kBlue));
  for (const Vec2 p : {Vec2{8, -23}, Vec2{8, -10.5f}}) {
    parts.push_back(make_part(rng, Kind::kPeg, kPegs, p));
  }
  for (const Vec2 p : {Vec2{-58, 34}, Vec2{-58, 58}, Vec2{-58, 82}}) {
    parts.push_back(make_part(rng, Kind::kScrew, kScrews, p));
  }
  for (const Vec2 p : {Vec2{48, 78}, Vec2{89, 78}}) {
    parts.push_back(make_part(rng, Kind::kRing, kRings, p));
  }
  parts.push_back(make_part(rng, Kind::kSpring, kRings, {68, 34}));
  return parts;
}

void lose_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked) {
  const size_t which = static_cast<size_t>(rng.below(static_cast<int64_t>(parts.size())));
  marked.push_back(parts[which]);
  parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(which));
}

void add_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked) {
  Part part;
  switch (rng.below(6)) {
    case 0:
      part = make_part(rng, Kind::kNut, kNuts, {-71, -48.5f});
      break;
    case 1:
      part =
          make_part(rng, Kind::kWasher, kWashers, rng.chance(0.5) ? Vec2{-8, -55} : Vec2{25, -86});
      break;
    case 2: {
      const Color colors[3] = {kRed, kYellow, kBlue};
      part = make_part(rng, Kind::kCap, kCaps, rng.chance(0.5) ? Vec2{93, -84} : Vec2{93, -12});
      part.color = colors[rng.below(3)];
      break;
    }
    case 3:
      part = make_part(rng, Kind::kPeg, kPegs, {8, 1});
      break;
    case 4:
      part = make_part(rng, Kind::kScrew, kScrews, {-44, rng.chance(0.5) ? 46.0f : 70.0f});
      break;
    default:
      part = make_part(rng, Kind::kRing, kRings, {68, 57});
      break;
  }
  marked.push_back(part);
  parts.push_back(part);
}

void misplace_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked) {
  if (rng.chance(0.3)) {
    // Two caps have changed places.
    std::vector<Part*> caps;
    for (Part& part : parts) {
      if (part.kind == Kind::kCap) caps.push_back(&part);
    }
    rng.shuffle(caps);
    std::swap(caps[0]->color, caps[1]->color);
    marked.push_back(*caps[0]);
    marked.push_back(*caps[1]);
    return;
  }
  // A small part lies in another compartment; its own place is empty.
  std::vector<size_t> small;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].is_long()) small.push_back(i);
  }
  Part& part = parts[small[static_cast<size_t>(rng.below(static_cast<int64_t>(small.size())))]];
  marked.push_back(part);
  std::vector<Spot> spots;
  for (const Spot& spot : kFreeSpots) {
    if (spot.compartment != part.compartment) spots.push_back(spot);
  }
  const Spot& spot = spots[static_cast<size_t>(rng.below(static_cast<int64_t>(spots.size())))];
  part.position = {spot.position.x + uniform(rng, -1.5, 1.5),
                   spot.position.y + uniform(rng, -1.5, 1.5)};
  part.compartment = spot.compartment;
  marked.push_back(part);
}

void exchange_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked) {
  const size_t which = static_cast<size_t>(rng.below(static_cast<int64_t>(parts.size())));
  Part& part = parts[which];
  const Part old = part;
  const Rotation rotation = part.rotation;
  const auto replace = [&](Kind kind) {
    part = make_part(rng, kind, old.compartment, old.position);
    part.position = old.position;
  };
  switch (part.kind) {
    case Kind::kNut: {
      const int64_t other = rng.below(4);
      if (other == 0) replace(Kind::kWasher);
      if (other == 1) replace(Kind::kSquareNut);
      if (other == 2) part.color = kBrass;
      if (other == 3) replace(Kind::kRing);
      break;
    }
    case Kind::kWasher:
      if (rng.chance(0.5)) {
        replace(Kind::kNut);
      } else {
        replace(Kind::kRing);
      }
      break;
    case Kind::kCap:
      part.color = rng.chance(0.5) ? kGreen : kWhite;
      break;
    case Kind::kPeg:
      if (rng.chance(0.5)) {
        replace(Kind::kPin);
      } else {
        part.size = 15.0f;
        part.position.x += rng.chance(0.5) ? 9.0f : -9.0f;
      }
      break;
    case Kind::kScrew:
      if (rng.chance(0.5)) {
        part.size = 27.0f;
        part.position.x -= 15.0f;
      } else {
        replace(Kind::kPeg);
        part.size = 34.0f;
      }
      break;
    case Kind::kRing:
      if (rng.chance(0.5)) {
        replace(Kind::kWasher);
      } else {
        replace(Kind::kNut);
      }
      break;
    default:
      replace(rng.chance(0.5) ? Kind::kPeg : Kind::kPin);
      part.rotation = rotation;
      break;
  }
  if (old.is_long()) marked.push_back(old);
  marked.push_back(part);
}

void break_part(Rng& rng, std::vector<Part>& parts, std::vector<Part>& marked) {
  // Any but the spring, which is the last.
  Part& part = parts[static_cast<size_t>(rng.below(static_cast<int64_t>(parts.size()) - 1))];
  part.broken = true;
  if (part.is_long()) {
    const double end = rng.chance(0.5) ? 0.0 : 0.5;
    part.break_normal = rotation_of(end + rng.uniform(-0.04, 0.04));
    part.break_at = part.size * uniform(rng, -0.05, 0.3);
  } else {
    part.break_normal = rotation_of(rng.uniform());
    part.break_at = uniform(rng, 0.0, 4.5);
  }
  marked.push_back(part);
}

}  // namespace efficientad::tray
