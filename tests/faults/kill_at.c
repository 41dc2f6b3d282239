/* Preloaded: kills its own process with SIGKILL at the n-th operation that changes files below a folder.
 *
 * Counted are opening for writing, write, fsync, rename, unlink, truncate, mkdir and rmdir. The n-th is not
 * done, but a write is done by half: that is what a crash may leave. `fault_arm(folder, n)` begins to count;
 * n = 0 only counts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FILES 4096

static char folder[PATH_MAX];
static long wanted;
static atomic_long done;
static atomic_bool is_inside[MAX_FILES];

void fault_arm(const char* path, long n) {
  snprintf(folder, sizeof folder, "%s", path);
  wanted = n;
  done = 0;
}

long fault_count(void) { return done; }

static int is_below(int at, const char* path) {
  char full[2 * PATH_MAX], base[PATH_MAX], link[64];
  if (folder[0] == 0 || path == NULL) return 0;
  if (path[0] == '/') {
    snprintf(full, sizeof full, "%s", path);
  } else {
    if (at == AT_FDCWD) {
      if (getcwd(base, sizeof base) == NULL) return 0;
    } else {
      snprintf(link, sizeof link, "/proc/self/fd/%d", at);
      ssize_t size = readlink(link, base, sizeof base - 1);
      if (size < 0) return 0;
      base[size] = 0;
    }
    snprintf(full, sizeof full, "%s/%s", base, path);
  }
  size_t length = strlen(folder);
  return strncmp(full, folder, length) == 0 && (full[length] == '/' || full[length] == 0);
}

/* 1 where this operation is the last; the caller may do half of it before it calls die(). */
static int is_last(void) { return atomic_fetch_add(&done, 1) + 1 == wanted; }
static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static void note(int path_is_below, int file) {
  if (file >= 0 && file < MAX_FILES) is_inside[file] = path_is_below;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define WRITES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)
#define OPEN(name)                                                          \
  int name(const char* path, int flags, ...) {                              \
    REAL(name);                                                             \
    va_list rest;                                                           \
    va_start(rest, flags);                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                           \
    int below = (flags & WRITES) && is_below(AT_FDCWD, path);               \
    if (below && is_last()) die();                                          \
    int file = real(path, flags, mode);                                     \
    note(below, file);                                                      \
    return file;                                                            \
  }
#define OPENAT(name)                                                        \
  int name(int at, const char* path, int flags, ...) {                      \
    REAL(name);                                                             \
    va_list rest;                                                           \
    va_start(rest, flags);                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                           \
    int below = (flags & WRITES) && is_below(at, path);                     \
    if (below && is_last()) die();                                          \
    int file = real(at, path, flags, mode);                                 \
    note(below, file);                                                      \
    return file;                                                            \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

static int counts(int file) { return file >= 0 && file < MAX_FILES && is_inside[file]; }

ssize_t write(int file, const void* data, size_t size) {
  REAL(write);
  if (counts(file) && is_last()) {
    (void)!real(file, data, size / 2);
    die();
  }
  return real(file, data, size);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  REAL(writev);
  if (counts(file) && is_last()) die();
  return real(file, parts, count);
}

ssize_t pwrite64(int file, const void* data, size_t size, off64_t at) {
  REAL(pwrite64);
  if (counts(file) && is_last()) die();
  return real(file, data, size, at);
}

int fsync(int file) {
  REAL(fsync);
  if (counts(file) && is_last()) die();
  return real(file);
}

int ftruncate64(int file, off64_t size) {
  REAL(ftruncate64);
  if (counts(file) && is_last()) die();
  return real(file, size);
}

int truncate64(const char* path, off64_t size) {
  REAL(truncate64);
  if (is_below(AT_FDCWD, path) && is_last()) die();
  return real(path, size);
}

int rename(const char* from, const char* to) {
  REAL(rename);
  if (is_below(AT_FDCWD, from) && is_last()) die();
  return real(from, to);
}

int unlink(const char* path) {
  REAL(unlink);
  if (is_below(AT_FDCWD, path) && is_last()) die();
  return real(path);
}

int unlinkat(int at, const char* path, int flags) {
  REAL(unlinkat);
  if (is_below(at, path) && is_last()) die();
  return real(at, path, flags);
}

int mkdir(const char* path, mode_t mode) {
  REAL(mkdir);
  if (is_below(AT_FDCWD, path) && is_last()) die();
  return real(path, mode);
}

int rmdir(const char* path) {
  REAL(rmdir);
  if (is_below(AT_FDCWD, path) && is_last()) die();
  return real(path);
}

int close(int file) {
  REAL(close);
  note(0, file);
  return real(file);
}
