#include "efficientad/train/optimizer.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "efficientad/core/error.h"

namespace efficientad {

namespace {

constexpr double kMuonMomentum = 0.95;
constexpr int kNewtonSchulzSteps = 5;

bool is_convolution(const torch::Tensor& parameter) { return parameter.dim() == 4; }

}  // namespace

struct Optimizer::Impl {
  struct Muon {
    std::string name;
    torch::Tensor parameter;
    double learning_rate;
    torch::Tensor momentum;
  };

  OptimizerOptions options;
  std::vector<std::pair<std::string, torch::Tensor>> parameters;
  std::vector<std::pair<std::string, torch::Tensor>> adam_parameters;
  std::unique_ptr<torch::optim::Adam> adam;
  std::vector<Muon> muon;
  double factor = 1;

  torch::optim::AdamParamState* adam_state(const torch::Tensor& parameter) const {
    const auto found = adam->state().find(parameter.unsafeGetTensorImpl());
    return found == adam->state().end()
               ? nullptr
               : static_cast<torch::optim::AdamParamState*>(found->second.get());
  }
};

Optimizer::Optimizer(std::vector<std::pair<std::string, torch::Tensor>> parameters,
                     const OptimizerOptions& options)
    : impl_(std::make_unique<Impl>()) {
  TORCH_CHECK(options.kind == "adam" || options.kind == "muon", "no optimizer ", options.kind);
  impl_->options = options;
  impl_->parameters = std::move(parameters);
  const bool with_muon = options.kind == "muon";
  std::vector<torch::Tensor> for_adam;
  for (const auto& [name, parameter] : impl_->parameters) {
    const auto group =
        std::find_if(options.muon.begin(), options.muon.end(),
                     [&name](const MuonGroup& muon) { return name.starts_with(muon.prefix); });
    if (with_muon && is_convolution(parameter) && group != options.muon.end()) {
      impl_->muon.push_back({name, parameter, group->learning_rate, {}});
    } else {
      impl_->adam_parameters.emplace_back(name, parameter);
      for_adam.push_back(parameter);
    }
  }
  impl_->adam = std::make_unique<torch::optim::Adam>(
      for_adam, torch::optim::AdamOptions(options.learning_rate)
                    .weight_decay(with_muon ? 0.0 : options.weight_decay));
}

Optimizer::~Optimizer() = default;
Optimizer::Optimizer(Optimizer&&) noexcept = default;

void Optimizer::set_learning_rate_factor(double factor) {
  impl_->factor = factor;
  for (auto& group : impl_->adam->param_groups()) {
    group.options().set_lr(impl_->options.learning_rate * factor);
  }
}

void Optimizer::zero_grad() {
  for (auto& [name, parameter] : impl_->parameters) parameter.mutable_grad().reset();
}

void Optimizer::step() {
  impl_->adam->step();
  torch::NoGradGuard no_grad;
  for (auto& [name, parameter, learning_rate, momentum] : impl_->muon) {
    const torch::Tensor& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (!momentum.defined()) momentum = torch::zeros_like(parameter);
    momentum.lerp_(gradient, 1 - kMuonMomentum);
    const torch::Tensor update =
        gradient.lerp(momentum, kMuonMomentum).reshape({parameter.size(0), -1});
    const int64_t columns = update.size(1);
    std::vector<torch::Tensor> directions;
    for (const auto& block : update.split(kMuonRows)) {
      const double shape = std::sqrt(
          std::max(1.0, static_cast<double>(block.size(0)) / static_cast<double>(columns)));
      directions.push_back(shape * orthogonalize(block, impl_->options.precision));
    }
    parameter.add_(torch::cat(directions).reshape(parameter.sizes()),
                   -learning_rate * impl_->factor);
  }
}

std::map<std::string, torch::Tensor> Optimizer::state() const {
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, parameter] : impl_->adam_parameters) {
    const auto* adam = impl_->adam_state(parameter);
    if (adam == nullptr) continue;
    state[name + ".exp_avg"] = adam->exp_avg().clone();
    state[name + ".exp_avg_sq"] = adam->exp_avg_sq().clone();
    state[name + ".step"] = torch::tensor(adam->step(), torch::kInt64);
  }
  for (const auto& [name, parameter, learning_rate, momentum] : impl_->muon) {
    if (momentum.defined()) state[name + ".momentum"] = momentum.clone();
  }
  return state;
}

void Optimizer::load_state(const std::map<std::string, torch::Tensor>& state,
                           const std::string& where) {
  const auto find = [&](const std::string& key, torch::IntArrayRef sizes, torch::ScalarType type) {
    const auto found = state.find(key);
    require(found != state.end(), "{}: the optimizer's state {} is missing", where, key);
    require(found->second.sizes() == sizes && found->second.scalar_type() == type &&
                torch::isfinite(found->second).all().item<bool>(),
            "{}: the optimizer's state {} is damaged", where, key);
    return found->second;
  };
  const auto find_like = [&](const std::string& key, const torch::Tensor& like) {
    return find(key, like.sizes(), like.scalar_type())
        .to(like.device())
        .clone()
        .contiguous(like.suggest_memory_format());
  };
  for (const auto& [name, parameter] : impl_->adam_parameters) {
    auto adam = std::make_unique<torch::optim::AdamParamState>();
    adam->exp_avg(find_like(name + ".exp_avg", parameter));
    adam->exp_avg_sq(find_like(name + ".exp_avg_sq", parameter));
    adam->step(find(name + ".step", {}, torch::kInt64).item<int64_t>());
    impl_->adam->state()[parameter.unsafeGetTensorImpl()] = std::move(adam);
  }
  for (auto& [name, parameter, learning_rate, momentum] : impl_->muon) {
    momentum = find_like(name + ".momentum", parameter);
  }
}

torch::Tensor orthogonalize(const torch::Tensor& matrix, const std::string& precision) {
  // Coefficients of the quintic that pushes singular values towards 1 fastest (Jordan et al.).
  constexpr double kA = 3.4445;
  constexpr double kB = -4.7750;
  constexpr double kC = 2.0315;
  constexpr double kTiny = 1e-7;
  const bool tall = matrix.size(0) > matrix.size(1);
  torch::Tensor x = (tall ? matrix.t() : matrix).to(torch::kFloat32).contiguous();
  x = x / (x.norm() + kTiny);
  if (precision == "bf16") x = x.to(torch::kBFloat16);
  for (int i = 0; i < kNewtonSchulzSteps; ++i) {
    const torch::Tensor a = x.mm(x.t());
    const torch::Tensor b = torch::addmm(a, a, a, /*beta=*/kB, /*alpha=*/kC);
    x = torch::addmm(x, b, x, /*beta=*/kA, /*alpha=*/1);
  }
  x = x.to(torch::kFloat32);
  return tall ? x.t() : x;
}

double learning_rate_factor(const std::string& schedule, double warmup_fraction, int64_t step,
                            int64_t steps) {
  const auto done = static_cast<double>(step);
  const auto total = static_cast<double>(steps);
  double factor = 1;
  if (schedule == "step") {
    factor = done < std::floor(0.95 * total) ? 1.0 : 0.1;
  } else if (schedule == "cosine") {
    factor = 0.5 * (1 + std::cos(std::numbers::pi * done / total));
  } else {
    TORCH_CHECK(schedule == "constant", "no schedule ", schedule);
  }
  const double warmup = warmup_fraction * total;
  return warmup > 0 ? factor * std::min(1.0, (done + 1) / warmup) : factor;
}

}  // namespace efficientad
