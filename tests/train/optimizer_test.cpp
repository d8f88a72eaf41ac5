#include "efficientad/train/optimizer.h"

#include <torch/optim/adam.h>

#include "support/expect_error.h"
#include "support/near.h"

namespace efficientad {
namespace {

/// A convolution weight and a bias with a gradient that depends on them and on the step.
struct Toy {
  torch::Tensor weight = torch::linspace(-1, 1, 2 * 3 * 2 * 2).view({2, 3, 2, 2}).clone();
  torch::Tensor bias = torch::linspace(0.5, 1.5, 2).clone();
  Toy() {
    weight.set_requires_grad(true);
    bias.set_requires_grad(true);
  }
  std::vector<std::pair<std::string, torch::Tensor>> parameters() const {
    return {{"conv.weight", weight}, {"conv.bias", bias}};
  }
  void backward(int step) {
    ((weight * (1 + step)).sin().sum() + (bias - step).square().sum()).backward();
  }
};

void run(Toy& toy, Optimizer& optimizer, int first, int last) {
  for (int step = first; step < last; ++step) {
    optimizer.zero_grad();
    toy.backward(step);
    optimizer.set_learning_rate_factor(1.0 / (1 + step));
    optimizer.step();
  }
}

TEST(Optimizer, AdamIsTorchsWithL2InTheGradient) {
  Toy ours;
  Optimizer optimizer(ours.parameters(),
                      {.kind = "adam", .learning_rate = 0.01, .weight_decay = 0.1});
  Toy theirs;
  torch::optim::Adam adam({theirs.weight, theirs.bias},
                          torch::optim::AdamOptions(0.01).weight_decay(0.1));
  for (int step = 0; step < 5; ++step) {
    optimizer.zero_grad();
    ours.backward(step);
    optimizer.step();
    adam.zero_grad();
    theirs.backward(step);
    adam.step();
  }
  // The fused loop rounds otherwise.
  expect_near(ours.weight, theirs.weight.detach(), 1e-5, 1e-7);
  expect_near(ours.bias, theirs.bias.detach(), 1e-5, 1e-7);
}

TEST(Optimizer, RecordableIsTheSame) {
  for (const char* kind : {"adam", "muon"}) {
    SCOPED_TRACE(kind);
    Toy usual;
    Optimizer optimizer(usual.parameters(), {.kind = kind, .learning_rate = 0.01});
    run(usual, optimizer, 0, 5);
    Toy recordable;
    Optimizer other(recordable.parameters(),
                    {.kind = kind, .learning_rate = 0.01, .recordable = true});
    run(recordable, other, 0, 5);
    // The step size is rounded to float32.
    expect_near(recordable.weight.detach(), usual.weight.detach(), 1e-5, 1e-6);
    expect_near(recordable.bias.detach(), usual.bias.detach(), 1e-5, 1e-6);
  }
}

TEST(Optimizer, StateRestoredGoesOnToTheBit) {
  for (const char* kind : {"adam", "muon"}) {
    SCOPED_TRACE(kind);
    const OptimizerOptions options{.kind = kind, .learning_rate = 0.01};
    Toy whole;
    Optimizer uninterrupted(whole.parameters(), options);
    run(whole, uninterrupted, 0, 6);

    Toy part;
    Optimizer before(part.parameters(), options);
    run(part, before, 0, 3);
    Optimizer after(part.parameters(), options);
    after.load_state(before.state(), "a file");
    run(part, after, 3, 6);
    expect_same_bits(part.weight, whole.weight);
    expect_same_bits(part.bias, whole.bias);

    Toy without;
    Optimizer first(without.parameters(), options);
    run(without, first, 0, 3);
    Optimizer forgetful(without.parameters(), options);
    run(without, forgetful, 3, 6);
    EXPECT_FALSE(torch::equal(without.weight, whole.weight)) << "the state makes no difference";
  }
}

TEST(Optimizer, RefusesAStateOfAnotherShape) {
  Toy toy;
  Optimizer optimizer(toy.parameters(), {.kind = "muon", .learning_rate = 0.01});
  run(toy, optimizer, 0, 1);
  auto state = optimizer.state();
  state["conv.weight.momentum"] = torch::ones({3});
  EXPECT_ERROR(optimizer.load_state(state, "a file"), Error,
               "a file: the optimizer's state conv.weight.momentum is damaged");
  state.erase("conv.weight.momentum");
  EXPECT_ERROR(optimizer.load_state(state, "a file"), Error, "conv.weight.momentum is missing");
}

TEST(Optimizer, MuonMovesEverySingularDirectionAlike) {
  for (const auto& sizes : {std::vector<int64_t>{16, 50}, {50, 16}, {20, 20}}) {
    // Singular values of the input spread over two orders of magnitude.
    const torch::Tensor u = std::get<0>(torch::linalg_qr(torch::randn({sizes[0], sizes[0]})));
    const torch::Tensor v = std::get<0>(torch::linalg_qr(torch::randn({sizes[1], sizes[1]})));
    const int64_t rank = std::min(sizes[0], sizes[1]);
    const torch::Tensor matrix = u.narrow(1, 0, rank)
                                     .mm(torch::diag(torch::logspace(0, -2, rank)))
                                     .mm(v.narrow(1, 0, rank).t());
    const torch::Tensor values = torch::linalg_svdvals(orthogonalize(matrix));
    EXPECT_GT(values.min().item<double>(), 0.3);
    EXPECT_LT(values.max().item<double>(), 1.3);
    // The same directions: U^T X V is diagonal and positive.
    const torch::Tensor inner =
        u.narrow(1, 0, rank).t().mm(orthogonalize(matrix)).mm(v.narrow(1, 0, rank));
    EXPECT_LT((inner - torch::diag(inner.diagonal())).abs().max().item<double>(), 1e-3);
    EXPECT_GT(inner.diagonal().min().item<double>(), 0.3);
  }
}

TEST(Optimizer, MuonTreatsAWideLayerAsSeveral) {
  const int64_t rows = 2 * kMuonRows;
  torch::Tensor wide = torch::randn({rows, 4, 2, 2}).set_requires_grad(true);
  torch::Tensor upper = wide.detach().narrow(0, 0, kMuonRows).clone().set_requires_grad(true);
  const OptimizerOptions options{.kind = "muon", .learning_rate = 0.01};
  Optimizer whole({{"w", wide}}, options);
  Optimizer part({{"w", upper}}, options);
  const torch::Tensor slope = torch::randn(wide.sizes());
  (wide * slope).sum().backward();
  (upper * slope.narrow(0, 0, kMuonRows)).sum().backward();
  whole.step();
  part.step();
  // The same matrix product on a copy of the rows.
  expect_near(wide.detach().narrow(0, 0, kMuonRows), upper.detach(), 1e-5, 1e-6);
}

TEST(Optimizer, MuonIsForTheNamedPartOnly) {
  Toy one;
  Toy other;
  Optimizer optimizer(
      {{"one.weight", one.weight}, {"one.bias", one.bias}, {"other.weight", other.weight}},
      {.kind = "muon", .muon = {{"one."}}});
  one.backward(0);
  other.backward(0);
  optimizer.step();
  const auto state = optimizer.state();
  EXPECT_EQ(state.count("one.weight.momentum"), 1u);
  EXPECT_EQ(state.count("one.weight.exp_avg"), 0u);
  EXPECT_EQ(state.count("one.bias.exp_avg"), 1u);
  EXPECT_EQ(state.count("other.weight.exp_avg"), 1u);
  EXPECT_EQ(state.count("other.weight.momentum"), 0u);
}

TEST(Optimizer, MuonHasAStepSizeForEveryGroup) {
  Toy one;
  Toy other;
  const torch::Tensor one_before = one.weight.detach().clone();
  const torch::Tensor other_before = other.weight.detach().clone();
  Optimizer optimizer({{"one.weight", one.weight}, {"other.weight", other.weight}},
                      {.kind = "muon", .muon = {{"one.", 0.01}, {"other.", 0.03}}});
  one.backward(0);
  other.backward(0);
  optimizer.step();
  const double one_step = (one.weight.detach() - one_before).norm().item<double>();
  const double other_step = (other.weight.detach() - other_before).norm().item<double>();
  // Updates are nearly orthogonal, so their norm is set by the shape and the step size alone.
  EXPECT_NEAR(other_step / one_step, 3, 0.3);
}

TEST(Optimizer, MuonInBfloat16IsClose) {
  const torch::Tensor matrix = torch::randn({24, 60});
  const torch::Tensor exact = orthogonalize(matrix);
  const torch::Tensor rounded = orthogonalize(matrix, "bf16");
  EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
  // bfloat16 has eight bits; five steps add their errors.
  EXPECT_LT(((rounded - exact).norm() / exact.norm()).item<double>(), 0.05);
  EXPECT_FALSE(torch::equal(rounded, exact));
}

TEST(LearningRate, GrowsWithTheBatch) {
  EXPECT_EQ(batch_learning_rate_factor("none", 9), 1.0);
  EXPECT_EQ(batch_learning_rate_factor("sqrt", 9), 3.0);
  EXPECT_EQ(batch_learning_rate_factor("linear", 9), 9.0);
}

TEST(LearningRate, Schedules) {
  EXPECT_EQ(learning_rate_factor("step", 0, 0, 100), 1.0);
  EXPECT_EQ(learning_rate_factor("step", 0, 94, 100), 1.0);
  EXPECT_EQ(learning_rate_factor("step", 0, 95, 100), 0.1);
  EXPECT_EQ(learning_rate_factor("constant", 0, 99, 100), 1.0);
  EXPECT_NEAR(learning_rate_factor("cosine", 0, 50, 100), 0.5, 1e-12);
  EXPECT_LT(learning_rate_factor("cosine", 0, 99, 100), 0.001);
  EXPECT_NEAR(learning_rate_factor("constant", 0.1, 0, 100), 0.1, 1e-12);
  EXPECT_NEAR(learning_rate_factor("constant", 0.1, 9, 100), 1.0, 1e-12);
}

}  // namespace
}  // namespace efficientad
