#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <torch/script.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "cli/program.h"
#include "efficientad/core/safetensors.h"
#include "efficientad/data/image.h"
#include "support/near.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// A TCP port that nobody uses now.
int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(socket, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
  close(socket);
  return ntohs(address.sin_port);
}

/// Two processes of one job, on loopback.
class Ranks : public testing::Test {
 protected:
  pid_t start(int rank, int port, const std::string& line) const {
    return start_program(EFFICIENTAD_PROGRAM, line, err(rank).string(),
                         {{"RANK", std::to_string(rank)},
                          {"WORLD_SIZE", "2"},
                          {"MASTER_ADDR", "127.0.0.1"},
                          {"MASTER_PORT", std::to_string(port)}});
  }

  static int status_of(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  void run_both(const std::string& line) const {
    const int port = free_port();
    const pid_t second = start(1, port, line);
    const pid_t first = start(0, port, line);
    EXPECT_EQ(status_of(first), 0) << read_text(err(0));
    EXPECT_EQ(status_of(second), 0) << read_text(err(1));
  }

  /// Starts both, kills the second once the first writes `sign`, and looks at what the first says.
  void kill_second(const std::string& line, const std::string& sign) const {
    const int port = free_port();
    const pid_t first = start(0, port, line);
    const pid_t second = start(1, port, line);
    for (int i = 0; i < 3000 && read_text(err(0)).find(sign) == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_EQ(kill(second, SIGKILL), 0);
    status_of(second);
    EXPECT_EQ(status_of(first), 1);
    const std::string message = read_text(err(0));
    const auto at = message.find("error: another process of this job is gone");
    ASSERT_NE(at, std::string::npos) << message;
    EXPECT_NE(message.find("--resume", at), std::string::npos) << message;
    EXPECT_EQ(std::count(message.begin() + static_cast<std::ptrdiff_t>(at), message.end(), '\n'),
              1);
  }

  fs::path err(int rank) const { return dir_.path / ("err" + std::to_string(rank)); }

  TempDir dir_;
};

/// Distillations of a backbone that any PDN can imitate.
class RanksOfADistillation : public Ranks {
 protected:
  void SetUp() override {
    for (int i = 0; i < 9; ++i) {
      write_image(dir_.path / "images" / (std::to_string(i) + ".png"),
                  torch::randint(0, 256, {80, 80, 3}, torch::kUInt8));
    }
    torch::jit::Module backbone("backbone");
    backbone.define(R"(
      def forward(self, x):
          a = torch.avg_pool2d(x, 8)
          return (torch.cat([a, -a, a * a], 1), torch.avg_pool2d(a, 2))
    )");
    backbone.save((dir_.path / "backbone.pt").string());
  }

  std::string arguments(const std::string& output, int batch, int steps) const {
    return "distill --backbone " + (dir_.path / "backbone.pt").string() + " --images " +
           (dir_.path / "images").string() +
           " --held-out 2 --views 2 --crop-size 64 --precision fp32" +
           " --device cpu --threads 1 --batch-size " + std::to_string(batch) + " --steps " +
           std::to_string(steps) + " --output " + (dir_.path / output).string();
  }
};

TEST_F(RanksOfADistillation, TwoGiveWhatOneGivesWithTwiceTheBatch) {
  ASSERT_EQ(run_program(EFFICIENTAD_PROGRAM, arguments("one", 4, 5)).status, 0);
  run_both(arguments("two", 2, 5));
  const TensorFile one = read_safetensors(dir_.path / "one");
  const TensorFile two = read_safetensors(dir_.path / "two");
  // Stored as float16; gradients are summed in another order before.
  for (const auto& [name, tensor] : one.tensors) {
    SCOPED_TRACE(name);
    const torch::Tensor expected = tensor.to(torch::kFloat32);
    expect_near(two.tensors.at(name).to(torch::kFloat32), expected, 2e-3,
                1e-3 * expected.abs().max().item<double>());
  }
  EXPECT_FALSE(fs::exists(dir_.path / "two.checkpoint"));
}

TEST_F(RanksOfADistillation, ALostOneEndsTheJobWithACheckpoint) {
  const std::string line = arguments("teacher", 2, 60);
  kill_second(line, "distill 1/");
  ASSERT_TRUE(fs::exists(dir_.path / "teacher.checkpoint"));
  EXPECT_FALSE(fs::exists(dir_.path / "teacher"));
  run_both(line + " --resume");
  EXPECT_TRUE(fs::exists(dir_.path / "teacher"));
}

TEST_F(RanksOfADistillation, AnEnvironmentThatMakesNoSenseIsAnError) {
  const auto result = [&](const std::string& variables) {
    return run_program("/usr/bin/env",
                       variables + " '" EFFICIENTAD_PROGRAM "' " + arguments("none", 2, 1));
  };
  EXPECT_NE(result("WORLD_SIZE=2").err.find("RANK is -1 and WORLD_SIZE is 2"), std::string::npos);
  EXPECT_NE(result("RANK=x WORLD_SIZE=2").err.find("RANK is \"x\""), std::string::npos);
  EXPECT_NE(result("RANK=0 WORLD_SIZE=2").err.find("MASTER_ADDR"), std::string::npos);
  EXPECT_EQ(result("RANK=2 WORLD_SIZE=2").status, 1);
}

class RanksOfATraining : public Ranks {
 protected:
  void SetUp() override {
    for (int i = 0; i < 9; ++i) {
      write_image(dir_.path / "data/normal" / (std::to_string(i) + ".png"),
                  torch::randint(0, 256, {80, 80, 3}, torch::kUInt8));
    }
  }

  std::string arguments(const std::string& output, const std::string& extra) const {
    return "train --dataset folder --data " + (dir_.path / "data").string() +
           " --teacher random --image-size 80 --device cpu --threads 1 " + extra + " --output " +
           (dir_.path / output).string();
  }

  fs::path model(const std::string& output) const {
    return dir_.path / output / "model.safetensors";
  }
};

TEST_F(RanksOfATraining, TwoGiveWhatOneGivesWithTwiceTheBatch) {
  const auto with_batch = [&](const std::string& output, int batch) {
    const std::string part = std::to_string(batch / 2);
    return arguments(output,
                     "--crop-size 64 --steps 4 --hard-quantile 0.9 --learning-rate 0.001 "
                     "--autoencoder-init lsuv --snapshot-steps 2 --batch-size " +
                         std::to_string(batch) + " --penalty-batch-size " + part +
                         " --autoencoder-batch-size " + part + " --autoencoder-plain-batch-size " +
                         part);
  };
  ASSERT_EQ(run_program(EFFICIENTAD_PROGRAM, with_batch("one", 4)).status, 0);
  ASSERT_EQ(run_program(EFFICIENTAD_PROGRAM, with_batch("half", 2)).status, 0);
  run_both(with_batch("two", 2));
  EXPECT_TRUE(fs::exists(dir_.path / "two/snapshots/step_2.safetensors"));
  const TensorFile one = read_safetensors(model("one"));
  const TensorFile half = read_safetensors(model("half"));
  const TensorFile two = read_safetensors(model("two"));
  for (const auto& [name, tensor] : one.tensors) {
    if (name.rfind("teacher.", 0) == 0) continue;
    SCOPED_TRACE(name);
    const auto distance = [&, &n = name, &t = tensor](const TensorFile& file) {
      return (file.tensors.at(n) - t).norm().item<double>();
    };
    if (name.rfind("teacher_", 0) == 0) {
      EXPECT_LE(distance(two), 1e-6 * tensor.norm().item<double>());
      continue;
    }
    // Adam divides each gradient by its size, and so makes much of rounding where there is next to
    // no gradient.
    EXPECT_LT(distance(two), 0.03 * distance(half));
    EXPECT_GT(distance(half), 0);
  }
}

TEST_F(RanksOfATraining, ALostOneEndsTheJobWithACheckpoint) {
  const std::string line = arguments("run", "--crop-size 64 --steps 60");
  kill_second(line, "train 1/");
  ASSERT_TRUE(fs::exists(dir_.path / "run/checkpoint.safetensors"));
  EXPECT_FALSE(fs::exists(model("run")));
  const auto alone = run_program(EFFICIENTAD_PROGRAM, line + " --resume");
  EXPECT_EQ(alone.status, 2);
  EXPECT_NE(alone.err.find("the number of processes was 2, but now is 1"), std::string::npos)
      << alone.err;
  run_both(line + " --resume");
  EXPECT_TRUE(fs::exists(model("run")));
}

TEST_F(RanksOfATraining, StoppedTogetherTheyLeaveACheckpoint) {
  const std::string line = arguments("run", "--crop-size 64 --steps 400");
  const int port = free_port();
  const pid_t first = start(0, port, line);
  const pid_t second = start(1, port, line);
  for (int i = 0; i < 3000 && read_text(err(0)).find("train 1/") == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (const pid_t child : {second, first}) ASSERT_EQ(kill(child, SIGTERM), 0);
  // As launchers do once one process has ended.
  EXPECT_EQ(status_of(second), 1) << read_text(err(1));
  kill(first, SIGKILL);
  status_of(first);
  EXPECT_NE(read_text(err(1)).find("the first process has written the checkpoint"),
            std::string::npos)
      << read_text(err(1));
  const TensorFile checkpoint = read_safetensors(dir_.path / "run/checkpoint.safetensors");
  EXPECT_EQ(checkpoint.metadata.at("format"), "efficientad-checkpoint");
}

TEST_F(RanksOfATraining, ASweepIsForOneProcess) {
  const auto result =
      run_program("/usr/bin/env",
                  "RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 '" EFFICIENTAD_PROGRAM
                  "' sweep --data x --output " +
                      (dir_.path / "sweep").string());
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("not a sweep"), std::string::npos) << result.err;
}

TEST_F(RanksOfATraining, AllCategoriesAreSpreadByShardInstead) {
  const auto result = run_program(
      "/usr/bin/env",
      "RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 '" EFFICIENTAD_PROGRAM "' " +
          arguments("all", "--category all"));
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("--shard"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace efficientad
