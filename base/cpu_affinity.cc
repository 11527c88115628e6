#include "base/cpu_affinity.h"

#include <cstring>

namespace caisson {
namespace {

cpu_set_t AnyCpu() {
  cpu_set_t any;
  std::memset(&any, 0xff, sizeof(any));
  return any;
}

cpu_set_t FindUnheldCpus() {
  cpu_set_t now, then;
  const cpu_set_t any = AnyCpu();
  if (sched_getaffinity(0, sizeof(now), &now) != 0) return any;
  if (sched_setaffinity(0, sizeof(any), &any) != 0 || sched_getaffinity(0, sizeof(then), &then) != 0 ||
      CPU_EQUAL(&now, &then))
    return any;
  sched_setaffinity(0, sizeof(now), &now);
  return now;
}

const cpu_set_t& UnheldCpus() {
  static const cpu_set_t cpus = FindUnheldCpus();
  return cpus;
}

}  // namespace

int CountCpus() {
  cpu_set_t now;
  return sched_getaffinity(0, sizeof(now), &now) == 0 ? CPU_COUNT(&now) : 0;
}

bool MayHoldThreads() {
  if (CountCpus() < 2) return false;
  UnheldCpus();
  return true;
}

void LetGoOfCpu(int tid) {
  if (sched_setaffinity(tid, sizeof(cpu_set_t), &UnheldCpus()) == 0) return;
  // None of those is in its cpuset any more.
  const cpu_set_t any = AnyCpu();
  sched_setaffinity(tid, sizeof(any), &any);
}

void LetGoIfHeld() {
  if (CountCpus() == 1) LetGoOfCpu(0);
}

bool HoldOnCpu(int tid, int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return false;
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<size_t>(cpu), &only);
  return sched_setaffinity(tid, sizeof(only), &only) == 0;
}

StayOnCpu::StayOnCpu() {
  cpu_ = sched_getcpu();
  holds_ = MayHoldThreads() && HoldOnCpu(0, cpu_);
}

}  // namespace caisson
