#include "efficientad/train/teacher_outputs.h"

#include <torch/utils.h>

#include <algorithm>
#include <utility>

#include "efficientad/core/precision.h"
#include "efficientad/data/resize.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/pdn.h"

namespace efficientad {

TeacherOutputs::TeacherOutputs(Pdn teacher, torch::Device device, std::string precision,
                               std::array<int64_t, 2> image_hw, bool equalize_exposure,
                               int64_t images, int64_t budget_bytes)
    : teacher_(std::move(teacher)),
      device_(device),
      precision_(std::move(precision)),
      equalize_exposure_(equalize_exposure),
      images_(images) {
  const PdnOptions& options = teacher_->options();
  const int64_t positions =
      pdn_output_side(image_hw[0], options.padding) * pdn_output_side(image_hw[1], options.padding);
  const int64_t bytes_per_value = precision_ == "bf16" ? 2 : 4;
  const int64_t bytes = options.out_channels * positions * bytes_per_value;
  outputs_.resize(static_cast<size_t>(std::min(images, budget_bytes / bytes)));
}

torch::Tensor TeacherOutputs::run(const torch::Tensor& images) {
  const torch::NoGradGuard no_grad;
  const Autocast autocast(precision_, device_);
  return teacher_->forward(images);
}

torch::Tensor TeacherOutputs::whole(int64_t index, const torch::Tensor& image) {
  if (index < kept() && outputs_[static_cast<size_t>(index)].defined()) {
    return outputs_[static_cast<size_t>(index)];
  }
  const torch::Tensor output =
      run(network_input(to_float_chw(image).unsqueeze(0).to(device_), equalize_exposure_)
              .contiguous(torch::MemoryFormat::ChannelsLast));
  if (index < kept()) {
    outputs_[static_cast<size_t>(index)] = output.contiguous(torch::MemoryFormat::ChannelsLast);
  }
  return output;
}

torch::Tensor TeacherOutputs::all(const std::function<torch::Tensor(int64_t)>& image) {
  if (kept() < images_) return {};
  for (int64_t i = 0; i < images_; ++i) {
    if (!outputs_[static_cast<size_t>(i)].defined()) whole(i, image(i));
  }
  const torch::Tensor outputs = torch::cat(outputs_);
  outputs_.clear();
  return outputs;
}

torch::Tensor TeacherOutputs::of_crops(const std::vector<int64_t>& indices,
                                       const std::vector<torch::Tensor>& images,
                                       const TrainBatch& batch) {
  std::vector<torch::Tensor> parts(indices.size());
  std::vector<int64_t> others;
  const bool padding = teacher_->options().padding;
  const int64_t height = pdn_output_side(batch.images.size(2), padding);
  const int64_t width = pdn_output_side(batch.images.size(3), padding);
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= kept()) {
      others.push_back(static_cast<int64_t>(i));
      continue;
    }
    parts[i] = whole(indices[i], images[i])
                   .narrow(2, batch.corners[i][0] / kPdnStride, height)
                   .narrow(3, batch.corners[i][1] / kPdnStride, width);
  }
  if (others.size() == indices.size()) return {};
  if (!others.empty()) {
    const torch::Tensor outputs = run(batch.images.index_select(0, torch::tensor(others, device_))
                                          .contiguous(torch::MemoryFormat::ChannelsLast));
    for (size_t k = 0; k < others.size(); ++k) {
      parts[static_cast<size_t>(others[k])] = outputs.narrow(0, static_cast<int64_t>(k), 1);
    }
  }
  return torch::cat(parts);
}

}  // namespace efficientad
