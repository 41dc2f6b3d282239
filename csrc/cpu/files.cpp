#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>

#include "../api.h"

namespace deeplab_fast {
namespace {

constexpr size_t kMostOpen = 256;  // a process may often open only 1024 files

[[noreturn]] void fail() {
  if (errno == ENOMEM) throw std::bad_alloc();
  throw std::runtime_error(std::strerror(errno));
}

[[noreturn]] void end_too_early() {
  throw std::runtime_error("the file ends before its bytes: it became shorter");
}

}  // namespace

OpenFile::OpenFile(const std::string& path) : fd_(-1) {
  do {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) fail();
}

OpenFile::~OpenFile() { ::close(fd_); }

// Only a regular file has a size that can be trusted, and an end.
Stamp OpenFile::stamp() const {
  struct stat status;
  if (::fstat(fd_, &status) != 0) fail();
  if (!S_ISREG(status.st_mode)) throw std::runtime_error("not a regular file");
#ifdef __APPLE__
  const timespec written = status.st_mtimespec;
#else
  const timespec written = status.st_mtim;
#endif
  return {
      static_cast<int64_t>(status.st_size),
      int64_t{1'000'000'000} * static_cast<int64_t>(written.tv_sec) + static_cast<int64_t>(written.tv_nsec)};
}

Bytes OpenFile::read(int64_t offset, size_t size, size_t limit, std::vector<uint8_t>* buffer) const {
  if (size > limit) {
    throw std::runtime_error(std::to_string(size) + " bytes; expected at most " + std::to_string(limit) +
                             " (--max_pixels raises it)");
  }
  if (buffer->size() < size) {  // no memory for bytes that are only said to be there
    if (offset > stamp().size - static_cast<int64_t>(size)) end_too_early();
    buffer->resize(size);
  }
  for (size_t have = 0; have < size;) {
    const ssize_t got = ::pread(fd_, buffer->data() + have, size - have,
                                static_cast<off_t>(offset + static_cast<int64_t>(have)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail();
    if (got == 0) end_too_early();
    have += static_cast<size_t>(got);
  }
  return {buffer->data(), size};
}

OpenFiles::OpenFiles(std::vector<std::string> paths, const std::vector<Stamp>& stamps)
    : paths_(std::move(paths)), entries_(paths_.size()) {
  for (size_t i = 0; i < stamps.size() && i < entries_.size(); ++i) {
    entries_[i].first = std::make_unique<const Stamp>(stamps[i]);
  }
}

std::shared_ptr<const OpenFile> OpenFiles::get(int32_t number) {
  const std::lock_guard<std::mutex> guard(mutex_);
  Entry& entry = entries_[number];
  if (entry.file) return entry.file;
  auto file = std::make_shared<const OpenFile>(paths_[number]);
  if (!entry.first) entry.first = std::make_unique<const Stamp>(file->stamp());
  if (open_.size() == kMostOpen) {
    entries_[open_.front()].file.reset();  // who reads it now still holds it
    open_.pop_front();
  }
  open_.push_back(number);
  entry.file = std::move(file);
  return entry.file;
}

bool OpenFiles::is_unchanged(int32_t number, const OpenFile& file) {
  const Stamp now = file.stamp();
  const std::lock_guard<std::mutex> guard(mutex_);
  return now == *entries_[number].first;
}

Bytes read_file(const std::string& path, size_t limit, std::vector<uint8_t>* buffer) {
  const OpenFile file(path);
  return file.read(0, static_cast<size_t>(file.stamp().size), limit, buffer);
}

void prefer_large_pages(void* memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  if (end > begin)
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a wish: it may fail
#else
  (void)memory, (void)bytes;
#endif
}

}  // namespace deeplab_fast
