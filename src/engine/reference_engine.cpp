#include "efficientad/engine/reference_engine.h"

#include <torch/utils.h>

#include <utility>

namespace efficientad {

torch::Tensor normalize_teacher(const torch::Tensor& teacher, const torch::Tensor& mean,
                                const torch::Tensor& std) {
  return (teacher - mean) / std;
}

torch::Tensor run_autoencoder(Autoencoder& autoencoder, const std::string& autoencoder_input,
                              bool padding, const torch::Tensor& images,
                              const std::vector<uint64_t>& dropout_seeds) {
  TORCH_CHECK(autoencoder_input == "fixed" || autoencoder_input == "full",
              "no autoencoder input called ", autoencoder_input);
  const std::array<int64_t, 2> output_hw = {pdn_output_side(images.size(2), padding),
                                            pdn_output_side(images.size(3), padding)};
  return autoencoder->forward(
      autoencoder_input == "fixed" ? autoencoder_input_fixed(images) : images, output_hw,
      dropout_seeds);
}

RawMaps raw_maps(const NetworkOutputs& outputs) {
  return {.st = map_st(outputs.normalized_teacher, outputs.student),
          .ae = map_ae(outputs.autoencoder, outputs.student)};
}

ReferenceEngine::ReferenceEngine(DetectorNetworks networks, torch::Device device)
    : networks_(std::move(networks)), device_(device) {
  networks_.teacher->to(device_);
  networks_.student->to(device_);
  networks_.autoencoder->to(device_);
  networks_.teacher->eval();
  networks_.student->eval();
  networks_.autoencoder->eval();
  networks_.teacher_mean = networks_.teacher_mean.to(device_);
  networks_.teacher_std = networks_.teacher_std.to(device_);
}

NetworkOutputs ReferenceEngine::run(const torch::Tensor& images) const {
  const torch::NoGradGuard no_grad;
  const torch::Tensor on_device = images.to(device_);
  // Module handles do not hand their constness on.
  DetectorNetworks networks = networks_;
  return {.normalized_teacher = normalize_teacher(networks.teacher->forward(on_device),
                                                  networks.teacher_mean, networks.teacher_std),
          .student = networks.student->forward(on_device),
          .autoencoder = run_autoencoder(networks.autoencoder, networks.autoencoder_input,
                                         networks.teacher->options().padding, on_device)};
}

RawMaps ReferenceEngine::maps(const torch::Tensor& images) const { return raw_maps(run(images)); }

}  // namespace efficientad
