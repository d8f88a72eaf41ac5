#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace efficientad {

/// Most outputs of a weight that Muon treats as one matrix.
inline constexpr int64_t kMuonRows = 384;

/// The parameters that one step size of Muon is for.
struct MuonGroup {
  /// Their names begin so.
  std::string prefix{};
  /// The norm of an update's every singular direction.
  double learning_rate = 0.02;
};

struct OptimizerOptions {
  /// "adam": Adam for every parameter, weight decay as L2 term of the gradient (the paper's).
  /// "muon": Muon for the convolution weights of `muon`, Adam (without weight decay) for the rest.
  std::string kind = "adam";
  std::vector<MuonGroup> muon = {MuonGroup{}};
  /// Adam's step size.
  double learning_rate = 1e-4;
  double weight_decay = 1e-5;
  /// Arithmetic of Muon's matrix products, "fp32" or "bf16".
  std::string precision = "fp32";
  /// step() takes the step sizes from the parameters' device, so that a CUDA graph that recorded it
  /// follows the schedule.
  bool recordable = false;
};

/// Adam, or Muon with Adam, with a state that can be stored as named tensors.
///
/// Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"): the
/// Nesterov momentum (0.95) of a weight, reshaped to [out, in * kh * kw], is replaced by the
/// nearest semi-orthogonal matrix (five quintic Newton-Schulz steps) and scaled by sqrt(max(1, rows
/// / columns)). A weight with more than kMuonRows outputs is treated as several layers of at most
/// that many: the student's last layer is two, which predict the teacher and the autoencoder.
class Optimizer {
 public:
  /// Keeps references to the parameters; their names key the state.
  Optimizer(std::vector<std::pair<std::string, torch::Tensor>> parameters,
            const OptimizerOptions& options);
  ~Optimizer();
  Optimizer(Optimizer&&) noexcept;

  /// Both step sizes are the options' times `factor` from now on (schedules).
  void set_learning_rate_factor(double factor);
  void zero_grad();
  void step();

  /// Momenta and step counts by "<parameter>.<what>"; empty before the first step.
  std::map<std::string, torch::Tensor> state() const;
  /// Takes over state() of an optimizer of the same options and parameters; steps then go on to
  /// the bit. Throws Error, naming `where` they come from, if something is missing or damaged.
  void load_state(const std::map<std::string, torch::Tensor>& state, const std::string& where);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Muon's update direction for a gradient or momentum matrix (exposed for tests): float32
/// [rows, columns], singular values all within about 0.7 to 1.2. `precision` is that of the matrix
/// products, "fp32" or "bf16".
torch::Tensor orthogonalize(const torch::Tensor& matrix, const std::string& precision = "fp32");

/// Learning rate factor at `step` of `steps`. "step": 0.1 from 95 % of the steps on (the paper's).
/// "cosine": falls to 0 along a half cosine. "constant": 1. All rise linearly over the first
/// `warmup_fraction` of the steps.
double learning_rate_factor(const std::string& schedule, double warmup_fraction, int64_t step,
                            int64_t steps);

/// Factor of the learning rate for `images` a step. "none": 1. "linear": their number (Goyal et al.
/// 2017, for gradient descent). "sqrt": its square root (Malladi et al. 2022, for Adam).
double batch_learning_rate_factor(const std::string& rule, int64_t images);

}  // namespace efficientad
