// POSIX message queues (mq_overview(7); Linux ipc/mqueue.c).
#include "sentry/ipc/namespace.h"
#include "sentry/ipc/posix_mq.h"
#include "syscalls/handlers.h"
#include "syscalls/io.h"
#include "vfs/permission.h"

namespace caisson::syscalls {
namespace {

using ipc::MqAttributes;
using ipc::PosixQueue;
using ipc::PosixQueueFile;

ipc::PosixQueues& QueuesOf(Task& task) { return task.namespaces().ipc->posix(); }

// A name without the leading slash, which libc has taken off.
Result<std::string> ReadName(Task& task, PathPtr ptr) {
  std::string name = TRY(ptr.Read(task));
  constexpr size_t kNameMax = 255;
  if (name.find('/') != std::string::npos || name == "." || name == "..") return Errno::kEACCES;
  if (name.size() > kNameMax) return Errno::kENAMETOOLONG;
  return name;
}

// Absolute, on CLOCK_REALTIME; checked whether the call waits or not.
Result<int64_t> ReadDeadline(Task& task, GuestAddr timeout) {
  if (timeout.is_null()) return time::kNever;
  int64_t ns = TRY(ReadTimespec(task, timeout));
  return DeadlineAfter(std::max<int64_t>(ns - time::RealtimeNow(), 0));
}

}  // namespace

SyscallResult MqOpen(Task& task, PathPtr name_ptr, int32_t flags, Mode mode, GuestAddr attributes) {
  MqAttributes wanted;
  if ((flags & vfs::kOpenCreate) != 0 && !attributes.is_null()) wanted = TRY(task.Read<MqAttributes>(attributes));
  std::string name = TRY(ReadName(task, name_ptr));
  const uint32_t access_mode = static_cast<uint32_t>(flags) & vfs::kOpenAccessMode;
  if (access_mode == vfs::kOpenAccessMode) return Errno::kEINVAL;
  ipc::PosixQueues& queues = QueuesOf(task);
  RefPtr<PosixQueue> queue = queues.Find(name);
  if (!queue && (flags & vfs::kOpenCreate) == 0) return Errno::kENOENT;
  if (queue && (flags & vfs::kOpenCreate) != 0 && (flags & vfs::kOpenExclusive) != 0) return Errno::kEEXIST;
  bool made = false;
  if (!queue) {
    const MqAttributes* given = attributes.is_null() ? nullptr : &wanted;
    Result<RefPtr<PosixQueue>> created =
        queues.Create(task, name, mode.value & ~task.umask(), given, task.group().limits().soft(kernel::kRlimitMsgqueue));
    if (created.ok()) {
      queue = *std::move(created);
      made = true;
    } else {
      // Another call may have made it meanwhile.
      if (created.error() != Errno::kEEXIST || (flags & vfs::kOpenExclusive) != 0) return created.error();
      queue = queues.Find(name);
      if (!queue) return Errno::kENOENT;
    }
  }
  if (!made) {
    vfs::AccessMask access = 0;
    if (access_mode != vfs::kOpenWriteOnly) access |= vfs::kMayRead;
    if (access_mode != vfs::kOpenReadOnly) access |= vfs::kMayWrite;
    TRY(queue->CheckPermission(task, access));
  }
  const uint32_t kept = static_cast<uint32_t>(flags) & (vfs::kOpenAccessMode | vfs::kOpenNonblock);
  // Always close-on-exec (do_mq_open()).
  return InstallFile(task, MakeRef<PosixQueueFile>(std::move(queue), vfs::VfsPath(), kept, "/" + name), true);
}

SyscallResult MqUnlink(Task& task, PathPtr name_ptr) {
  std::string name = TRY(ReadName(task, name_ptr));
  TRY(QueuesOf(task).Remove(task, name));
  return 0;
}

SyscallResult MqTimedsend(Task& task, Fd fd, GuestAddr text, uint64_t length, uint32_t priority, GuestAddr timeout) {
  int64_t deadline = TRY(ReadDeadline(task, timeout));
  if (priority >= PosixQueue::kMaxPriority) return Errno::kEINVAL;
  RefPtr<vfs::FileDescription> found = TRY(task.fd_table().Get(fd.value));
  RefPtr<PosixQueueFile> file = TRY(ipc::AsPosixQueue(found));
  if (!file->writable()) return Errno::kEBADF;
  if (length > static_cast<uint64_t>(file->queue().message_size())) return Errno::kEMSGSIZE;
  PosixQueue::Message message;
  message.priority = priority;
  message.text.resize(length);
  TRY(task.CopyInBytes(text, absl::Span<char>(message.text.data(), message.text.size())));
  TRY(WaitForFile(task, *file, kWritable, !file->nonblocking(), deadline,
                  [&] { return file->queue().Send(task, message); }));
  return 0;
}

SyscallResult MqTimedreceive(Task& task, Fd fd, GuestAddr to, uint64_t length, GuestAddr priority, GuestAddr timeout) {
  int64_t deadline = TRY(ReadDeadline(task, timeout));
  RefPtr<vfs::FileDescription> found = TRY(task.fd_table().Get(fd.value));
  RefPtr<PosixQueueFile> file = TRY(ipc::AsPosixQueue(found));
  if (!file->readable()) return Errno::kEBADF;
  if (length < static_cast<uint64_t>(file->queue().message_size())) return Errno::kEMSGSIZE;
  file->queue().AddReceiver(1);
  Result<PosixQueue::Message> message = WaitForFile(task, *file, kReadable, !file->nonblocking(), deadline,
                                                    [&] { return file->queue().Receive(); });
  file->queue().AddReceiver(-1);
  if (!message.ok()) return message.error();
  // As Linux: a message that cannot be stored is lost.
  if (!priority.is_null()) TRY(task.Write(priority, message->priority));
  TRY(task.CopyOutBytes(to, {message->text.data(), message->text.size()}));
  return static_cast<int64_t>(message->text.size());
}

SyscallResult MqNotify(Task& task, Fd fd, GuestAddr event) {
  struct Sigevent {
    uint64_t value;
    int32_t signo, notify;
    int32_t pad[12];
  };
  static_assert(sizeof(Sigevent) == 64);
  constexpr int kSigevSignal = 0, kSigevNone = 1;
  Sigevent wanted{};
  if (!event.is_null()) {
    wanted = TRY(task.Read<Sigevent>(event));
    if (wanted.notify != kSigevSignal && wanted.notify != kSigevNone) {
      // SIGEV_THREAD comes with a netlink socket of libc's, which would carry the news.
      task.kernel().NoteUnsupported("mq_notify: SIGEV_THREAD");
      return Errno::kEINVAL;
    }
    if (wanted.notify == kSigevSignal && !signal::IsValid(wanted.signo)) return Errno::kEINVAL;
  }
  RefPtr<vfs::FileDescription> found = TRY(task.fd_table().Get(fd.value));
  RefPtr<PosixQueueFile> file = TRY(ipc::AsPosixQueue(found));
  if (event.is_null()) {
    file->queue().DropNotification(&task.group());
    return 0;
  }
  PosixQueue::Notification n;
  n.process = &task.group();
  n.tgid = task.TgidIn(task.pid_namespace());
  if (wanted.notify == kSigevSignal) {
    n.signo = wanted.signo;
    // The id, not the group: a notification must not keep a process that has ended.
    n.tell = [pid = task.group().pid_ref(), user_ns = task.creds().user_ns, kernel = &task.kernel(), wanted](vfs::CallContext& sender) {
      RefPtr<kernel::ThreadGroup> group;
      {
        MutexLock lock(kernel->tasks_mu());
        group = RefPtr<kernel::ThreadGroup>(pid->group);
      }
      if (!group) return;
      signal::Info info(wanted.signo, signal::kSiMesgq);
      // As the receiver sees the sender.
      RefPtr<kernel::Pid> from = kernel->root_pid_ns()->Find(sender.tgid());
      info.rt.pid = from ? from->NumberIn(pid->ns()) : 0;
      info.rt.uid = user_ns->FromKernelUid(sender.creds().ruid);
      info.rt.value = wanted.value;
      group->SendSignal(info);
    };
  }
  TRY(file->queue().SetNotification(std::move(n)));
  return 0;
}

SyscallResult MqGetsetattr(Task& task, Fd fd, GuestAddr set, GuestAddr old) {
  MqAttributes wanted;
  if (!set.is_null()) {
    wanted = TRY(task.Read<MqAttributes>(set));
    if ((wanted.flags & ~int64_t{vfs::kOpenNonblock}) != 0) return Errno::kEINVAL;
  }
  RefPtr<vfs::FileDescription> found = TRY(task.fd_table().Get(fd.value));
  RefPtr<PosixQueueFile> file = TRY(ipc::AsPosixQueue(found));
  MqAttributes now;
  now.flags = file->flags() & vfs::kOpenNonblock;
  now.max_messages = file->queue().max_messages();
  now.message_size = file->queue().message_size();
  now.current = file->queue().current();
  if (!set.is_null())
    TRY(file->SetStatusFlags(task, (file->flags() & ~vfs::kOpenNonblock) | static_cast<uint32_t>(wanted.flags)));
  if (!old.is_null()) TRY(task.Write(old, now));
  return 0;
}

}  // namespace caisson::syscalls
