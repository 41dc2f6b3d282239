/* Preloaded: lets operations on files below a folder fail, from the n-th on.
 *
 * `fault_arm` begins to count, either what changes files (opening for writing, write, fsync, rename, link,
 * unlink, truncate, mkdir, rmdir), or what reads them (opening for reading, read), or both. What cannot
 * happen to an operation is not counted: a full disk stops only what takes room, a signal only what a system
 * call may wait for, and only reads and writes are done in part. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FILES 4096
#define MAX_COUNTED (1 << 20)
#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

enum { CHANGES = 1, READS = 2 };         /* what is counted, and what an open file is open for */
enum { ROOM = 4, WAITS = 8, PART = 16 }; /* what may happen to an operation */
enum { COUNT, KILL, FAIL, SHORT, SLOW, MOVE, REPLACE };

static char folder[PATH_MAX];
static int counted_kinds, deed, error_number;
static long first, last;
static atomic_long done;
static atomic_int last_file = -1; /* of the operation before, where that wrote to or read from one */
static char goes_on[MAX_COUNTED]; /* 1 where an operation does so to the same file as the one before */
static atomic_char opened[MAX_FILES];

/* What `what` says happens to operations n to n + times - 1 (times < 0: to all from n on):
 * KILL: the process ends with SIGKILL; a write is done by half. FAIL: with `error`. SHORT: done by half.
 * SLOW: after a few ms. MOVE: the folder is first given the name FOLDER.gone. REPLACE: and a file is put into
 * its place. */
void fault_arm(const char* path, int kinds, int what, int error, long n, long times) {
  snprintf(folder, sizeof folder, "%s", path);
  counted_kinds = kinds;
  deed = what;
  error_number = error;
  first = n;
  last = n == 0 ? -1 : times < 0 ? LONG_MAX : n + times - 1;
  done = 0;
  last_file = -1;
}

long fault_count(void) { return done; }

/* 1 where operation n went on with the file of operation n - 1: a fault at one is much like one at the other.
 */
int fault_goes_on(long n) { return n > 0 && n < MAX_COUNTED && goes_on[n]; }

static void move_folder(void) {
  REAL(rename);
  char gone[PATH_MAX + 8], name[PATH_MAX];
  snprintf(name, sizeof name, "%s", folder);
  snprintf(gone, sizeof gone, "%s.gone", folder);
  if (real(name, gone) != 0 || deed != REPLACE) return;
  __typeof__(&open) real_open = (__typeof__(&open))dlsym(RTLD_NEXT, "open");
  int file = real_open(name, O_CREAT | O_WRONLY, 0644);
  if (file >= 0) close(file);
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Counts an operation; 1 where it is to fail (errno is set), to be done by half, or to be the last (`deed`).
 */
static int strikes(int kind, int file) {
  if (!(kind & counted_kinds)) return 0;
  if (deed == SHORT && !(kind & PART)) return 0;
  if (deed == FAIL && error_number == ENOSPC && !(kind & ROOM)) return 0;
  if (deed == FAIL && error_number == EINTR && !(kind & WAITS)) return 0;
  long n = atomic_fetch_add(&done, 1) + 1;
  int before = atomic_exchange(&last_file, kind & PART ? file : -1);
  if (n < MAX_COUNTED) goes_on[n] = (kind & PART) && before == file;
  if (n < first || n > last) return 0;
  if (deed == SLOW) usleep(3000);
  if (deed == MOVE || deed == REPLACE) move_folder();
  errno = error_number;
  return deed == KILL || deed == FAIL || deed == SHORT;
}

/* Of an operation that has no half. */
static int fails(int kind) {
  if (!strikes(kind, -1)) return 0;
  if (deed == KILL) die();
  return 1;
}

/* How much of a write or read of `size` bytes is to be done where it is struck: nothing where it fails. */
static size_t half(size_t size) {
  int fills_up = deed == FAIL && error_number == ENOSPC && last == LONG_MAX && done == first;
  return deed == SHORT ? (size > 1 ? size / 2 : size) : deed == KILL || fills_up ? size / 2 : 0;
}

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

static void note(int file, int kinds) {
  if (file >= 0 && file < MAX_FILES) opened[file] = (char)kinds;
}
static int of(int file) { return file >= 0 && file < MAX_FILES ? opened[file] : 0; }

static int opening(int at, const char* path, int flags) {
  if (!is_below(at, path)) return 0;
  int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
  return (writes ? CHANGES : 0) | ((flags & O_ACCMODE) != O_WRONLY ? READS : 0);
}

static int opening_kind(int kinds, int flags) {
  int room = (flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE ? ROOM : 0;
  return (kinds & CHANGES ? CHANGES | room : kinds) | WAITS;
}

#define OPEN(name, parameters, at, ...)                                     \
  int name parameters {                                                     \
    REAL(name);                                                             \
    va_list rest;                                                           \
    va_start(rest, flags);                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                           \
    int kinds = opening(at, path, flags);                                   \
    if (kinds && fails(opening_kind(kinds, flags))) return -1;              \
    int file = real(__VA_ARGS__, flags, mode);                              \
    note(file, kinds);                                                      \
    return file;                                                            \
  }
OPEN(open, (const char* path, int flags, ...), AT_FDCWD, path)
OPEN(open64, (const char* path, int flags, ...), AT_FDCWD, path)
OPEN(openat, (int at, const char* path, int flags, ...), at, at, path)
OPEN(openat64, (int at, const char* path, int flags, ...), at, at, path)

#define FOPEN(name)                                                                            \
  FILE* name(const char* path, const char* mode) {                                             \
    REAL(name);                                                                                \
    int flags = mode[0] == 'r' ? (strchr(mode, '+') ? O_RDWR : O_RDONLY) : O_WRONLY | O_CREAT; \
    int kinds = opening(AT_FDCWD, path, flags);                                                \
    if (kinds && fails(opening_kind(kinds, flags) & ~WAITS)) return NULL;                      \
    FILE* file = real(path, mode);                                                             \
    if (file != NULL) note(fileno(file), kinds);                                               \
    return file;                                                                               \
  }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int file, const void* data, size_t size) {
  REAL(write);
  if ((of(file) & CHANGES) && strikes(CHANGES | ROOM | WAITS | PART, file)) {
    size_t part = half(size);
    ssize_t count = part ? real(file, data, part) : -1;
    if (deed == KILL) die();
    if (count < 0) errno = error_number;
    return count;
  }
  return real(file, data, size);
}

ssize_t pwrite64(int file, const void* data, size_t size, off64_t at) {
  REAL(pwrite64);
  if ((of(file) & CHANGES) && strikes(CHANGES | ROOM | WAITS | PART, file)) {
    size_t part = half(size);
    ssize_t count = part ? real(file, data, part, at) : -1;
    if (deed == KILL) die();
    if (count < 0) errno = error_number;
    return count;
  }
  return real(file, data, size, at);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  REAL(writev);
  if ((of(file) & CHANGES) && strikes(CHANGES | ROOM | WAITS | PART, file)) {
    if (deed == KILL) die();
    if (deed != SHORT) return -1;
    return real(file, parts, 1);
  }
  return real(file, parts, count);
}

ssize_t read(int file, void* data, size_t size) {
  REAL(read);
  if ((of(file) & READS) && strikes(READS | WAITS | PART, file)) {
    if (deed == KILL) die();
    if (deed == FAIL) return -1;
    return real(file, data, half(size));
  }
  return real(file, data, size);
}

ssize_t pread64(int file, void* data, size_t size, off64_t at) {
  REAL(pread64);
  if ((of(file) & READS) && strikes(READS | WAITS | PART, file)) {
    if (deed == KILL) die();
    if (deed == FAIL) return -1;
    return real(file, data, half(size), at);
  }
  return real(file, data, size, at);
}

ssize_t pread(int file, void* data, size_t size, off_t at) { return pread64(file, data, size, at); }
ssize_t pwrite(int file, const void* data, size_t size, off_t at) { return pwrite64(file, data, size, at); }

ssize_t readv(int file, const struct iovec* parts, int count) {
  REAL(readv);
  if ((of(file) & READS) && strikes(READS | WAITS | PART, file)) {
    if (deed == KILL) die();
    if (deed == FAIL) return -1;
    return real(file, parts, 1);
  }
  return real(file, parts, count);
}

/* How Python copies a file: half a copy is a short one. */
ssize_t sendfile(int to, int from, off_t* at, size_t size) {
  REAL(sendfile);
  if ((of(to) & CHANGES) && strikes(CHANGES | ROOM | WAITS, to)) {
    if (deed == KILL) die();
    return -1;
  }
  return real(to, from, at, size);
}

#define ON_FILE(name, kind, parameters, ...)                 \
  int name parameters {                                      \
    REAL(name);                                              \
    return of(file) && fails(kind) ? -1 : real(__VA_ARGS__); \
  }

/* The disk is not waited for: no machine loses power here, and a process that is killed has lost nothing. */
#define ON_SYNC(name) \
  int name(int file) { return of(file) && fails(CHANGES | ROOM | WAITS) ? -1 : 0; }
ON_SYNC(fsync)
ON_SYNC(fdatasync)
ON_FILE(ftruncate64, CHANGES | WAITS, (int file, off64_t size), file, size)
ON_FILE(ftruncate, CHANGES | WAITS, (int file, off_t size), file, size)

#define ON_PATH(name, kind, at, path, parameters, ...)                 \
  int name parameters {                                                \
    REAL(name);                                                        \
    return is_below(at, path) && fails(kind) ? -1 : real(__VA_ARGS__); \
  }
ON_PATH(truncate64, CHANGES, AT_FDCWD, path, (const char* path, off64_t size), path, size)
ON_PATH(rename, CHANGES, AT_FDCWD, to, (const char* from, const char* to), from, to)
ON_PATH(renameat, CHANGES, to_at, to, (int from_at, const char* from, int to_at, const char* to), from_at,
        from, to_at, to)
ON_PATH(link, CHANGES | ROOM, AT_FDCWD, to, (const char* from, const char* to), from, to)
ON_PATH(symlink, CHANGES | ROOM, AT_FDCWD, to, (const char* from, const char* to), from, to)
ON_PATH(unlink, CHANGES, AT_FDCWD, path, (const char* path), path)
ON_PATH(unlinkat, CHANGES, at, path, (int at, const char* path, int flags), at, path, flags)
ON_PATH(mkdir, CHANGES | ROOM, AT_FDCWD, path, (const char* path, mode_t mode), path, mode)
ON_PATH(mkdirat, CHANGES | ROOM, at, path, (int at, const char* path, mode_t mode), at, path, mode)
ON_PATH(rmdir, CHANGES, AT_FDCWD, path, (const char* path), path)

int close(int file) {
  REAL(close);
  note(file, 0);
  return real(file);
}
