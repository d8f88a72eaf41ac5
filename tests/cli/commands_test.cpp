#include <gtest/gtest.h>
#include <torch/types.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/program.h"
#include "efficientad/core/safetensors.h"
#include "efficientad/data/image.h"
#include "efficientad/detect/model_bundle.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

/// The programs' folder.
fs::path bin() { return fs::path(EFFICIENTAD_PROGRAM).parent_path(); }

ProgramResult run(const std::string& arguments) {
  return run_program(EFFICIENTAD_PROGRAM, arguments);
}

/// One clear line on stderr that starts with "error:", after what may have been logged.
void expect_error_line(const ProgramResult& result, int status, const std::string& part) {
  EXPECT_EQ(result.status, status) << result.err;
  EXPECT_EQ(result.out, "");
  const auto at = result.err.find("error: ");
  ASSERT_NE(at, std::string::npos) << result.err;
  const std::string message = result.err.substr(at);
  EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), message.size() - 1) << message;
}

TEST(Commands, HelpAndVersionEverywhere) {
  EXPECT_EQ(run("--version").status, 0);
  EXPECT_NE(run("--version").out.find("efficientad "), std::string::npos);
  EXPECT_NE(run("--help").out.find("distill"), std::string::npos);
  EXPECT_EQ(run("").status, 2);
  expect_error_line(run("fly"), 2, "no command \"fly\"; commands are train");
  for (const char* command :
       {"train", "eval", "infer", "serve", "sweep", "threshold", "bench", "verify", "probe-shift",
        "distill", "synth", "dataset", "collect", "inspect"}) {
    SCOPED_TRACE(command);
    const auto help = run(std::string(command) + " --help");
    EXPECT_EQ(help.status, 0) << help.err;
    EXPECT_NE(help.out.find("--config"), std::string::npos) << help.out;
  }
  // An argument is listed once, though it is understood as a flag too.
  const auto help = run("infer --help").out;
  EXPECT_NE(help.find("paths"), std::string::npos) << help;
  EXPECT_EQ(help.find("--paths"), std::string::npos) << help;
  // Defaults are shown.
  EXPECT_NE(run("train --help").out.find("70000"), std::string::npos);
}

TEST(Commands, SeparateProgramsAreTheSameFunctions) {
  for (const char* command : {"train", "eval", "infer", "bench", "distill"}) {
    SCOPED_TRACE(command);
    const std::string program = (bin() / ("efficientad-" + std::string(command))).string();
    std::string alone = run_program(program, "--help").out;
    std::string umbrella = run(std::string(command) + " --help").out;
    EXPECT_GT(alone.size(), 100u);
    const auto without_name = [&](std::string text, const std::string& name) {
      for (size_t at; (at = text.find(name)) != std::string::npos;) text.erase(at, name.size());
      return text;
    };
    EXPECT_EQ(without_name(alone, "efficientad-" + std::string(command)),
              without_name(umbrella, "efficientad " + std::string(command)));
    const auto bad = run_program(program, "--no-such-flag");
    EXPECT_EQ(bad.status, 2);
  }
}

TEST(Commands, OptionsTableIsTheOneInConfigs) {
  const auto table = run("options-table");
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_EQ(table.out, read_text(fs::path(EFFICIENTAD_SOURCE_DIR) / "configs" / "README.md"))
      << "run: efficientad options-table > configs/README.md";
}

TEST(Commands, BadConfigurationIsStatus2) {
  const TempDir dir;
  const auto config = dir.path / "c.json";
  std::ofstream(config) << R"({"stepz": 3})";
  expect_error_line(run("train --config " + config.string()), 2, "c.json: unknown option stepz");
  std::ofstream(config) << R"({"steps": "three"})";
  expect_error_line(run("train --config " + config.string()), 2, "steps must be a whole number");
  std::ofstream(config) << "{";
  expect_error_line(run("train --config " + config.string()), 2, "c.json: no valid JSON");
  std::ofstream(config) << R"({"steps": 2, "steps": 3})";
  expect_error_line(run("train --config " + config.string()), 2, "c.json: gives \"steps\" twice");
  expect_error_line(run("train --config /dev/zero"), 2, "not a regular file");
  expect_error_line(run("train --config " + (dir.path / "none.json").string()), 2,
                    "no such configuration file");
  expect_error_line(run("train --data x --output y --steps 0"), 2, "steps is 0");
  expect_error_line(run("train --data x --output y --model-size huge"), 2, "small, medium");
  expect_error_line(run("train --output y"), 2, "data is missing");
}

TEST(Commands, AResultThatCannotBeWrittenIsNoSuccess) {
  const auto result =
      run_program("sh", std::string("-c '") + EFFICIENTAD_PROGRAM + " --version > /dev/full'");
  expect_error_line(result, 1, "the standard output cannot be written to");
}

TEST(Commands, MessagesThatNobodyCanReadChangeNothing) {
  const std::string line = "'" EFFICIENTAD_PROGRAM "' ";
  const auto status = [&](const std::string& arguments) {
    return WEXITSTATUS(std::system((line + arguments + " 2>/dev/full").c_str()));
  };
  EXPECT_EQ(status("inspect nowhere.safetensors"), 1);
  const TempDir dir;
  EXPECT_EQ(status("synth --images 20 --size 64 --output " + (dir.path / "made").string() +
                   " >/dev/null"),
            0);
}

TEST(Commands, EmptyValuesAreNoNumbersAndNoFiles) {
  expect_error_line(run("train --seed '' --data x --output y"), 2, "--seed");
  expect_error_line(run("train --weight-decay= --data x --output y"), 2, "weight-decay");
  expect_error_line(run("train --config '' --data x --output y"), 2, "config is empty");
  expect_error_line(run("train --config= --data x --output y"), 2, "config is empty");
}

TEST(Commands, FlagsGoBeforeTheConfigurationFile) {
  const TempDir dir;
  const auto config = dir.path / "c.json";
  std::ofstream(config) << R"({"output": ")" << (dir.path / "from_file").string()
                        << R"(", "images": 20, "size": 64, "seed": 3})";
  const auto result = run("synth --json --config " + config.string() + " --output " +
                          (dir.path / "from_flag").string());
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(fs::exists(dir.path / "from_flag" / "tray" / "train" / "good"));
  EXPECT_FALSE(fs::exists(dir.path / "from_file"));
  EXPECT_EQ(nlohmann::json::parse(result.out).at("category"), "tray");
}

TEST(Commands, InspectTellsWhatAFileIs) {
  const TempDir dir;
  const auto path = dir.path / "teacher.safetensors";
  Teacher teacher = random_teacher("small", /*padding=*/false, 1);
  teacher.metadata["backbone_architecture"] = "made up";
  save_teacher(path, teacher);
  const auto text = run("inspect " + path.string());
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_NE(text.out.find("made up"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("checksum"), std::string::npos);
  EXPECT_EQ(text.out.find("conv1.weight"), std::string::npos) << text.out;
  const auto all = run("inspect --tensors " + path.string());
  EXPECT_EQ(all.status, 0) << all.err;
  EXPECT_NE(all.out.find("conv1.weight"), std::string::npos) << all.out;
  const auto json = nlohmann::json::parse(run("inspect --json " + path.string()).out);
  EXPECT_EQ(json.at("metadata").at("format"), "efficientad-teacher");
  // Weights and biases of PDN-S: 6272 + 524544 + 590080 + 1573248.
  EXPECT_EQ(json.at("values"), 2694144);
  std::ofstream(dir.path / "junk") << "junk, and nothing else";
  expect_error_line(run("inspect " + (dir.path / "junk").string()), 1, "not a valid safetensors");
  expect_error_line(run("inspect " + (dir.path / "none").string()), 1, "no such file");
  expect_error_line(run("inspect"), 2, "file is missing");
}

/// A training of a small data set, through the program.
class TrainCommand : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 8; ++i) {
      write_image(dir_.path / "data/nut/train/good" / (std::to_string(i) + ".png"),
                  torch::randint(0, 256, {64, 64, 3}, torch::kUInt8));
    }
    write_image(dir_.path / "data/nut/test/good/0.png",
                torch::randint(0, 256, {64, 64, 3}, torch::kUInt8));
  }
  std::string arguments(const std::string& output, int steps) const {
    return "train --dataset mvtec --data " + (dir_.path / "data").string() +
           " --category nut --teacher random --image-size 64 --device cpu --steps " +
           std::to_string(steps) + " --output " + (dir_.path / output).string();
  }
  std::map<std::string, torch::Tensor> weights(const std::string& output) const {
    return read_safetensors(dir_.path / output / "model.safetensors").tensors;
  }

  TempDir dir_;
};

TEST_F(TrainCommand, WritesWhatItPromises) {
  const auto result = run(arguments("run", 3));
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* name :
       {"model.safetensors", "options.json", "train_log.csv", "checkpoint.safetensors"}) {
    EXPECT_TRUE(fs::exists(dir_.path / "run" / name)) << name;
  }
  const std::string log = read_text(dir_.path / "run" / "train_log.csv");
  EXPECT_EQ(log.rfind("step,seconds,loss_hard,loss_penalty,loss_ae,loss_stae", 0), 0u) << log;
  // The resolved options repeat the run.
  const auto again = run("train --config " + (dir_.path / "run" / "options.json").string() +
                         " --output " + (dir_.path / "again").string());
  ASSERT_EQ(again.status, 0) << again.err;
  const auto first = weights("run");
  for (const auto& [name, tensor] : weights("again")) {
    EXPECT_TRUE(torch::equal(tensor, first.at(name))) << name;
  }
}

TEST_F(TrainCommand, ClosedOutputsDoNotEndUpInFiles) {
  const auto result = run_program("sh", "-c 'exec " + std::string(EFFICIENTAD_PROGRAM) + " " +
                                            arguments("closed", 3) + " >&- 2>&- <&-'");
  EXPECT_EQ(result.status, 0);
  const std::string log = read_text(dir_.path / "closed" / "train_log.csv");
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 4) << log;
  EXPECT_EQ(log.find("train "), std::string::npos) << log;
}

TEST_F(TrainCommand, CtrlCLeavesACheckpointFromWhichItGoesOnToTheBit) {
  constexpr int kSteps = 40;
  ASSERT_EQ(run(arguments("whole", kSteps)).status, 0);
  const fs::path log = dir_.path / "part" / "train_log.csv";
  const fs::path pid = dir_.path / "pid";
  ProgramResult result;
  std::thread runner([&] {
    result = run_program("sh", "-c 'echo $$ > " + pid.string() + "; exec " + EFFICIENTAD_PROGRAM +
                                   " " + arguments("part", kSteps) + "'");
  });
  // Interrupted once a few steps are done, which the log tells.
  for (int i = 0; i < 3000; ++i) {
    const std::string text = read_text(log);
    if (std::count(text.begin(), text.end(), '\n') > 4) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  kill(std::stoi(read_text(pid)), SIGINT);
  runner.join();
  expect_error_line(result, 1, "--resume goes on");
  EXPECT_FALSE(fs::exists(dir_.path / "part" / "model.safetensors"));
  const auto resumed = run(arguments("part", kSteps) + " --resume");
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  const auto whole = weights("whole");
  for (const auto& [name, tensor] : weights("part")) {
    EXPECT_TRUE(torch::equal(tensor, whole.at(name))) << name;
  }
}

TEST_F(TrainCommand, AllCategoriesOrAShardOfThem) {
  for (const char* name : {"bolt", "cap"}) {
    fs::copy(dir_.path / "data/nut", dir_.path / "data" / name, fs::copy_options::recursive);
  }
  const std::string all = arguments("all", 2) + " --category all";
  ASSERT_EQ(run(all + " --shard 2/2").status, 0);
  EXPECT_TRUE(fs::exists(dir_.path / "all/cap/model.safetensors"));
  EXPECT_FALSE(fs::exists(dir_.path / "all/bolt"));
  // One that fails does not stop the others, and one that is done is passed over.
  const auto before = fs::last_write_time(dir_.path / "all/cap/model.safetensors");
  const fs::path broken = dir_.path / "data/bolt/train/good/9.png";
  std::ofstream(broken) << "no image";
  auto result = run(all);
  expect_error_line({result.status, "", result.err.substr(result.err.rfind("error: "))}, 1,
                    "1 of 3 categories failed: bolt");
  EXPECT_NE(result.out.find("nut/model.safetensors"), std::string::npos) << result.out;
  EXPECT_EQ(fs::last_write_time(dir_.path / "all/cap/model.safetensors"), before);
  fs::remove(broken);
  result = run(all + " --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json.size(), 1u);
  // Too few to keep a tenth for calibration.
  EXPECT_EQ(json["bolt"]["train_images"], 8);
  // Of other options it is not done.
  result = run(arguments("all", 3) + " --category all");
  expect_error_line({result.status, "", result.err.substr(result.err.rfind("error: "))}, 1,
                    "3 of 3 categories failed");
  EXPECT_NE(result.err.find(
                "cap/model.safetensors: was trained with steps 2, but now it is 3; --overwrite"),
            std::string::npos)
      << result.err;
  for (const char* shard : {"0/2", "3/2", "2", "a/b", "1/2/3"}) {
    expect_error_line(run(all + " --shard " + shard), 2, "must be i/n");
  }
  expect_error_line(run(arguments("one", 2) + " --shard 1/2"), 2, "for category all");
}

TEST_F(TrainCommand, BadInputIsOneLineAndLeavesNothing) {
  expect_error_line(run(arguments("run", 3) + " --category bolt"), 1, "there are: nut");
  expect_error_line(run(arguments("run", 3) + " --data /nonexistent"), 1, "/nonexistent");
  expect_error_line(run(arguments("run", 3) + " --teacher /nonexistent"), 1, "/nonexistent");
  expect_error_line(run(arguments("run", 3) + " --device cuda:77"), 1, "cuda:77");
  std::ofstream(dir_.path / "data/nut/train/good/9.png") << "no image";
  expect_error_line(run(arguments("run", 3)), 1, "9.png");
  EXPECT_FALSE(fs::exists(dir_.path / "run" / "model.safetensors"));
}

TEST_F(TrainCommand, DistillRefusesWhatItCannotRead) {
  const std::string arguments = "distill --device cpu --images " + (dir_.path / "data").string() +
                                " --held-out 2 --output " + (dir_.path / "t.safetensors").string();
  expect_error_line(run(arguments + " --backbone /nonexistent.safetensors"), 1, "/nonexistent");
  EXPECT_FALSE(fs::exists(dir_.path / "t.safetensors.cache"));
  expect_error_line(run(arguments), 2, "backbone is missing");
  EXPECT_FALSE(fs::exists(dir_.path / "t.safetensors"));
  std::ofstream(dir_.path / "t.safetensors") << "hours of work";
  expect_error_line(run(arguments + " --backbone /nonexistent.safetensors"), 1, "exists already");
  EXPECT_EQ(read_text(dir_.path / "t.safetensors"), "hours of work");
}

TEST_F(TrainCommand, NamesThatAreNoTextAreKept) {
  const std::string name = "bad\xff\xfe";
  fs::rename(dir_.path / "data/nut", dir_.path / "data" / name);
  const auto trained = run(arguments("run" + name, 2) + " --category " + name);
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto again = run(arguments("run" + name, 2) + " --category " + name + " --resume");
  EXPECT_EQ(again.status, 0) << again.err;
}

}  // namespace
}  // namespace efficientad
