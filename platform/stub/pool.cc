#include "platform/stub/pool.h"

#include <utility>

#include "base/log.h"

namespace caisson::platform::stub {

StubPool::StubPool(std::unique_ptr<StubProcess> zygote, size_t target)
    : target_(target), zygote_(std::move(zygote)) {}

void StubPool::Fill() {
  MutexLock lock(mu_);
  if (pending_.has_value() || ready_.size() >= target_) return;
  Result<void> started = StartLocked();
  if (!started.ok()) LOG_WARNING("no stub is kept ready: ", ErrnoName(started.error()));
}

Result<void> StubPool::StartLocked() {
  pending_.emplace(TRY(zygote_->StartClone()));
  return OkResult();
}

Result<void> StubPool::FinishLocked() {
  Slots slots = std::move(*pending_);
  pending_.reset();
  ready_.push_back(TRY(zygote_->FinishClone(std::move(slots))));
  return OkResult();
}

Result<std::unique_ptr<StubProcess>> StubPool::Take() {
  MutexLock lock(mu_);
  const bool found = pending_.has_value() || !ready_.empty();
  std::unique_ptr<StubProcess> stub;
  while (stub == nullptr) {
    if (pending_.has_value()) {
      Result<void> finished = FinishLocked();
      if (!finished.ok() && ready_.empty()) return finished.error();
    } else if (ready_.empty()) {
      TRY(StartLocked());
      continue;
    }
    stub = std::move(ready_.back());
    ready_.pop_back();
    if (stub->dead()) stub.reset();
  }
  // A failure here will be the next caller's, if it is still there then.
  if (!found && ready_.size() < target_ && !StartLocked().ok()) LOG_DEBUG("no stub is kept ready");
  return stub;
}

}  // namespace caisson::platform::stub
