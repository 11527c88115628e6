// The address space: mmap and its kin.
#include "syscalls/handlers.h"
#include "syscalls/io.h"

namespace caisson::syscalls {

mm::Limits MemoryLimits(Task& task) {
  kernel::Rlimits& limits = task.group().limits();
  mm::Limits out;
  out.address_space = limits.soft(kernel::kRlimitAs);
  out.data = limits.soft(kernel::kRlimitData);
  out.stack = limits.soft(kernel::kRlimitStack);
  out.memlock = limits.soft(kernel::kRlimitMemlock);
  out.memlock_unlimited = task.creds().HasRootCapability(auth::Capability::kIpcLock);
  return out;
}

namespace {
constexpr uint32_t kReadImpliesExec = 0x0400000;
bool ReadImpliesExec(Task& task) {
  return (task.personality.load(std::memory_order_relaxed) & kReadImpliesExec) != 0;
}
}  // namespace

SyscallResult Mmap(Task& task, GuestAddr addr, uint64_t length, Flags protection, Flags flags,
                   Fd fd, uint64_t offset) {
  if (offset % kPageSize != 0) return Errno::kEINVAL;
  mm::MmapArgs args;
  args.addr = addr;
  args.length = length;
  args.protection = protection.value;
  if (ReadImpliesExec(task) && (args.protection & platform::kProtRead) != 0)
    args.protection |= platform::kProtExec;
  args.flags = flags.value;
  args.offset = offset;
  if ((flags.value & mm::kMapAnonymous) == 0) {
    args.file = TRY(task.fd_table().Get(fd.value));
    if (args.file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  }
  return static_cast<int64_t>(TRY(task.mm().Mmap(task, args, MemoryLimits(task))).value);
}

SyscallResult Munmap(Task& task, GuestAddr addr, uint64_t length) {
  TRY(task.mm().Munmap(addr, length));
  return 0;
}
SyscallResult Mprotect(Task& task, GuestAddr addr, uint64_t length, Flags protection) {
  TRY(task.mm().Mprotect(addr, length, protection.value, MemoryLimits(task), ReadImpliesExec(task)));
  return 0;
}
SyscallResult Mremap(Task& task, GuestAddr addr, uint64_t old_length, uint64_t new_length,
                     Flags flags, GuestAddr new_addr) {
  return static_cast<int64_t>(
      TRY(task.mm().Mremap(addr, old_length, new_length, flags.value, new_addr, MemoryLimits(task))).value);
}
SyscallResult Madvise(Task& task, GuestAddr addr, uint64_t length, int32_t advice) {
  TRY(task.mm().Madvise(addr, length, advice));
  return 0;
}
SyscallResult Brk(Task& task, GuestAddr addr) {
  return static_cast<int64_t>(task.mm().Brk(addr, MemoryLimits(task)).value);
}
SyscallResult Msync(Task& task, GuestAddr addr, uint64_t length, int32_t flags) {
  TRY(task.mm().Msync(task, addr, length, flags));
  return 0;
}
SyscallResult Mincore(Task& task, GuestAddr addr, uint64_t length, GuestAddr vec) {
  TRY(task.mm().Mincore(addr, length, vec));
  return 0;
}
SyscallResult Mlock(Task& task, GuestAddr addr, uint64_t length) {
  TRY(task.mm().Mlock(addr, length, false, MemoryLimits(task)));
  return 0;
}
SyscallResult Mlock2(Task& task, GuestAddr addr, uint64_t length, Flags flags) {
  constexpr uint32_t kOnFault = 1;
  if ((flags.value & ~kOnFault) != 0) return Errno::kEINVAL;
  TRY(task.mm().Mlock(addr, length, (flags.value & kOnFault) != 0, MemoryLimits(task)));
  return 0;
}
SyscallResult Munlock(Task& task, GuestAddr addr, uint64_t length) {
  TRY(task.mm().Munlock(addr, length));
  return 0;
}
SyscallResult Mlockall(Task& task, int32_t flags) {
  TRY(task.mm().MlockAll(flags, MemoryLimits(task)));
  return 0;
}
SyscallResult Munlockall(Task& task) {
  TRY(task.mm().MunlockAll());
  return 0;
}

SyscallResult MemfdCreate(Task& task, GuestAddr name, Flags flags) {
  constexpr size_t kNameMax = 249;
  Result<std::string> text = task.memory().CopyInString(name, kNameMax);
  if (!text.ok()) return text.error() == Errno::kENAMETOOLONG ? Errno::kEINVAL : text.error();
  RefPtr<vfs::FileDescription> file = TRY(task.kernel().anonymous_files().NewMemfd(task, *text, flags.value));
  return InstallFile(task, std::move(file), (flags.value & vfs::tmpfs::kMfdCloexec) != 0);
}

namespace {

// process_vm_readv(2) and process_vm_writev(2).
SyscallResult ProcessVm(Task& task, int32_t pid, GuestAddr local, uint64_t local_count,
                        GuestAddr remote, uint64_t remote_count, uint64_t flags, bool write) {
  if (flags != 0) return Errno::kEINVAL;
  std::vector<mm::IoVec> here = TRY(ReadIoVec(task, local, local_count));
  std::vector<mm::IoVec> there = TRY(ReadIoVec(task, remote, remote_count));
  RefPtr<Task> target = task.kernel().FindTask(task.pid_namespace(), pid);
  if (!target) return Errno::kESRCH;
  TRY(MayAccessTask(task, *target));
  RefPtr<mm::MemoryManager> mm = target->mm_ref();
  if (!mm) return Errno::kESRCH;
  mm::GuestIoBuffer mine(task.memory(), std::move(here));
  std::vector<char> chunk(64 << 10);
  int64_t total = 0;
  for (const mm::IoVec& v : there) {
    uint64_t done = 0;
    while (done < v.length && mine.remaining() != 0) {
      size_t want = std::min<uint64_t>({v.length - done, chunk.size(), mine.remaining()});
      absl::Span<char> part(chunk.data(), want);
      Result<size_t> moved = size_t{0};
      if (write) {
        moved = mine.Take(part);
        if (moved.ok()) moved = mm->CopyOutPartial(v.base + done, part.subspan(0, *moved));
      } else {
        size_t got = mm->CopyInPartial(v.base + done, part);
        moved = got == 0 ? Result<size_t>(size_t{0}) : mine.Put(part.subspan(0, got));
      }
      if (!moved.ok() || *moved == 0) return total != 0 ? SyscallResult(total) : Errno::kEFAULT;
      total += static_cast<int64_t>(*moved);
      done += *moved;
      if (*moved < want) return total;
    }
  }
  return total;
}

}  // namespace

SyscallResult ProcessVmReadv(Task& task, int32_t pid, GuestAddr local, uint64_t local_count,
                             GuestAddr remote, uint64_t remote_count, uint64_t flags) {
  return ProcessVm(task, pid, local, local_count, remote, remote_count, flags, false);
}
SyscallResult ProcessVmWritev(Task& task, int32_t pid, GuestAddr local, uint64_t local_count,
                              GuestAddr remote, uint64_t remote_count, uint64_t flags) {
  return ProcessVm(task, pid, local, local_count, remote, remote_count, flags, true);
}

}  // namespace caisson::syscalls
