#include "efficientad/core/random.h"

#include <cmath>
#include <numbers>

namespace efficientad {

uint64_t mix64(uint64_t seed, uint64_t stream, uint64_t index) {
  return splitmix64(splitmix64(splitmix64(seed) ^ stream) ^ index);
}

Rng::Rng(uint64_t seed, uint64_t stream, uint64_t index) : engine_(mix64(seed, stream, index)) {}

int64_t Rng::below(int64_t count) {
  const auto n = static_cast<uint64_t>(count);
  const uint64_t limit = n * (UINT64_MAX / n);
  uint64_t value = engine_();
  while (value >= limit) value = engine_();
  return static_cast<int64_t>(value % n);
}

double Rng::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace efficientad
