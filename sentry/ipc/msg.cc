#include "sentry/ipc/msg.h"

#include <algorithm>
#include <utility>

#include "sentry/ipc/namespace.h"
#include "time/clock.h"

namespace caisson::ipc {

using auth::Capability;

namespace {

// Index of the message that msgrcv(2) takes, or -1.
int64_t Choose(const std::deque<Message>& messages, int64_t type, int flags) {
  if ((flags & abi::kMsgCopy) != 0)
    return type >= 0 && static_cast<uint64_t>(type) < messages.size() ? type : -1;
  int64_t best = -1;
  for (size_t i = 0; i < messages.size(); ++i) {
    int64_t t = messages[i].type;
    if (type == 0) return static_cast<int64_t>(i);
    if (type > 0) {
      if ((t == type) != ((flags & abi::kMsgExcept) != 0)) return static_cast<int64_t>(i);
      continue;
    }
    // The lowest type up to |type|, the first of those.
    int64_t limit = type == INT64_MIN ? INT64_MAX : -type;
    if (t <= limit && (best < 0 || t < messages[static_cast<size_t>(best)].type))
      best = static_cast<int64_t>(i);
  }
  return best;
}

Errno WaitError(Errno e) { return e == Errno::kERESTARTSYS ? Errno::kERESTARTNOHAND : e; }

}  // namespace

Result<int> MessageQueues::Get(vfs::CallContext& ctx, int32_t key, int flags) {
  const auth::Credentials& creds = ctx.creds();
  MutexLock lock(registry_.mu());
  if (key != abi::kIpcPrivate) {
    if (RefPtr<MessageQueue> found = registry_.FindKeyLocked(key)) {
      if ((flags & abi::kIpcCreat) != 0 && (flags & abi::kIpcExcl) != 0) return Errno::kEEXIST;
      MutexLock queue_lock(found->mu);
      TRY(CheckAccess(creds, ns_.user_ns(), found->owner, flags & 0777));
      return found->id;
    }
    if ((flags & abi::kIpcCreat) == 0) return Errno::kENOENT;
  }
  RefPtr<MessageQueue> made = TRY(registry_.InsertLocked(ns_.tunables.msgmni.load(), key, [&](int id) {
    auto queue = MakeRef<MessageQueue>(id);
    MutexLock queue_lock(queue->mu);
    queue->owner = {key,        creds.euid, creds.euid,
                    creds.egid, creds.egid, static_cast<uint32_t>(flags & 0777)};
    queue->ctime = NowSeconds();
    queue->max_bytes = ns_.tunables.msgmnb.load();
    return queue;
  }));
  return made->id;
}

Result<void> MessageQueues::CheckSend(int id, int64_t type, uint64_t size) const {
  if (size > ns_.tunables.msgmax.load() || id < 0 || type < 1) return Errno::kEINVAL;
  return {};
}

Result<void> MessageQueues::Send(vfs::CallContext& ctx, int id, Message message, int flags) {
  const size_t size = message.text.size();
  TRY(CheckSend(id, message.type, size));
  RefPtr<MessageQueue> queue = TRY(registry_.Find(id));
  auto attempt = [&]() -> Result<void> {
    MutexLock lock(queue->mu);
    TRY(CheckAccess(ctx.creds(), ns_.user_ns(), queue->owner, 0222));
    if (queue->removed) return Errno::kEIDRM;
    if (queue->bytes + size > queue->max_bytes || queue->messages.size() + 1 > queue->max_bytes)
      return Errno::kEAGAIN;
    if (bytes_.load(std::memory_order_relaxed) + size > kMaxTotalBytes) return Errno::kENOMEM;
    queue->bytes += size;
    bytes_.fetch_add(size, std::memory_order_relaxed);
    messages_.fetch_add(1, std::memory_order_relaxed);
    queue->messages.push_back(std::move(message));
    queue->stime = NowSeconds();
    queue->sender = ctx.process_id();
    return {};
  };
  Result<void> sent = (flags & abi::kIpcNowait) != 0
                          ? attempt()
                          : vfs::WaitUntil(ctx, queue->changed, kEventOut, time::kNever, attempt);
  if (!sent.ok()) return WaitError(sent.error());
  queue->changed.Notify(kEventIn);
  return {};
}

Result<Message> MessageQueues::Receive(vfs::CallContext& ctx, int id, uint64_t size, int64_t type,
                                       int flags) {
  if (id < 0 || size > INT64_MAX) return Errno::kEINVAL;
  const bool copy = (flags & abi::kMsgCopy) != 0;
  if (copy && ((flags & abi::kMsgExcept) != 0 || (flags & abi::kIpcNowait) == 0))
    return Errno::kEINVAL;
  RefPtr<MessageQueue> queue = TRY(registry_.Find(id));
  auto attempt = [&]() -> Result<Message> {
    MutexLock lock(queue->mu);
    TRY(CheckAccess(ctx.creds(), ns_.user_ns(), queue->owner, 0444));
    if (queue->removed) return Errno::kEIDRM;
    int64_t index = Choose(queue->messages, type, flags);
    if (index < 0) return Errno::kEAGAIN;
    Message& found = queue->messages[static_cast<size_t>(index)];
    if (found.text.size() > size && (flags & abi::kMsgNoerror) == 0) return Errno::kE2BIG;
    Message taken = copy ? found : std::move(found);
    if (!copy) {
      queue->messages.erase(queue->messages.begin() + index);
      queue->bytes -= taken.text.size();
      bytes_.fetch_sub(taken.text.size(), std::memory_order_relaxed);
      messages_.fetch_sub(1, std::memory_order_relaxed);
      queue->rtime = NowSeconds();
      queue->receiver = ctx.process_id();
    }
    if (taken.text.size() > size) taken.text.resize(size);
    return taken;
  };
  Result<Message> got = (flags & abi::kIpcNowait) != 0
                            ? attempt()
                            : vfs::WaitUntil(ctx, queue->changed, kEventIn, time::kNever, attempt);
  if (!got.ok()) return got.error() == Errno::kEAGAIN ? Errno::kENOMSG : WaitError(got.error());
  if (!copy) queue->changed.Notify(kEventOut);
  return got;
}

abi::MsqidDs MessageQueues::Show(const auth::Credentials& creds, MessageQueue& queue) {
  MutexLock lock(queue.mu);
  abi::MsqidDs out = {};
  out.perm = ShowOwner(creds, queue.owner, queue.id);
  out.stime = queue.stime;
  out.rtime = queue.rtime;
  out.ctime = queue.ctime;
  out.cbytes = queue.bytes;
  out.qnum = queue.messages.size();
  out.qbytes = queue.max_bytes;
  out.lspid = queue.sender.number;
  out.lrpid = queue.receiver.number;
  return out;
}

Result<abi::MsqidDs> MessageQueues::Stat(vfs::CallContext& ctx, int id, bool by_index, bool any,
                                         int* id_out) {
  RefPtr<MessageQueue> queue = TRY(by_index ? registry_.FindIndex(id) : registry_.Find(id));
  if (!any) {
    MutexLock lock(queue->mu);
    TRY(CheckAccess(ctx.creds(), ns_.user_ns(), queue->owner, 0444));
  }
  if (id_out != nullptr) *id_out = queue->id;
  return Show(ctx.creds(), *queue);
}

Result<void> MessageQueues::Set(vfs::CallContext& ctx, int id, const abi::IpcPerm& perm,
                                uint64_t max_bytes) {
  RefPtr<MessageQueue> queue = TRY(registry_.Find(id));
  {
    MutexLock lock(queue->mu);
    TRY(CheckOwner(ctx.creds(), ns_.user_ns(), queue->owner));
    if (max_bytes > ns_.tunables.msgmnb.load() && !ctx.creds().HasRootCapability(Capability::kSysResource))
      return Errno::kEPERM;
    // Linux differs: no queue is longer than all of a namespace may be.
    if (max_bytes > kMaxTotalBytes) return Errno::kENOMEM;
    TRY(SetOwner(ctx.creds(), perm, queue->owner));
    queue->max_bytes = max_bytes;
    queue->ctime = NowSeconds();
  }
  // Who waits looks again, at the permissions too.
  queue->changed.Notify(kEventIn | kEventOut);
  return {};
}

Result<void> MessageQueues::Remove(vfs::CallContext& ctx, int id) {
  RefPtr<MessageQueue> queue = TRY(registry_.Find(id));
  int32_t key = 0;
  std::deque<Message> dropped;
  {
    MutexLock lock(queue->mu);
    TRY(CheckOwner(ctx.creds(), ns_.user_ns(), queue->owner));
    if (queue->removed) return Errno::kEIDRM;
    queue->removed = true;
    key = queue->owner.key;
    bytes_.fetch_sub(queue->bytes, std::memory_order_relaxed);
    messages_.fetch_sub(static_cast<int32_t>(queue->messages.size()), std::memory_order_relaxed);
    queue->bytes = 0;
    dropped.swap(queue->messages);
  }
  registry_.Remove(*queue, key);
  queue->changed.Notify(kEventIn | kEventOut);
  return {};
}

abi::MsgInfo MessageQueues::Info(bool used) {
  abi::MsgInfo info = {};
  info.msgmni = static_cast<int>(ns_.tunables.msgmni.load());
  info.msgmax = static_cast<int>(ns_.tunables.msgmax.load());
  info.msgmnb = static_cast<int>(ns_.tunables.msgmnb.load());
  info.msgssz = 16;
  info.msgseg = 0xffff;
  if (used) {
    info.msgpool = static_cast<int32_t>(registry_.count());
    info.msgmap = messages_.load(std::memory_order_relaxed);
    info.msgtql = static_cast<int32_t>(bytes_.load(std::memory_order_relaxed));
  } else {
    info.msgpool = kMaxQueues * kMaxQueueBytes / 1024;
    info.msgmap = info.msgtql = kMaxQueueBytes;
  }
  return info;
}

std::vector<abi::MsqidDs> MessageQueues::All(vfs::CallContext& ctx, std::vector<int>* ids) {
  std::vector<abi::MsqidDs> out;
  for (const RefPtr<MessageQueue>& queue : registry_.All()) {
    ids->push_back(queue->id);
    out.push_back(Show(ctx.creds(), *queue));
  }
  return out;
}

}  // namespace caisson::ipc
