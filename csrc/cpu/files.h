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

#include "../api.h"

namespace deeplab_fast {

struct Bytes {
  const uint8_t* data;
  size_t size;
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
  // `stamps`: what each file was, or nothing: then what it is at its first use.
  OpenFiles(std::vector<std::string> paths, const std::vector<Stamp>& stamps);
  // Throws std::runtime_error.
  std::shared_ptr<const OpenFile> get(int32_t number);
  // Whether the file is as it was.
  bool is_unchanged(int32_t number, const OpenFile& file);
  const std::string& path(int32_t number) const { return paths_[number]; }
  size_t count() const { return paths_.size(); }

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
