// setns(2), membarrier(2).
#include "sentry/kernel/clone_flags.h"
#include "sentry/kernel/namespace_file.h"
#include "sentry/kernel/pidfd.h"
#include "syscalls/handlers.h"

namespace caisson::syscalls {

// A namespace's file names one kind, which `type` may confirm; a pidfd, any number of kinds, which
// `type` names (Linux kernel/nsproxy.c).
SyscallResult Setns(Task& task, Fd fd, int32_t type) {
  using namespace kernel;  // NOLINT(google-build-using-namespace): CLONE_NEW*.
  constexpr uint64_t kKinds[] = {kCloneNewuser, kCloneNewns,     kCloneNewuts, kCloneNewipc,
                                 kCloneNewpid,  kCloneNewcgroup, kCloneNewnet, kCloneNewtime};
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  std::vector<NamespaceRef> wanted;
  if (NamespaceFile* ns = AsNamespace(*file)) {
    if (type != 0 && static_cast<uint32_t>(type) != ns->ns().type) return Errno::kEINVAL;
    wanted.push_back(ns->ns());
  } else {
    Result<RefPtr<Pid>> pid_or = PidOf(*file);
    if (!pid_or.ok()) return Errno::kEINVAL;
    RefPtr<Pid> pid = *std::move(pid_or);
    uint64_t left = static_cast<uint32_t>(type);
    for (uint64_t kind : kKinds) left &= ~kind;
    if (type == 0 || left != 0) return Errno::kEINVAL;
    RefPtr<Task> target;
    {
      MutexLock lock(task.kernel().tasks_mu());
      target = RefPtr<Task>(pid->task);
    }
    if (!target) return Errno::kESRCH;
    TRY(MayAccessTask(task, *target));
    for (uint64_t kind : kKinds) {
      if ((static_cast<uint32_t>(type) & kind) == 0) continue;
      Result<NamespaceRef> found = NamespaceOf(*target, kind, false);
      if (!found.ok()) return Errno::kESRCH;
      wanted.push_back(*found);
    }
  }
  TRY(EnterNamespaces(task, wanted));
  return 0;
}

SyscallResult Membarrier(Task& task, int32_t command, Flags flags, int32_t) {
  enum : int32_t {
    kQuery = 0, kGlobal = 1, kGlobalExpedited = 2, kRegisterGlobalExpedited = 4,
    kPrivateExpedited = 8, kRegisterPrivateExpedited = 16, kGetRegistrations = 512,
  };
  if (flags.value != 0) return Errno::kEINVAL;
  std::atomic<uint32_t>& registered = task.group().membarrier_registrations;
  switch (command) {
    case kQuery:
      return kGlobal | kGlobalExpedited | kRegisterGlobalExpedited | kPrivateExpedited |
             kRegisterPrivateExpedited | kGetRegistrations;
    case kGlobal:
    case kGlobalExpedited:
      task.kernel().MemoryBarrier(task, true);
      return 0;
    case kRegisterGlobalExpedited:
    case kRegisterPrivateExpedited:
      registered.fetch_or(static_cast<uint32_t>(command), std::memory_order_relaxed);
      return 0;
    case kPrivateExpedited:
      if ((registered.load(std::memory_order_relaxed) & kRegisterPrivateExpedited) == 0) return Errno::kEPERM;
      task.kernel().MemoryBarrier(task, false);
      return 0;
    case kGetRegistrations:
      return registered.load(std::memory_order_relaxed);
    default:
      return Errno::kEINVAL;  // Those for rseq and for core serialization among them.
  }
}

}  // namespace caisson::syscalls
