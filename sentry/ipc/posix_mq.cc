#include "sentry/ipc/posix_mq.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vfs/call_context.h"
#include "vfs/permission.h"

namespace caisson::ipc {
namespace {

constexpr uint64_t kMqueueMagic = 0x19800202;
constexpr int64_t kHardMaxMessages = 65536, kHardMessageSize = 16 << 20;  // HARD_MSGMAX and so on.
constexpr uint64_t kRootIno = 1;
constexpr size_t kNameMax = 255;

vfs::Timestamp Now() { return vfs::Timestamp::FromNanoseconds(time::RealtimeNow()); }

// mqueue_get_inode(): what the queue counts in RLIMIT_MSGQUEUE. Errors: EOVERFLOW.
Result<uint64_t> CostOf(int64_t max_messages, int64_t message_size) {
  constexpr uint64_t kPerMessage = 48, kPerNode = 48;  // struct msg_msg, posix_msg_tree_node.
  const auto n = static_cast<uint64_t>(max_messages), size = static_cast<uint64_t>(message_size);
  uint64_t bytes;
  if (__builtin_mul_overflow(n, size, &bytes)) return Errno::kEOVERFLOW;
  const uint64_t tree = n * kPerMessage + std::min<uint64_t>(n, PosixQueue::kMaxPriority) * kPerNode;
  if (__builtin_add_overflow(bytes, tree, &bytes)) return Errno::kEOVERFLOW;
  return bytes;
}

}  // namespace

// --- A queue ---

PosixQueue::PosixQueue(PosixQueues& fs, uint64_t ino, vfs::FileMode mode, uint32_t uid, uint32_t gid,
                       int64_t max_messages, int64_t message_size, auth::UserCharge charge)
    : Inode(fs, vfs::kModeRegular), ino_(ino), max_messages_(max_messages), message_size_(message_size),
      charge_(std::move(charge)), mode_(vfs::kModeRegular | (mode & 0777)), uid_(uid), gid_(gid),
      atime_(Now()), mtime_(atime_), ctime_(atime_) {}

Result<void> PosixQueue::Send(vfs::CallContext& ctx, Message& message) {
  std::optional<Notification> told;
  {
    MutexLock lock(mu_);
    if (count_ >= max_messages_) return Errno::kEAGAIN;
    bytes_ += message.text.size();
    messages_[message.priority].push_back(std::move(message.text));
    atime_ = mtime_ = ctime_ = Now();
    if (++count_ == 1 && notification_ && receivers_.load(std::memory_order_seq_cst) == 0)
      told = std::exchange(notification_, std::nullopt);
  }
  if (told && told->tell) told->tell(ctx);
  queue_.Notify(kReadable);
  return {};
}

Result<PosixQueue::Message> PosixQueue::Receive() {
  Message out;
  {
    MutexLock lock(mu_);
    if (count_ == 0) return Errno::kEAGAIN;
    auto highest = messages_.begin();
    out.priority = highest->first;
    out.text = std::move(highest->second.front());
    highest->second.pop_front();
    if (highest->second.empty()) messages_.erase(highest);
    --count_;
    bytes_ -= out.text.size();
    atime_ = ctime_ = Now();
  }
  queue_.Notify(kWritable);
  return out;
}

int64_t PosixQueue::current() const {
  MutexLock lock(mu_);
  return count_;
}

Result<void> PosixQueue::SetNotification(Notification notification) {
  MutexLock lock(mu_);
  if (notification_) return Errno::kEBUSY;
  notification_ = std::move(notification);
  return {};
}

void PosixQueue::DropNotification(const void* process) {
  std::optional<Notification> dropped;  // What it holds goes without the lock.
  MutexLock lock(mu_);
  if (notification_ && notification_->process == process) dropped = std::exchange(notification_, std::nullopt);
}

std::string PosixQueue::Status() const {
  MutexLock lock(mu_);
  constexpr int kSigevSignal = 0, kSigevNone = 1;
  const int how = notification_ && notification_->signo == 0 ? kSigevNone : kSigevSignal;
  return absl::StrFormat("QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", bytes_,
                         notification_ ? how : 0, notification_ ? notification_->signo : 0,
                         notification_ ? notification_->tgid : 0);
}

EventMask PosixQueue::Readiness() const {
  MutexLock lock(mu_);
  return (count_ > 0 ? kReadable : 0) | (count_ < max_messages_ ? kWritable : 0);
}

Result<vfs::Attributes> PosixQueue::GetAttributes(vfs::CallContext&) {
  constexpr uint64_t kStatusSize = 80;  // FILENT_SIZE.
  vfs::Attributes attr;
  MutexLock lock(mu_);
  attr.ino = ino_;
  attr.mode = mode_;
  attr.nlink = links_.load(std::memory_order_relaxed);
  attr.uid = uid_;
  attr.gid = gid_;
  attr.size = kStatusSize;
  attr.dev = fs().device();
  attr.atime = atime_;
  attr.mtime = mtime_;
  attr.ctime = ctime_;
  return attr;
}

Result<void> PosixQueue::SetAttributes(vfs::CallContext&, const struct vfs::SetAttributes& change) {
  const vfs::Timestamp now = Now();
  MutexLock lock(mu_);  // A size is taken and has no effect, as on Linux.
  if (change.mode) mode_ = vfs::kModeRegular | (*change.mode & vfs::kModePermissions);
  if (change.uid) uid_ = *change.uid;
  if (change.gid) gid_ = *change.gid;
  if (change.atime) atime_ = change.atime->now ? now : change.atime->at;
  if (change.mtime) mtime_ = change.mtime->now ? now : change.mtime->at;
  ctime_ = now;
  return {};
}

Result<RefPtr<vfs::FileDescription>> PosixQueue::Open(vfs::CallContext&, const vfs::OpenArgs& args) {
  return RefPtr<vfs::FileDescription>(MakeRef<PosixQueueFile>(RefPtr<PosixQueue>(this), args.path, args.flags, ""));
}

// --- An open queue ---

PosixQueueFile::PosixQueueFile(RefPtr<PosixQueue> queue, vfs::VfsPath path, uint32_t flags, std::string name)
    : FileDescription(vfs::FileKind::kMqueue, std::move(path), queue, flags),
      queue_(std::move(queue)), name_(std::move(name)) {}

Result<size_t> PosixQueueFile::Read(vfs::CallContext& ctx, IoBuffer& to, uint32_t rwf) {
  size_t n = TRY(PRead(ctx, to, position_.load(std::memory_order_relaxed), rwf));
  position_.fetch_add(n, std::memory_order_relaxed);
  return n;
}

Result<size_t> PosixQueueFile::PRead(vfs::CallContext&, IoBuffer& to, uint64_t offset, uint32_t) {
  const std::string text = queue_->Status();
  if (offset >= text.size()) return size_t{0};
  return to.Put(absl::string_view(text).substr(offset));
}

EventMask PosixQueueFile::Readiness(EventMask mask) {
  return queue_->Readiness() & (mask | kEventErr | kEventHup);
}

Result<RefPtr<PosixQueueFile>> AsPosixQueue(const RefPtr<vfs::FileDescription>& file) {
  if (file->kind() != vfs::FileKind::kMqueue) return Errno::kEBADF;
  return StaticRefCast<PosixQueueFile>(file);
}

// --- The directory ---

class PosixQueueDirectory final : public vfs::SeekableFile {
 public:
  PosixQueueDirectory(PosixQueues& queues, const vfs::OpenArgs& args, RefPtr<vfs::Inode> inode)
      : SeekableFile(vfs::FileKind::kDirectory, args.path, std::move(inode), args.flags), queues_(queues) {}
  Result<size_t> Read(vfs::CallContext&, IoBuffer&, uint32_t) override { return Errno::kEISDIR; }
  Result<size_t> PRead(vfs::CallContext&, IoBuffer&, uint64_t, uint32_t) override { return Errno::kEISDIR; }
  Result<void> Iterate(vfs::CallContext& ctx, vfs::DirectorySink& sink) override {
    MutexLock lock(position_mu_);
    for (; position_ < 2; ++position_)
      if (!sink.Add(position_ == 0 ? "." : "..", kRootIno, vfs::kModeDirectory, position_ + 1)) return {};
    std::map<uint64_t, std::string> names;  // By inode number, which only grows.
    {
      MutexLock queues_lock(queues_.mu_);
      for (const auto& [name, queue] : queues_.queues_) names.emplace(queue->GetAttributes(ctx)->ino, name);
    }
    for (const auto& [ino, name] : names) {
      if (static_cast<int64_t>(ino) < position_) continue;
      if (!sink.Add(name, ino, vfs::kModeRegular, static_cast<int64_t>(ino) + 1)) return {};
      position_ = static_cast<int64_t>(ino) + 1;
    }
    return {};
  }

 private:
  PosixQueues& queues_;  // The inode holds it.
};

class PosixQueueRoot final : public vfs::Inode {
 public:
  explicit PosixQueueRoot(PosixQueues& queues) : Inode(queues, vfs::kModeDirectory), queues_(queues), made_(Now()) {}
  Result<vfs::Attributes> GetAttributes(vfs::CallContext&) override {
    vfs::Attributes attr;
    attr.ino = kRootIno;
    attr.mode = vfs::kModeDirectory | 01777;
    attr.nlink = 2;
    attr.size = 40;
    attr.dev = fs().device();
    attr.atime = attr.mtime = attr.ctime = made_;
    return attr;
  }
  Result<RefPtr<vfs::Inode>> Lookup(vfs::CallContext&, absl::string_view name) override {
    if (RefPtr<PosixQueue> found = queues_.Find(name)) return RefPtr<vfs::Inode>(std::move(found));
    return Errno::kENOENT;
  }
  Result<RefPtr<vfs::Inode>> Create(vfs::CallContext& ctx, absl::string_view name, vfs::FileMode mode) override {
    constexpr uint64_t kDefaultBytes = 819200;  // RLIMIT_MSGQUEUE of most.
    RefPtr<PosixQueue> made = TRY(queues_.Create(ctx, name, mode, nullptr, kDefaultBytes));
    return RefPtr<vfs::Inode>(std::move(made));
  }
  Result<void> Unlink(vfs::CallContext& ctx, absl::string_view name, vfs::Inode&) override {
    return queues_.Remove(ctx, name);
  }
  uint64_t LookupGeneration() override { return queues_.generation_.load(std::memory_order_acquire); }
  Result<RefPtr<vfs::FileDescription>> Open(vfs::CallContext&, const vfs::OpenArgs& args) override {
    return RefPtr<vfs::FileDescription>(MakeRef<PosixQueueDirectory>(queues_, args, RefPtr<vfs::Inode>(this)));
  }

 private:
  PosixQueues& queues_;  // Inode holds it.
  const vfs::Timestamp made_;
};

PosixQueues::PosixQueues() : FileSystem("mqueue") {}
PosixQueues::~PosixQueues() = default;

RefPtr<vfs::Inode> PosixQueues::root() { return MakeRef<PosixQueueRoot>(*this); }

Result<vfs::FsStatistics> PosixQueues::Statistics(vfs::CallContext&) {
  vfs::FsStatistics s;
  s.type = kMqueueMagic;
  return s;
}

void PosixQueues::Clear() {
  std::map<std::string, RefPtr<PosixQueue>, std::less<>> gone;
  MutexLock lock(mu_);
  gone.swap(queues_);
  generation_.fetch_add(1, std::memory_order_release);
}

RefPtr<PosixQueue> PosixQueues::Find(absl::string_view name) {
  MutexLock lock(mu_);
  auto it = queues_.find(name);
  return it != queues_.end() ? it->second : nullptr;
}

Result<RefPtr<PosixQueue>> PosixQueues::Create(vfs::CallContext& ctx, absl::string_view name, vfs::FileMode mode,
                                               const MqAttributes* attributes, uint64_t byte_limit) {
  if (name.size() > kNameMax) return Errno::kENAMETOOLONG;
  const bool privileged = ctx.creds().HasRootCapability(auth::Capability::kSysResource);
  int64_t messages = std::min(limits_.msg_max.load(), limits_.msg_default.load());
  int64_t size = std::min(limits_.msgsize_max.load(), limits_.msgsize_default.load());
  if (attributes != nullptr) {
    messages = attributes->max_messages;
    size = attributes->message_size;
    if (messages <= 0 || size <= 0) return Errno::kEINVAL;
    if (messages > (privileged ? kHardMaxMessages : limits_.msg_max.load()) ||
        size > (privileged ? kHardMessageSize : limits_.msgsize_max.load()))
      return Errno::kEINVAL;
  }
  const uint64_t cost = TRY(CostOf(messages, size));
  auth::UserCharge charge;
  if (RefPtr<auth::UserCounts> user = ctx.user_counts()) {
    if (!user->Add(auth::UserCounts::kMessageQueueBytes, cost, byte_limit)) return Errno::kEMFILE;
    charge = auth::UserCharge(std::move(user), auth::UserCounts::kMessageQueueBytes, cost);
  }
  MutexLock lock(mu_);
  if (queues_.contains(name)) return Errno::kEEXIST;
  // Linux lets CAP_SYS_RESOURCE pass queues_max; here it is the sentry's memory.
  constexpr size_t kMost = 4096;
  if (queues_.size() >= kMost || (!privileged && static_cast<int64_t>(queues_.size()) >= limits_.queues_max.load()))
    return Errno::kENOSPC;
  auto queue = MakeRef<PosixQueue>(*this, next_ino_++, mode, ctx.creds().fsuid, ctx.creds().fsgid, messages, size,
                                   std::move(charge));
  queues_.emplace(std::string(name), queue);
  generation_.fetch_add(1, std::memory_order_release);
  return queue;
}

// The directory is everybody's and sticky: a queue is removed by its owner.
Result<void> PosixQueues::Remove(vfs::CallContext& ctx, absl::string_view name) {
  RefPtr<PosixQueue> found = Find(name);
  if (!found) return Errno::kENOENT;
  vfs::Attributes attr = TRY(found->GetAttributes(ctx));
  if (!vfs::IsOwnerOrCapable(ctx.creds(), attr) && ctx.creds().fsuid != 0) return Errno::kEPERM;
  RefPtr<PosixQueue> gone;
  {
    MutexLock lock(mu_);
    auto it = queues_.find(name);
    if (it == queues_.end() || it->second != found) return Errno::kENOENT;
    gone = std::move(it->second);
    queues_.erase(it);
    generation_.fetch_add(1, std::memory_order_release);
  }
  gone->set_links(0);
  return {};
}

}  // namespace caisson::ipc
