/* Makes one write of a process fail, for tests: LD_PRELOAD this library.

   Calls that change files below $CAPTIONER_FAULT_ROOT are counted in the file
   $CAPTIONER_FAULT_CONTROL, which all processes of a run and the test map; the layout of the
   mapping is that of `Control` in faults.py. Python's own patches would not see what TensorFlow,
   SQLite and Beam write in C and C++. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { COUNT, ENOSPC_ONCE, FULL, EIO_ONCE, KILL, HANG };
/* What a full disk has to do with a call; it takes no room to remove something. */
enum room { NEEDS_ROOM, FREES_ROOM };

struct control {
  _Atomic int64_t count;  /* calls since it was armed */
  int64_t target;         /* the call that goes wrong, from 1 on */
  _Atomic int32_t armed;
  int32_t kind;
  int32_t logs; /* whether calls on log files count, and no others, or all others */
  _Atomic int32_t fired;
  _Atomic int32_t hung; /* process id */
  int32_t unused;
  char what[512]; /* the call that went wrong, and its path */
};

static struct control *control;
static const char *root;
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("CAPTIONER_FAULT_CONTROL");
  root = getenv("CAPTIONER_FAULT_ROOT");
  if (!file || !root) return;
  int fd = open(file, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  root_length = strlen(root);
  if (mapped != MAP_FAILED) control = mapped;
}

static int is_below_root(const char *path) {
  return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* Whether the call goes wrong; errno says how. It does not return where the process ends or hangs.
   `tear` writes the first part of what a killed process was writing. */
static int fails(const char *call, const char *path, enum room room, void (*tear)(void *),
                 void *argument) {
  if (!is_below_root(path)) return 0;
  if (!strncmp(path + root_length, "/logs", 5) != !!control->logs) return 0;
  int64_t number = atomic_fetch_add(&control->count, 1) + 1;
  int kind = control->kind;
  if (kind == COUNT || number < control->target) return 0;
  if (number > control->target && kind != FULL) return 0;
  if (kind == FULL && room == FREES_ROOM) {
    if (number == control->target) control->target++; /* the next one that needs room */
    return 0;
  }
  if (!atomic_exchange(&control->fired, 1))
    snprintf(control->what, sizeof control->what, "%s %s", call, path + root_length);
  if (kind == KILL) {
    if (tear) tear(argument);
    kill(getpid(), SIGKILL);
  }
  if (kind == KILL || kind == HANG) {
    control->hung = getpid();
    for (;;) pause();
  }
  errno = kind == EIO_ONCE || room == FREES_ROOM ? EIO : ENOSPC;
  return 1;
}

static int path_fails(const char *call, int folder, const char *path, enum room room) {
  if (!control || !control->armed || !path) return 0;
  if (path[0] == '/') return fails(call, path, room, NULL, NULL);
  char link[64], whole[2 * PATH_MAX];
  if (folder == AT_FDCWD)
    snprintf(link, sizeof link, "/proc/self/cwd");
  else
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t length = readlink(link, whole, PATH_MAX);
  if (length < 0) return 0;
  snprintf(whole + length, sizeof whole - length, "/%s", path);
  return fails(call, whole, room, NULL, NULL);
}

static int file_fails(const char *call, int fd, void (*tear)(void *), void *argument) {
  if (!control || !control->armed) return 0;
  int before = errno;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length < 0) return 0;
  path[length] = 0;
  return fails(call, path, NEEDS_ROOM, tear, argument);
}

/* Finds the function that this one stands before, as `real`. */
#define REAL(type, name, ...)                              \
  static type (*real)(__VA_ARGS__);                        \
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

#define WRITES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)

#define OPEN(name, folder, PARAMETERS, ARGUMENTS, ...)                    \
  int name(PARAMETERS, ...) {                                             \
    REAL(int, name, __VA_ARGS__, ...);                                    \
    mode_t mode = 0;                                                      \
    if (flags & (O_CREAT | O_TMPFILE)) {                                  \
      va_list rest;                                                       \
      va_start(rest, flags);                                              \
      mode = va_arg(rest, mode_t);                                        \
      va_end(rest);                                                       \
    }                                                                     \
    if ((flags & WRITES) && path_fails(#name, folder, path, NEEDS_ROOM))  \
      return -1;                                                          \
    return real(ARGUMENTS, mode);                                         \
  }
#define LIST(...) __VA_ARGS__
OPEN(open, AT_FDCWD, LIST(const char *path, int flags), LIST(path, flags), const char *, int)
OPEN(open64, AT_FDCWD, LIST(const char *path, int flags), LIST(path, flags), const char *, int)
OPEN(openat, at, LIST(int at, const char *path, int flags), LIST(at, path, flags), int,
     const char *, int)
OPEN(openat64, at, LIST(int at, const char *path, int flags), LIST(at, path, flags), int,
     const char *, int)

#define FOPEN(name)                                                         \
  FILE *name(const char *path, const char *mode) {                          \
    REAL(FILE *, name, const char *, const char *);                         \
    if (strpbrk(mode, "wa+") && path_fails(#name, AT_FDCWD, path, NEEDS_ROOM)) \
      return NULL;                                                          \
    return real(path, mode);                                                \
  }
FOPEN(fopen)
FOPEN(fopen64)

struct part {
  int fd;
  const void *data;
  size_t size;
  off_t offset; /* -1: where the file is */
};

static void tear_file(void *argument) {
  struct part *part = argument;
  int fd = part->fd;
  static ssize_t (*put)(int, const void *, size_t);
  static ssize_t (*put_at)(int, const void *, size_t, off_t);
  *(void **)&put = dlsym(RTLD_NEXT, "write");
  *(void **)&put_at = dlsym(RTLD_NEXT, "pwrite64");
  ssize_t done = part->offset < 0 ? put(fd, part->data, part->size / 2)
                                  : put_at(fd, part->data, part->size / 2, part->offset);
  (void)done;
}

ssize_t write(int fd, const void *data, size_t size) {
  REAL(ssize_t, write, int, const void *, size_t);
  struct part part = {fd, data, size, -1};
  if (file_fails("write", fd, tear_file, &part)) return -1;
  return real(fd, data, size);
}

#define PWRITE(name)                                                     \
  ssize_t name(int fd, const void *data, size_t size, off_t offset) {    \
    REAL(ssize_t, name, int, const void *, size_t, off_t);               \
    struct part part = {fd, data, size, offset};                         \
    if (file_fails(#name, fd, tear_file, &part)) return -1;              \
    return real(fd, data, size, offset);                                 \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int);
  struct part part = {fd, count ? parts[0].iov_base : "", count ? parts[0].iov_len : 0, -1};
  if (file_fails("writev", fd, tear_file, &part)) return -1;
  return real(fd, parts, count);
}

struct items {
  const void *data;
  size_t count;
  size_t size;
  FILE *file;
};

static void tear_stream(void *argument) {
  struct items *items = argument;
  static size_t (*put)(const void *, size_t, size_t, FILE *);
  static int (*flush)(FILE *);
  *(void **)&put = dlsym(RTLD_NEXT, "fwrite");
  *(void **)&flush = dlsym(RTLD_NEXT, "fflush");
  put(items->data, 1, items->size * items->count / 2, items->file);
  flush(items->file);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
  REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
  struct items items = {data, count, size, file};
  if (file_fails("fwrite", fileno(file), tear_stream, &items)) return 0;
  return real(data, size, count, file);
}

int fflush(FILE *file) {
  REAL(int, fflush, FILE *);
  if (file && file_fails("fflush", fileno(file), NULL, NULL)) return EOF;
  return real(file);
}

int fclose(FILE *file) {
  REAL(int, fclose, FILE *);
  int writable = (fcntl(fileno(file), F_GETFL) & O_ACCMODE) != O_RDONLY;
  int failed = writable && file_fails("fclose", fileno(file), NULL, NULL) ? errno : 0;
  int result = real(file);
  if (!failed) return result;
  errno = failed;
  return EOF;
}

/* Calls with one file, then with paths. */
#define ON_FILE(type, name, PARAMETERS, ARGUMENTS)              \
  type name PARAMETERS {                                        \
    static type(*real) PARAMETERS;                              \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);       \
    if (file_fails(#name, fd, NULL, NULL)) return -1;           \
    return real ARGUMENTS;                                      \
  }
ON_FILE(int, fsync, (int fd), (fd))
ON_FILE(int, fdatasync, (int fd), (fd))
ON_FILE(int, ftruncate, (int fd, off_t size), (fd, size))
ON_FILE(int, ftruncate64, (int fd, off_t size), (fd, size))
ON_FILE(ssize_t, sendfile, (int fd, int source, off_t *offset, size_t size),
        (fd, source, offset, size))
ON_FILE(ssize_t, sendfile64, (int fd, int source, off_t *offset, size_t size),
        (fd, source, offset, size))
ON_FILE(ssize_t, copy_file_range,
        (int source, off_t *from, int fd, off_t *to, size_t size, unsigned flags),
        (source, from, fd, to, size, flags))

#define ON_PATH(name, PARAMETERS, ARGUMENTS, folder, path, room) \
  int name PARAMETERS {                                          \
    static int(*real) PARAMETERS;                                \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);        \
    if (path_fails(#name, folder, path, room)) return -1;        \
    return real ARGUMENTS;                                       \
  }
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, NEEDS_ROOM)
ON_PATH(mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), at, path, NEEDS_ROOM)
ON_PATH(rename, (const char *from, const char *to), (from, to), AT_FDCWD, to, NEEDS_ROOM)
ON_PATH(renameat, (int from_at, const char *from, int at, const char *to), (from_at, from, at, to),
        at, to, NEEDS_ROOM)
ON_PATH(renameat2, (int from_at, const char *from, int at, const char *to, unsigned flags),
        (from_at, from, at, to, flags), at, to, NEEDS_ROOM)
ON_PATH(link, (const char *from, const char *to), (from, to), AT_FDCWD, to, NEEDS_ROOM)
ON_PATH(symlink, (const char *from, const char *to), (from, to), AT_FDCWD, to, NEEDS_ROOM)
ON_PATH(unlink, (const char *path), (path), AT_FDCWD, path, FREES_ROOM)
ON_PATH(unlinkat, (int at, const char *path, int flags), (at, path, flags), at, path, FREES_ROOM)
ON_PATH(rmdir, (const char *path), (path), AT_FDCWD, path, FREES_ROOM)
