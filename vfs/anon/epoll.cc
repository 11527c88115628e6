#include "vfs/anon/epoll.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/mutex.h"

namespace caisson::vfs {
namespace {

constexpr int kMaxWays = 1000;  // Between an instance and those above, or below, it.
constexpr uint32_t kPrivateBits = kEpollExclusive | kEpollWakeup | kEpollOneshot | kEpollEdge;
// Linux fs/eventpoll.c, EPOLLEXCLUSIVE_OK_BITS.
constexpr uint32_t kExclusiveAllowed =
    kEventIn | kEventOut | kEventErr | kEventHup | kEpollWakeup | kEpollEdge | kEpollExclusive;

// Serializes changes of who watches whom among epoll instances: two of them at once could make a
// cycle that neither sees. Guards EpollCore::children_ and parents_ of all instances; innermost.
constinit Mutex nesting_mu;

}  // namespace

class EpollItem;

// The state of an instance. Registrations hold it, so it outlives them; ~Epoll ends the cycle.
class EpollCore final : public RefCounted<EpollCore> {
 public:
  Result<void> Add(int fd, FileDescription& file, const EpollEvent& event, size_t max_watches,
                   auth::UserCharge charge)
      ABSL_LOCKS_EXCLUDED(mu_);
  Result<void> Modify(int fd, FileDescription& file, const EpollEvent& event)
      ABSL_LOCKS_EXCLUDED(mu_);
  Result<void> Delete(int fd, FileDescription& file) ABSL_LOCKS_EXCLUDED(mu_);
  size_t Collect(absl::Span<EpollEvent> out) ABSL_LOCKS_EXCLUDED(mu_);
  bool AnyReady() ABSL_LOCKS_EXCLUDED(mu_);
  void Clear() ABSL_LOCKS_EXCLUDED(mu_);
  std::string Describe() ABSL_LOCKS_EXCLUDED(mu_);
  bool MaybeReady() ABSL_LOCKS_EXCLUDED(ready_mu_) {
    MutexLock lock(ready_mu_);
    return ready_head_ != nullptr;
  }
  // The file of `item` is going.
  void Release(EpollItem& item) ABSL_LOCKS_EXCLUDED(mu_);
  // Under the lock of the wait queue of the item's file.
  void OnItemEvent(EpollItem& item) ABSL_LOCKS_EXCLUDED(ready_mu_);
  WaitQueue& queue() { return queue_; }

 private:
  using Key = std::pair<FileDescription*, int>;

  void ArmLocked(EpollItem& item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DetachLocked(EpollItem& item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool LinkReady(EpollItem& item, bool front) ABSL_LOCKS_EXCLUDED(ready_mu_);
  void UnlinkReadyLocked(EpollItem& item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(ready_mu_);
  EpollItem* PopReady() ABSL_LOCKS_EXCLUDED(ready_mu_);

  Result<void> Nest(EpollCore& child) ABSL_LOCKS_EXCLUDED(nesting_mu);
  void Unnest(EpollCore& child) ABSL_LOCKS_EXCLUDED(nesting_mu);
  // Levels of instances below (above) this one; -1 if `sought` is among them.
  // So, too, if there are too many ways: both this walk and a notification follow each of them
  // (Linux fs/eventpoll.c, path_count_inc()).
  static int Levels(const EpollCore& from, bool down, const EpollCore& sought, int depth,
                    int* budget);

  // Taken before the locks of watched files (and of instances below this one): registrations
  // change, and files are asked for their readiness, under it. So a file whose registration was
  // found under it cannot go meanwhile (Release() waits).
  Mutex mu_;
  absl::flat_hash_map<Key, RefPtr<EpollItem>> items_ ABSL_GUARDED_BY(mu_);
  // The list of items that may be ready. Below the locks of wait queues.
  Mutex ready_mu_;
  EpollItem* ready_head_ ABSL_GUARDED_BY(ready_mu_) = nullptr;
  EpollItem* ready_tail_ ABSL_GUARDED_BY(ready_mu_) = nullptr;
  size_t ready_count_ ABSL_GUARDED_BY(ready_mu_) = 0;
  WaitQueue queue_;
  // Instances that are registered here, and where this one is registered; once each registration.
  std::vector<EpollCore*> children_ ABSL_GUARDED_BY(nesting_mu);
  std::vector<EpollCore*> parents_ ABSL_GUARDED_BY(nesting_mu);

  friend class EpollItem;
  friend class Epoll;
};

// One registration.
class EpollItem final : public FileWatcher, public WaitEntry {
 public:
  EpollItem(RefPtr<EpollCore> c, FileDescription& f, int n) : core(std::move(c)), file(f), fd(n) {}
  void OnFileRelease() override { core->Release(*this); }
  uint32_t mask() const { return event.events & ~kPrivateBits; }

  const RefPtr<EpollCore> core;
  FileDescription& file;  // Alive while `attached`.
  const int fd;
  EpollCore* nested = nullptr;  // Of `file`, if that is an epoll instance.
  auth::UserCharge charge;      // Set before it is shared.
  // Guarded by core->mu_:
  EpollEvent event;
  bool attached = false;
  // Guarded by core->ready_mu_:
  bool enabled = false;  // Not after EPOLLONESHOT has fired.
  bool ready = false;    // On the list.
  EpollItem* prev = nullptr;
  EpollItem* next = nullptr;

 protected:
  void OnEvent(EventMask) override { core->OnItemEvent(*this); }
};

bool EpollCore::LinkReady(EpollItem& item, bool front) {
  MutexLock lock(ready_mu_);
  if (!item.enabled || item.ready) return false;
  item.ready = true;
  ++ready_count_;
  item.prev = front ? nullptr : ready_tail_;
  item.next = front ? ready_head_ : nullptr;
  (item.prev != nullptr ? item.prev->next : ready_head_) = &item;
  (item.next != nullptr ? item.next->prev : ready_tail_) = &item;
  return true;
}

void EpollCore::UnlinkReadyLocked(EpollItem& item) {
  if (!item.ready) return;
  item.ready = false;
  --ready_count_;
  (item.prev != nullptr ? item.prev->next : ready_head_) = item.next;
  (item.next != nullptr ? item.next->prev : ready_tail_) = item.prev;
  item.prev = item.next = nullptr;
}

EpollItem* EpollCore::PopReady() {
  MutexLock lock(ready_mu_);
  EpollItem* item = ready_head_;
  if (item != nullptr) UnlinkReadyLocked(*item);
  return item;
}

void EpollCore::OnItemEvent(EpollItem& item) {
  LinkReady(item, false);
  // Also if it was on the list: a scan may have found it unready a moment ago.
  queue_.Notify(kReadable);
}

int EpollCore::Levels(const EpollCore& from, bool down, const EpollCore& sought, int depth,
                      int* budget)
    ABSL_NO_THREAD_SAFETY_ANALYSIS {  // Called by Nest() alone, under nesting_mu.
  if (&from == &sought || depth > kEpollMaxNesting || --*budget < 0) return -1;
  int levels = 0;
  for (const EpollCore* next : down ? from.children_ : from.parents_) {
    int below = Levels(*next, down, sought, depth + 1, budget);
    if (below < 0) return -1;
    levels = std::max(levels, below + 1);
  }
  return levels;
}

Result<void> EpollCore::Nest(EpollCore& child) {
  MutexLock lock(nesting_mu);
  int below_budget = kMaxWays, above_budget = kMaxWays;
  int below = Levels(child, true, *this, 1, &below_budget);
  int above = Levels(*this, false, child, 0, &above_budget);
  if (below < 0 || above < 0 || above + 1 + below > kEpollMaxNesting) return Errno::kELOOP;
  children_.push_back(&child);
  child.parents_.push_back(this);
  return {};
}

void EpollCore::Unnest(EpollCore& child) {
  MutexLock lock(nesting_mu);
  children_.erase(std::find(children_.begin(), children_.end(), &child));
  child.parents_.erase(std::find(child.parents_.begin(), child.parents_.end(), this));
}

void EpollCore::ArmLocked(EpollItem& item) {
  {
    MutexLock lock(ready_mu_);
    item.enabled = item.mask() != 0;
  }
  item.file.EventQueue()->Add(item, item.mask());
  if (item.file.Readiness(item.mask()) != 0 && LinkReady(item, false)) queue_.Notify(kReadable);
}

void EpollCore::DetachLocked(EpollItem& item) {
  item.attached = false;
  item.file.EventQueue()->Remove(item);
  {
    MutexLock lock(ready_mu_);
    item.enabled = false;
    UnlinkReadyLocked(item);
  }
  if (item.nested != nullptr) Unnest(*item.nested);
  item.file.RemoveWatcher(item);  // Last: from here the file may go.
}

Result<void> EpollCore::Add(int fd, FileDescription& file, const EpollEvent& event,
                            size_t max_watches, auth::UserCharge charge) {
  EpollCore* nested = nullptr;
  if (Epoll* other = AsEpoll(file)) nested = other->core_.get();
  MutexLock lock(mu_);
  Key key(&file, fd);
  if (nested != nullptr) TRY(Nest(*nested));
  if (items_.contains(key) || items_.size() >= max_watches) {
    if (nested != nullptr) Unnest(*nested);
    return items_.contains(key) ? Errno::kEEXIST : Errno::kENOSPC;
  }
  auto item = MakeRef<EpollItem>(RefPtr<EpollCore>(this), file, fd);
  item->event = event;
  item->charge = std::move(charge);
  item->event.events |= kEventErr | kEventHup;
  item->nested = nested;
  item->attached = true;
  file.AddWatcher(*item);
  EpollItem& armed = *item;
  items_.emplace(key, std::move(item));
  ArmLocked(armed);
  return {};
}

Result<void> EpollCore::Modify(int fd, FileDescription& file, const EpollEvent& event) {
  MutexLock lock(mu_);
  auto it = items_.find(Key(&file, fd));
  if (it == items_.end()) return Errno::kENOENT;
  EpollItem& item = *it->second;
  if ((item.event.events & kEpollExclusive) != 0) return Errno::kEINVAL;
  file.EventQueue()->Remove(item);
  item.event = event;
  item.event.events |= kEventErr | kEventHup;
  ArmLocked(item);
  return {};
}

Result<void> EpollCore::Delete(int fd, FileDescription& file) {
  RefPtr<EpollItem> gone;  // Released after mu_.
  MutexLock lock(mu_);
  auto it = items_.find(Key(&file, fd));
  if (it == items_.end()) return Errno::kENOENT;
  gone = std::move(it->second);
  items_.erase(it);
  DetachLocked(*gone);
  return {};
}

void EpollCore::Release(EpollItem& item) {
  MutexLock lock(mu_);
  if (!item.attached) return;
  // The caller holds a reference of the item.
  items_.erase(Key(&item.file, item.fd));
  DetachLocked(item);
}

void EpollCore::Clear() {
  absl::flat_hash_map<Key, RefPtr<EpollItem>> gone;
  MutexLock lock(mu_);
  for (auto& [key, item] : items_) DetachLocked(*item);
  gone.swap(items_);
}

size_t EpollCore::Collect(absl::Span<EpollEvent> out) {
  MutexLock lock(mu_);
  size_t limit;
  {
    MutexLock ready_lock(ready_mu_);
    limit = ready_count_;  // What becomes ready, or is put back, meanwhile is for the next call.
  }
  size_t n = 0;
  for (size_t i = 0; i < limit && n < out.size(); ++i) {
    EpollItem* item = PopReady();
    if (item == nullptr) break;
    // Off the list before it is asked: an event after the answer puts it back.
    EventMask events = item->file.Readiness(item->mask()) & item->mask();
    if (events == 0) continue;
    out[n++] = EpollEvent{events, item->event.data};
    if ((item->event.events & kEpollOneshot) != 0) {
      item->event.events &= kPrivateBits;
      MutexLock ready_lock(ready_mu_);
      item->enabled = false;
      UnlinkReadyLocked(*item);
    } else if ((item->event.events & kEpollEdge) == 0) {
      LinkReady(*item, false);
    }
  }
  return n;
}

bool EpollCore::AnyReady() {
  MutexLock lock(mu_);
  while (EpollItem* item = PopReady()) {
    if ((item->file.Readiness(item->mask()) & item->mask()) != 0) {
      LinkReady(*item, true);
      return true;
    }
  }
  return false;
}

std::string EpollCore::Describe() {
  MutexLock lock(mu_);
  std::string text;
  for (const auto& [key, item] : items_) {
    Inode* inode = item->file.inode();
    absl::StrAppendFormat(&text, "tfd: %8d events: %8x data: %16x  pos:0 ino:0 sdev:%x\n", item->fd,
                          uint32_t{item->event.events}, uint64_t{item->event.data},
                          inode != nullptr ? inode->fs().device().Encode() : 0);
  }
  return text;
}

Epoll::Epoll(RefPtr<Inode> inode)
    : FileDescription(FileKind::kEpoll, VfsPath(), std::move(inode), kOpenReadWrite),
      core_(MakeRef<EpollCore>()) {}

Epoll::~Epoll() { core_->Clear(); }

Result<void> Epoll::Add(int fd, FileDescription& file, const EpollEvent& event,
                        size_t max_watches, auth::UserCharge charge) {
  if (file.EventQueue() == nullptr) return Errno::kEPERM;
  if (&file == this) return Errno::kEINVAL;
  if ((event.events & kEpollExclusive) != 0 &&
      (file.kind() == FileKind::kEpoll || (event.events & ~kExclusiveAllowed) != 0))
    return Errno::kEINVAL;
  return core_->Add(fd, file, event, max_watches, std::move(charge));
}

Result<void> Epoll::Modify(int fd, FileDescription& file, const EpollEvent& event) {
  if (file.EventQueue() == nullptr) return Errno::kEPERM;
  if (&file == this || (event.events & kEpollExclusive) != 0) return Errno::kEINVAL;
  return core_->Modify(fd, file, event);
}

Result<void> Epoll::Delete(int fd, FileDescription& file) {
  if (file.EventQueue() == nullptr) return Errno::kEPERM;
  if (&file == this) return Errno::kEINVAL;
  return core_->Delete(fd, file);
}

Result<size_t> Epoll::Wait(CallContext& ctx, int64_t deadline, absl::Span<EpollEvent> out) {
  auto attempt = [&]() -> Result<size_t> {
    size_t n = core_->MaybeReady() ? core_->Collect(out) : 0;
    if (n == 0) return Errno::kEAGAIN;
    return n;
  };
  Result<size_t> n = deadline <= 0 ? attempt()
                                   : WaitUntil(ctx, core_->queue(), kReadable, deadline, attempt);
  if (!n.ok() && (n.error() == Errno::kETIMEDOUT || n.error() == Errno::kEAGAIN)) return size_t{0};
  return n;
}

EventMask Epoll::Readiness(EventMask mask) {
  if ((mask & kReadable) == 0 || !core_->MaybeReady() || !core_->AnyReady()) return 0;
  return mask & kReadable;
}

WaitQueue* Epoll::EventQueue() { return &core_->queue(); }

std::string Epoll::FdInfo() { return core_->Describe(); }

}  // namespace caisson::vfs
