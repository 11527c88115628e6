// What guests do often, one theme a name: `guest NAME` prints nanoseconds an operation, measured
// inside. A static program without threads, the same natively and in a sandbox.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double Now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void Require(int ok, const char* what) {
  if (!ok) {
    perror(what);
    exit(1);
  }
}

static void Getpid(long n) {
  for (long i = 0; i < n; ++i) syscall(SYS_getpid);
}

static void Fault(long n) {  // One page each.
  char* memory = mmap(NULL, (size_t)n * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Require(memory != MAP_FAILED, "mmap");
  madvise(memory, (size_t)n * 4096, MADV_NOHUGEPAGE);
  for (long i = 0; i < n; ++i) *(volatile char*)(memory + i * 4096) = 1;
  munmap(memory, (size_t)n * 4096);
}

static void WaitFor(pid_t pid) {
  int status;
  Require(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "child");
}

static void ForkWait(long n) {
  for (long i = 0; i < n; ++i) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    WaitFor(pid);
  }
}

static void ForkExecWait(long n) {
  for (long i = 0; i < n; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      execl("/proc/self/exe", "guest", "true", (char*)NULL);
      _exit(127);
    }
    WaitFor(pid);
  }
}

static void ReadZero(long n) {
  const int fd = open("/dev/zero", O_RDONLY);
  char byte;
  for (long i = 0; i < n; ++i) Require(read(fd, &byte, 1) == 1, "read");
  close(fd);
}

static void OpenClose(long n) {
  for (long i = 0; i < n; ++i) {
    const int fd = open("/tmp/bench-file", O_RDONLY);
    Require(fd >= 0, "open");
    close(fd);
  }
}

static void Stat(long n) {
  struct stat about;
  for (long i = 0; i < n; ++i) Require(stat("/tmp/bench-file", &about) == 0, "stat");
}

static void Pread4k(long n) {
  const int fd = open("/tmp/bench-file", O_RDONLY);
  char page[4096];
  for (long i = 0; i < n; ++i) Require(pread(fd, page, sizeof(page), 0) == sizeof(page), "pread");
  close(fd);
}

static void MmapMunmap(long n) {
  for (long i = 0; i < n; ++i) {
    void* at = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Require(at != MAP_FAILED && munmap(at, 16384) == 0, "mmap");
  }
}

static volatile sig_atomic_t caught;
static void OnSignal(int number) { caught += number != 0; }

static void SignalSelf(long n) {
  signal(SIGUSR1, OnSignal);
  for (long i = 0; i < n; ++i) kill(getpid(), SIGUSR1);
  Require(caught == n, "signals");
}

static void PipePingPong(long n) {  // A round trip between two processes.
  int there[2], back[2];
  char byte = 'x';
  Require(pipe(there) == 0 && pipe(back) == 0, "pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    close(there[1]);
    while (read(there[0], &byte, 1) == 1) Require(write(back[1], &byte, 1) == 1, "write");
    _exit(0);
  }
  close(there[0]);
  for (long i = 0; i < n; ++i)
    Require(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "ping-pong");
  close(there[1]);
  WaitFor(pid);
}

static const struct {
  const char* name;
  void (*run)(long);
  long operations;
} kThemes[] = {
    {"getpid", Getpid, 20000},        {"read_zero", ReadZero, 10000},   {"pread_4k", Pread4k, 10000},
    {"open_close", OpenClose, 3000},  {"stat", Stat, 5000},             {"mmap_munmap", MmapMunmap, 3000},
    {"signal_self", SignalSelf, 3000}, {"page_fault", Fault, 65536},    {"pipe_pingpong", PipePingPong, 3000},
    {"fork_wait", ForkWait, 100},     {"fork_exec_wait", ForkExecWait, 60},
};

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  if (strcmp(argv[1], "true") == 0) return 0;
  for (size_t i = 0; i < sizeof(kThemes) / sizeof(kThemes[0]); ++i) {
    if (strcmp(argv[1], kThemes[i].name) != 0) continue;
    const int fd = open("/tmp/bench-file", O_CREAT | O_RDWR, 0600);
    Require(fd >= 0 && ftruncate(fd, 4096) == 0, "/tmp/bench-file");
    close(fd);
    kThemes[i].run(kThemes[i].operations / 10 + 1);  // Warm.
    caught = 0;
    const double start = Now();
    kThemes[i].run(kThemes[i].operations);
    printf("%.1f\n", (Now() - start) / (double)kThemes[i].operations);
    return 0;
  }
  return 2;
}
