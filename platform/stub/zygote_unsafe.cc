#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "platform/stub/filter.h"
#include "platform/stub/layout.h"
#include "platform/stub/slots.h"
#include "platform/stub/vdso.h"
#include "platform/stub/zygote.h"

namespace caisson::platform::stub {
namespace {

// Sent in place of the hello if a step fails.
struct Failure {
  char step[32];
  int host_errno;
};

// Everything that the child needs, prepared before the fork: it allocates nothing. Not on the
// stack, which the child unmaps if it is in the reserved range.
struct ZygoteArgs {
  uint64_t entry, fault, restorer, handler;  // Of the blob.
  uint64_t handled_signals;                  // A mask.
  int oom_score_adj;
  int socket, control, result, code;
  sock_fprog filter;
  std::vector<VdsoArea> vdso;
  uint64_t vdso_length;
};

alignas(64) char g_stack[128 * 1024];  // Written by the child only, in its own copy.
const ZygoteArgs* g_args;

[[noreturn]] void Fail(const char* step) {
  Failure failure{};
  failure.host_errno = errno;
  strncpy(failure.step, step, sizeof(failure.step) - 1);
  // Before descriptors are closed the socket is where it was, then it is kStubSocket.
  if (send(g_args->socket, &failure, sizeof(failure), MSG_NOSIGNAL) < 0)
    send(kStubSocket, &failure, sizeof(failure), MSG_NOSIGNAL);
  syscall(SYS_exit_group, 1);
  __builtin_unreachable();
}

void Must(long result, const char* step) {
  if (result < 0) Fail(step);
}

struct KernelSigaction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

// The kernel must not know addresses that are about to go away.
void ForgetLibc() {
  // glibc registers 32 bytes at this offset from the thread pointer.
  if (__rseq_size != 0) {
    auto* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
    if (syscall(SYS_rseq, area, 32, 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIG) != 0) Fail("rseq");
  }
  Must(syscall(SYS_set_robust_list, nullptr, 24), "set_robust_list");
  syscall(SYS_set_tid_address, nullptr);
  stack_t off{};
  off.ss_flags = SS_DISABLE;
  Must(sigaltstack(&off, nullptr), "sigaltstack");
  const KernelSigaction standard{};
  for (int signo = 1; signo <= 64; ++signo) {
    if (signo != SIGKILL && signo != SIGSTOP)
      Must(syscall(SYS_rt_sigaction, signo, &standard, nullptr, 8), "rt_sigaction");
  }
  const uint64_t mask = ~((uint64_t{1} << (SIGSEGV - 1)) | (uint64_t{1} << (SIGBUS - 1)));
  Must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, 8), "rt_sigprocmask");
}

void SetLimits() {
  rlimit core{1, 1};  // 0 would not stop a core_pattern that is a pipe (docs/platform.md 8).
  Must(setrlimit(RLIMIT_CORE, &core), "setrlimit");
  // A guest's limits are the sentry's to keep.
  for (int which : {RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK}) {
    rlimit limit;
    if (getrlimit(static_cast<__rlimit_resource>(which), &limit) == 0) {
      limit.rlim_cur = limit.rlim_max;
      setrlimit(static_cast<__rlimit_resource>(which), &limit);
    }
  }
  const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  char text[12];
  size_t n = sizeof(text);
  for (int v = g_args->oom_score_adj; v > 0 || n == sizeof(text); v /= 10)
    text[--n] = static_cast<char>('0' + v % 10);
  if (write(fd, text + n, sizeof(text) - n) < 0) errno = 0;  // Best effort.
  close(fd);
}

void MapAt(uint64_t address, size_t size, int protection, int flags, int fd, const char* step) {
  void* p = mmap(reinterpret_cast<void*>(address), size, protection, flags | MAP_FIXED, fd, 0);
  if (p == MAP_FAILED) Fail(step);
}

// Clears the reserved range, where this process's own stack may be, and makes ours. The kernel's
// vDSO goes by way of a place where nothing is, because it may be in that range too.
void MapReservedRange() {
  const ZygoteArgs& a = *g_args;
  uint64_t parking = 0;
  if (a.vdso_length != 0) {
    void* p = mmap(reinterpret_cast<void*>(kGuestRange.start.value), a.vdso_length, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    parking = reinterpret_cast<uint64_t>(p);
    if (p == MAP_FAILED || parking + a.vdso_length > kReservedStart) Fail("mmap");
  }
  for (int step = 0; step < 2; ++step) {
    uint64_t from = 0;
    uint64_t to = step == 0 ? parking : kVdsoAddr;
    for (const VdsoArea& area : a.vdso) {
      const uint64_t size = area.end - area.start;
      from = step == 0 ? area.start : parking + (to - kVdsoAddr);
      Must(syscall(SYS_mremap, from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to), "vdso");
      to += size;
    }
    if (step == 1) break;
    Must(munmap(reinterpret_cast<void*>(kReservedStart), kReservedEnd - kReservedStart), "munmap");
  }
  MapAt(kControlAddr, kControlSize, PROT_READ, MAP_SHARED, a.control, "control page");
  MapAt(kResultAddr, kResultSize, PROT_READ | PROT_WRITE, MAP_SHARED, a.result, "result page");
  MapAt(kBlobAddr, kBlobSize, PROT_READ | PROT_EXEC, MAP_PRIVATE, a.code, "blob");
}

void DropPrivileges() {
  for (int capability = 0; capability < 64; ++capability)
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);  // EINVAL past the last; EPERM without any.
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  Must(syscall(SYS_capset, &header, none), "capset");
  Must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  // After the change of credentials, which resets it: the sentry must be able to trace us.
  Must(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable");
}

[[noreturn]] void ZygoteMain() {
  const ZygoteArgs& a = *g_args;
  ForgetLibc();
  setsid();  // A terminal's signals are not for stubs.
  prctl(PR_SET_NAME, "stub", 0, 0, 0);
  SetLimits();
  MapReservedRange();
  const uint64_t kSaSiginfo = 4, kSaRestorer = 0x04000000, kSaNodefer = 0x40000000,
                 kSaOnstack = 0x08000000, kSaRestart = 0x10000000;
  KernelSigaction fault{a.fault, kSaSiginfo | kSaRestorer | kSaNodefer, a.restorer, 0};
  // The CPU's signals are never blocked in a handler: the kernel would kill (docs/platform.md 11).
  uint64_t cpu_signals = 0;
  for (int signo : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP})
    cpu_signals |= uint64_t{1} << (signo - 1);
  if (a.handler != 0) {
    fault.handler = a.handler;
    fault.flags |= kSaOnstack | kSaRestart;
    fault.mask = ~cpu_signals;
  }
  for (int signo = 1; signo <= 64; ++signo) {
    const uint64_t bit = uint64_t{1} << (signo - 1);
    if ((a.handled_signals & bit) == 0) continue;
    KernelSigaction action = fault;
    if ((cpu_signals & bit) == 0) action.flags &= ~kSaNodefer;
    Must(syscall(SYS_rt_sigaction, signo, &action, nullptr, 8), "rt_sigaction");
  }
  if (a.socket != kStubSocket) Must(dup3(a.socket, kStubSocket, O_CLOEXEC), "dup3");
  Must(syscall(SYS_close_range, kStubSocket + 1, ~0u, 0), "close_range");
  DropPrivileges();
  syscall(462 /* mseal, Linux 6.10 */, kBlobAddr, kBlobSize, 0);  // Depth only.
  Must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &a.filter), "seccomp");
  asm volatile("jmp *%0" : : "r"(a.entry) : "memory");
  __builtin_unreachable();
}

// fork(2) without the C library's handlers, in a user namespace of its own if the host lets us.
pid_t Fork(bool* own_user_namespace) {
  for (uint64_t flag : {uint64_t{CLONE_NEWUSER}, uint64_t{0}}) {
    *own_user_namespace = flag != 0;
    const long pid = syscall(SYS_clone, flag | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (pid != 0) {
      if (pid > 0) return static_cast<pid_t>(pid);
      continue;
    }
    asm volatile(
        "mov %0, %%rsp\n\t"
        "xor %%ebp, %%ebp\n\t"
        "call *%1\n\t"
        "ud2"
        :
        : "r"(g_stack + sizeof(g_stack)), "r"(&ZygoteMain)
        : "memory");
    __builtin_unreachable();
  }
  return -1;
}

Result<UniqueFd> MakeCodeFile(const Blob& blob) {
  constexpr unsigned kMfdExec = 0x10;  // Linux 6.3; without it a sysctl may forbid execution.
  UniqueFd fd(memfd_create("blob", MFD_CLOEXEC | MFD_ALLOW_SEALING | kMfdExec));
  if (!fd.valid()) fd.reset(memfd_create("blob", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || ftruncate(fd.get(), kBlobSize) != 0 ||
      pwrite(fd.get(), blob.code.data(), blob.code.size(), 0) !=
          static_cast<ssize_t>(blob.code.size()) ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return Errno::kENOSYS;
  return fd;
}

// Looks at the first message without taking it: a failure is longer than a hello.
Result<void> CheckStarted(int socket) {
  Failure failure{};
  ssize_t n;
  do n = recv(socket, &failure, sizeof(failure), MSG_PEEK);
  while (n < 0 && errno == EINTR);
  if (n == 1) return OkResult();
  if (n != static_cast<ssize_t>(sizeof(failure))) {
    LOG_ERROR("the first stub ended before it was ready");
    return Errno::kEIO;
  }
  failure.step[sizeof(failure.step) - 1] = '\0';
  LOG_ERROR("making the first stub: ", failure.step, ": ", strerror(failure.host_errno));
  return FromHostErrno(failure.host_errno);
}

}  // namespace

Result<Zygote> StartZygote(const Blob& blob, const ZygoteConfig& config) {
  const StubProcess::Common common{config.prepare, std::make_shared<SlotCache>()};
  SlotPair pair = TRY(common.slots->Make());
  UniqueFd code = TRY(MakeCodeFile(blob));
  if (config.prepare != nullptr) config.prepare(pair.sentry);
  std::vector<BpfInstruction> filter =
      BaseFilter(config.filter_otherwise, config.threads_start, config.filter_parts);
  static_assert(sizeof(BpfInstruction) == sizeof(sock_filter));
  auto args_owner = std::make_unique<ZygoteArgs>();
  ZygoteArgs& args = *args_owner;
  args.entry = blob.entry;
  args.fault = blob.fault;
  args.restorer = blob.restorer;
  args.handler = blob.handler;
  args.handled_signals = (uint64_t{1} << (SIGSEGV - 1)) | (uint64_t{1} << (SIGBUS - 1));
  for (int signo : config.handled_signals) args.handled_signals |= uint64_t{1} << (signo - 1);
  args.oom_score_adj = std::clamp(config.oom_score_adj, 0, 1000);
  args.socket = pair.stub_socket.get();
  args.control = pair.sentry.control_fd.get();
  args.result = pair.sentry.result_fd.get();
  args.code = code.get();
  args.filter = {static_cast<unsigned short>(filter.size()),
                 reinterpret_cast<sock_filter*>(filter.data())};
  args.vdso = FindVdsoAreas();
  Zygote zygote;
  for (const VdsoArea& area : args.vdso) {
    if (area.is_code)
      zygote.vdso = {GuestAddr(kVdsoAddr + args.vdso_length),
                     GuestAddr(kVdsoAddr + args.vdso_length + area.end - area.start)};
    args.vdso_length += area.end - area.start;
  }
  if (args.vdso_length > kVdsoEnd - kVdsoAddr) return Errno::kENOSYS;
  g_args = &args;
  const pid_t pid = Fork(&zygote.own_user_namespace);
  g_args = nullptr;
  if (pid < 0) return FromHostErrno(errno);
  pair.stub_socket.reset();
  pair.sentry.control_fd.reset();
  pair.sentry.result_fd.reset();
  Result<void> started = CheckStarted(pair.sentry.socket.get());
  if (!started.ok()) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, __WALL);
    return started.error();
  }
  zygote.process = TRY(StubProcess::Greet(std::move(pair.sentry), common));
  if (zygote.process->pid() != pid) {
    LOG_ERROR("the first stub is in another pid namespace");
    return Errno::kEIO;
  }
  if (!zygote.own_user_namespace)
    LOG_WARNING("stubs have no user namespace of their own: the host refuses it");
  return zygote;
}

}  // namespace caisson::platform::stub
