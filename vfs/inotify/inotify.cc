#include "vfs/inotify/inotify.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "vfs/dentry.h"

namespace caisson::vfs::inotify {
namespace {

constexpr uint32_t kAllEvents = kInAccess | kInModify | kInAttrib | kInCloseWrite |
                                kInCloseNowrite | kInOpen | kInMovedFrom | kInMovedTo | kInCreate |
                                kInDelete | kInDeleteSelf | kInMoveSelf;
constexpr uint32_t kAllBits = kAllEvents | kInUnmount | kInQOverflow | kInIgnored | kInOnlydir |
                              kInDontFollow | kInExclUnlink | kInMaskCreate | kInMaskAdd |
                              kInIsdir | kInOneshot;
constexpr uint32_t kKept = kAllEvents | kInExclUnlink | kInOneshot;
constexpr int32_t kMaxWd = INT32_MAX;

// struct inotify_event.
struct EventHeader {
  int32_t wd;
  uint32_t mask;
  uint32_t cookie;
  uint32_t len;
};
static_assert(sizeof(EventHeader) == 16);

struct Event {
  int32_t wd;
  uint32_t mask;
  uint32_t cookie;
  std::string name;
  // The name with its NUL, padded to a multiple of the header's size.
  size_t name_bytes() const {
    if (name.empty()) return 0;
    return (name.size() + 1 + sizeof(EventHeader) - 1) / sizeof(EventHeader) * sizeof(EventHeader);
  }
  size_t bytes() const { return sizeof(EventHeader) + name_bytes(); }
  friend bool operator==(const Event&, const Event&) = default;
};

}  // namespace

// What an instance has to read. Its watches may outlive the instance for a moment. Thread-safe.
class Queue : public RefCounted<Queue> {
 public:
  explicit Queue(uint32_t limit) : limit_(limit) {}
  void Push(Event event) {
    {
      MutexLock lock(mu_);
      if (!events_.empty() && events_.back() == event) return;  // Linux merges with the last.
      if (events_.size() >= limit_) {
        if (overflowed_) return;
        overflowed_ = true;
        event = Event{-1, kInQOverflow, 0, ""};
      }
      bytes_ += event.bytes();
      events_.push_back(std::move(event));
    }
    wait_.Notify(kReadable);
  }
  // Takes the first event if it fits. Errors: EAGAIN if there is none, EINVAL if it does not fit.
  Result<Event> Pop(size_t room) {
    MutexLock lock(mu_);
    if (events_.empty()) return Errno::kEAGAIN;
    if (events_.front().bytes() > room) return Errno::kEINVAL;
    Event event = std::move(events_.front());
    events_.pop_front();
    bytes_ -= event.bytes();
    if ((event.mask & kInQOverflow) != 0) overflowed_ = false;
    return event;
  }
  size_t bytes() const {
    MutexLock lock(mu_);
    return bytes_;
  }
  WaitQueue& wait() { return wait_; }

 private:
  const uint32_t limit_;
  mutable Mutex mu_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool overflowed_ ABSL_GUARDED_BY(mu_) = false;
  WaitQueue wait_;
};

// One watch of one instance. Its inode is kept until the watch is dead. Thread-safe.
class Watch final : public InodeWatch {
 public:
  Watch(RefPtr<Queue> queue, RefPtr<Inode> inode, int32_t wd, uint32_t mask, auth::UserCharge charge)
      : queue_(std::move(queue)), wd_(wd), charge_(std::move(charge)), inode_(std::move(inode)), mask_(mask) {}

  bool OnEvent(uint32_t mask, uint32_t cookie, absl::string_view name,
               bool child_unlinked) override {
    RefPtr<Inode> dropped;  // Not the last reference: the notifier holds one.
    MutexLock lock(mu_);
    if (inode_ == nullptr) return false;
    // A child's events have its name; IN_DELETE_SELF and IN_MOVE_SELF come without IN_ISDIR.
    if ((mask & (kInDeleteSelf | kInMoveSelf)) != 0) mask &= ~kInIsdir;
    const bool wanted = (mask & mask_ & kAllEvents) != 0 &&
                        !(child_unlinked && !name.empty() && (mask_ & kInExclUnlink) != 0);
    if (wanted) queue_->Push({wd_, mask, cookie, std::string(name)});
    if ((mask & kInDeleteSelf) == 0 && !(wanted && (mask_ & kInOneshot) != 0)) return true;
    queue_->Push({wd_, kInIgnored, 0, ""});
    dropped = std::move(inode_);
    return false;
  }
  RefPtr<Inode> inode() const {
    MutexLock lock(mu_);
    return inode_;
  }
  // Ends it; the inode that it was on, or null if it had ended.
  RefPtr<Inode> TakeInode() {
    MutexLock lock(mu_);
    return std::move(inode_);
  }
  void SetMask(uint32_t mask, bool add) {
    MutexLock lock(mu_);
    mask_ = add ? mask_ | mask : mask;
  }
  uint32_t mask() const {
    MutexLock lock(mu_);
    return mask_;
  }

 private:
  const RefPtr<Queue> queue_;
  const int32_t wd_;
  const auth::UserCharge charge_;
  mutable Mutex mu_;
  RefPtr<Inode> inode_ ABSL_GUARDED_BY(mu_);
  uint32_t mask_ ABSL_GUARDED_BY(mu_);
};

Result<RefPtr<Inotify>> Inotify::New(const CallContext& ctx, uint32_t flags) {
  auth::UserCharge charge;
  if (RefPtr<auth::UserCounts> user = ctx.user_counts()) {
    if (!user->Add(auth::UserCounts::kInotifyInstances, 1, kMaxInstances)) return Errno::kEMFILE;
    charge = auth::UserCharge(std::move(user), auth::UserCounts::kInotifyInstances, 1);
  }
  return MakeRef<Inotify>(flags, Limits{}, std::move(charge));
}

Inotify::Inotify(uint32_t flags, const Limits& limits, auth::UserCharge instance)
    : FileDescription(FileKind::kInotify, {}, nullptr, kOpenReadOnly | (flags & kOpenNonblock)),
      limits_(limits),
      instance_(std::move(instance)),
      queue_(MakeRef<Queue>(limits.max_queued_events)) {}

Inotify::~Inotify() {
  std::map<int32_t, RefPtr<Watch>> watches;
  {
    MutexLock lock(mu_);
    watches.swap(watches_);
  }
  for (auto& [wd, watch] : watches)
    if (RefPtr<Inode> inode = watch->TakeInode()) inode->watches().Remove(*watch);
}

void Inotify::DropDeadLocked() {
  for (auto it = watches_.begin(); it != watches_.end();) {
    if (it->second->inode() != nullptr) {
      ++it;
      continue;
    }
    const int32_t wd = it->first;
    std::erase_if(by_inode_, [wd](const auto& entry) { return entry.second == wd; });
    it = watches_.erase(it);
  }
}

Result<int32_t> Inotify::AddWatch(CallContext& ctx, const VfsPath& path, uint32_t mask) {
  if ((mask & kAllBits) == 0) return Errno::kEINVAL;
  if ((mask & kInMaskAdd) != 0 && (mask & kInMaskCreate) != 0) return Errno::kEINVAL;
  if (!path || path.dentry->is_negative()) return Errno::kENOENT;
  RefPtr<Inode> inode = path.dentry->inode();
  TRY(inode->CheckPermission(ctx, kMayRead));
  inode->PrepareToBeWatched();
  MutexLock lock(mu_);
  if (auto it = by_inode_.find(inode.get()); it != by_inode_.end()) {
    const int32_t wd = it->second;
    RefPtr<Watch>& watch = watches_.find(wd)->second;
    if (watch->inode() == inode) {
      if ((mask & kInMaskCreate) != 0) return Errno::kEEXIST;
      watch->SetMask(mask & kKept, (mask & kInMaskAdd) != 0);
      return wd;
    }
    by_inode_.erase(it);  // Dead: another inode is at the same address.
    watches_.erase(wd);
  }
  if (watches_.size() >= limits_.max_watches) DropDeadLocked();
  if (watches_.size() >= limits_.max_watches || next_wd_ == kMaxWd) return Errno::kENOSPC;
  // The instance's user, as Linux's: whoever holds the descriptor now.
  auth::UserCharge charge;
  if (const RefPtr<auth::UserCounts>& user = instance_.user()) {
    if (!user->Add(auth::UserCounts::kInotifyWatches, 1, limits_.max_watches)) {
      DropDeadLocked();
      if (!user->Add(auth::UserCounts::kInotifyWatches, 1, limits_.max_watches)) return Errno::kENOSPC;
    }
    charge = auth::UserCharge(user, auth::UserCounts::kInotifyWatches, 1);
  }
  const int32_t wd = next_wd_++;
  auto watch = MakeRef<Watch>(queue_, inode, wd, mask & kKept, std::move(charge));
  watches_.emplace(wd, watch);
  by_inode_.emplace(inode.get(), wd);
  inode->watches().Add(std::move(watch));
  return wd;
}

Result<void> Inotify::RemoveWatch(int32_t wd) {
  RefPtr<Watch> watch;
  RefPtr<Inode> inode;
  {
    MutexLock lock(mu_);
    auto it = watches_.find(wd);
    if (it == watches_.end()) return Errno::kEINVAL;
    watch = std::move(it->second);
    watches_.erase(it);
    std::erase_if(by_inode_, [wd](const auto& entry) { return entry.second == wd; });
    inode = watch->TakeInode();
  }
  if (inode == nullptr) return Errno::kEINVAL;  // It had ended by itself.
  inode->watches().Remove(*watch);
  queue_->Push({wd, kInIgnored, 0, ""});
  return {};
}

Result<size_t> Inotify::Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) {
  size_t done = 0;
  for (;;) {
    Result<Event> event = queue_->Pop(to.remaining());
    if (!event.ok()) {
      if (done != 0) break;
      return event.error();
    }
    std::string bytes(event->bytes(), '\0');
    const EventHeader header{event->wd, event->mask, event->cookie,
                             static_cast<uint32_t>(event->name_bytes())};
    memcpy(&bytes[0], &header, sizeof(header));
    memcpy(&bytes[sizeof(header)], event->name.data(), event->name.size());
    Result<size_t> put = to.Put({bytes.data(), bytes.size()});
    if (!put.ok() || *put != bytes.size()) {
      if (done != 0) break;
      return Errno::kEFAULT;
    }
    done += *put;
  }
  return done;
}

Result<int64_t> Inotify::Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) {
  constexpr uint32_t kFionread = 0x541B;
  if (request != kFionread) return Errno::kENOTTY;
  TRY(ctx.CopyOutObject(GuestAddr(arg), static_cast<int32_t>(queue_->bytes())));
  return int64_t{0};
}

Result<Attributes> Inotify::GetAttributes(CallContext& ctx) {
  Attributes attr;
  attr.mode = 0600;  // As Linux's anonymous inodes, without a type.
  attr.ino = 1;
  attr.dev = {0, 14};
  return attr;
}

EventMask Inotify::Readiness(EventMask mask) {
  return queue_->bytes() != 0 ? mask & kReadable : 0;
}

WaitQueue* Inotify::EventQueue() { return &queue_->wait(); }

std::string Inotify::FdInfo() {
  std::string out;
  MutexLock lock(mu_);
  for (const auto& [wd, watch] : watches_) {
    if (RefPtr<Inode> inode = watch->inode())
      absl::StrAppend(&out, "inotify wd:", absl::Hex(wd), " sdev:",
                      absl::Hex(inode->fs().device().Encode()), " mask:",
                      absl::Hex(watch->mask()), " ignored_mask:0\n");
  }
  return out;
}

}  // namespace caisson::vfs::inotify
