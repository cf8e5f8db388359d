// SPDX-License-Identifier: MIT For LD_PRELOAD: kills the process at the n-th call that changes file
// names, makes the n-th rename, allocation or new thread fail, or counts them, as INTERCEPT_
// variables say; numbers count from 1.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static long kill_at = -1, rename_fails = -1, allocation_fails = -1, smallest = 16384, all_after = 0, thread_fails = -1;
static atomic_long changes, renames, allocations, threads;

static long variable(const char* name, long otherwise) {
  const char* value = getenv(name);
  return value ? atol(value) : otherwise;
}

__attribute__((constructor)) static void begin(void) {
  kill_at = variable("INTERCEPT_KILL_AT", -1);
  rename_fails = variable("INTERCEPT_RENAME_FAILS", -1);
  allocation_fails = variable("INTERCEPT_ALLOCATION_FAILS", -1);
  smallest = variable("INTERCEPT_SMALLEST", 16384);  // smaller allocations do not count
  all_after = variable("INTERCEPT_ALL_AFTER", 0);    // whether all later allocations fail too
  thread_fails = variable("INTERCEPT_THREAD_FAILS", -1);
  changes = renames = allocations = threads = 0;  // ignore what the loader did before
}

__attribute__((destructor)) static void end(void) {
  const char* path = getenv("INTERCEPT_COUNT");
  FILE* file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "%ld %ld %ld %ld\n", (long)changes, (long)renames, (long)allocations, (long)threads);
  fclose(file);
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, #name))

static void change(void) {
  if (++changes == kill_at) kill(getpid(), SIGKILL);
}

static int rename_must_fail(void) {
  change();
  if (++renames != rename_fails) return 0;
  errno = EIO;
  return 1;
}

int rename(const char* from, const char* to) {
  return rename_must_fail() ? -1 : REAL(rename, int (*)(const char*, const char*))(from, to);
}
int renameat(int a, const char* from, int b, const char* to) {
  return rename_must_fail() ? -1 : REAL(renameat, int (*)(int, const char*, int, const char*))(a, from, b, to);
}
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) {
  return rename_must_fail() ? -1 : REAL(renameat2, int (*)(int, const char*, int, const char*, unsigned))(a, from, b, to, flags);
}
int unlink(const char* path) {
  change();
  return REAL(unlink, int (*)(const char*))(path);
}
int unlinkat(int folder, const char* path, int flags) {
  change();
  return REAL(unlinkat, int (*)(int, const char*, int))(folder, path, flags);
}
int rmdir(const char* path) {
  change();
  return REAL(rmdir, int (*)(const char*))(path);
}
int remove(const char* path) {
  change();
  return REAL(remove, int (*)(const char*))(path);
}
int mkdir(const char* path, mode_t mode) {
  change();
  return REAL(mkdir, int (*)(const char*, mode_t))(path, mode);
}
int fsync(int file) {
  change();
  return REAL(fsync, int (*)(int))(file);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  const long n = ++threads;
  if (thread_fails > 0 && n >= thread_fails) return EAGAIN;
  return REAL(pthread_create, int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*))(thread, attributes, run, argument);
}

// glibc's own names: dlsym allocates.
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_memalign(size_t, size_t);
extern void* __libc_realloc(void*, size_t);

static int allocation_must_fail(size_t size) {
  if (size < (size_t)smallest) return 0;
  const long n = ++allocations;
  if (allocation_fails <= 0 || !(n == allocation_fails || (all_after && n > allocation_fails))) return 0;
  errno = ENOMEM;
  return 1;
}

void* malloc(size_t size) { return allocation_must_fail(size) ? NULL : __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return allocation_must_fail(count * size) ? NULL : __libc_calloc(count, size); }
void* realloc(void* old, size_t size) { return allocation_must_fail(size) ? NULL : __libc_realloc(old, size); }
void* memalign(size_t alignment, size_t size) { return allocation_must_fail(size) ? NULL : __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** to, size_t alignment, size_t size) {
  void* data = memalign(alignment, size);
  if (!data) return ENOMEM;
  *to = data;
  return 0;
}
