#include "efficientad/core/options.h"

#include "support/expect_error.h"

namespace efficientad {
namespace {

struct ExampleOptions {
  std::string data;
  int64_t steps = 10;
  double rate = 0.5;
  bool fast = false;
  std::vector<std::string> files = {"a"};
  std::string size = "small";

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("data", data, OptionInfo{.help = "folder", .required = true});
    visitor("steps", steps, OptionInfo{.help = "steps", .minimum = 1, .maximum = 100});
    visitor("rate", rate, OptionInfo{.help = "rate", .minimum = 0});
    visitor("fast", fast, OptionInfo{.help = "fast"});
    visitor("files", files, OptionInfo{.help = "files"});
    visitor("size", size, OptionInfo{.help = "size", .choices = {"small", "medium"}});
  }
};

TEST(Options, JsonRoundTripKeepsEveryField) {
  ExampleOptions options;
  options.data = "x";
  options.steps = 7;
  options.rate = 0.1;
  options.fast = true;
  options.files = {"p", "q"};
  options.size = "medium";
  ExampleOptions again;
  options_from_json(nlohmann::json::parse(options_to_json(options).dump()), "x.json", again);
  EXPECT_EQ(options_to_json(again), options_to_json(options));
  EXPECT_EQ(again.files.size(), 2u);
  EXPECT_TRUE(again.fast);
}

TEST(Options, UnknownKeyAndWrongTypeNameFileAndKey) {
  ExampleOptions options;
  EXPECT_ERROR(options_from_json({{"stepz", 3}}, "c.json", options), UsageError,
               "c.json: unknown option stepz; known are data, steps");
  EXPECT_ERROR(options_from_json({{"steps", "3"}}, "c.json", options), UsageError,
               "c.json: steps must be a whole number, but is \"3\"");
  EXPECT_ERROR(options_from_json({{"steps", 3.5}}, "c.json", options), UsageError, "whole number");
  EXPECT_ERROR(options_from_json({{"files", {1, 2}}}, "c.json", options), UsageError,
               "list of strings");
  EXPECT_ERROR(options_from_json(nlohmann::json::array(), "c.json", options), UsageError,
               "expected a JSON object");
}

TEST(Options, ChecksRangesChoicesAndRequired) {
  ExampleOptions options;
  EXPECT_ERROR(check_options(options), UsageError, "data is missing");
  options.data = "x";
  EXPECT_NO_THROW(check_options(options));
  options.steps = 0;
  EXPECT_ERROR(check_options(options), UsageError, "steps is 0, but must be from 1 to 100");
  options.steps = 1;
  EXPECT_ERROR(
      options_from_json(nlohmann::json{{"data", std::string("a\0b", 3)}}, "x.json", options),
      UsageError, "x.json: data holds a NUL character");
  options.data = "x";
  options.size = "large";
  EXPECT_ERROR(check_options(options), UsageError, "must be one of small, medium");
}

}  // namespace
}  // namespace efficientad
