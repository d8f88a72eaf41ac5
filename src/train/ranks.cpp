#include "efficientad/train/ranks.h"

// Of gloo, which LibTorch is built with but does not bring the headers of, its header names types
// by pointer only: those are declared in src/train/gloo.
#define USE_C10D_GLOO
#include <torch/utils.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/error.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"

namespace efficientad {

namespace {

constexpr auto kPatience = std::chrono::minutes(30);

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// A whole number of the environment; -1 if it is not set.
int64_t number(const char* name) {
  const std::string text = variable(name);
  if (text.empty()) return -1;
  constexpr size_t kMostDigits = 9;
  require(text.size() <= kMostDigits && text.find_first_not_of("0123456789") == std::string::npos,
          "the environment variable {} is \"{}\", but should be a whole number", name, text);
  return std::stoll(text);
}

/// This process's number and how many there are; both -1 if the environment says nothing.
std::pair<int64_t, int64_t> rank_and_size() {
  int64_t size = number("WORLD_SIZE");
  int64_t rank = number("RANK");
  for (const auto& [rank_name, size_name] : {std::pair{"SLURM_PROCID", "SLURM_NTASKS"},
                                             {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}}) {
    if (size >= 0 || rank >= 0 || variable("MASTER_ADDR").empty()) break;
    rank = number(rank_name);
    size = number(size_name);
  }
  if (size < 0 && rank < 0) return {-1, -1};
  require(size >= 1 && rank >= 0 && rank < size,
          "RANK is {} and WORLD_SIZE is {}: both are needed, RANK from 0 to WORLD_SIZE - 1", rank,
          size);
  return {rank, size};
}

}  // namespace

struct Ranks::Impl {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  /// Undefined if tensors on GPUs go through the host.
  c10::intrusive_ptr<c10d::Backend> nccl;
  bool device_known = false;
  torch::Device device = torch::kCPU;
  bool finished = false;

  /// How many of the processes say yes.
  int64_t count(bool yes) const {
    std::vector<torch::Tensor> all = {torch::full({1}, yes ? 1.0f : 0.0f)};
    gloo->allreduce(all)->wait();
    return std::llround(all[0].item<float>());
  }
};

bool Ranks::of_several() { return rank_and_size().second > 1; }

Ranks::Ranks() {
  const auto [rank, size] = rank_and_size();
  if (size <= 1) return;
  const std::string address = variable("MASTER_ADDR");
  const int64_t port = number("MASTER_PORT");
  constexpr int64_t kMostPort = 65535;
  require(!address.empty() && port > 0 && port <= kMostPort,
          "WORLD_SIZE is {}, but MASTER_ADDR and MASTER_PORT do not say where the processes meet",
          size);
  rank_ = rank;
  size_ = size;
  spdlog::info("process {} of {}; they meet at {}:{}", rank, size, address, port);
  const InterruptsEnd while_they_meet;
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = rank == 0 && variable("TORCHELASTIC_USE_AGENT_STORE") != "True";
    options.numWorkers = static_cast<size_t>(size);
    options.timeout = kPatience;
    impl_ = std::make_unique<Impl>();
    impl_->store = c10::make_intrusive<c10d::PrefixStore>(
        "efficientad_" + variable("TORCHELASTIC_RESTART_COUNT"),
        c10::make_intrusive<c10d::TCPStore>(address, options));
    impl_->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        impl_->store, static_cast<int>(rank), static_cast<int>(size),
        c10d::ProcessGroupGloo::Options::create_default(kPatience));
  } catch (const std::exception& error) {
    throw Error(fmt::format("the {} processes did not meet at {}:{} ({})", size, address, port,
                            message_of(error)));
  }
}

Ranks::~Ranks() = default;

void Ranks::sum(const std::vector<torch::Tensor>& tensors) {
  if (alone()) return;
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> on_host;
  std::vector<torch::Tensor> on_gpu;
  try {
    for (const auto& tensor : tensors) {
      (tensor.is_cuda() && impl_->nccl ? on_gpu : on_host).push_back(tensor.detach());
    }
    // The host's first: gloo notices at once if another process is gone, NCCL only waits.
    for (const auto& [list, on_the_gpu] : {std::pair{&on_host, false}, {&on_gpu, true}}) {
      if (list->empty()) continue;
      std::vector<torch::Tensor> flat;
      for (const auto& tensor : *list) {
        flat.push_back((on_the_gpu ? tensor : tensor.to(torch::kCPU)).flatten());
      }
      std::vector<torch::Tensor> all = {torch::cat(flat)};
      (on_the_gpu ? impl_->nccl->allreduce(all) : impl_->gloo->allreduce(all))->wait();
      int64_t begin = 0;
      for (auto& tensor : *list) {
        tensor.copy_(all[0].narrow(0, begin, tensor.numel()).view(tensor.sizes()));
        begin += tensor.numel();
      }
    }
  } catch (const std::exception& error) {
    throw Error("another process of this job is gone (" + message_of(error) + ")");
  }
}

void Ranks::meet() { sum({torch::zeros({1})}); }

void Ranks::finish() {
  if (alone() || impl_->finished) return;
  impl_->finished = true;
  try {
    // What is still queued of NCCL's work on the GPU would be broken off.
    if (impl_->nccl) torch::zeros({1}, impl_->device).cpu();
    meet();
    if (impl_->nccl) impl_->nccl->shutdown();
  } catch (const std::exception& error) {
    spdlog::warn("{}", message_of(error));
  }
  impl_->nccl.reset();
}

void Ranks::use(torch::Device device) {
  if (alone() || impl_->device_known) return;
  std::string problem;
  try {
    const int64_t on_gpu = impl_->count(device.is_cuda());
    require(on_gpu == 0 || on_gpu == size_,
            "{} of the {} processes compute on a GPU, the others on the CPU; give all the same "
            "--device",
            on_gpu, size_);
    impl_->device_known = true;
    impl_->device = device;
    if (on_gpu == 0) return;
    // All or none, and no process may begin to wait for another that lacks it.
    const auto check = reinterpret_cast<NcclProblem*>(cuda_symbol(kNcclProblem, problem));
    if (check != nullptr) check(&problem);
    const auto make =
        reinterpret_cast<MakeNccl*>(problem.empty() ? cuda_symbol(kMakeNccl, problem) : nullptr);
    if (impl_->count(make != nullptr) == size_) {
      impl_->nccl = c10::intrusive_ptr<c10d::Backend>::reclaim(
          make(impl_->store.get(), device.index(), static_cast<int>(rank_), static_cast<int>(size_),
               std::chrono::duration<double>(kPatience).count(), &problem));
      if (impl_->count(impl_->nccl.defined()) == size_) return;
      impl_->nccl.reset();
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error("another process of this job is gone (" + message_of(error) + ")");
  }
  spdlog::warn("the processes exchange gradients through the host, without NCCL{}{}",
               problem.empty() ? "" : ": ", problem);
}

ChannelStatistics merged(const ChannelStatistics& own, int64_t channels, Ranks& ranks) {
  if (ranks.alone()) return own;
  const torch::Tensor states = torch::zeros({ranks.size(), 1 + 2 * channels}, torch::kFloat64);
  if (own.count() > 0) states[ranks.rank()].copy_(own.state());
  ranks.sum({states});
  ChannelStatistics all;
  for (int64_t i = 0; i < ranks.size(); ++i) all.merge(states[i]);
  return all;
}

}  // namespace efficientad
