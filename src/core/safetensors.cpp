#include "efficientad/core/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

// The reference implementation refuses longer headers too.
constexpr uint64_t kMostHeaderBytes = 100'000'000;

struct Type {
  const char* name;
  torch::ScalarType scalar_type;
  uint64_t bytes;
};

constexpr Type kTypes[] = {{"F32", torch::kFloat32, 4},
                           {"F16", torch::kFloat16, 2},
                           {"BF16", torch::kBFloat16, 2},
                           {"I64", torch::kInt64, 8},
                           {"U8", torch::kUInt8, 1}};

/// A whole file mapped privately, so that nobody's write reaches the file.
class Mapping {
 public:
  explicit Mapping(const fs::path& path) {
    std::error_code error;
    const auto status = fs::status(path, error);
    require(fs::exists(status), "{}: no such file", path.string());
    require(fs::is_regular_file(status), "{}: not a regular file", path.string());
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require(file >= 0, "{}: cannot be opened: {}", path.string(), std::strerror(errno));
    struct stat info {};
    if (::fstat(file, &info) == 0 && info.st_size > 0) {
      size_ = static_cast<uint64_t>(info.st_size);
      data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    }
    const int map_error = errno;
    ::close(file);
    require(info.st_size > 0, "{}: not a safetensors file: it is empty", path.string());
    require(data_ != MAP_FAILED, "{}: cannot be mapped into memory: {}", path.string(),
            std::strerror(map_error));
  }
  ~Mapping() {
    if (data_ != MAP_FAILED) ::munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  unsigned char* data() const { return static_cast<unsigned char*>(data_); }
  uint64_t size() const { return size_; }

 private:
  void* data_ = MAP_FAILED;
  uint64_t size_ = 0;
};

}  // namespace

void write_safetensors(const fs::path& path, const TensorFile& file) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  std::vector<torch::Tensor> data;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    const Type* type = nullptr;
    for (const auto& known : kTypes) {
      if (known.scalar_type == tensor.scalar_type()) type = &known;
    }
    TORCH_CHECK(type != nullptr, "safetensors: ", name, " has a type that is not written");
    TORCH_CHECK(name != "__metadata__", "safetensors: a tensor has a reserved name");
    const uint64_t bytes = static_cast<uint64_t>(tensor.numel()) * type->bytes;
    header[name] = {{"dtype", type->name},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
    data.push_back(tensor.detach().to(torch::kCPU).contiguous());
  }
  std::string text = dump_json(header);
  // Padding of the header aligns the data, as the reference implementation does.
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  write_file_with(path, [&](const fs::path& temporary) {
    errno = 0;
    std::ofstream out(temporary, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof(length));
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    for (const auto& tensor : data) {
      out.write(static_cast<const char*>(tensor.data_ptr()),
                static_cast<std::streamsize>(tensor.nbytes()));
    }
    out.close();
    require(!out.fail(), "{}: cannot be written: {}", path.string(),
            errno != 0 ? std::strerror(errno) : "disk full or not permitted");
  });
}

TensorFile read_safetensors(const fs::path& path) {
  const auto mapping = std::make_shared<Mapping>(path);
  const std::string where = path.string() + ": not a valid safetensors file: ";
  require(mapping->size() >= 8, "{}only {} bytes long", where, mapping->size());
  uint64_t length = 0;
  std::memcpy(&length, mapping->data(), sizeof(length));
  require(length <= kMostHeaderBytes && length <= mapping->size() - 8,
          "{}its header should be {} bytes long, but the file has {} bytes (truncated, or another "
          "kind of file)",
          where, length, mapping->size());
  const uint64_t data_size = mapping->size() - 8 - length;
  unsigned char* const data = mapping->data() + 8 + length;
  const auto header = parse_json<nlohmann::json>(
      std::string_view(reinterpret_cast<const char*>(mapping->data()) + 8, length),
      path.string() + ": not a valid safetensors file: its header");
  require(header.is_object(), "{}its header is no JSON object", where);

  TensorFile file;
  std::map<uint64_t, uint64_t> places;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      require(entry.is_object(), "{}__metadata__ is no object", where);
      for (const auto& [key, value] : entry.items()) {
        require(value.is_string(), "{}metadata {} is no string", where, key);
        file.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    const auto field = [&](const char* key) -> const nlohmann::json& {
      static const nlohmann::json missing;
      return entry.is_object() && entry.contains(key) ? entry[key] : missing;
    };
    const auto& dtype = field("dtype");
    const Type* type = nullptr;
    for (const auto& known : kTypes) {
      if (dtype.is_string() && dtype.get<std::string>() == known.name) type = &known;
    }
    require(type != nullptr, "{}tensor {} has the unknown type {}", where, name, brief_json(dtype));

    const auto& shape = field("shape");
    require(shape.is_array(), "{}tensor {} has no shape", where, name);
    std::vector<int64_t> sizes;
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    uint64_t bytes = type->bytes;
    // The same, were no side 0.
    uint64_t extent = type->bytes;
    for (const auto& size : shape) {
      require(size.is_number_unsigned(), "{}tensor {} has the impossible shape {}", where, name,
              brief_json(shape));
      const auto value = size.get<uint64_t>();
      require(!__builtin_mul_overflow(extent, std::max<uint64_t>(value, 1), &extent) &&
                  extent <= kMost && value <= kMost,
              "{}tensor {} has the impossible shape {}", where, name, brief_json(shape));
      bytes *= value;
      sizes.push_back(static_cast<int64_t>(value));
    }
    const auto& offsets = field("data_offsets");
    require(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() &&
                offsets[1].is_number_unsigned(),
            "{}tensor {} has no data_offsets", where, name);
    const auto begin = offsets[0].get<uint64_t>();
    const auto end = offsets[1].get<uint64_t>();
    require(begin <= end && end <= data_size,
            "{}tensor {} is said to lie at bytes {} to {}, but there are {} (truncated?)", where,
            name, begin, end, data_size);
    require(end - begin == bytes, "{}tensor {} has {} bytes, its type and shape want {}", where,
            name, end - begin, bytes);

    if (bytes > 0) {
      // The tensors so far, by where they begin.
      const auto after = places.upper_bound(begin);
      const auto overlaps = after != places.end() && after->first < end;
      const auto overlapped = after != places.begin() && std::prev(after)->second > begin;
      require(!overlaps && !overlapped, "{}tensor {} overlaps another", where, name);
      places[begin] = end;
    }

    unsigned char* const start = data + begin;
    const auto options = torch::TensorOptions().dtype(type->scalar_type);
    if (reinterpret_cast<uintptr_t>(start) % type->bytes == 0) {
      file.tensors[name] = torch::from_blob(
          start, sizes, [mapping](void*) {}, options);
    } else {
      torch::Tensor copy = torch::empty(sizes, options);
      if (bytes > 0) std::memcpy(copy.data_ptr(), start, bytes);
      file.tensors[name] = copy;
    }
  }
  uint64_t owned = 0;
  for (const auto& [begin, end] : places) owned += end - begin;
  require(owned == data_size, "{}{} of its {} bytes of data belong to no tensor", where,
          data_size - owned, data_size);
  return file;
}

torch::Tensor take(const TensorFile& file, const std::string& name, const fs::path& path,
                   torch::IntArrayRef sizes) {
  const auto found = file.tensors.find(name);
  require(found != file.tensors.end(), "{}: has no tensor named {}", path.string(), name);
  require(sizes.empty() || found->second.sizes() == sizes,
          "{}: tensor {} should have the shape {}, but has {}", path.string(), name,
          c10::str(sizes), c10::str(found->second.sizes()));
  return found->second;
}

}  // namespace efficientad
