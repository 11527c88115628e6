#include "gofer/server/cpu_follower.h"

#include "base/cpu_affinity.h"

namespace caisson::gofer {

CpuFollower::CpuFollower() : useful_(MayHoldThreads()) {}

void CpuFollower::OnAnswered(uint16_t from) {
  if (!useful_) return;
  steady_ = from == last_ ? steady_ + 1 : 1;
  last_ = from;
  if (held_ != 0) {
    if (from == held_) return;
    held_ = 0;
    LetGoOfCpu(0);
  } else if (steady_ == kSteady && from != 0 && HoldOnCpu(0, from - 1)) {
    held_ = from;
  }
}

}  // namespace caisson::gofer
