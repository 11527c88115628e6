// Declarations of every handler, made from the table, and helpers that several files of handlers
// share.
#ifndef CAISSON_SYSCALLS_HANDLERS_H_
#define CAISSON_SYSCALLS_HANDLERS_H_

#include <optional>
#include <string>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/memory_manager.h"
#include "syscalls/arguments.h"
#include "vfs/file_description.h"

namespace caisson::syscalls {

#define SYSCALL(number, name, handler, ...) \
  SyscallResult handler(Task& task __VA_OPT__(, ) __VA_ARGS__);
#define SYSCALL_PARTIAL(number, name, handler, note, ...) \
  SyscallResult handler(Task& task __VA_OPT__(, ) __VA_ARGS__);
#define SYSCALL_REFUSED(number, name, error, note)
#include "syscalls/table.inc"
#undef SYSCALL
#undef SYSCALL_PARTIAL
#undef SYSCALL_REFUSED

// RLIMIT_NOFILE of the caller.
inline uint64_t NofileLimit(Task& task) { return task.group().limits().soft(kernel::kRlimitNofile); }

// Puts a new file at the lowest free descriptor. Errors: EMFILE.
inline SyscallResult InstallFile(Task& task, RefPtr<vfs::FileDescription> file, bool close_on_exec) {
  Result<int32_t> fd = task.fd_table().Install(std::move(file), 0, NofileLimit(task), close_on_exec);
  if (!fd.ok()) return fd.error();
  return int64_t{*fd};
}

// Where a relative path of an -at call starts. Errors: EBADF, ENOTDIR.
Result<vfs::VfsPath> StartOf(Task& task, Fd dir, absl::string_view path);
// Resolves (dir, path, AT_EMPTY_PATH).
Result<vfs::VfsPath> WalkAt(Task& task, Fd dir, PathPtr path, uint32_t at_flags, bool follow);

// A struct timespec as ns. Errors: EFAULT, EINVAL.
Result<int64_t> ReadTimespec(Task& task, GuestAddr address);
Result<signal::Set> ReadSigset(Task& task, GuestAddr address, uint64_t size);
// Extensible structs: bytes past `known` must be zero (E2BIG).
Result<void> CheckZeroTail(Task& task, GuestAddr address, uint64_t known, uint64_t size);

mm::Limits MemoryLimits(Task& task);
// ptrace_may_access(): EPERM.
Result<void> MayAccessTask(Task& task, Task& target);
// The descriptor's part of close(2) that the fd table does not do: POSIX locks.
void CloseFile(Task& task, const RefPtr<vfs::FileDescription>& file);

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_HANDLERS_H_
