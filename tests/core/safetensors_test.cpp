#include "efficientad/core/safetensors.h"

#include <torch/types.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "efficientad/core/file.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

/// A file with the given header text and data.
std::string raw_file(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

TEST(Safetensors, RoundTripOfEveryTypeAndShape) {
  const TempDir dir;
  TensorFile file;
  file.tensors["f32"] = torch::randn({2, 3, 4, 5});
  file.tensors["f16"] = torch::randn({7}).to(torch::kFloat16);
  file.tensors["bf16"] = torch::randn({3, 1}).to(torch::kBFloat16);
  file.tensors["i64"] = torch::tensor({int64_t{1} << 40, int64_t{-3}});
  file.tensors["u8"] = torch::randint(0, 256, {5}).to(torch::kUInt8);
  file.tensors["scalar"] = torch::tensor(2.5f);
  file.tensors["empty"] = torch::empty({0, 4});
  file.metadata = {{"a", "1"}, {"quote", "\"ü\n"}};
  write_safetensors(dir.path / "x.safetensors", file);
  const TensorFile again = read_safetensors(dir.path / "x.safetensors");
  EXPECT_EQ(again.metadata, file.metadata);
  ASSERT_EQ(again.tensors.size(), file.tensors.size());
  for (const auto& [name, tensor] : file.tensors) {
    SCOPED_TRACE(name);
    expect_same_bits(again.tensors.at(name), tensor);
  }
}

TEST(Safetensors, LayoutOnDiskIsTheFormats) {
  const TempDir dir;
  TensorFile file;
  file.tensors["b"] = torch::tensor({1.0f, 2.0f});
  file.tensors["a"] = torch::tensor({3, 4, 5}, torch::kUInt8);
  write_safetensors(dir.path / "x.safetensors", file);
  const std::string bytes = read_file(dir.path / "x.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  EXPECT_EQ(header["a"]["data_offsets"], (std::vector<int>{0, 3}));
  EXPECT_EQ(header["b"]["data_offsets"], (std::vector<int>{3, 11}));
  EXPECT_EQ(header["b"]["dtype"], "F32");
  EXPECT_EQ(bytes.size(), 8 + length + 11);
  float second = 0;
  std::memcpy(&second, bytes.data() + 8 + length + 7, 4);
  EXPECT_EQ(second, 2.0f);
  // "b" begins at an odd byte: it is copied, not misread.
  expect_same_bits(read_safetensors(dir.path / "x.safetensors").tensors.at("b"), file.tensors["b"]);
}

TEST(Safetensors, NonContiguousTensorsAreStoredInOrder) {
  const TempDir dir;
  TensorFile file;
  file.tensors["t"] = torch::arange(6, torch::kFloat32).view({2, 3}).t();
  write_safetensors(dir.path / "x.safetensors", file);
  expect_same_bits(read_safetensors(dir.path / "x.safetensors").tensors.at("t"),
                   file.tensors["t"].contiguous());
}

TEST(Safetensors, TensorsOutliveTheFileAndMayBeChanged) {
  const TempDir dir;
  TensorFile file;
  file.tensors["t"] = torch::ones({1000});
  write_safetensors(dir.path / "x.safetensors", file);
  torch::Tensor tensor = read_safetensors(dir.path / "x.safetensors").tensors.at("t");
  std::filesystem::remove(dir.path / "x.safetensors");
  tensor.add_(1);
  EXPECT_EQ(tensor.sum().item<double>(), 2000.0);
}

TEST(Safetensors, NothingInTheHeaderIsTrusted) {
  const TempDir dir;
  const auto path = dir.path / "x.safetensors";
  const auto expect_refused = [&](const std::string& bytes, const std::string& part) {
    SCOPED_TRACE(part);
    write_file(path, bytes);
    EXPECT_ERROR(read_safetensors(path), Error, part);
  };
  const std::string data(16, 'x');
  const auto entry = [](const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return "{\"t\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
           ",\"data_offsets\":" + offsets + "}}";
  };
  EXPECT_ERROR(read_safetensors(dir.path / "none"), Error, "no such file");
  EXPECT_ERROR(read_safetensors(dir.path), Error, "not a regular file");
  expect_refused("", "empty");
  expect_refused("1234", "only 4 bytes");
  expect_refused(std::string(8, '\xff') + data, "truncated, or another kind");
  expect_refused(raw_file("not json", data), "no valid JSON");
  expect_refused(raw_file("{\"t\":1,\"t\":2}", data), "\"t\" twice");
  expect_refused(raw_file(std::string(100000, '['), data), "nested deeper");
  expect_refused(raw_file("[1]", data), "no JSON object");
  expect_refused(raw_file("{\"t\":3}", data), "unknown type");
  expect_refused(raw_file(entry("F64", "[2]", "[0,16]"), data), "unknown type");
  expect_refused(raw_file(entry("F32", "[4]", "[0,12]"), data), "want 16");
  expect_refused(raw_file(entry("F32", "[8]", "[0,32]"), data), "truncated");
  expect_refused(raw_file(entry("F32", "[4]", "[12,4]"), data), "truncated");
  expect_refused(raw_file(entry("F32", "[-4]", "[0,16]"), data), "impossible shape");
  expect_refused(raw_file(entry("F32", "[4.5]", "[0,16]"), data), "impossible shape");
  expect_refused(
      raw_file(entry("F32", "[16,16,16,16,16,16,16,16,16,16,16,16,16,16,16,16]", "[0,16]"), data),
      "impossible shape");
  expect_refused(
      raw_file(entry("F32", "[0,4611686018427387904,4611686018427387904]", "[0,0]"), data),
      "impossible shape");
  expect_refused(raw_file(entry("F32", "4", "[0,16]"), data), "no shape");
  expect_refused(raw_file(entry("F32", "[4]", "[0]"), data), "no data_offsets");
  expect_refused(raw_file("{\"__metadata__\":{\"a\":1}}", data), "no string");
  write_file(path, raw_file(entry("F32", "[4]", "[0,16]"), data));
  EXPECT_NO_THROW(read_safetensors(path));
}

TEST(Safetensors, TensorsMayNotOverlap) {
  const TempDir dir;
  const auto path = dir.path / "x.safetensors";
  const auto with = [&](int begin, int end) {
    const std::string entry = R"("dtype":"U8","shape":[)";
    return raw_file(
        fmt::format(R"({{"a":{{{}4],"data_offsets":[2,6]}},"b":{{{}{}],"data_offsets":[{},{}]}}}})",
                    entry, entry, end - begin, begin, end),
        std::string(8, 'x'));
  };
  for (const auto& [begin, end] : {std::pair{2, 6}, {0, 3}, {5, 8}, {3, 4}, {0, 8}}) {
    write_file(path, with(begin, end));
    EXPECT_ERROR(read_safetensors(path), Error, "tensor b overlaps another");
  }
}

TEST(Safetensors, EveryByteBelongsToATensor) {
  const TempDir dir;
  const auto path = dir.path / "x.safetensors";
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[)";
  const std::string b = R"("b":{"dtype":"U8","shape":[2],"data_offsets":[)";
  const std::string none = R"("c":{"dtype":"U8","shape":[0,384],"data_offsets":[3,3]})";
  const auto with = [&](const char* of_a, const char* of_b, size_t bytes) {
    write_file(path, raw_file("{" + a + of_a + "]}," + b + of_b + "]}," + none + "}",
                              std::string(bytes, 'x')));
  };
  with("2,6", "0,2", 6);
  EXPECT_EQ(read_safetensors(path).tensors.size(), 3u);
  with("2,6", "0,2", 8);
  EXPECT_ERROR(read_safetensors(path), Error, "2 of its 8 bytes of data belong to no tensor");
  with("0,4", "5,7", 7);
  EXPECT_ERROR(read_safetensors(path), Error, "1 of its 7 bytes of data belong to no tensor");
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const TempDir dir;
  TensorFile file;
  file.tensors["a"] = torch::ones({3});
  file.tensors["b"] = torch::ones({2, 2});
  write_safetensors(dir.path / "x.safetensors", file);
  const std::string bytes = read_file(dir.path / "x.safetensors");
  for (size_t length = 0; length < bytes.size(); ++length) {
    write_file(dir.path / "cut", bytes.substr(0, length));
    EXPECT_THROW(read_safetensors(dir.path / "cut"), Error) << length;
  }
}

TEST(Safetensors, TakeNamesWhatIsMissing) {
  TensorFile file;
  file.tensors["a"] = torch::ones({3});
  EXPECT_ERROR(take(file, "b", "m.safetensors"), Error, "m.safetensors: has no tensor named b");
  EXPECT_ERROR(take(file, "a", "m.safetensors", {4}), Error, "should have the shape [4]");
  EXPECT_EQ(take(file, "a", "m.safetensors", {3}).numel(), 3);
}

}  // namespace
}  // namespace efficientad
