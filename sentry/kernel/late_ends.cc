#include "sentry/kernel/late_ends.h"

#include <algorithm>

namespace caisson::kernel {

LateEnds::Ticket LateEnds::Begin() {
  MutexLock lock(mu_);
  open_.push_back(next_);
  return next_++;
}

void LateEnds::Finish(Ticket ticket) {
  MutexLock lock(mu_);
  open_.erase(std::find(open_.begin(), open_.end(), ticket));
  finished_.Broadcast();
}

bool LateEnds::Wait() {
  MutexLock lock(mu_);
  if (open_.empty()) return false;
  const Ticket last = open_.back();
  while (!open_.empty() && open_.front() <= last) finished_.Wait(mu_);
  return true;
}

}  // namespace caisson::kernel
