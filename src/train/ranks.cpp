#include "efficientad/train/ranks.h"

// Of gloo, which LibTorch is built with but does not bring the headers of, its header names types
// by pointer only: those are declared in src/train/gloo.
#define USE_C10D_GLOO
#include <torch/utils.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <cstdlib>
#include <string>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/error.h"
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
  /// Made for the first tensor on a GPU; stays undefined if it cannot be.
  c10::intrusive_ptr<c10d::Backend> nccl;
  bool nccl_tried = false;

  void try_nccl(int64_t rank, int64_t size, torch::Device device) {
    if (nccl_tried) return;
    nccl_tried = true;
    std::string problem;
    const auto make = reinterpret_cast<MakeNccl*>(cuda_symbol(kMakeNccl, problem));
    if (make != nullptr) {
      nccl = c10::intrusive_ptr<c10d::Backend>::reclaim(
          make(store.get(), device.index(), static_cast<int>(rank), static_cast<int>(size),
               std::chrono::duration<double>(kPatience).count(), &problem));
    }
    // All or none: whether another process has it too.
    std::vector<torch::Tensor> have = {torch::full({1}, nccl ? 1.0f : 0.0f)};
    gloo->allreduce(have)->wait();
    if (have[0].item<float>() < static_cast<float>(size)) {
      nccl.reset();
      spdlog::warn("the processes exchange gradients through the host, without NCCL{}{}",
                   problem.empty() ? "" : ": ", problem);
    }
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
      if (tensor.is_cuda()) impl_->try_nccl(rank_, size_, tensor.device());
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
