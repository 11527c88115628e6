#include "base/parker.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace caisson {

// False if it is later than `deadline`. May return early.
bool Parker::Sleep(int64_t deadline) {
  deadline = std::max<int64_t>(deadline, 0);
  const timespec until{deadline / 1'000'000'000, deadline % 1'000'000'000};
  // By bitset: the time is absolute.
  const long slept = syscall(SYS_futex, &word_, FUTEX_WAIT_BITSET_PRIVATE, kSleeping,
                             deadline == kNever ? nullptr : &until, nullptr,
                             FUTEX_BITSET_MATCH_ANY);
  return slept == 0 || errno != ETIMEDOUT;
}

void Parker::RingWord(const void* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace caisson
