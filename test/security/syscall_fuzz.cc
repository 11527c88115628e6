// A hostile guest: random system calls with arguments from a lattice, in forked children and threads,
// with signals. What is tested is not their results but that the kernel below is alive afterwards:
// the program ends with "syscall_fuzz: alive".
//
//     syscall_fuzz SEED SECONDS [WORKERS [TRACE]]
//
// Only inside a sandbox: natively it would do to the host what it does to the guest's kernel.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

struct Random {
  uint64_t state;
  uint64_t Next() {
    state += 0x9E3779B97F4A7C15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  uint64_t Below(uint64_t n) { return Next() % n; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }
};

char* g_arena;       // Writable pages, then a read-only one, then none.
size_t g_arena_size = 64 << 10;
int g_log = -1;      // --trace: the calls, for the one that ends it all.

double Now() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec + ts.tv_nsec * 1e-9;
}

void MakeDescriptors() {
  int p[2];
  (void)!pipe2(p, O_NONBLOCK);
  (void)socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p);
  (void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, p);
  (void)socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  (void)socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  (void)socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0);
  (void)epoll_create1(0);
  (void)epoll_create1(0);
  (void)eventfd(3, EFD_NONBLOCK);
  (void)timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  (void)inotify_init1(IN_NONBLOCK);
  (void)memfd_create("m", MFD_ALLOW_SEALING);
  sigset_t all;
  sigfillset(&all);
  (void)signalfd(-1, &all, SFD_NONBLOCK);
  (void)open("/", O_RDONLY | O_DIRECTORY);
  (void)open("/tmp", O_RDONLY | O_DIRECTORY);
  (void)open("/proc/self", O_RDONLY | O_DIRECTORY);
  (void)open("/proc/self/maps", O_RDONLY);
  (void)open("/proc/self/mem", O_RDWR);
  (void)open("/dev/null", O_RDWR);
  (void)open("/dev/zero", O_RDWR);
  (void)open("/dev/ptmx", O_RDWR | O_NONBLOCK);
  (void)open("/tmp/file", O_RDWR | O_CREAT, 0666);
  (void)open("/tmp/file", O_PATH);
  (void)open("/proc/self/exe", O_RDONLY);
  (void)open("/proc/self/ns/mnt", O_RDONLY);
  (void)open("/proc/self/ns/pid", O_RDONLY);
  (void)syscall(SYS_pidfd_open, getpid(), 0);
  (void)open(".", O_TMPFILE | O_RDWR, 0600);
}

const char* const kPaths[] = {
    "/", ".", "..", "", "/tmp", "/tmp/file", "/tmp/a", "/tmp/b", "/tmp/dir", "/tmp/dir/x", "/tmp/link",
    "a", "b", "dir", "../tmp/../tmp/a", "/proc/self/fd/3", "/proc/self/fd/9", "/proc/self/cwd",
    "/proc/self/root/tmp", "/proc/1/maps", "/proc/1/stat", "/proc/self/task", "/proc/mounts",
    "/proc/self/mountinfo", "/proc/self/status", "/dev/null", "/dev/shm/s", "/dev/tty", "/dev/pts/0",
    "/proc/self/exe", "/proc/sys/kernel/hostname", "/proc/self/oom_score_adj", "/proc/self/uid_map",
    "/sys", "/dev/ptmx", "/proc/net/unix", "/proc/net/tcp", "/proc/self/ns/net", "tmpfs", "proc",
    "overlay", "lowerdir=/tmp,upperdir=/tmp/dir,workdir=/tmp/b", "user.x", "security.capability",
    "size=1m", "devpts", "mqueue", "sysfs"};

const uint64_t kNumbers[] = {
    0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 16, 17, 24, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255, 256,
    511, 512, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 8192, 65535, 65536, 1 << 20, 1 << 24,
    0x40000000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffff, 0x800000000000,
    0x7ffffffffffffff8, 0x7fffffffffffffff, 0x8000000000000000, ~uint64_t{0}, ~uint64_t{1},
    ~uint64_t{99}, ~uint64_t{0xfff}, 0x7ffffffff000, 0x7fffffff0000, 0xffffffffff600000};

// A pointer, most often to memory with something plausible in it.
uint64_t Pointer(Random& r) {
  switch (r.Below(12)) {
    case 0: return 0;
    case 1: return reinterpret_cast<uint64_t>(g_arena + g_arena_size - r.Below(64));
    case 2: return reinterpret_cast<uint64_t>(g_arena + g_arena_size + 4096 - r.Below(64));
    case 3: return kNumbers[r.Below(sizeof(kNumbers) / sizeof(*kNumbers))];
    case 4:
    case 5: {
      char* at = g_arena + r.Below(g_arena_size - 512);
      strcpy(at, kPaths[r.Below(sizeof(kPaths) / sizeof(*kPaths))]);
      return reinterpret_cast<uint64_t>(at);
    }
    case 6:
    case 7: {  // An array of pointers and lengths: iovec, msghdr, argv.
      auto* at = reinterpret_cast<uint64_t*>(g_arena + (r.Below(g_arena_size - 512) & ~uint64_t{7}));
      for (int i = 0; i < 16; ++i)
        at[i] = r.OneIn(2) ? reinterpret_cast<uint64_t>(g_arena + r.Below(g_arena_size))
                           : kNumbers[r.Below(sizeof(kNumbers) / sizeof(*kNumbers))];
      return reinterpret_cast<uint64_t>(at);
    }
    case 8: {  // Small ints: struct pollfd, timespec, sockaddr, sigevent...
      auto* at = reinterpret_cast<uint32_t*>(g_arena + (r.Below(g_arena_size - 512) & ~uint64_t{7}));
      for (int i = 0; i < 32; ++i)
        at[i] = r.OneIn(8) ? static_cast<uint32_t>(r.Next()) : static_cast<uint32_t>(r.Below(40));
      return reinterpret_cast<uint64_t>(at);
    }
    default: return reinterpret_cast<uint64_t>(g_arena + r.Below(g_arena_size));
  }
}

uint64_t Argument(Random& r) {
  switch (r.Below(8)) {
    case 0:
    case 1: return r.Below(40);  // A descriptor, a small number.
    case 2:
    case 3:
    case 4: return Pointer(r);
    case 5: return kNumbers[r.Below(sizeof(kNumbers) / sizeof(*kNumbers))];
    case 6: return uint64_t{1} << r.Below(64) | uint64_t{1} << r.Below(34);
    default: return r.OneIn(4) ? r.Next() : static_cast<uint64_t>(-100) + r.Below(2) * (r.Below(200));
  }
}

// What would only end or stall the fuzzer itself.
bool Skipped(long number, const uint64_t* a) {
  switch (number) {
    case SYS_exit:
    case SYS_exit_group:
    case SYS_rt_sigreturn:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_reboot:
      return true;
    case SYS_vfork:
      return true;
    case SYS_kill:
    case SYS_tkill: return static_cast<int32_t>(a[0]) <= 2 || a[1] == SIGKILL || a[1] == SIGSTOP;
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_mremap: return a[0] < 0x10000000;  // The program text.
    case SYS_dup2:
    case SYS_dup3: return a[1] <= 2;
    case SYS_close: return a[0] <= 2;
    case SYS_close_range: return true;
    default: return false;
  }
}

void One(Random& r) {
  long number = r.OneIn(40) ? static_cast<long>(r.Next()) : static_cast<long>(r.Below(465));
  uint64_t a[6];
  for (uint64_t& v : a) v = Argument(r);
  // Themes that random bits seldom hit.
  switch (r.Below(12)) {
    case 0:
      number = SYS_clone;
      a[0] = (r.Next() & 0x7effff00) | SIGCHLD;
      if (r.OneIn(2)) a[0] &= ~uint64_t{0x100};  // CLONE_VM
      a[0] &= ~uint64_t{0x4000};                 // CLONE_VFORK
      if ((a[0] & 0x100) != 0) return;           // Shares our stack: no use.
      break;
    case 1: number = r.OneIn(2) ? SYS_tgkill : SYS_rt_tgsigqueueinfo; a[0] = getpid(); a[2] = r.Below(65); break;
    case 2: number = SYS_epoll_ctl; a[0] = 10 + r.Below(8); a[1] = 1 + r.Below(3); a[2] = r.Below(40); a[3] = Pointer(r); break;
    case 3: number = SYS_fcntl; a[0] = r.Below(40); a[1] = r.OneIn(3) ? 1024 + r.Below(16) : r.Below(40); break;
    case 4: number = SYS_ioctl; a[0] = r.Below(40); a[1] = r.OneIn(2) ? 0x5400 + r.Below(0x80) : 0x8900 + r.Below(0x60); break;
    case 5: number = SYS_prctl; a[0] = r.Below(70); break;
    case 6: number = r.OneIn(2) ? SYS_setsockopt : SYS_getsockopt; a[0] = r.Below(40); a[1] = r.OneIn(2) ? 1 : r.Below(60); a[2] = r.Below(80); break;
    default: break;
  }
  if (Skipped(number, a)) return;
  if (number == SYS_wait4) a[2] |= WNOHANG;
  if (number == SYS_fork && !r.OneIn(8)) return;
  if (g_log >= 0) {
    char line[200];
    int n = snprintf(line, sizeof(line), "%d %ld %lx %lx %lx %lx %lx %lx\n", getpid(), number, a[0], a[1], a[2], a[3], a[4], a[5]);
    (void)!write(g_log, line, n);
  }
  pid_t self = static_cast<pid_t>(syscall(SYS_getpid));
  long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if ((number == SYS_clone || number == SYS_clone3 || number == SYS_fork) && result == 0 &&
      (self != syscall(SYS_getpid))) {
    // The child does a few calls and goes.
    Random child{r.Next()};
    if (r.OneIn(3)) setsid();
    for (int i = 0; i < 20; ++i) (void)syscall(static_cast<long>(child.Below(335)) == SYS_fork ? SYS_getpid : SYS_sched_yield);
    if (r.OneIn(4)) raise(SIGKILL);
    _exit(0);
  }
}

void Handler(int) {}

double g_deadline;

void* Thread(void* seed) {
  Random r{reinterpret_cast<uint64_t>(seed)};
  while (Now() < g_deadline)
    for (int i = 0; i < 50; ++i) One(r);
  return nullptr;
}

// One generation of a worker: a process that makes a mess until an alarm ends it.
void Worker(uint64_t seed, double seconds) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  g_deadline = Now() + seconds;
  Random r{seed};
  g_arena = static_cast<char*>(mmap(nullptr, g_arena_size + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(g_arena + g_arena_size, 4096, PROT_READ);
  munmap(g_arena + g_arena_size + 4096, 4096);
  for (size_t i = 0; i < g_arena_size; i += 8) *reinterpret_cast<uint64_t*>(g_arena + i) = r.Next() & r.Next();
  MakeDescriptors();
  if (r.OneIn(3)) (void)unshare(CLONE_NEWNS | (r.OneIn(2) ? CLONE_NEWPID : 0) | (r.OneIn(2) ? CLONE_NEWIPC : 0));
  struct sigaction act = {};
  act.sa_handler = Handler;
  for (int s = 1; s < 65; ++s) {
    act.sa_flags = r.OneIn(2) ? SA_RESTART : 0;
    if (r.OneIn(2) || s == SIGSEGV) sigaction(s, &act, nullptr);
  }
  signal(SIGSEGV, SIG_DFL);
  pthread_t thread;
  for (uint64_t i = r.Below(4); i > 0; --i)
    (void)pthread_create(&thread, nullptr, Thread, reinterpret_cast<void*>(r.Next()));
  Thread(reinterpret_cast<void*>(r.Next()));
  _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = argc > 1 ? strtoull(argv[1], nullptr, 0) : 1;
  double seconds = argc > 2 ? atof(argv[2]) : 10;
  int workers = argc > 3 ? atoi(argv[3]) : 4;
  if (argc > 4) g_log = fcntl(open(argv[4], O_WRONLY | O_CREAT | O_APPEND, 0666), F_DUPFD, 900);
  if (getpid() != 1) {
    fprintf(stderr, "syscall_fuzz: only as the first process of a sandbox\n");
    return 2;
  }
  Random r{seed};
  const double end = Now() + seconds;
  mkdir("/tmp/dir", 0777);
  (void)!chdir("/tmp");
  for (int s = 1; s < 32; ++s)
    if (s != SIGCHLD && s != SIGKILL && s != SIGSTOP) signal(s, SIG_IGN);
  pid_t running[64] = {};
  double started[64] = {};
  if (workers > 64) workers = 64;
  long generations = 0;
  while (Now() < end) {
    for (int i = 0; i < workers; ++i) {
      if (running[i] > 0) {
        int status;
        if (waitpid(running[i], &status, WNOHANG) == 0) {
          if (Now() > started[i] + 4) kill(running[i], SIGKILL);
          continue;
        }
      }
      uint64_t next = r.Next();
      pid_t pid = fork();
      if (pid == 0) {
        for (int s = 1; s < 32; ++s) signal(s, SIG_DFL);
        Worker(next, 2);
      }
      running[i] = pid;
      started[i] = Now();
      ++generations;
    }
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    // Strays of earlier generations.
    if (generations % 16 == 0) {
      kill(-1, SIGKILL);
      memset(running, 0, sizeof(running));
    }
    usleep(20000);
  }
  if (getpid() == 1) kill(-1, SIGKILL);
  double drain = Now() + 5;
  while (Now() < drain && (waitpid(-1, nullptr, WNOHANG) > 0 || errno != ECHILD)) usleep(1000);
  printf("syscall_fuzz: alive, seed %lu, %ld generations\n", seed, generations);
  return 0;
}
