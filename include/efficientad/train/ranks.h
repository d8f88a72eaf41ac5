#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "efficientad/nn/statistics.h"

namespace efficientad {

/// The processes of one job, which a launcher (torchrun, Slurm, mpirun) started and numbered; they
/// talk by LibTorch's process groups: gloo, over TCP, and NCCL for what is on GPUs.
class Ranks {
 public:
  /// From the environment: WORLD_SIZE processes, of which this is RANK, that meet at
  /// MASTER_ADDR:MASTER_PORT, where rank 0 listens (or torchrun does). Without RANK and WORLD_SIZE,
  /// but with MASTER_ADDR, as Slurm (SLURM_PROCID, SLURM_NTASKS) or Open MPI
  /// (OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE) number them. Without any of it this process is
  /// alone. Waits until all are there. Throws Error if the environment makes no sense or some do
  /// not come.
  Ranks();
  /// Whether the environment names more than one process. Throws Error as Ranks().
  static bool of_several();
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  bool first() const { return rank_ == 0; }
  bool alone() const { return size_ == 1; }

  /// Replaces each tensor (of one floating type) by its sum over all processes, the same to the bit
  /// on each. Every process must call it with tensors of the same sizes. Throws Error if another
  /// process is gone.
  void sum(const std::vector<torch::Tensor>& tensors);

  /// Returns when every process has called it. Throws Error if another process is gone.
  void meet();

  /// Waits for all, and ends NCCL: to be called by each when it needs the others no more, for who
  /// leaves before another's last sum is done may break that off. Only warns if another is gone.
  void finish();

  /// Says on what device this process computes; all must call it before sum() of tensors on a GPU,
  /// which go through the host otherwise. If all are on GPUs and have NCCL, it exchanges those.
  /// Throws Error if some are on GPUs and some are not.
  void use(torch::Device device);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  int64_t rank_ = 0;
  int64_t size_ = 1;
};

/// Statistics of `channels` channels over what all processes added; on the CPU, if they are
/// several.
ChannelStatistics merged(const ChannelStatistics& own, int64_t channels, Ranks& ranks);

}  // namespace efficientad
