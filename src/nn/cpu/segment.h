#pragma once

#include <cstdint>

namespace efficientad::cpu {

/// Numbers of an input row that are multiplied, `offset` from where the row begins; `count` is a
/// multiple of 4.
struct Segment {
  int64_t offset = 0;
  int64_t count = 0;
};

}  // namespace efficientad::cpu
