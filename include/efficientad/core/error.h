#pragma once

#include <spdlog/fmt/fmt.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace efficientad {

/// What a user can put right: a wrong file, option, folder or image. The message is one line that
/// says what was wanted, what was found, where, and, if it is not plain, what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Bad usage: an option or configuration value that cannot be. Programs exit with 2, not 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The user asked to stop (Ctrl-C) and the work was left in a state from which it can go on.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// Throws Error with the formatted message unless `condition` holds. For users' input and files;
/// our own mistakes are TORCH_CHECKs.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> message, Args&&... args) {
  if (!condition) throw Error(fmt::format(message, std::forward<Args>(args)...));
}

/// As require(), but throws UsageError.
template <class... Args>
void require_usage(bool condition, fmt::format_string<Args...> message, Args&&... args) {
  if (!condition) throw UsageError(fmt::format(message, std::forward<Args>(args)...));
}

/// An exception's message as one line: an Error's own, another's first line (without LibTorch's
/// backtrace), printable().
std::string message_of(const std::exception& error);

/// The text with control characters, such as a line break in a file's name, written as escapes.
std::string printable(const std::string& text);

/// "a, b, c" of the strings; at most `most` of them, then "… (N more)".
std::string join(const std::vector<std::string>& items, size_t most = 20);

}  // namespace efficientad
