#pragma once

#include <torch/types.h>

#include <string>

namespace efficientad {

/// What "auto" stands for on `device`: "bf16" on a GPU and on CPUs with matrix instructions for
/// bfloat16 (AMX), "fp32" elsewhere; other names are returned as they are.
std::string resolve_precision(const std::string& name, const torch::Device& device);

/// While one of these lives, convolutions and matrix products of this thread run in bfloat16 if
/// `precision` is "bf16" (LibTorch's autocast; parameters stay float32); with "fp32" nothing
/// changes. Make one for each step: the casts of the weights are forgotten at its end.
class Autocast {
 public:
  Autocast(const std::string& precision, const torch::Device& device);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool active_;
  bool before_ = false;
  torch::DeviceType type_;
};

}  // namespace efficientad
