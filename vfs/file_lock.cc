#include "vfs/file_lock.h"

#include <algorithm>
#include <map>

#include "time/clock.h"

namespace caisson::vfs {
namespace {

constexpr size_t kMaxLocks = 1 << 20;  // Of one inode: bounds memory. ENOLCK.
// The host tells nobody when a lock of its processes goes: who waits for one looks this often (ns).
constexpr int64_t kHostPoll = 25'000'000;

bool Overlap(const LockRange& a, const LockRange& b) {
  return a.start <= b.end && b.start <= a.end;
}
bool Conflict(const RecordLock& a, const RecordLock& b) {
  return a.owner != b.owner && (a.type == LockType::kWrite || b.type == LockType::kWrite) &&
         Overlap(a.range, b.range);
}

// Who waits for whom, over all files: POSIX locks must detect cycles (fcntl(2), EDEADLK). Keyed by
// addresses, which are unique in the process, so one serves all kernels.
class WaitGraph {
 public:
  // Adds the edge unless it would close a cycle (Linux posix_locks_deadlock()).
  bool Add(const void* owner, const void* blocker) {
    MutexLock lock(mu_);
    std::vector<const void*> stack{blocker};
    for (int steps = 0; !stack.empty() && steps < 1000; ++steps) {
      const void* at = stack.back();
      stack.pop_back();
      if (at == owner) return false;
      for (auto [it, end] = edges_.equal_range(at); it != end; ++it) stack.push_back(it->second);
    }
    edges_.emplace(owner, blocker);
    return true;
  }
  void Remove(const void* owner, const void* blocker) {
    MutexLock lock(mu_);
    for (auto [it, end] = edges_.equal_range(owner); it != end; ++it) {
      if (it->second != blocker) continue;
      edges_.erase(it);
      return;
    }
  }

 private:
  Mutex mu_;  // Innermost.
  std::multimap<const void*, const void*> edges_ ABSL_GUARDED_BY(mu_);
};

WaitGraph& Graph() {
  static auto* graph = new WaitGraph;
  return *graph;
}

}  // namespace

FileLocks::~FileLocks() {
  MutexLock lock(mu_);
  CHECK(waiters_.empty());
}

const RecordLock* FileLocks::ConflictLocked(const RecordLock& lock) const {
  if (lock.type == LockType::kUnlock) return nullptr;
  const RecordLock* first = nullptr;
  for (const RecordLock& r : records_) {
    if (Conflict(r, lock) && (first == nullptr || r.range.start < first->range.start)) first = &r;
  }
  return first;
}

// Keeps records_ in the order of their starts. Linear, as Linux's: a guest can have very many.
void FileLocks::ApplyLocked(const RecordLock& lock) {
  std::vector<RecordLock> added;  // What starts elsewhere than the record it comes from.
  RecordLock merged = lock;
  auto out = records_.begin();
  for (const RecordLock& r : records_) {
    RecordLock left = r;
    bool keep = true;
    if (r.owner == lock.owner && r.type == lock.type) {
      // Overlapping or adjacent: one lock.
      const bool before = r.range.end != INT64_MAX && r.range.end + 1 < merged.range.start;
      const bool after = merged.range.end != INT64_MAX && merged.range.end + 1 < r.range.start;
      if (!before && !after) {
        keep = false;
        merged.range.start = std::min(merged.range.start, r.range.start);
        merged.range.end = std::max(merged.range.end, r.range.end);
      }
    } else if (r.owner == lock.owner && Overlap(r.range, lock.range)) {
      keep = r.range.start < lock.range.start;
      if (keep) left.range.end = lock.range.start - 1;
      if (r.range.end > lock.range.end) {
        added.push_back(r);
        added.back().range.start = lock.range.end + 1;
      }
    }
    if (keep) *out++ = left;  // Never past the record that is looked at.
  }
  records_.erase(out, records_.end());
  if (lock.type != LockType::kUnlock) added.push_back(merged);
  for (const RecordLock& r : added) {
    auto at = std::upper_bound(records_.begin(), records_.end(), r,
                               [](const RecordLock& a, const RecordLock& b) {
                                 return a.range.start < b.range.start;
                               });
    records_.insert(at, r);
  }
}

void FileLocks::ForgetWaitersLocked() {
  for (const Waiter& w : waiters_) Graph().Remove(w.owner, w.blocker);
  waiters_.clear();
}

Result<void> FileLocks::HostSetLocked(const RecordLock& lock) {
  if (host_ == nullptr || lock.type == LockType::kUnlock) return {};
  return host_->Set(lock.type, lock.range);
}

// Where others of the sandbox have a lock still, it is a shared one like ours was.
void FileLocks::HostUnlockLocked(LockRange range) {
  if (host_ == nullptr) return;
  int64_t start = range.start;
  for (const RecordLock& r : records_) {  // By start.
    if (r.range.end < start) continue;
    if (r.range.start > range.end) break;
    if (r.range.start > start) (void)host_->Set(LockType::kUnlock, {start, r.range.start - 1}).ok();
    if (r.range.end >= range.end) return;
    start = r.range.end + 1;
  }
  (void)host_->Set(LockType::kUnlock, {start, range.end}).ok();
}

LockType FileLocks::StrongestFlockLocked() const {
  LockType strongest = LockType::kUnlock;
  for (const RecordLock& f : flocks_) {
    if (f.type == LockType::kWrite) return LockType::kWrite;
    strongest = LockType::kRead;
  }
  return strongest;
}

void FileLocks::HostIdleLocked() {
  if (host_ != nullptr && records_.empty() && flocks_.empty()) host_->Idle();
}

Result<void> FileLocks::SetRecord(CallContext& ctx, const RecordLock& lock, bool wait) {
  ContextWaiter waiter(ctx);
  if (wait) released_.Add(waiter, kAllEvents);
  Result<void> result;
  for (;;) {
    int64_t deadline = time::kNever;
    if (host_ != nullptr && lock.type != LockType::kUnlock) {
      result = host_->Prepare();
      if (!result.ok()) break;
    }
    {
      MutexLock hold(mu_);
      const RecordLock* conflict = ConflictLocked(lock);
      if (conflict == nullptr) {
        if (records_.size() >= kMaxLocks && lock.type != LockType::kUnlock) {
          result = Errno::kENOLCK;
          break;
        }
        result = HostSetLocked(lock);
        if (result.ok()) {
          ApplyLocked(lock);
          if (lock.type == LockType::kUnlock) HostUnlockLocked(lock.range);
          HostIdleLocked();
          ForgetWaitersLocked();  // It may have shrunk or weakened what it replaced.
        }
        if (!result.ok() && result.error() == Errno::kESTALE) continue;
        if (result.ok() || result.error() != Errno::kEAGAIN) break;
        deadline = time::MonotonicNow() + kHostPoll;
      }
      result = Errno::kEAGAIN;
      if (!wait) break;
      if (conflict != nullptr && !lock.ofd && !conflict->ofd) {
        if (!Graph().Add(lock.owner, conflict->owner)) {
          result = Errno::kEDEADLK;
          break;
        }
        waiters_.push_back({lock.owner, conflict->owner});
      }
    }
    Result<void> slept = ctx.Block(deadline);
    if (!slept.ok() && !(slept.error() == Errno::kETIMEDOUT && deadline != time::kNever)) {
      // An edge of ours that nobody forgot yet goes now.
      MutexLock hold(mu_);
      auto it = std::find_if(waiters_.begin(), waiters_.end(),
                             [&](const Waiter& w) { return w.owner == lock.owner; });
      if (it != waiters_.end()) {
        Graph().Remove(it->owner, it->blocker);
        waiters_.erase(it);
      }
      result = slept.error();
      break;
    }
    MutexLock hold(mu_);
    auto it = std::find_if(waiters_.begin(), waiters_.end(),
                           [&](const Waiter& w) { return w.owner == lock.owner; });
    if (it != waiters_.end()) {
      Graph().Remove(it->owner, it->blocker);
      waiters_.erase(it);
    }
  }
  if (wait) released_.Remove(waiter);
  if (result.ok()) released_.Notify(kEventIn);
  return result;
}

std::optional<RecordLock> FileLocks::TestRecord(const RecordLock& lock) {
  const bool ask_host = host_ != nullptr && host_->Prepare().ok();
  MutexLock hold(mu_);
  const RecordLock* conflict = ConflictLocked(lock);
  if (conflict == nullptr) {
    std::optional<RecordLock> there;
    if (ask_host) there = host_->Test(lock.type, lock.range);
    HostIdleLocked();
    return there;
  }
  RecordLock found = *conflict;
  if (found.ofd) found.tgid = -1;
  return found;
}

void FileLocks::ReleaseRecords(const void* owner) {
  {
    MutexLock hold(mu_);
    auto end = std::stable_partition(records_.begin(), records_.end(),
                                     [&](const RecordLock& r) { return r.owner != owner; });
    if (end == records_.end()) return;
    const std::vector<RecordLock> released(end, records_.end());
    records_.erase(end, records_.end());
    for (const RecordLock& r : released) HostUnlockLocked(r.range);
    HostIdleLocked();
    ForgetWaitersLocked();
  }
  released_.Notify(kEventIn);
}

// flock_lock_inode(): a lock that is converted is given up first.
Result<void> FileLocks::TrySetFlockLocked(LockType type, const void* owner, int32_t tgid) {
  auto mine = std::find_if(flocks_.begin(), flocks_.end(),
                           [&](const RecordLock& f) { return f.owner == owner; });
  if (mine != flocks_.end()) {
    if (mine->type == type) return {};
    flocks_.erase(mine);
  }
  if (type == LockType::kUnlock) {
    if (host_ != nullptr) (void)host_->SetFlock(StrongestFlockLocked()).ok();
    HostIdleLocked();
    return {};
  }
  RecordLock lock{type, {}, owner, false, tgid};
  for (const RecordLock& f : flocks_)
    if (Conflict(f, lock)) return Errno::kEAGAIN;
  if (flocks_.size() >= kMaxLocks) return Errno::kENOLCK;
  flocks_.push_back(lock);
  if (host_ == nullptr) return {};
  Result<void> set = host_->SetFlock(StrongestFlockLocked());
  if (!set.ok()) {
    flocks_.pop_back();
    (void)host_->SetFlock(StrongestFlockLocked()).ok();
  }
  return set;
}

Result<void> FileLocks::SetFlock(CallContext& ctx, LockType type, const void* owner, bool wait,
                                 int32_t tgid) {
  auto try_once = [&]() -> Result<void> {
    Result<void> set;
    if (host_ != nullptr && type != LockType::kUnlock) TRY(host_->Prepare());
    bool changed = false;
    {
      MutexLock hold(mu_);
      const bool held = std::any_of(flocks_.begin(), flocks_.end(), [&](const RecordLock& f) {
        return f.owner == owner && f.type != type;
      });
      set = TrySetFlockLocked(type, owner, tgid);
      changed = held;
    }
    if (changed) released_.Notify(kEventIn);
    return set;
  };
  auto attempt = [&]() -> Result<void> {
    for (;;) {
      Result<void> set = try_once();
      if (set.ok() || set.error() != Errno::kESTALE) return set;
    }
  };
  if (!wait) return attempt();
  if (host_ == nullptr) return WaitUntil(ctx, released_, kAllEvents, time::kNever, attempt);
  for (;;) {
    const int64_t deadline = time::MonotonicNow() + kHostPoll;
    Result<void> set = WaitUntil(ctx, released_, kAllEvents, deadline, attempt);
    if (set.ok() || set.error() != Errno::kETIMEDOUT) return set;
  }
}

void FileLocks::ReleaseFlock(const void* owner) {
  {
    MutexLock hold(mu_);
    auto end = std::remove_if(flocks_.begin(), flocks_.end(),
                              [&](const RecordLock& f) { return f.owner == owner; });
    if (end == flocks_.end()) return;
    flocks_.erase(end, flocks_.end());
    if (host_ != nullptr) (void)host_->SetFlock(StrongestFlockLocked()).ok();
    HostIdleLocked();
  }
  released_.Notify(kEventIn);
}

bool FileLocks::empty() const {
  MutexLock hold(mu_);
  return records_.empty() && flocks_.empty();
}

std::vector<FileLocks::Info> FileLocks::Snapshot() const {
  MutexLock hold(mu_);
  std::vector<Info> list;
  for (const RecordLock& r : records_) list.push_back({false, r});
  for (const RecordLock& f : flocks_) list.push_back({true, f});
  return list;
}

}  // namespace caisson::vfs
