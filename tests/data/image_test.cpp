#include "efficientad/data/image.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <opencv2/imgcodecs.hpp>
#include <thread>

#include "efficientad/core/error.h"
#include "image_files.h"
#include "support/expect_error.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

torch::Tensor u8(const std::vector<int>& values, torch::IntArrayRef sizes) {
  return torch::tensor(values, torch::kInt).to(torch::kUInt8).reshape(sizes);
}

/// read_image() of a file with these bytes.
torch::Tensor image_of(const std::string& bytes) {
  const TempDir dir;
  write_bytes(dir.path / "image.png", bytes);
  const torch::Tensor image = read_image(dir.path / "image.png");
  const auto size = read_image_size(dir.path / "image.png");
  EXPECT_EQ(size[0], image.size(0));
  EXPECT_EQ(size[1], image.size(1));
  return image;
}

torch::Tensor mask_of(const std::string& bytes) {
  const TempDir dir;
  write_bytes(dir.path / "mask.png", bytes);
  return read_mask(dir.path / "mask.png");
}

std::string encoded(const std::string& ending, const cv::Mat& mat,
                    const std::vector<int>& parameters = {}) {
  std::vector<uint8_t> bytes;
  EXPECT_TRUE(cv::imencode(ending, mat, bytes, parameters));
  return {bytes.begin(), bytes.end()};
}

/// Stored pixels 1 2 3 / 4 5 6, seen with each EXIF orientation (row by row).
const std::vector<std::pair<std::array<int64_t, 2>, std::vector<int>>> kTurned = {
    {{2, 3}, {1, 2, 3, 4, 5, 6}}, {{2, 3}, {3, 2, 1, 6, 5, 4}}, {{2, 3}, {6, 5, 4, 3, 2, 1}},
    {{2, 3}, {4, 5, 6, 1, 2, 3}}, {{3, 2}, {1, 4, 2, 5, 3, 6}}, {{3, 2}, {4, 1, 5, 2, 6, 3}},
    {{3, 2}, {6, 3, 5, 2, 4, 1}}, {{3, 2}, {3, 6, 2, 5, 1, 4}},
};

TEST(image_png, reads_rgb_and_grey) {
  expect_same_bits(
      image_of(make_png(2, 8, 2, {"\x01\x02\x03\x04\x05\x06", "\x07\x08\x09\x0a\x0b\xff"})),
      u8({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255}, {2, 2, 3}));
  expect_same_bits(image_of(make_png(2, 8, 0, {"\x05\xfa"})),
                   u8({5, 5, 5, 250, 250, 250}, {1, 2, 3}));
}

TEST(image_png, drops_alpha) {
  expect_same_bits(image_of(make_png(1, 8, 6, {std::string("\x01\x02\x03\x00", 4)})),
                   u8({1, 2, 3}, {1, 1, 3}));
  expect_same_bits(image_of(make_png(1, 8, 4, {std::string("\x07\x00", 2)})),
                   u8({7, 7, 7}, {1, 1, 3}));
}

TEST(image_png, keeps_the_high_byte_of_16_bits) {
  expect_same_bits(image_of(make_png(2, 16, 0, {"\x12\xff\xff\x01"})),
                   u8({0x12, 0x12, 0x12, 0xff, 0xff, 0xff}, {1, 2, 3}));
  expect_same_bits(image_of(make_png(1, 16, 2, {"\x01\xf0\x02\xf0\x03\xf0"})),
                   u8({1, 2, 3}, {1, 1, 3}));
}

TEST(image_png, spreads_few_bits) {
  // 1, 0, 1 and 15, 3.
  expect_same_bits(image_of(make_png(3, 1, 0, {"\xa0"})),
                   u8({255, 255, 255, 0, 0, 0, 255, 255, 255}, {1, 3, 3}));
  expect_same_bits(image_of(make_png(2, 4, 0, {"\xf3"})),
                   u8({255, 255, 255, 51, 51, 51}, {1, 2, 3}));
}

TEST(image_png, looks_up_palettes) {
  const std::string palette = png_chunk("PLTE", "\x0a\x14\x1e\x28\x32\x3c");
  // The transparency that may come with a palette is dropped, too.
  const std::string transparency = png_chunk("tRNS", std::string("\x00\x80", 2));
  const torch::Tensor expected = u8({40, 50, 60, 10, 20, 30}, {1, 2, 3});
  expect_same_bits(image_of(make_png(2, 8, 3, {std::string("\x01\x00", 2)}, palette)), expected);
  expect_same_bits(image_of(make_png(2, 1, 3, {"\x80"}, palette + transparency)), expected);
}

TEST(image_png, applies_exif_orientation) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const auto& [size, values] = kTurned[static_cast<size_t>(orientation - 1)];
    const std::string file = make_png(3, 8, 0, {"\x01\x02\x03", "\x04\x05\x06"},
                                      png_chunk("eXIf", exif_block(orientation)));
    expect_same_bits(image_of(file).select(2, 0), u8(values, size));
    expect_same_bits(mask_of(file), u8(values, size));
    // It may also stand behind the pixels.
    const std::string plain = make_png(3, 8, 0, {"\x01\x02\x03", "\x04\x05\x06"});
    const size_t end = plain.size() - png_chunk("IEND", "").size();
    expect_same_bits(image_of(plain.substr(0, end) + png_chunk("eXIf", exif_block(orientation)) +
                              plain.substr(end))
                         .select(2, 0),
                     u8(values, size));
  }
}

TEST(image_jpeg, applies_exif_orientation) {
  // 6 blocks of 8x8 px, each of one grey, which the cosine transform keeps.
  cv::Mat mat(16, 24, CV_8UC1);
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 24; ++x)
      mat.at<uint8_t>(y, x) = static_cast<uint8_t>(40 * (y / 8 * 3 + x / 8 + 1));
  }
  const std::string plain = encoded(".jpg", mat, {cv::IMWRITE_JPEG_QUALITY, 100});
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const auto& [size, values] = kTurned[static_cast<size_t>(orientation - 1)];
    const torch::Tensor image = image_of(with_exif(plain, orientation));
    const torch::Tensor blocks = image.select(2, 1).slice(0, 4, {}, 8).slice(1, 4, {}, 8);
    // One level of rounding in the transform.
    expect_near(blocks.to(torch::kInt), u8(values, size).to(torch::kInt) * 40, /*rtol=*/0,
                /*atol=*/1);
  }
}

TEST(image_jpeg, reads_colour_in_rgb_order) {
  const cv::Mat mat(16, 16, CV_8UC3, cv::Scalar(50, 100, 200));  // BGR
  const torch::Tensor image = image_of(encoded(".jpg", mat, {cv::IMWRITE_JPEG_QUALITY, 100}));
  // Colour conversion forth and back rounds twice.
  expect_near(image.to(torch::kInt),
              u8({200, 100, 50}, {1, 1, 3}).to(torch::kInt).expand({16, 16, 3}),
              /*rtol=*/0, /*atol=*/2);
}

TEST(image_jpeg, converts_cmyk_as_pillow_does) {
  // Two blocks written by Pillow with Adobe's marker: ink (200, 30, 90, 40) and (0, 0, 0, 128).
  const std::string file = from_hex(
      "ffd8ffee000e41646f626500640000000000ffdb0043000101010101010101010101010101010101010101010101"
      "0101010101010101010101010101010101010101010101010101010101010101010101010101010101010101ffc0"
      "00140800080010044311004d11005911004b1100ffc4001700010003000000000000000000000000000a08090bff"
      "c40014100100000000000000000000000000000000ffda000e0443004d0059004b00003f0036e610b282b86c809e"
      "05a027efffd9");
  const torch::Tensor image = image_of(file);
  ASSERT_EQ(image.sizes(), (std::vector<int64_t>{8, 16, 3}));
  // What Pillow makes of it.
  expect_same_bits(image[0][2], u8({46, 190, 139}, {3}));
  expect_same_bits(image[7][12], u8({127, 127, 127}, {3}));
  // It makes the same of a file without the marker.
  constexpr size_t kMarker = 16;
  expect_same_bits(image_of(file.substr(0, 2) + file.substr(2 + kMarker)), image);
}

TEST(image_jpeg, lets_bytes_behind_the_end_pass) {
  const cv::Mat mat(8, 8, CV_8UC1, cv::Scalar(77));
  const std::string file = encoded(".jpg", mat);
  expect_same_bits(image_of(file + std::string(5000, 'x')), image_of(file));
}

TEST(image_bmp, reads_bottom_up_bgr) {
  expect_same_bits(image_of(make_bmp(1, {std::string("\x01\x02\x03\x00", 4),
                                         std::string("\x04\x05\x06\x00", 4)})),
                   u8({6, 5, 4, 3, 2, 1}, {2, 1, 3}));
}

TEST(image_webp, reads_lossless_colour_and_drops_alpha) {
  const cv::Mat mat(2, 3, CV_8UC4, cv::Scalar(10, 20, 30, 255));
  const torch::Tensor image = image_of(encoded(".webp", mat, {cv::IMWRITE_WEBP_QUALITY, 101}));
  expect_same_bits(image, u8({30, 20, 10}, {1, 1, 3}).expand({2, 3, 3}).contiguous());
}

TEST(image_tiff, reads_8_and_16_bits) {
  expect_same_bits(image_of(make_tiff({.width = 2, .height = 1, .samples = 3, .photometric = 2},
                                      "\x01\x02\x03\x04\x05\x06")),
                   u8({1, 2, 3, 4, 5, 6}, {1, 2, 3}));
  // Little-endian samples 0x1234, 0xff01.
  expect_same_bits(image_of(make_tiff({.width = 2, .height = 1, .bits = 16}, "\x34\x12\x01\xff")),
                   u8({0x12, 0x12, 0x12, 0xff, 0xff, 0xff}, {1, 2, 3}));
}

TEST(image_tiff, drops_alpha_without_multiplying_by_it) {
  expect_same_bits(image_of(make_tiff({.width = 1, .height = 1, .samples = 4, .photometric = 2},
                                      "\x64\x65\x66\x0a")),
                   u8({100, 101, 102}, {1, 1, 3}));
}

TEST(image_tiff, reads_white_is_zero_and_palettes) {
  expect_same_bits(
      image_of(make_tiff({.width = 2, .height = 1, .photometric = 0}, std::string("\x00\xf0", 2))),
      u8({255, 255, 255, 15, 15, 15}, {1, 2, 3}));
  TiffForm form{.width = 2, .height = 1, .photometric = 3};
  form.palette.assign(3 * 256, 0);
  form.palette[1] = 0x0a00;
  form.palette[256 + 1] = 0x1400;
  form.palette[512 + 1] = 0xff00;
  expect_same_bits(image_of(make_tiff(form, std::string("\x01\x00", 2))),
                   u8({10, 20, 255, 0, 0, 0}, {1, 2, 3}));
}

TEST(image_tiff, applies_orientation_once) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const auto& [size, values] = kTurned[static_cast<size_t>(orientation - 1)];
    const TiffForm form{.width = 3, .height = 2, .orientation = orientation};
    expect_same_bits(image_of(make_tiff(form, "\x01\x02\x03\x04\x05\x06")).select(2, 0),
                     u8(values, size));
  }
}

TEST(image, goes_by_the_content_not_the_ending) {
  const TempDir dir;
  const cv::Mat mat(8, 8, CV_8UC1, cv::Scalar(77));
  write_bytes(dir.path / "jpeg.png", encoded(".jpg", mat));
  EXPECT_EQ(read_image(dir.path / "jpeg.png").size(0), 8);
}

TEST(image, every_cut_of_a_file_is_an_error_and_nothing_is_printed) {
  cv::Mat mat(11, 9, CV_8UC3);
  cv::randu(mat, 0, 255);
  std::vector<std::pair<std::string, std::string>> files = {
      {"png", encoded(".png", mat)},
      {"jpeg", encoded(".jpg", mat)},
      {"progressive jpeg", encoded(".jpg", mat, {cv::IMWRITE_JPEG_PROGRESSIVE, 1})},
      {"bmp", encoded(".bmp", mat)},
      {"tiff", encoded(".tiff", mat, {cv::IMWRITE_TIFF_COMPRESSION, 1})},
      {"lzw tiff", encoded(".tiff", mat, {cv::IMWRITE_TIFF_COMPRESSION, 5})},
      {"webp", encoded(".webp", mat)},
      {"lossless webp", encoded(".webp", mat, {cv::IMWRITE_WEBP_QUALITY, 101})}};
  const TempDir dir;
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  std::string passed;
  for (const auto& [name, bytes] : files) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      // A new file each time: file systems are slow to overwrite one.
      const fs::path path = dir.path / fmt::format("{}-{}.png", name, size);
      write_bytes(path, bytes.substr(0, size));
      try {
        read_image(path);
        passed += fmt::format("{} of {} bytes of {}; ", size, bytes.size(), name);
      } catch (const Error& error) {
        const std::string message = error.what();
        if (!message.starts_with(path.string() + ": ") || message.find('\n') != std::string::npos) {
          passed += message + "; ";
        }
      }
    }
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(passed, "");
}

TEST(image, damage_is_an_error_and_nothing_is_printed) {
  const TempDir dir;
  const auto expect_damage = [&](const std::string& bytes, const std::string& part) {
    write_bytes(dir.path / "bad.png", bytes);
    testing::internal::CaptureStderr();
    EXPECT_ERROR(read_image(dir.path / "bad.png"), Error, part);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  };
  const std::string png = make_png(2, 8, 0, {"\x05\xfa"});
  std::string flipped = png;
  flipped[png.find("IDAT") + 12] ^= 0x10;
  expect_damage(flipped, "damaged PNG file");
  // The check sums are right, but there are fewer rows than the header says.
  std::string rows_missing = make_png(2, 8, 0, {"\x05\xfa"});
  const std::string header = big_endian(2, 4) + big_endian(9, 4) + "\x08" + std::string(4, '\0');
  rows_missing.replace(8, 25, png_chunk("IHDR", header));
  expect_damage(rows_missing, "damaged PNG file");

  cv::Mat mat(64, 64, CV_8UC3);
  cv::randu(mat, 0, 255);
  std::string jpeg = encoded(".jpg", mat);
  jpeg.replace(jpeg.size() / 2, 40, 40, '\xfe');
  expect_damage(jpeg, "damaged JPEG file (Corrupt JPEG data");
  jpeg.replace(jpeg.size() / 2 + 10, 2, "\xff\xd8");
  expect_damage(jpeg, "damaged JPEG file");

  std::string tiff = encoded(".tiff", mat, {cv::IMWRITE_TIFF_COMPRESSION, 5});
  tiff.replace(4000, 60, 60, '\xff');
  expect_damage(tiff, "damaged TIFF file");

  std::string webp = encoded(".webp", mat, {cv::IMWRITE_WEBP_QUALITY, 101});
  webp.replace(60, 200, 200, '\xff');
  expect_damage(webp, "damaged");

  // A run-length encoded BMP of 4x2 px whose second row is missing.
  const std::string palette("\x00\x00\x00\x00\xff\xff\xff\x00", 8);
  const std::string bmp = "BM" + little_endian(64, 4) + little_endian(0, 4) + little_endian(62, 4) +
                          little_endian(40, 4) + little_endian(4, 4) + little_endian(2, 4) +
                          little_endian(1, 2) + little_endian(8, 2) + little_endian(1, 4) +
                          little_endian(2, 4) + std::string(8, '\0') + little_endian(2, 4) +
                          little_endian(2, 4) + palette;
  expect_damage(bmp + "\x04\x01", "damaged");

  expect_damage("<html>not found</html>", "not a PNG, JPEG, BMP, TIFF or WebP image");
  expect_damage("", "the file is empty");
  expect_damage(
      make_tiff({.width = 1, .height = 1, .bits = 32, .sample_format = 3}, "\x01\x02\x03\x04"),
      "expected 8 or 16 bits");
}

TEST(image, refuses_sizes_that_would_take_all_memory) {
  const TempDir dir;
  const auto expect_refused = [&](const std::string& bytes, const std::string& part) {
    write_bytes(dir.path / "huge.png", bytes);
    EXPECT_ERROR(read_image(dir.path / "huge.png"), Error, part);
    EXPECT_ERROR(read_image_size(dir.path / "huge.png"), Error, part);
  };
  std::string png = make_png(1, 8, 0, {"\x05"});
  const std::string header =
      big_endian(0x7fffffff, 4) + big_endian(0x7fffffff, 4) + "\x08" + std::string(4, '\0');
  png.replace(8, 25, png_chunk("IHDR", header));
  expect_refused(png, "2147483647x2147483647 px");
  expect_refused(make_tiff({.width = 0x7fffffff, .height = 0x7fffffff}, "\x01"),
                 "2147483647x2147483647 px");
  std::string bmp = make_bmp(1, {std::string(4, '\1')});
  // The least number of all, which has no positive counterpart.
  bmp.replace(18, 8, little_endian(0x7fffffff, 4) + little_endian(0x80000000, 4));
  expect_refused(bmp, "2147483647x2147483648 px");
  // 40000 x 40000, allowed by JPEG.
  std::string jpeg = encoded(".jpg", cv::Mat(8, 8, CV_8UC1, cv::Scalar(7)));
  jpeg.replace(jpeg.find("\xff\xc0") + 5, 4, "\x9c\x40\x9c\x40");
  expect_refused(jpeg, "40000x40000 px");
}

TEST(image, names_a_missing_file) {
  const TempDir dir;
  EXPECT_ERROR(read_image(dir.path / "none.png"), Error, "none.png: no such file");
  EXPECT_ERROR(read_mask(dir.path / "none.png"), Error, "none.png: no such file");
  EXPECT_ERROR(read_image_size(dir.path / "none.png"), Error, "none.png: no such file");
}

TEST(image, is_read_by_several_threads_at_once) {
  cv::Mat mat(40, 50, CV_8UC3);
  cv::randu(mat, 0, 255);
  const TempDir dir;
  const std::vector<std::string> names = {"a.png", "b.jpg", "c.tiff", "d.webp"};
  std::vector<torch::Tensor> alone;
  for (const auto& name : names) {
    write_bytes(dir.path / name, encoded(fs::path(name).extension(), mat));
    alone.push_back(read_image(dir.path / name));
  }
  std::vector<std::thread> threads;
  std::vector<int> same(8, 0);
  for (size_t i = 0; i < same.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 10; ++round) {
        const size_t which = (i + static_cast<size_t>(round)) % names.size();
        same[i] += torch::equal(read_image(dir.path / names[which]), alone[which]) ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(8, 10));
}

TEST(mask, keeps_the_files_values) {
  expect_same_bits(mask_of(make_png(3, 8, 0, {std::string("\x00\x01\xfe", 3)})),
                   u8({0, 1, 254}, {1, 3}));
  // 16 bits: 3 stays 3, and what does not fit becomes 255.
  expect_same_bits(mask_of(make_png(3, 16, 0, {std::string("\x00\x03\x01\x00\x00\x00", 6)})),
                   u8({3, 255, 0}, {1, 3}));
  expect_same_bits(
      mask_of(make_tiff({.width = 2, .height = 1, .bits = 16}, std::string("\x03\x00\x00\x01", 4))),
      u8({3, 255}, {1, 2}));
}

TEST(mask, takes_the_largest_channel_but_not_alpha) {
  expect_same_bits(mask_of(make_png(2, 8, 6, {std::string("\x00\x00\x09\xff\x00\x00\x00\xff", 8)})),
                   u8({9, 0}, {1, 2}));
  expect_same_bits(mask_of(make_png(2, 8, 4, {std::string("\x07\xff\x00\xff", 4)})),
                   u8({7, 0}, {1, 2}));
  const std::string palette = png_chunk("PLTE", std::string("\xff\xff\xff\x00\x00\x00", 6));
  // Index 0 is white here: the colour counts, not the index.
  expect_same_bits(mask_of(make_png(2, 8, 3, {std::string("\x00\x01", 2)}, palette)),
                   u8({255, 0}, {1, 2}));
}

TEST(write_image, comes_back) {
  const TempDir dir;
  const torch::Tensor image = torch::randint(0, 256, {5, 7, 3}, torch::kUInt8);
  const torch::Tensor grey = image.select(2, 0);
  for (const std::string name : {"a.png", "b.BMP", "c.tif"}) {
    SCOPED_TRACE(name);
    write_image(dir.path / "new folder" / name, image);
    expect_same_bits(read_image(dir.path / "new folder" / name), image);
    write_image(dir.path / name, grey);
    expect_same_bits(read_mask(dir.path / name), grey.contiguous());
  }
}

TEST(write_image, refuses_what_no_file_can_hold) {
  const TempDir dir;
  const torch::Tensor image = torch::zeros({2, 2, 3}, torch::kUInt8);
  EXPECT_ERROR(write_image(dir.path / "a.gif", image), Error, "\".gif\"; known are .png, .jpg");
  testing::internal::CaptureStderr();
  EXPECT_ERROR(write_image(dir.path / "a.jpg", torch::zeros({1, 70000}, torch::kUInt8)), Error,
               "70000x1 px, but this format holds at most 65500");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(fs::is_empty(dir.path));
  EXPECT_THROW(write_image(dir.path / "a.png", image.to(torch::kFloat)), c10::Error);
}

TEST(tiff_map, comes_back_bit_for_bit) {
  torch::Tensor map = torch::randn({37, 23});
  map[0][0] = std::numeric_limits<float>::quiet_NaN();
  map[0][1] = std::numeric_limits<float>::infinity();
  map[0][2] = -0.0F;
  map[0][3] = std::numeric_limits<float>::denorm_min();
  const TempDir dir;
  write_tiff(dir.path / "new" / "map.tiff", map.t());
  const torch::Tensor read = read_tiff(dir.path / "new" / "map.tiff");
  expect_same_bits(read.view(torch::kInt), map.t().contiguous().view(torch::kInt));
  // Uncompressed, so that the pixels are in the file as they are.
  EXPECT_GT(fs::file_size(dir.path / "new" / "map.tiff"), 37 * 23 * sizeof(float));
  const torch::Tensor row = map.t().contiguous()[5].contiguous();
  const std::string pixels(static_cast<const char*>(row.data_ptr()), 37 * sizeof(float));
  EXPECT_NE(bytes_of(dir.path / "new" / "map.tiff").find(pixels), std::string::npos);
}

TEST(tiff_map, must_be_one_float_channel) {
  const TempDir dir;
  write_bytes(dir.path / "a.tiff", make_tiff({.width = 2, .height = 1}, "\x01\x02"));
  EXPECT_ERROR(read_tiff(dir.path / "a.tiff"), Error,
               "a.tiff: expected one channel of 32-bit floats");
  write_bytes(dir.path / "b.tiff", make_png(2, 8, 0, {"\x05\xfa"}));
  EXPECT_ERROR(read_tiff(dir.path / "b.tiff"), Error, "b.tiff: not a TIFF file");
  EXPECT_ERROR(read_tiff(dir.path / "c.tiff"), Error, "c.tiff");
  write_tiff(dir.path / "d.tiff", torch::ones({9, 9}));
  const std::string whole = bytes_of(dir.path / "d.tiff");
  write_bytes(dir.path / "d.tiff", whole.substr(0, whole.size() / 2));
  EXPECT_ERROR(read_tiff(dir.path / "d.tiff"), Error, "damaged TIFF file");
}

TEST(list_images, is_sorted_and_passes_hidden_files_over) {
  const TempDir dir;
  for (const std::string name :
       {"b.png", "a.JPG", "c.txt", ".hidden.png", "sub/d.webp", ".git/e.png", "a/z.bmp"}) {
    write_bytes(dir.path / name, "x");
  }
  fs::create_directories(dir.path / "folder.png");
  EXPECT_EQ(list_images(dir.path), (std::vector<fs::path>{dir.path / "a.JPG", dir.path / "b.png"}));
  EXPECT_EQ(list_images(dir.path, /*recursive=*/true),
            (std::vector<fs::path>{dir.path / "a/z.bmp", dir.path / "a.JPG", dir.path / "b.png",
                                   dir.path / "sub/d.webp"}));
  // Links are followed, but nothing is searched twice; what a broken one should lead to is missed
  // later.
  const TempDir elsewhere;
  write_bytes(elsewhere.path / "z.bmp", "x");
  fs::create_directory_symlink(elsewhere.path, dir.path / "sub" / "link");
  fs::create_directory_symlink(elsewhere.path, dir.path / "sub" / "other");
  fs::create_directory_symlink(dir.path / "sub", elsewhere.path / "back");
  fs::create_directory_symlink(dir.path / "a", dir.path / "again");
  fs::create_directory_symlink(dir.path, dir.path / "a" / "up");
  fs::create_symlink(dir.path / "gone", dir.path / "broken.png");
  EXPECT_EQ(list_images(dir.path, /*recursive=*/true),
            (std::vector<fs::path>{dir.path / "a/z.bmp", dir.path / "a.JPG", dir.path / "b.png",
                                   dir.path / "broken.png", dir.path / "sub/d.webp",
                                   dir.path / "sub/link/z.bmp"}));
  EXPECT_ERROR(list_images(dir.path / "none"), Error, "none: there is no such folder");
  EXPECT_ERROR(list_images(dir.path / "b.png"), Error, "b.png is no folder");
}

TEST(has_image_ending, takes_any_case) {
  EXPECT_TRUE(has_image_ending("x/a.TiFF"));
  EXPECT_TRUE(has_image_ending("a.jpeg"));
  EXPECT_FALSE(has_image_ending("a.txt"));
  EXPECT_FALSE(has_image_ending("png"));
}

}  // namespace
}  // namespace efficientad
