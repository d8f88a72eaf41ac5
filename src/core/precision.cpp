#include "efficientad/core/precision.h"

#include <ATen/autocast_mode.h>

namespace efficientad {

std::string resolve_precision(const std::string& name, const torch::Device& device) {
  if (name != "auto") return name;
  if (device.is_cuda()) return "bf16";
#if defined(__x86_64__)
  // With AVX512-BF16 alone, convolve() in float32 is faster than LibTorch's in bfloat16.
  if (__builtin_cpu_supports("amx-bf16")) return "bf16";
#endif
  return "fp32";
}

Autocast::Autocast(const std::string& precision, const torch::Device& device)
    : active_(precision == "bf16"), type_(device.type()) {
  if (!active_) return;
  before_ = at::autocast::is_autocast_enabled(type_);
  at::autocast::increment_nesting();
  at::autocast::set_autocast_dtype(type_, torch::kBFloat16);
  at::autocast::set_autocast_enabled(type_, true);
}

Autocast::~Autocast() {
  if (!active_) return;
  at::autocast::set_autocast_enabled(type_, before_);
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

}  // namespace efficientad
