#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace efficientad {

/// Random numbers that are the same on every machine and standard library: std::mt19937_64 with
/// distributions of our own. Every random decision of the product comes from an Rng made of the
/// run's seed, a stream (what the numbers are for) and an index (which step, which image), so that
/// any step can be repeated without the ones before it.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0, uint64_t index = 0);

  uint64_t bits() { return engine_(); }
  /// Uniform in [0, 1), 53 random bits.
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }
  /// Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform integer in [0, count), without bias. `count` > 0.
  int64_t below(int64_t count);
  /// Uniform integer in [low, high], both included.
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool chance(double probability) { return uniform() < probability; }
  /// Standard normal (Box-Muller, one value a call).
  double normal();

  /// Fisher-Yates.
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
    }
  }

 private:
  std::mt19937_64 engine_;
};

/// Well-mixed 64 bits of one number (splitmix64).
constexpr uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// The same of three numbers.
uint64_t mix64(uint64_t seed, uint64_t stream, uint64_t index);

}  // namespace efficientad
