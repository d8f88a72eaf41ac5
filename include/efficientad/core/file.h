#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace efficientad {

/// Writes a file whole or not at all: `write` fills a temporary file in the same folder, which is
/// synced to disk and renamed over `path`. The folder is made if it is missing. If `write` throws,
/// or the disk is full, an existing `path` is left as it was and the temporary file is removed.
/// `write` is given the temporary file's path, which ends like `path` does.
void write_file_with(const std::filesystem::path& path,
                     const std::function<void(const std::filesystem::path& temporary)>& write);

/// Deletes temporary files that a killed process left in the folder. Nobody else may be writing
/// there.
void remove_leftovers(const std::filesystem::path& folder);

/// As write_file_with(), with the file's bytes.
void write_file(const std::filesystem::path& path, const std::string& bytes);

/// The whole file. Throws Error if it is missing, no regular file or unreadable.
std::string read_file(const std::filesystem::path& path);

/// Makes the folder (and those above it); throws Error if something else is in the way or it
/// cannot be written to.
void make_folder(const std::filesystem::path& path);

/// While one lives, no other process can have one of the same folder (where the file system knows
/// locks). The folder must exist; nothing is written to it.
class FolderLock {
 public:
  /// Throws Error with `reason` if another process has it.
  FolderLock(const std::filesystem::path& folder, const std::string& reason);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_;
};

/// JSON of a file; throws what read_file() and parse_json() throw.
nlohmann::json read_json(const std::filesystem::path& path);

/// Indented JSON with a final newline, written whole or not at all.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value);

/// 64-bit FNV-1a hash of bytes, for checksums and cache keys (not for security).
uint64_t hash64(const void* data, size_t size, uint64_t start = 0xcbf29ce484222325ULL);

/// A hash of the same kind over words of 8 bytes (and then the bytes that are left), for what is
/// large: eight times as fast, and not the same number.
uint64_t hash64_of_words(const void* data, size_t size, uint64_t start = 0xcbf29ce484222325ULL);

/// 16 hexadecimal digits.
std::string hex64(uint64_t value);

/// `path` as an absolute path without dots. Nothing is looked up: links stay.
std::filesystem::path plain_path(const std::filesystem::path& path);

/// Whether `path` is `folder` or lies in it; both as plain_path() gives them.
bool is_below(const std::filesystem::path& path, const std::filesystem::path& folder);

/// hash64() of a file's bytes, as hex64() writes it. Throws what read_file() throws.
std::string hash_of_file(const std::filesystem::path& path);

}  // namespace efficientad
