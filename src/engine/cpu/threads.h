#pragma once

#include <cstdint>
#include <functional>

namespace efficientad::cpu {

/// Calls work(0) … work(threads - 1), each in its thread of the OpenMP pool that LibTorch uses too,
/// so that the two never run side by side; one after another if this is such a thread already.
void on_threads(int64_t threads, const std::function<void(int64_t)>& work);

}  // namespace efficientad::cpu
