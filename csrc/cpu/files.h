// Files as bytes in memory.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace deeplab_fast {

struct Bytes {
  const uint8_t* data;
  size_t size;
};

// What tells a file from what it was: its size, and when it was last written.
struct Stamp {
  int64_t size, seconds, nanoseconds;
  bool operator==(const Stamp& other) const {
    return size == other.size && seconds == other.seconds && nanoseconds == other.nanoseconds;
  }
};

// A regular file, open for reading at any place by any number of threads. It stays the same file when its
// name is given to another. Not a memory map: in one, bytes that are no longer there end the process.
class OpenFile {
 public:
  explicit OpenFile(const std::string& path);  // throws std::runtime_error
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  Stamp stamp() const;
  // Reads `size` bytes, at most `limit`, at `offset`; they stay in `buffer`, which only grows. Throws
  // std::runtime_error, also where the file ends before them.
  Bytes read(int64_t offset, size_t size, size_t limit, std::vector<uint8_t>* buffer) const;

 private:
  int fd_;
};

// Files that are opened at first use, by number; some stay open.
class OpenFiles {
 public:
  explicit OpenFiles(std::vector<std::string> paths) : paths_(std::move(paths)), entries_(paths_.size()) {}
  // Throws std::runtime_error.
  std::shared_ptr<const OpenFile> get(int32_t number);
  // Whether the file is as it was at its first use.
  bool is_unchanged(int32_t number, const OpenFile& file);
  const std::string& path(int32_t number) const { return paths_[number]; }

 private:
  struct Entry {
    std::shared_ptr<const OpenFile> file;
    std::unique_ptr<const Stamp> first;
  };
  const std::vector<std::string> paths_;
  std::mutex mutex_;  // guards what follows
  std::vector<Entry> entries_;
  std::deque<int32_t> open_;  // the first to be opened is the first to be closed
};

// Reads a whole file of at most `limit` bytes. Throws std::runtime_error.
Bytes read_file(const std::string& path, size_t limit, std::vector<uint8_t>* buffer);

}  // namespace deeplab_fast
