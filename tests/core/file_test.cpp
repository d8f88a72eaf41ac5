#include "efficientad/core/file.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "efficientad/core/json.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

int64_t count_entries(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

TEST(File, WritesAndReadsBytes) {
  const TempDir dir;
  const std::string bytes("a\0b\n\xff", 5);
  write_file(dir.path / "deep" / "er" / "x.bin", bytes);
  EXPECT_EQ(read_file(dir.path / "deep" / "er" / "x.bin"), bytes);
  write_file(dir.path / "empty", "");
  EXPECT_EQ(read_file(dir.path / "empty"), "");
}

TEST(File, AFailedWriteLeavesTheOldFileAndNoTemporary) {
  const TempDir dir;
  write_file(dir.path / "x.txt", "old");
  EXPECT_ERROR(write_file_with(dir.path / "x.txt",
                               [](const fs::path& temporary) {
                                 std::ofstream(temporary) << "half";
                                 throw Error("broke");
                               }),
               Error, "broke");
  EXPECT_EQ(read_file(dir.path / "x.txt"), "old");
  EXPECT_EQ(count_entries(dir.path), 1);
}

/// While one lives, no file of this process may grow beyond `bytes`, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

TEST(File, AFullDiskIsAnErrorNamingTheFile) {
  const TempDir dir;
  write_file(dir.path / "x.txt", "old");
  const std::string large(100000, 'x');
  {
    const FileSizeLimit limit(5000);
    EXPECT_ERROR(write_file(dir.path / "x.txt", large), Error, "x.txt: ");
  }
  EXPECT_EQ(read_file(dir.path / "x.txt"), "old");
  EXPECT_EQ(count_entries(dir.path), 1);
  write_file(dir.path / "x.txt", large);
  EXPECT_EQ(read_file(dir.path / "x.txt"), large);
}

TEST(File, FoldersAndFilesInTheWrongPlace) {
  const TempDir dir;
  write_file(dir.path / "file", "x");
  EXPECT_ERROR(read_file(dir.path / "none"), Error, "no such file");
  EXPECT_ERROR(read_file(dir.path), Error, "is a folder");
  EXPECT_ERROR(write_file(dir.path, "x"), Error, "is a folder");
  EXPECT_ERROR(write_file(dir.path / "file" / "below", "x"), Error, "file");
  EXPECT_ERROR(make_folder(dir.path / "file"), Error, "file");
}

TEST(File, LongNamesAreNoLongerWhileTheyAreWritten) {
  const TempDir dir;
  const fs::path path = dir.path / (std::string(250, 'n') + ".tiff");
  write_file(path, "x");
  EXPECT_EQ(read_file(path), "x");
}

TEST(File, ALinkStaysOneAndPermissionsStay) {
  const TempDir dir;
  write_file(dir.path / "real", "old");
  fs::permissions(dir.path / "real", fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("real", dir.path / "link");
  write_file(dir.path / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir.path / "link"));
  EXPECT_EQ(read_file(dir.path / "real"), "new");
  EXPECT_EQ(fs::status(dir.path / "real").permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST(File, ANameThatIsTooLongIsAnError) {
  const TempDir dir;
  const fs::path path = dir.path / std::string(300, 'n');
  EXPECT_ERROR(write_file(path, "x"), Error, "cannot be written: File name too long");
  EXPECT_ERROR(read_file(path), Error, "cannot be opened: File name too long");
}

TEST(File, AFolderIsLockedOnce) {
  const TempDir dir;
  {
    const FolderLock lock(dir.path, "unused");
    EXPECT_ERROR(FolderLock(dir.path, "is in use"), Error, dir.path.string() + ": is in use");
  }
  const FolderLock again(dir.path, "is in use");
  EXPECT_TRUE(fs::is_empty(dir.path));
}

TEST(File, JsonErrorsNameThePlace) {
  const TempDir dir;
  write_file(dir.path / "bad.json", "{\n  \"a\": 1,\n  \"b\": }\n");
  EXPECT_ERROR(read_json(dir.path / "bad.json"), Error, "bad.json: no valid JSON at line 3");
  write_json(dir.path / "good.json", {{"a", 1}});
  EXPECT_EQ(read_json(dir.path / "good.json").at("a"), 1);
}

TEST(File, OnlyRegularFilesAreRead) {
  const TempDir dir;
  const auto fifo = dir.path / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_ERROR(read_file(fifo), Error, "not a regular file");
  EXPECT_ERROR(read_file("/dev/zero"), Error, "not a regular file");
}

TEST(Json, RefusesWhatItCannotKeep) {
  const auto parse = [](const std::string& text) {
    return parse_json<nlohmann::ordered_json>(text, "x.json");
  };
  EXPECT_EQ(parse(R"({"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]})").at("b").at(1).at("a"), 3);
  EXPECT_ERROR(parse("{\n\"a\": tru}"), Error, "x.json: no valid JSON at line 2, column 9");
  EXPECT_ERROR(parse(""), Error, "x.json: no valid JSON at line 1, column 1");
  EXPECT_ERROR(parse(R"({"a": 1, "b": [{"c": 1, "c": 2}]})"), Error, "x.json: gives \"c\" twice");
  EXPECT_ERROR(parse("[1e400]"), Error, "x.json: its JSON holds a number that is too large");
  EXPECT_NO_THROW(parse(std::string(64, '[') + std::string(64, ']')));
  EXPECT_ERROR(parse(std::string(65, '[') + std::string(65, ']')), Error, "nested deeper than 64");
  EXPECT_ERROR(parse(std::string(300000, '[')), Error, "nested deeper than 64");
}

TEST(Json, AnyBytesCanBeWritten) {
  EXPECT_EQ(dump_json(nlohmann::json("a\xff")), "\"a\xef\xbf\xbd\"");
  const std::string brief = brief_json(nlohmann::json(std::string(98, 'a') + "ééé"));
  EXPECT_EQ(brief, "\"" + std::string(98, 'a') + "…");
}

TEST(File, HashIsFnv1a) {
  // Published test vectors of FNV-1a 64.
  EXPECT_EQ(hex64(hash64("", 0)), "cbf29ce484222325");
  EXPECT_EQ(hex64(hash64("a", 1)), "af63dc4c8601ec8c");
  EXPECT_EQ(hex64(hash64("foobar", 6)), "85944171f73967e8");
}

TEST(File, ALinkToNoFileYetLeadsToTheNewOne) {
  const TempDir dir;
  fs::create_directories(dir.path / "disk");
  fs::create_symlink("disk/new.txt", dir.path / "link");
  write_file(dir.path / "link", "text");
  EXPECT_TRUE(fs::is_symlink(dir.path / "link"));
  EXPECT_EQ(read_file(dir.path / "disk/new.txt"), "text");
  fs::create_symlink("circle", dir.path / "circle");
  EXPECT_ERROR(write_file(dir.path / "circle", "text"), Error, "leads to no file");
}

TEST(File, WhatIsNoRegularFileIsNotReplaced) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir.path / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(write_file(dir.path / "pipe", "text"), Error, "is no regular file");
  EXPECT_TRUE(fs::is_fifo(dir.path / "pipe"));
}

}  // namespace
}  // namespace efficientad
