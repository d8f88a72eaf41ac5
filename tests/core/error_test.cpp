#include "efficientad/core/error.h"

#include <torch/types.h>

#include "support/expect_error.h"

namespace efficientad {
namespace {

TEST(Error, RequireFormatsTheMessageAndTellsKindsApart) {
  EXPECT_NO_THROW(require(true, "never"));
  EXPECT_ERROR(require(false, "{} is {} px", "a.png", 3), Error, "a.png is 3 px");
  EXPECT_THROW(require_usage(false, "bad"), UsageError);
  EXPECT_THROW(require(false, "bad"), Error);
}

TEST(Error, TorchErrorsLoseTheirBacktrace) {
  try {
    torch::zeros({2, 3}).mm(torch::zeros({2, 3}));
    FAIL();
  } catch (const std::exception& error) {
    const std::string message = message_of(error);
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_NE(message.find("mat1 and mat2"), std::string::npos) << message;
  }
}

TEST(Error, ErrorsOfFilesNameTheFile) {
  const std::filesystem::filesystem_error error("status", "/a/b",
                                                std::make_error_code(std::errc::permission_denied));
  EXPECT_EQ(message_of(error), "/a/b: Permission denied");
}

TEST(Error, MessagesAreOneLineWhateverANameHolds) {
  EXPECT_EQ(message_of(Error("a\nb\x01: größer")), "a\\nb\\x01: größer");
}

TEST(Error, JoinCutsLongLists) {
  EXPECT_EQ(join({}), "");
  EXPECT_EQ(join({"a", "b"}), "a, b");
  EXPECT_EQ(join({"a", "b", "c", "d"}, 2), "a, b, … (2 more)");
}

}  // namespace
}  // namespace efficientad
