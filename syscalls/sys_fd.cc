// Descriptors: close, dup, fcntl, flock.
#include "syscalls/handlers.h"
#include "vfs/file_lock.h"
#include "vfs/inode.h"
#include "vfs/pipe/pipe_file.h"
#include "vfs/tmpfs/memfd.h"

namespace caisson::syscalls {
namespace {

constexpr int kFDupfd = 0, kFGetfd = 1, kFSetfd = 2, kFGetfl = 3, kFSetfl = 4, kFGetlk = 5,
              kFSetlk = 6, kFSetlkw = 7, kFSetown = 8, kFGetown = 9, kFSetsig = 10, kFGetsig = 11,
              kFSetownEx = 15, kFGetownEx = 16, kFOfdGetlk = 36, kFOfdSetlk = 37, kFOfdSetlkw = 38,
              kFSetlease = 1024, kFGetlease = 1025, kFNotify = 1026, kFDupfdCloexec = 1030,
              kFSetpipeSz = 1031, kFGetpipeSz = 1032, kFAddSeals = 1033, kFGetSeals = 1034;
constexpr int kFdCloexec = 1;

// struct flock of <asm-generic/fcntl.h>, 64 bits.
struct Flock {
  int16_t type, whence;
  int32_t pad;
  int64_t start, len;
  int32_t pid, pad2;
};
static_assert(sizeof(Flock) == 32);

Result<vfs::LockRange> RangeOf(Task& task, vfs::FileDescription& file, const Flock& l) {
  int64_t base = 0;
  switch (l.whence) {
    case 0: break;
    case 1: base = TRY(file.Seek(task, 0, 1)); break;
    case 2: base = static_cast<int64_t>(TRY(file.GetAttributes(task)).size); break;
    default: return Errno::kEINVAL;
  }
  int64_t start;
  if (__builtin_add_overflow(base, l.start, &start)) return Errno::kEOVERFLOW;
  if (start < 0) return Errno::kEINVAL;
  int64_t end = INT64_MAX;
  if (l.len > 0) {
    if (__builtin_add_overflow(start, l.len - 1, &end)) return Errno::kEOVERFLOW;
  } else if (l.len < 0) {
    end = start - 1;
    if (__builtin_add_overflow(start, l.len, &start)) return Errno::kEINVAL;
    if (start < 0) return Errno::kEINVAL;
  }
  return vfs::LockRange{start, end};
}

SyscallResult RecordLock(Task& task, vfs::FileDescription& file, int command, GuestAddr arg) {
  const bool ofd = command == kFOfdGetlk || command == kFOfdSetlk || command == kFOfdSetlkw;
  Flock l = TRY(task.Read<Flock>(arg));
  vfs::LockType type;
  switch (l.type) {
    case 0: type = vfs::LockType::kRead; break;
    case 1: type = vfs::LockType::kWrite; break;
    case 2: type = vfs::LockType::kUnlock; break;
    default: return Errno::kEINVAL;
  }
  if (ofd && l.pid != 0) return Errno::kEINVAL;
  vfs::LockRange range = TRY(RangeOf(task, file, l));
  if (file.inode() == nullptr) return Errno::kEBADF;
  vfs::RecordLock lock{.type = type, .range = range,
                       .owner = ofd ? static_cast<const void*>(&file) : &task.fd_table(),
                       .ofd = ofd, .tgid = ofd ? -1 : task.TgidIn(task.pid_namespace())};
  if (command == kFGetlk || command == kFOfdGetlk) {
    if (type == vfs::LockType::kUnlock) return Errno::kEINVAL;
    auto conflict = file.inode()->locks().TestRecord(lock);
    if (!conflict) {
      l.type = 2;
    } else {
      l.type = conflict->type == vfs::LockType::kRead ? 0 : 1;
      l.whence = 0;
      l.start = conflict->range.start;
      l.len = conflict->range.end == INT64_MAX ? 0 : conflict->range.end - conflict->range.start + 1;
      l.pid = conflict->tgid;
    }
    TRY(task.Write(arg, l));
    return 0;
  }
  if (type == vfs::LockType::kRead && !file.readable()) return Errno::kEBADF;
  if (type == vfs::LockType::kWrite && !file.writable()) return Errno::kEBADF;
  TRY(file.inode()->locks().SetRecord(task, lock, command == kFSetlkw || command == kFOfdSetlkw));
  return 0;
}

}  // namespace

void CloseFile(Task& task, const RefPtr<vfs::FileDescription>& file) {
  if (vfs::Inode* inode = file->inode(); inode != nullptr && inode->locks_if_any() != nullptr)
    inode->locks().ReleaseRecords(&task.fd_table());
}

SyscallResult Close(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Remove(fd.value));
  CloseFile(task, file);
  TRY(file->OnClose(task));
  return 0;
}

SyscallResult CloseRange(Task& task, uint32_t first, uint32_t last, Flags flags) {
  constexpr uint32_t kUnshare = 2, kCloexec = 4;
  if ((flags.value & ~(kUnshare | kCloexec)) != 0 || first > last) return Errno::kEINVAL;
  if ((flags.value & kUnshare) != 0 && task.fd_table().shared()) task.set_fd_table(task.fd_table().Clone());
  if ((flags.value & kCloexec) != 0) {
    task.fd_table().SetCloseOnExecRange(first, last);
    return 0;
  }
  for (const auto& file : task.fd_table().RemoveRange(first, last)) {
    CloseFile(task, file);
    (void)file->OnClose(task);
  }
  return 0;
}

SyscallResult Dup(Task& task, Fd fd) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  return TRY(task.fd_table().Install(std::move(file), 0, NofileLimit(task), false));
}

static SyscallResult DupTo(Task& task, Fd old_fd, Fd new_fd, bool cloexec) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(old_fd.value));
  RefPtr<vfs::FileDescription> replaced =
      TRY(task.fd_table().Replace(std::move(file), new_fd.value, NofileLimit(task), cloexec));
  if (replaced) {
    CloseFile(task, replaced);
    (void)replaced->OnClose(task);
  }
  return new_fd.value;
}

SyscallResult Dup2(Task& task, Fd old_fd, Fd new_fd) {
  if (old_fd.value == new_fd.value) {
    TRY(task.fd_table().Get(old_fd.value));
    return new_fd.value;
  }
  return DupTo(task, old_fd, new_fd, false);
}

// dup3(2). Flags and old_fd == new_fd are checked before old_fd is looked up, so a closed
// descriptor given twice is EINVAL, not EBADF (Linux fs/file.c, ksys_dup3()).
SyscallResult Dup3(Task& task, Fd old_fd, Fd new_fd, Flags flags) {
  if ((flags.value & ~vfs::kOpenCloexec) != 0 || old_fd.value == new_fd.value) return Errno::kEINVAL;
  return DupTo(task, old_fd, new_fd, (flags.value & vfs::kOpenCloexec) != 0);
}

static SyscallResult SetOwner(Task& task, vfs::FileDescription& file, int32_t type, int32_t pid) {
  vfs::FileDescription::AsyncOwner owner = file.async_owner();
  owner.type = type;
  owner.pid = 0;
  if (pid != 0) {
    RefPtr<kernel::Pid> target = task.pid_namespace().Find(pid);
    if (!target) return Errno::kESRCH;
    owner.pid = target->global();
  }
  owner.uid = task.creds().ruid;
  owner.euid = task.creds().euid;
  file.set_async_owner(owner);
  return 0;
}

SyscallResult Fcntl(Task& task, Fd fd, int32_t command, uint64_t arg) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath && command != kFDupfd && command != kFDupfdCloexec &&
      command != kFGetfd && command != kFSetfd && command != kFGetfl)
    return Errno::kEBADF;
  constexpr int32_t kOwnerTid = 0, kOwnerPid = 1, kOwnerPgrp = 2;
  switch (command) {
    case kFDupfd:
    case kFDupfdCloexec:
      if (arg >= NofileLimit(task)) return Errno::kEINVAL;
      return TRY(task.fd_table().Install(std::move(file), static_cast<int32_t>(arg),
                                         NofileLimit(task), command == kFDupfdCloexec));
    case kFGetfd:
      return TRY(task.fd_table().close_on_exec(fd.value)) ? kFdCloexec : 0;
    case kFSetfd:
      TRY(task.fd_table().set_close_on_exec(fd.value, (arg & kFdCloexec) != 0));
      return 0;
    case kFGetfl:
      return file->flags() | (file->kind() == vfs::FileKind::kPath ? 0 : vfs::kOpenLargeFile);
    case kFSetfl:
      TRY(file->SetStatusFlags(task, static_cast<uint32_t>(arg)));
      return 0;
    case kFGetlk: case kFSetlk: case kFSetlkw: case kFOfdGetlk: case kFOfdSetlk: case kFOfdSetlkw:
      return RecordLock(task, *file, command, GuestAddr(arg));
    case kFGetown: {
      auto owner = file->async_owner();
      RefPtr<kernel::Pid> pid = task.kernel().root_pid_ns()->Find(owner.pid);
      int32_t number = pid ? pid->NumberIn(task.pid_namespace()) : 0;
      return owner.type == kOwnerPgrp ? -number : number;
    }
    case kFSetown: {
      int32_t who = static_cast<int32_t>(arg);
      if (who == INT32_MIN) return Errno::kEINVAL;
      return who < 0 ? SetOwner(task, *file, kOwnerPgrp, -who) : SetOwner(task, *file, kOwnerPid, who);
    }
    case kFSetownEx: {
      struct Ex { int32_t type, pid; };
      Ex ex = TRY(task.Read<Ex>(GuestAddr(arg)));
      if (ex.type < kOwnerTid || ex.type > kOwnerPgrp) return Errno::kEINVAL;
      return SetOwner(task, *file, ex.type, ex.pid);
    }
    case kFGetownEx: {
      struct Ex { int32_t type, pid; };
      auto owner = file->async_owner();
      RefPtr<kernel::Pid> pid = task.kernel().root_pid_ns()->Find(owner.pid);
      TRY(task.Write(GuestAddr(arg), Ex{owner.type, pid ? pid->NumberIn(task.pid_namespace()) : 0}));
      return 0;
    }
    case kFSetsig: {
      if (arg > signal::kSignalCount) return Errno::kEINVAL;
      auto owner = file->async_owner();
      owner.signo = static_cast<int>(arg);
      file->set_async_owner(owner);
      return 0;
    }
    case kFGetsig:
      return file->async_owner().signo;
    case kFSetpipeSz:
      if (vfs::PipeFile* pipe = vfs::AsPipe(*file))
        return vfs::SetPipeSize(task, *pipe, arg, vfs::kPipeDefaultMaxCapacity);
      return Errno::kEBADF;
    case kFGetpipeSz:
      if (vfs::PipeFile* pipe = vfs::AsPipe(*file)) return vfs::GetPipeSize(*pipe);
      return Errno::kEBADF;
    case kFAddSeals:
      TRY(vfs::tmpfs::AddSeals(*file, static_cast<uint32_t>(arg)));
      return 0;
    case kFGetSeals:
      return TRY(vfs::tmpfs::GetSeals(*file));
    case kFGetlease:
      return 2;  // F_UNLCK: there are none.
    case kFSetlease:
      // As on a kernel that cannot lease this file system.
      task.kernel().NoteUnsupported("fcntl: F_SETLEASE");
      return Errno::kEINVAL;
    case kFNotify:
      task.kernel().NoteUnsupported("fcntl: F_NOTIFY");
      return Errno::kEINVAL;
    default:
      task.kernel().NoteUnsupported(absl::StrCat("fcntl: command ", command));
      return Errno::kEINVAL;
  }
}

SyscallResult Flock(Task& task, Fd fd, int32_t operation) {
  constexpr int kShared = 1, kExclusive = 2, kNonblock = 4, kUnlock = 8;
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath || file->inode() == nullptr) return Errno::kEBADF;
  vfs::LockType type;
  switch (operation & ~kNonblock) {
    case kShared: type = vfs::LockType::kRead; break;
    case kExclusive: type = vfs::LockType::kWrite; break;
    case kUnlock: type = vfs::LockType::kUnlock; break;
    default: return Errno::kEINVAL;
  }
  TRY(file->inode()->locks().SetFlock(task, type, file.get(), (operation & kNonblock) == 0,
                                      task.TgidIn(task.pid_namespace())));
  return 0;
}

SyscallResult Ioctl(Task& task, Fd fd, uint32_t request, uint64_t arg) {
  RefPtr<vfs::FileDescription> file = TRY(task.fd_table().Get(fd.value));
  if (file->kind() == vfs::FileKind::kPath) return Errno::kEBADF;
  constexpr uint32_t kFioclex = 0x5451, kFionclex = 0x5450, kFionbio = 0x5421, kFioasync = 0x5452;
  switch (request) {
    case kFioclex:
    case kFionclex:
      TRY(task.fd_table().set_close_on_exec(fd.value, request == kFioclex));
      return 0;
    case kFionbio:
    case kFioasync: {
      int32_t on = TRY(task.Read<int32_t>(GuestAddr(arg)));
      uint32_t flag = request == kFionbio ? vfs::kOpenNonblock : vfs::kOpenAsync;
      TRY(file->SetStatusFlags(task, on != 0 ? file->flags() | flag : file->flags() & ~flag));
      return 0;
    }
    default: {
      Result<int64_t> result = file->Ioctl(task, request, arg);
      if (!result.ok() && result.error() == Errno::kENOTTY && (request >> 8) != 0x54)
        task.kernel().NoteUnsupported(absl::StrCat("ioctl 0x", absl::Hex(request)));
      return result;
    }
  }
}

}  // namespace caisson::syscalls
