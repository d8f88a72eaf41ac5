#include "efficientad/core/error.h"

#include <c10/util/Exception.h>

namespace efficientad {

std::string message_of(const std::exception& error) {
  std::string message;
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error)) {
    message = torch_error->what_without_backtrace();
  } else {
    message = error.what();
  }
  const auto end = message.find('\n');
  return end == std::string::npos ? message : message.substr(0, end);
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
