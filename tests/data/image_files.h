#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

// Image files made byte by byte, so that tests know exactly what is in them.

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// "ffd8" → two bytes.
inline std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

inline std::string big_endian(uint64_t value, int size) {
  std::string bytes;
  for (int i = size - 1; i >= 0; --i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

inline std::string little_endian(uint64_t value, int size) {
  const std::string bytes = big_endian(value, size);
  return {bytes.rbegin(), bytes.rend()};
}

inline std::string png_chunk(const std::string& type, const std::string& data) {
  uint32_t crc = 0xffffffff;
  for (const char c : type + data) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320 : 0);
  }
  return big_endian(data.size(), 4) + type + data + big_endian(crc ^ 0xffffffff, 4);
}

/// `rows` are the packed rows as stored, each of the same length; `extra` are chunks before IDAT.
inline std::string make_png(int width, int bits, int colour_type,
                            const std::vector<std::string>& rows, const std::string& extra = "") {
  std::string raw;
  for (const auto& row : rows) raw += std::string(1, '\0') + row;
  uint32_t a = 1;
  uint32_t b = 0;
  for (const char c : raw) {
    a = (a + static_cast<uint8_t>(c)) % 65521;
    b = (b + a) % 65521;
  }
  // One stored (uncompressed) deflate block.
  const std::string zlib = "\x78\x01\x01" + little_endian(raw.size(), 2) +
                           little_endian(~raw.size() & 0xffff, 2) + raw +
                           big_endian(b << 16 | a, 4);
  const std::string header = big_endian(static_cast<uint64_t>(width), 4) +
                             big_endian(rows.size(), 4) + static_cast<char>(bits) +
                             static_cast<char>(colour_type) + std::string(3, '\0');
  return "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) + extra + png_chunk("IDAT", zlib) +
         png_chunk("IEND", "");
}

/// An EXIF block (TIFF structure) that holds only an orientation.
inline std::string exif_block(int orientation) {
  return "MM" + big_endian(42, 2) + big_endian(8, 4) + big_endian(1, 2) + big_endian(0x112, 2) +
         big_endian(3, 2) + big_endian(1, 4) + big_endian(static_cast<uint64_t>(orientation), 2) +
         big_endian(0, 2) + big_endian(0, 4);
}

/// The JPEG with an EXIF segment put behind its first marker.
inline std::string with_exif(const std::string& jpeg, int orientation) {
  const std::string data = std::string("Exif\0\0", 6) + exif_block(orientation);
  return jpeg.substr(0, 2) + "\xff\xe1" + big_endian(data.size() + 2, 2) + data + jpeg.substr(2);
}

struct TiffForm {
  int width = 0;
  int height = 0;
  int bits = 8;
  int samples = 1;
  /// 0 white is zero, 1 black is zero, 2 RGB, 3 palette.
  int photometric = 1;
  int orientation = 1;
  /// 1 unsigned, 3 float.
  int sample_format = 1;
  /// 3 * 2^bits numbers of 16 bits, all red ones first.
  std::vector<uint16_t> palette = {};
};

/// A little-endian TIFF with one uncompressed strip; its directory comes before the pixels.
inline std::string make_tiff(const TiffForm& form, const std::string& pixels) {
  std::string extra;
  std::vector<std::string> entries;
  const size_t count = form.palette.empty() ? 11 : 12;
  const size_t extra_at = 8 + 2 + 12 * count + 4;
  const auto entry = [&](int tag, int type, uint64_t number, uint64_t value) {
    entries.push_back(little_endian(static_cast<uint64_t>(tag), 2) +
                      little_endian(static_cast<uint64_t>(type), 2) + little_endian(number, 4) +
                      little_endian(value, 4));
  };
  const auto list = [&](int tag, const std::vector<uint16_t>& values) {
    if (values.size() == 1) {
      entry(tag, 3, 1, values[0]);
      return;
    }
    if (values.size() == 2) {
      entry(tag, 3, 2, static_cast<uint64_t>(values[1]) << 16 | values[0]);
      return;
    }
    entry(tag, 3, values.size(), extra_at + extra.size());
    for (const uint16_t value : values) extra += little_endian(value, 2);
  };
  const auto samples = static_cast<size_t>(form.samples);
  entry(256, 4, 1, static_cast<uint64_t>(form.width));
  entry(257, 4, 1, static_cast<uint64_t>(form.height));
  list(258, std::vector<uint16_t>(samples, static_cast<uint16_t>(form.bits)));
  entry(259, 3, 1, 1);
  entry(262, 3, 1, static_cast<uint64_t>(form.photometric));
  const size_t offset_entry = entries.size();
  entry(273, 4, 1, 0);
  entry(274, 3, 1, static_cast<uint64_t>(form.orientation));
  entry(277, 3, 1, samples);
  entry(278, 4, 1, static_cast<uint64_t>(form.height));
  entry(279, 4, 1, pixels.size());
  if (!form.palette.empty()) list(320, form.palette);
  list(339, std::vector<uint16_t>(samples, static_cast<uint16_t>(form.sample_format)));
  entries[offset_entry].replace(8, 4, little_endian(extra_at + extra.size(), 4));
  std::string file = std::string("II*\0", 4) + little_endian(8, 4) + little_endian(count, 2);
  for (const auto& one : entries) file += one;
  return file + little_endian(0, 4) + extra + pixels;
}

/// A bottom-up BMP of 24 bits; `rows` from the bottom, padded to multiples of 4 bytes.
inline std::string make_bmp(int width, const std::vector<std::string>& rows) {
  std::string pixels;
  for (const auto& row : rows) pixels += row;
  return "BM" + little_endian(54 + pixels.size(), 4) + little_endian(0, 4) + little_endian(54, 4) +
         little_endian(40, 4) + little_endian(static_cast<uint64_t>(width), 4) +
         little_endian(rows.size(), 4) + little_endian(1, 2) + little_endian(24, 2) +
         little_endian(0, 4) + little_endian(pixels.size(), 4) + std::string(16, '\0') + pixels;
}
