// Files as bytes in memory: mapped, or read.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

namespace deeplab_fast {

struct Bytes {
  const uint8_t* data;
  size_t size;
};

// A whole file in a read-only memory map. Throws std::runtime_error.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  Bytes bytes() const { return bytes_; }

 private:
  Bytes bytes_{nullptr, 0};
};

// Reads a whole file of at most `limit` bytes into `buffer`. Throws std::runtime_error.
void read_file(const std::string& path, size_t limit, std::vector<uint8_t>* buffer);

}  // namespace deeplab_fast
