#include "efficientad/core/error.h"

#include <c10/util/Exception.h>

#include <filesystem>

namespace efficientad {

std::string message_of(const std::exception& error) {
  std::string message;
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error)) {
    message = torch_error->what_without_backtrace();
  } else if (const auto* files = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    message = files->path1().string() + ": " + files->code().message();
  } else {
    message = error.what();
  }
  // LibTorch's way of saying that there is no memory.
  if (message.find("DefaultCPUAllocator: can't allocate memory") != std::string::npos) {
    return "out of memory";
  }
  // LibTorch's goes on with what its own developers need.
  if (dynamic_cast<const Error*>(&error) == nullptr)
    message = message.substr(0, message.find('\n'));
  return printable(message);
}

std::string printable(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else {
      result += fmt::format("\\x{:02x}", byte);
    }
  }
  return result;
}

std::string join(const std::vector<std::string>& items, size_t most) {
  std::string text;
  for (size_t i = 0; i < items.size() && i < most; ++i) {
    if (i > 0) text += ", ";
    text += items[i];
  }
  if (items.size() > most) text += fmt::format(", … ({} more)", items.size() - most);
  return text;
}

}  // namespace efficientad
