// System V IPC: shared memory, semaphores, message queues.
#include "abi/ipc.h"
#include "sentry/ipc/namespace.h"
#include "syscalls/handlers.h"
#include "syscalls/io.h"

namespace caisson::syscalls {
namespace {

constexpr int kIpcRmid = 0, kIpcSet = 1, kIpcStat = 2, kIpcInfo = 3;
constexpr int kShmLock = 11, kShmUnlock = 12, kShmStat = 13, kShmInfo = 14, kShmStatAny = 15;
constexpr int kGetpid = 11, kGetval = 12, kGetall = 13, kGetncnt = 14, kGetzcnt = 15, kSetval = 16,
              kSetall = 17, kSemStat = 18, kSemInfo = 19, kSemStatAny = 20;
constexpr int kMsgStat = 11, kMsgInfo = 12, kMsgStatAny = 13;
constexpr int kIpc64 = 0x100;  // IPC_64: set by libraries of old, meaningless here.

ipc::IpcNamespace& Ipc(Task& task) { return *task.namespaces().ipc; }

// Ids of processes in results are of the root pid namespace; the caller sees its own.
int32_t ShownPid(Task& task, int32_t global) {
  RefPtr<kernel::Pid> pid = task.kernel().root_pid_ns()->Find(global);
  return pid ? pid->NumberIn(task.pid_namespace()) : 0;
}

}  // namespace

SyscallResult Shmget(Task& task, int32_t key, uint64_t size, int32_t flags) {
  return int64_t{TRY(Ipc(task).shm.Get(task, key, size, flags))};
}
SyscallResult Shmat(Task& task, int32_t id, GuestAddr address, int32_t flags) {
  GuestAddr at = TRY(Ipc(task).shm.Attach(task, task.mm(), id, address, flags, MemoryLimits(task)));
  return static_cast<int64_t>(at.value);
}
SyscallResult Shmdt(Task& task, GuestAddr address) {
  TRY(ipc::SharedMemory::Detach(task, task.mm(), address));
  return 0;
}
SyscallResult Shmctl(Task& task, int32_t id, int32_t command, GuestAddr buffer) {
  ipc::SharedMemory& shm = Ipc(task).shm;
  switch (command & ~kIpc64) {
    case kIpcInfo:
      TRY(task.Write(buffer, shm.Limits()));
      return std::max(shm.MaxIndex(), 0);
    case kShmInfo:
      TRY(task.Write(buffer, shm.Info()));
      return std::max(shm.MaxIndex(), 0);
    case kIpcStat:
    case kShmStat:
    case kShmStatAny: {
      const int c = command & ~kIpc64;
      int out_id = 0;
      auto ds = TRY(shm.Stat(task, id, c != kIpcStat, c == kShmStatAny, &out_id));
      ds.cpid = ShownPid(task, ds.cpid);
      ds.lpid = ShownPid(task, ds.lpid);
      TRY(task.Write(buffer, ds));
      return c == kIpcStat ? 0 : out_id;
    }
    case kIpcSet: {
      auto ds = TRY(task.Read<abi::ShmidDs>(buffer));
      TRY(shm.Set(task, id, ds.perm));
      return 0;
    }
    case kIpcRmid:
      TRY(shm.Remove(task, id));
      return 0;
    case kShmLock:
    case kShmUnlock:
      TRY(shm.Lock(task, id, (command & ~kIpc64) == kShmLock, task.group().limits().soft(kernel::kRlimitMemlock)));
      return 0;
    default:
      return Errno::kEINVAL;
  }
}

SyscallResult Semget(Task& task, int32_t key, int32_t count, int32_t flags) {
  return int64_t{TRY(Ipc(task).sem.Get(task, key, count, flags))};
}
static SyscallResult DoSemop(Task& task, int32_t id, GuestAddr ops_address, uint32_t count, int64_t deadline) {
  if (count == 0 || id < 0) return Errno::kEINVAL;
  if (count > ipc::Semaphores::kMaxOps) return Errno::kE2BIG;
  std::vector<abi::SemBuf> ops(count);
  TRY(task.CopyInBytes(ops_address, absl::Span<char>(reinterpret_cast<char*>(ops.data()), count * sizeof(abi::SemBuf))));
  TRY(Ipc(task).sem.Operate(task, &task.sem_undo(), id, ops, deadline));
  return 0;
}
SyscallResult Semop(Task& task, int32_t id, GuestAddr ops, uint32_t count) {
  return DoSemop(task, id, ops, count, time::kNever);
}
SyscallResult Semtimedop(Task& task, int32_t id, GuestAddr ops, uint32_t count, GuestAddr timeout) {
  int64_t deadline = time::kNever;
  if (!timeout.is_null()) deadline = DeadlineAfter(TRY(ReadTimespec(task, timeout)));
  return DoSemop(task, id, ops, count, deadline);
}
SyscallResult Semctl(Task& task, int32_t id, int32_t index, int32_t command, uint64_t arg) {
  ipc::Semaphores& sem = Ipc(task).sem;
  const GuestAddr buffer(arg);
  const int c = command & ~kIpc64;
  switch (c) {
    case kIpcInfo:
    case kSemInfo:
      TRY(task.Write(buffer, sem.Info(c == kSemInfo)));
      return std::max(sem.MaxIndex(), 0);
    case kIpcStat:
    case kSemStat:
    case kSemStatAny: {
      int out_id = 0;
      auto ds = TRY(sem.Stat(task, id, c != kIpcStat, c == kSemStatAny, &out_id));
      TRY(task.Write(buffer, ds));
      return c == kIpcStat ? 0 : out_id;
    }
    case kIpcSet: {
      auto ds = TRY(task.Read<abi::SemidDs>(buffer));
      TRY(sem.Set(task, id, ds.perm));
      return 0;
    }
    case kIpcRmid:
      TRY(sem.Remove(task, id));
      return 0;
    case kGetpid:
      return ShownPid(task, TRY(sem.GetOne(task, id, index, c)));
    case kGetval:
    case kGetncnt:
    case kGetzcnt:
      return int64_t{TRY(sem.GetOne(task, id, index, c))};
    case kSetval:
      TRY(sem.SetValue(task, id, index, static_cast<int32_t>(arg)));
      return 0;
    case kGetall: {
      auto values = TRY(sem.GetAll(task, id));
      TRY(task.CopyOutBytes(buffer, {reinterpret_cast<const char*>(values.data()), values.size() * 2}));
      return 0;
    }
    case kSetall: {
      size_t count = TRY(sem.Count(id));
      std::vector<uint16_t> values(count);
      TRY(task.CopyInBytes(buffer, absl::Span<char>(reinterpret_cast<char*>(values.data()), count * 2)));
      TRY(sem.SetAll(task, id, values));
      return 0;
    }
    default:
      return Errno::kEINVAL;
  }
}

SyscallResult Msgget(Task& task, int32_t key, int32_t flags) {
  return int64_t{TRY(Ipc(task).msg.Get(task, key, flags))};
}
SyscallResult Msgsnd(Task& task, int32_t id, GuestAddr buffer, uint64_t size, int32_t flags) {
  ipc::Message message;
  message.type = TRY(task.Read<int64_t>(buffer));
  TRY(task.namespaces().ipc->msg.CheckSend(id, message.type, size));
  message.text.resize(size);
  if (size != 0) TRY(task.CopyInBytes(buffer + 8, absl::Span<char>(message.text.data(), size)));
  TRY(Ipc(task).msg.Send(task, id, std::move(message), flags));
  return 0;
}
SyscallResult Msgrcv(Task& task, int32_t id, GuestAddr buffer, uint64_t size, int64_t type, int32_t flags) {
  if (static_cast<int64_t>(size) < 0) return Errno::kEINVAL;
  ipc::Message message = TRY(Ipc(task).msg.Receive(task, id, size, type, flags));
  TRY(task.Write(buffer, message.type));
  if (!message.text.empty()) TRY(task.CopyOutBytes(buffer + 8, message.text));
  return static_cast<int64_t>(message.text.size());
}
SyscallResult Msgctl(Task& task, int32_t id, int32_t command, GuestAddr buffer) {
  ipc::MessageQueues& msg = Ipc(task).msg;
  const int c = command & ~kIpc64;
  switch (c) {
    case kIpcInfo:
    case kMsgInfo:
      TRY(task.Write(buffer, msg.Info(c == kMsgInfo)));
      return std::max(msg.MaxIndex(), 0);
    case kIpcStat:
    case kMsgStat:
    case kMsgStatAny: {
      int out_id = 0;
      auto ds = TRY(msg.Stat(task, id, c != kIpcStat, c == kMsgStatAny, &out_id));
      ds.lspid = ShownPid(task, ds.lspid);
      ds.lrpid = ShownPid(task, ds.lrpid);
      TRY(task.Write(buffer, ds));
      return c == kIpcStat ? 0 : out_id;
    }
    case kIpcSet: {
      auto ds = TRY(task.Read<abi::MsqidDs>(buffer));
      TRY(msg.Set(task, id, ds.perm, ds.qbytes));
      return 0;
    }
    case kIpcRmid:
      TRY(msg.Remove(task, id));
      return 0;
    default:
      return Errno::kEINVAL;
  }
}

}  // namespace caisson::syscalls
