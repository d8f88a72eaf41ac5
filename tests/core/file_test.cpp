#include "efficientad/core/file.h"

#include <fstream>
#include <nlohmann/json.hpp>

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

TEST(File, AFullDiskIsAnErrorNamingTheFile) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const TempDir dir;
  write_file(dir.path / "x.txt", "old");
  EXPECT_ERROR(write_file_with(dir.path / "x.txt",
                               [&](const fs::path& temporary) {
                                 // The temporary file stands for a disk without room.
                                 fs::create_symlink("/dev/full", temporary);
                                 std::ofstream file(temporary);
                                 file << "data";
                                 file.close();
                                 require(!file.fail(), "{}: cannot be written", "x.txt");
                               }),
               Error, "x.txt: cannot be written");
  EXPECT_EQ(read_file(dir.path / "x.txt"), "old");
  EXPECT_EQ(count_entries(dir.path), 1);
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

TEST(File, JsonErrorsNameThePlace) {
  const TempDir dir;
  write_file(dir.path / "bad.json", "{\n  \"a\": 1,\n  \"b\": }\n");
  EXPECT_ERROR(read_json(dir.path / "bad.json"), Error, "bad.json: no valid JSON at line 3");
  write_json(dir.path / "good.json", {{"a", 1}});
  EXPECT_EQ(read_json(dir.path / "good.json").at("a"), 1);
}

TEST(File, HashIsFnv1a) {
  // Published test vectors of FNV-1a 64.
  EXPECT_EQ(hex64(hash64("", 0)), "cbf29ce484222325");
  EXPECT_EQ(hex64(hash64("a", 1)), "af63dc4c8601ec8c");
  EXPECT_EQ(hex64(hash64("foobar", 6)), "85944171f73967e8");
}

}  // namespace
}  // namespace efficientad
