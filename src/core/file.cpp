#include "efficientad/core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>

#include "efficientad/core/error.h"
#include "efficientad/core/json.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

void sync_to_disk(const fs::path& path, int flags) {
  const int file = ::open(path.c_str(), flags | O_CLOEXEC);
  require(file >= 0, "{}: cannot be opened to sync it: {}", path.string(), std::strerror(errno));
  const bool synced = ::fsync(file) == 0;
  const int error = errno;
  ::close(file);
  // Some file systems cannot sync a folder; that is no failure of ours.
  require(synced || error == EINVAL || error == ENOTSUP, "{}: cannot be synced to disk: {}",
          path.string(), std::strerror(error));
}

fs::path temporary_beside(const fs::path& path) {
  static std::atomic<int> counter{0};
  return path.parent_path() /
         fmt::format(".{}.{}.tmp{}", ::getpid(), counter++, path.extension().string());
}

}  // namespace

void write_file_with(const fs::path& path,
                     const std::function<void(const fs::path& temporary)>& write) {
  require(!path.filename().empty(), "{}: not the name of a file", path.string());
  std::error_code error;
  // A link stays, and what it names is replaced, or made.
  fs::path target = path;
  constexpr int kMostLinks = 40;
  for (int i = 0; fs::is_symlink(target, error); ++i) {
    require(i < kMostLinks, "{}: is a link that leads to no file", path.string());
    target = target.parent_path() / fs::read_symlink(target, error);
  }
  const fs::file_status before = fs::status(target, error);
  require(!fs::is_directory(before), "{}: is a folder, so no file can be written there",
          path.string());
  require(!fs::exists(before) || fs::is_regular_file(before),
          "{}: is no regular file, and cannot be replaced by one", path.string());
  if (target.has_parent_path()) make_folder(target.parent_path());
  const fs::path temporary = temporary_beside(target);
  try {
    write(temporary);
    if (fs::exists(before)) fs::permissions(temporary, before.permissions(), error);
    sync_to_disk(temporary, O_RDONLY);
    fs::rename(temporary, target, error);
    require(!error, "{}: cannot be written: {}", path.string(), error.message());
    sync_to_disk(target.has_parent_path() ? target.parent_path() : fs::path("."),
                 O_RDONLY | O_DIRECTORY);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

void remove_leftovers(const fs::path& folder) {
  static const std::regex kTemporary(R"(\.[0-9]+\.[0-9]+\.tmp(\..*)?)");
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (std::regex_match(entry.path().filename().string(), kTemporary)) {
      fs::remove(entry.path(), ignored);
    }
  }
}

void write_file(const fs::path& path, const std::string& bytes) {
  write_file_with(path, [&](const fs::path& temporary) {
    errno = 0;
    std::ofstream file(temporary, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    require(!file.fail(), "{}: cannot be written: {}", path.string(),
            errno != 0 ? std::strerror(errno) : "disk full or not permitted");
  });
}

std::string read_file(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  require(!error || status.type() == fs::file_type::not_found, "{}: cannot be opened: {}",
          path.string(), error.message());
  require(fs::exists(status), "{}: no such file", path.string());
  require(!fs::is_directory(status), "{}: is a folder, a file was expected", path.string());
  require(fs::is_regular_file(status), "{}: is not a regular file", path.string());
  std::ifstream file(path, std::ios::binary);
  require(file.good(), "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  std::ostringstream bytes;
  bytes << file.rdbuf();
  require(!file.bad() && (bytes.good() || fs::file_size(path, error) == 0), "{}: cannot be read",
          path.string());
  return std::move(bytes).str();
}

void make_folder(const fs::path& path) {
  if (path.empty()) return;
  std::error_code error;
  fs::create_directories(path, error);
  require(!error && fs::is_directory(path), "{}: cannot be made a folder: {}", path.string(),
          error ? error.message() : "a file is in the way");
  const bool writable = ::access(path.c_str(), W_OK) == 0;
  const int reason = errno;  // Read before anything else can set it.
  require(writable, "{}: the folder cannot be written to: {}", path.string(),
          std::strerror(reason));
}

FolderLock::FolderLock(const fs::path& folder, const std::string& reason)
    : file_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (file_ < 0 || ::flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(file_);
  throw Error(folder.string() + ": " + reason);
}

FolderLock::~FolderLock() {
  if (file_ >= 0) ::close(file_);
}

nlohmann::json read_json(const fs::path& path) {
  return parse_json<nlohmann::json>(read_file(path), path.string());
}

void write_json(const fs::path& path, const nlohmann::ordered_json& value) {
  write_file(path, dump_json(value, /*indent=*/2) + "\n");
}

uint64_t hash64(const void* data, size_t size, uint64_t start) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint64_t hash = start;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
  return hash;
}

uint64_t hash64_of_words(const void* data, size_t size, uint64_t start) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint64_t hash = start;
  const size_t words = size / sizeof(uint64_t);
  for (size_t i = 0; i < words; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i * sizeof(word), sizeof(word));
    hash = (hash ^ word) * 0x100000001b3ULL;
    // Multiplication carries upwards only.
    hash ^= hash >> 32;
  }
  return hash64(bytes + words * sizeof(uint64_t), size % sizeof(uint64_t), hash);
}

std::string hex64(uint64_t value) { return fmt::format("{:016x}", value); }

fs::path plain_path(const fs::path& path) { return fs::absolute(path).lexically_normal(); }

bool is_below(const fs::path& path, const fs::path& folder) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

std::string hash_of_file(const fs::path& path) {
  const std::string bytes = read_file(path);
  return hex64(hash64(bytes.data(), bytes.size()));
}

}  // namespace efficientad
