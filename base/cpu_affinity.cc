#include "base/cpu_affinity.h"

#include <cstring>

namespace caisson {
namespace {

cpu_set_t FindUnheldCpus() {
  cpu_set_t now, any, then;
  std::memset(&any, 0xff, sizeof(any));
  if (sched_getaffinity(0, sizeof(now), &now) != 0) return any;
  if (sched_setaffinity(0, sizeof(any), &any) != 0 || sched_getaffinity(0, sizeof(then), &then) != 0 ||
      CPU_EQUAL(&now, &then))
    return any;
  sched_setaffinity(0, sizeof(now), &now);
  return now;
}

}  // namespace

const cpu_set_t& UnheldCpus() {
  static const cpu_set_t cpus = FindUnheldCpus();
  return cpus;
}

void LetGoOfCpu() {
  cpu_set_t now;
  if (sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_COUNT(&now) == 1)
    sched_setaffinity(0, sizeof(cpu_set_t), &UnheldCpus());
}

bool HoldOnCpu(int tid, int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return false;
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<size_t>(cpu), &only);
  return sched_setaffinity(tid, sizeof(only), &only) == 0;
}

StayOnCpu::StayOnCpu() {
  cpu_set_t now;
  if (sched_getaffinity(0, sizeof(now), &now) != 0) return;
  cpu_ = sched_getcpu();
  if (CPU_COUNT(&now) < 2) return;
  UnheldCpus();
  holds_ = HoldOnCpu(0, cpu_);
}

}  // namespace caisson
