#include "efficientad/train/optimizer.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "efficientad/core/error.h"

namespace efficientad {

namespace {

// The paper's, which are LibTorch's defaults.
constexpr double kAdamBeta1 = 0.9;
constexpr double kAdamBeta2 = 0.999;
constexpr double kAdamEpsilon = 1e-8;
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
    bool used = false;
  };
  struct Adam {
    std::string name;
    torch::Tensor parameter;
    /// Moving averages of the gradient and of its square.
    torch::Tensor average;
    torch::Tensor square;
    /// float32 [], as LibTorch's fused step takes it: how many were done.
    torch::Tensor steps;
  };

  OptimizerOptions options;
  std::vector<std::pair<std::string, torch::Tensor>> parameters;
  std::vector<Adam> adam;
  std::vector<Muon> muon;
  double factor = 1;
  /// If recordable: Adam's step size and the factor of Muon's, where the parameters are.
  torch::Tensor adam_rate;
  torch::Tensor muon_factor;

  void adam_step() const;
  void muon_step();
};

void Optimizer::Impl::adam_step() const {
  std::vector<torch::Tensor> values;
  std::vector<torch::Tensor> gradients;
  std::vector<torch::Tensor> averages;
  std::vector<torch::Tensor> squares;
  std::vector<torch::Tensor> steps;
  for (const auto& one : adam) {
    const torch::Tensor& gradient = one.parameter.grad();
    if (!gradient.defined()) continue;
    values.push_back(one.parameter);
    // The fused loop takes all numbers in the order in which they lie in memory.
    gradients.push_back(gradient.strides() == one.parameter.strides()
                            ? gradient
                            : torch::empty_like(one.parameter).copy_(gradient));
    averages.push_back(one.average);
    squares.push_back(one.square);
    steps.push_back(one.steps);
  }
  if (values.empty()) return;
  at::_foreach_add_(steps, 1);
  const double weight_decay = options.kind == "muon" ? 0.0 : options.weight_decay;
  const auto run = [&](const auto& rate) {
    at::_fused_adam_(values, gradients, averages, squares, /*max_exp_avg_sqs=*/{}, steps, rate,
                     kAdamBeta1, kAdamBeta2, weight_decay, kAdamEpsilon, /*amsgrad=*/false,
                     /*maximize=*/false);
  };
  if (adam_rate.defined()) {
    run(adam_rate);
  } else {
    run(options.learning_rate * factor);
  }
}

void Optimizer::Impl::muon_step() {
  for (auto& [name, parameter, learning_rate, momentum, used] : muon) {
    const torch::Tensor& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    used = true;
    momentum.lerp_(gradient, 1 - kMuonMomentum);
    const torch::Tensor update =
        gradient.lerp(momentum, kMuonMomentum).reshape({parameter.size(0), -1});
    const int64_t columns = update.size(1);
    std::vector<torch::Tensor> directions;
    for (const auto& block : update.split(kMuonRows)) {
      const double shape = std::sqrt(
          std::max(1.0, static_cast<double>(block.size(0)) / static_cast<double>(columns)));
      directions.push_back(shape * orthogonalize(block, options.precision));
    }
    const torch::Tensor direction = torch::cat(directions).reshape(parameter.sizes());
    if (muon_factor.defined()) {
      parameter.addcmul_(direction, muon_factor, -learning_rate);
    } else {
      parameter.add_(direction, -learning_rate * factor);
    }
  }
}

Optimizer::Optimizer(std::vector<std::pair<std::string, torch::Tensor>> parameters,
                     const OptimizerOptions& options)
    : impl_(std::make_unique<Impl>()) {
  TORCH_CHECK(options.kind == "adam" || options.kind == "muon", "no optimizer ", options.kind);
  impl_->options = options;
  impl_->parameters = std::move(parameters);
  const bool with_muon = options.kind == "muon";
  for (const auto& [name, parameter] : impl_->parameters) {
    const auto group =
        std::find_if(options.muon.begin(), options.muon.end(),
                     [&name](const MuonGroup& muon) { return name.starts_with(muon.prefix); });
    if (with_muon && is_convolution(parameter) && group != options.muon.end()) {
      impl_->muon.push_back(
          {name, parameter, group->learning_rate, torch::zeros_like(parameter.detach())});
    } else {
      const torch::Tensor values = parameter.detach();
      impl_->adam.push_back({name, parameter, torch::zeros_like(values), torch::zeros_like(values),
                             torch::zeros({}, values.options())});
    }
  }
  if (options.recordable) {
    const auto place = impl_->parameters.front().second.detach().options();
    impl_->adam_rate = torch::full({}, options.learning_rate, place);
    impl_->muon_factor = torch::ones({}, place);
  }
}

Optimizer::~Optimizer() = default;
Optimizer::Optimizer(Optimizer&&) noexcept = default;

void Optimizer::set_learning_rate_factor(double factor) {
  impl_->factor = factor;
  if (impl_->adam_rate.defined()) {
    impl_->adam_rate.fill_(impl_->options.learning_rate * factor);
    impl_->muon_factor.fill_(factor);
  }
}

void Optimizer::zero_grad() {
  for (auto& [name, parameter] : impl_->parameters) parameter.mutable_grad().reset();
}

void Optimizer::step() {
  const torch::NoGradGuard no_grad;
  impl_->adam_step();
  impl_->muon_step();
}

std::map<std::string, torch::Tensor> Optimizer::state() const {
  std::map<std::string, torch::Tensor> state;
  for (const auto& one : impl_->adam) {
    const auto steps = one.steps.item<int64_t>();
    if (steps == 0) continue;
    state[one.name + ".exp_avg"] = one.average.clone();
    state[one.name + ".exp_avg_sq"] = one.square.clone();
    state[one.name + ".step"] = torch::tensor(steps, torch::kInt64);
  }
  for (const auto& one : impl_->muon) {
    if (one.used) state[one.name + ".momentum"] = one.momentum.clone();
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
  const auto read = [&](const std::string& key, torch::Tensor& to) {
    to.copy_(find(key, to.sizes(), to.scalar_type()));
  };
  for (auto& one : impl_->adam) {
    read(one.name + ".exp_avg", one.average);
    read(one.name + ".exp_avg_sq", one.square);
    one.steps.fill_(find(one.name + ".step", {}, torch::kInt64).item<int64_t>());
  }
  for (auto& one : impl_->muon) {
    read(one.name + ".momentum", one.momentum);
    one.used = true;
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

double batch_learning_rate_factor(const std::string& rule, int64_t images) {
  const auto count = static_cast<double>(images);
  if (rule == "linear") return count;
  if (rule == "sqrt") return std::sqrt(count);
  TORCH_CHECK(rule == "none", "no rule ", rule);
  return 1;
}

}  // namespace efficientad
