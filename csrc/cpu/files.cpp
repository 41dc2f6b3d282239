#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "../api.h"

namespace deeplab_fast {
namespace {

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw std::runtime_error(std::strerror(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }

  // Only a regular file has a size that can be trusted, and an end.
  size_t size() const {
    struct stat status;
    if (::fstat(fd_, &status) != 0) throw std::runtime_error(std::strerror(errno));
    if (!S_ISREG(status.st_mode)) throw std::runtime_error("not a regular file");
    return static_cast<size_t>(status.st_size);
  }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const Descriptor file(path);
  bytes_.size = file.size();
  if (bytes_.size == 0) return;
  void* map = ::mmap(nullptr, bytes_.size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (map == MAP_FAILED) throw std::runtime_error(std::strerror(errno));
  bytes_.data = static_cast<const uint8_t*>(map);
}

MappedFile::~MappedFile() {
  if (bytes_.data != nullptr) ::munmap(const_cast<uint8_t*>(bytes_.data), bytes_.size);
}

void read_file(const std::string& path, size_t limit, std::vector<uint8_t>* buffer) {
  const Descriptor file(path);
  const size_t size = file.size();
  if (size > limit)
    throw std::runtime_error(std::to_string(size) + " bytes; expected at most " + std::to_string(limit));
  buffer->resize(size);
  for (size_t have = 0; have < size;) {
    const ssize_t got = ::read(file.get(), buffer->data() + have, size - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::runtime_error(std::strerror(errno));
    if (got == 0) throw std::runtime_error("became shorter while it was read");
    have += static_cast<size_t>(got);
  }
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
