#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <torch/script.h>
#include <torch/torch.h>

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

/// Distillations of a backbone that any PDN can imitate.
class RanksOfADistillation : public testing::Test {
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
           (dir_.path / "images").string() + " --held-out 2 --crop-size 64 --precision fp32" +
           " --device cpu --threads 1 --batch-size " + std::to_string(batch) + " --steps " +
           std::to_string(steps) + " --output " + (dir_.path / output).string();
  }

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

  fs::path err(int rank) const { return dir_.path / ("err" + std::to_string(rank)); }

  TempDir dir_;
};

TEST_F(RanksOfADistillation, TwoGiveWhatOneGivesWithTwiceTheBatch) {
  ASSERT_EQ(run_program(EFFICIENTAD_PROGRAM, arguments("one", 4, 5)).status, 0);
  const int port = free_port();
  const pid_t second = start(1, port, arguments("two", 2, 5));
  const pid_t first = start(0, port, arguments("two", 2, 5));
  EXPECT_EQ(status_of(first), 0) << read_text(err(0));
  EXPECT_EQ(status_of(second), 0) << read_text(err(1));
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
  constexpr int kSteps = 60;
  int port = free_port();
  const std::string line = arguments("teacher", 2, kSteps);
  const pid_t first = start(0, port, line);
  const pid_t second = start(1, port, line);
  for (int i = 0; i < 3000 && read_text(err(0)).find("distill 1/") == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(kill(second, SIGKILL), 0);
  status_of(second);
  EXPECT_EQ(status_of(first), 1);
  const std::string message = read_text(err(0));
  const auto at = message.find("error: another process of this job is gone");
  ASSERT_NE(at, std::string::npos) << message;
  EXPECT_NE(message.find("--resume", at), std::string::npos) << message;
  EXPECT_EQ(std::count(message.begin() + static_cast<std::ptrdiff_t>(at), message.end(), '\n'), 1);
  ASSERT_TRUE(fs::exists(dir_.path / "teacher.checkpoint"));
  EXPECT_FALSE(fs::exists(dir_.path / "teacher"));
  port = free_port();
  const pid_t again = start(1, port, line + " --resume");
  EXPECT_EQ(status_of(start(0, port, line + " --resume")), 0) << read_text(err(0));
  EXPECT_EQ(status_of(again), 0) << read_text(err(1));
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

}  // namespace
}  // namespace efficientad
