#pragma once

#include <cstdint>
#include <vector>

namespace efficientad {

/// The bytes of dead_leaves_image(): RGB, size * size * 3.
std::vector<uint8_t> render_leaves(int size, uint64_t seed, uint64_t index);

}  // namespace efficientad
