// futex(2): wait, wake, bitsets, requeue, wake_op, timeouts.
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

long Futex(void* word, int operation, uint32_t value, const timespec* timeout = nullptr,
           void* word2 = nullptr, uint32_t value3 = 0) {
  return syscall(SYS_futex, word, operation, value, timeout, word2, value3);
}
// For operations whose fourth argument is a count.
long FutexCount(void* word, int operation, uint32_t value, uint64_t value2, void* word2,
                uint32_t value3 = 0) {
  return syscall(SYS_futex, word, operation, value, value2, word2, value3);
}

class FutexTest : public testing::Test {
 protected:
  SharedMapping memory_;
  int* word_ = memory_.as<int>();
  int* other_ = word_ + 16;
};

TEST_F(FutexTest, ChangedValueIsEagain) {
  EXPECT_THAT(Futex(word_, FUTEX_WAIT, 1), SyscallFailsWithErrno(EAGAIN));
  EXPECT_THAT(Futex(word_, FUTEX_WAIT_PRIVATE, 1), SyscallFailsWithErrno(EAGAIN));
}

TEST_F(FutexTest, WakeWithoutWaitersIsZero) {
  EXPECT_THAT(Futex(word_, FUTEX_WAKE, 1), SyscallSucceedsWithValue(0));
}

// Also once a call site has been used so often that a sandbox answers it on another way.
TEST_F(FutexTest, APrivateWakeIsCheckedHoweverOftenItIsMade) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  int* word = memory.as<int>();
  const uintptr_t address = reinterpret_cast<uintptr_t>(word);
  // Of pages that are not there nobody is waited for, either.
  void* const nothing = reinterpret_cast<void*>(uintptr_t{0x500000000000});
  void* const outside = reinterpret_cast<void*>(uintptr_t{1} << 63);
  for (int i = 0; i < 300; ++i) {
    ASSERT_THAT(Futex(word, FUTEX_WAKE_PRIVATE, 1), SyscallSucceedsWithValue(0));
    ASSERT_THAT(Futex(nothing, FUTEX_WAKE_PRIVATE, 1), SyscallSucceedsWithValue(0));
    ASSERT_THAT(Futex(outside, FUTEX_WAKE_PRIVATE, 1), SyscallFailsWithErrno(EFAULT));
    for (uintptr_t off : {1, 2, 3})
      ASSERT_THAT(Futex(reinterpret_cast<void*>(address + off), FUTEX_WAKE_PRIVATE, 1), SyscallFailsWithErrno(EINVAL));
    ASSERT_THAT(Futex(word, FUTEX_WAKE_PRIVATE | FUTEX_CLOCK_REALTIME, 1), SyscallFailsWithErrno(ENOSYS));
  }
  for (int i = 0; i < 100; ++i) {
    std::atomic<int> woken{-1};
    std::thread waiter([&] { woken = static_cast<int>(Futex(word, FUTEX_WAIT_PRIVATE, 0)); });
    long n = 0;
    while (n == 0) n = Futex(word, FUTEX_WAKE_PRIVATE, 1);
    ASSERT_EQ(n, 1);
    waiter.join();
    ASSERT_EQ(woken, 0);
  }
}

// Each thread leaves the next one's word changed before it wakes it, and waits for its own to change.
TEST_F(FutexTest, NoPrivateWakeIsLost) {
  constexpr int kThreads = 3, kRounds = 3000;
  std::atomic<int> words[kThreads * 16] = {};
  std::vector<std::thread> threads;
  alarm(60);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&words, t] {
      std::atomic<int>& mine = words[16 * t];
      std::atomic<int>& next = words[16 * ((t + 1) % kThreads)];
      for (int i = 0; i < kRounds; ++i) {
        // The first begins; without a barrier but that of the call.
        if (t != 0 || i != 0) {
          int seen;
          while ((seen = mine.load(std::memory_order_relaxed)) < i + (t != 0)) Futex(&mine, FUTEX_WAIT_PRIVATE, static_cast<uint32_t>(seen));
        }
        next.store(i + 1, std::memory_order_relaxed);
        Futex(&next, FUTEX_WAKE_PRIVATE, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  alarm(0);
  EXPECT_EQ(words[0], kRounds);
}

TEST_F(FutexTest, WakeReleasesAProcessThroughSharedMemory) {
  Child child([&] { EXPECT_THAT(Futex(word_, FUTEX_WAIT, 0), SyscallSucceedsWithValue(0)); });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE, 10), SyscallSucceedsWithValue(1));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(FutexTest, SharedWordIsFoundThroughAnotherMappingOfTheFile) {
  TempFile file(std::string(kPage, '\0'));
  FdCloser fd = file.Open(O_RDWR);
  Mapping here(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
  Child child([&] {
    Mapping there(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    EXPECT_THAT(Futex(there.get(), FUTEX_WAIT, 0), SyscallSucceeds());
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  EXPECT_THAT(Futex(here.get(), FUTEX_WAKE, 1), SyscallSucceedsWithValue(1));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(FutexTest, PrivateWakeReachesOnlyTheOwnProcess) {
  int mine = 0;
  ScopedThread thread([&] { EXPECT_THAT(Futex(&mine, FUTEX_WAIT_PRIVATE, 0), SyscallSucceeds()); });
  ASSERT_TRUE(WaitUntilThreadSleeping(thread.tid()));
  EXPECT_THAT(InChild([&] {
                EXPECT_THAT(Futex(&mine, FUTEX_WAKE_PRIVATE, 1), SyscallSucceedsWithValue(0));
              }),
              ExitsWith(0));
  EXPECT_THAT(Futex(&mine, FUTEX_WAKE_PRIVATE, 1), SyscallSucceedsWithValue(1));
}

TEST_F(FutexTest, WakeCountIsRespected) {
  Child a([&] { Futex(word_, FUTEX_WAIT, 0); }), b([&] { Futex(word_, FUTEX_WAIT, 0); });
  ASSERT_TRUE(WaitUntilSleeping(a.pid()) && WaitUntilSleeping(b.pid()));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE, 1), SyscallSucceedsWithValue(1));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE, 1), SyscallSucceedsWithValue(1));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE, 1), SyscallSucceedsWithValue(0));
}

TEST_F(FutexTest, RelativeTimeoutExpires) {
  timespec time = {0, 1000000};
  EXPECT_THAT(Futex(word_, FUTEX_WAIT, 0, &time), SyscallFailsWithErrno(ETIMEDOUT));
}

TEST_F(FutexTest, AbsoluteTimeoutInThePastExpiresAtOnce) {
  timespec time = {1, 0};
  EXPECT_THAT(Futex(word_, FUTEX_WAIT_BITSET, 0, &time, nullptr, ~0u),
              SyscallFailsWithErrno(ETIMEDOUT));
  EXPECT_THAT(Futex(word_, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &time, nullptr, ~0u),
              SyscallFailsWithErrno(ETIMEDOUT));
}

TEST_F(FutexTest, BadTimeoutIsInvalid) {
  timespec time = {0, 1000000000};
  EXPECT_THAT(Futex(word_, FUTEX_WAIT, 0, &time), SyscallFailsWithErrno(EINVAL));
  time = {-1, 0};
  EXPECT_THAT(Futex(word_, FUTEX_WAIT, 0, &time), SyscallFailsWithErrno(EINVAL));
}

TEST_F(FutexTest, TimedWaitIsInterruptedBySignal) {
  Child child([&] {
    ScopedAction action(SIGUSR1, CountDelivery);
    timespec time = {1000, 0};
    EXPECT_THAT(Futex(word_, FUTEX_WAIT, 0, &time), SyscallFailsWithErrno(EINTR));
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  child.Kill(SIGUSR1);
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(FutexTest, MisalignedWordIsInvalid) {
  EXPECT_THAT(Futex(memory_.get() + 1, FUTEX_WAIT, 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(Futex(memory_.get() + 2, FUTEX_WAKE, 1), SyscallFailsWithErrno(EINVAL));
}

TEST_F(FutexTest, UnmappedWordIsEfault) {
  EXPECT_THAT(Futex(reinterpret_cast<void*>(4096), FUTEX_WAIT, 0), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(Futex(kKernelAddress, FUTEX_WAKE, 1), SyscallFailsWithErrno(EFAULT));
}

TEST_F(FutexTest, UnknownOperationIsEnosys) {
  EXPECT_THAT(Futex(word_, 99, 0), SyscallFailsWithErrno(ENOSYS));
}

TEST_F(FutexTest, EmptyBitsetIsInvalid) {
  EXPECT_THAT(Futex(word_, FUTEX_WAIT_BITSET, 0, nullptr, nullptr, 0),
              SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE_BITSET, 1, nullptr, nullptr, 0),
              SyscallFailsWithErrno(EINVAL));
}

TEST_F(FutexTest, BitsetsMustOverlap) {
  Child child([&] {
    EXPECT_THAT(Futex(word_, FUTEX_WAIT_BITSET, 0, nullptr, nullptr, 6), SyscallSucceeds());
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE_BITSET, 1, nullptr, nullptr, 1), SyscallSucceedsWithValue(0));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE_BITSET, 1, nullptr, nullptr, 4), SyscallSucceedsWithValue(1));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(FutexTest, RequeueMovesTheRest) {
  Child a([&] { Futex(word_, FUTEX_WAIT, 0); }), b([&] { Futex(word_, FUTEX_WAIT, 0); });
  ASSERT_TRUE(WaitUntilSleeping(a.pid()) && WaitUntilSleeping(b.pid()));
  EXPECT_THAT(FutexCount(word_, FUTEX_REQUEUE, 1, 10, other_), SyscallSucceedsWithValue(2));
  EXPECT_THAT(Futex(word_, FUTEX_WAKE, 10), SyscallSucceedsWithValue(0));
  EXPECT_THAT(Futex(other_, FUTEX_WAKE, 10), SyscallSucceedsWithValue(1));
}

TEST_F(FutexTest, CmpRequeueComparesFirst) {
  EXPECT_THAT(FutexCount(word_, FUTEX_CMP_REQUEUE, 1, 1, other_, 5), SyscallFailsWithErrno(EAGAIN));
  Child child([&] { Futex(word_, FUTEX_WAIT, 0); });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  EXPECT_THAT(FutexCount(word_, FUTEX_CMP_REQUEUE, 0, 1, other_, 0), SyscallSucceedsWithValue(1));
  EXPECT_THAT(Futex(other_, FUTEX_WAKE, 1), SyscallSucceedsWithValue(1));
}

TEST_F(FutexTest, WakeOpChangesTheSecondAndWakesByItsOldValue) {
  *other_ = 3;
  // other += 4; wake on other if the old value was 3.
  const uint32_t operation = FUTEX_OP(FUTEX_OP_ADD, 4, FUTEX_OP_CMP_EQ, 3);
  Child child([&] { Futex(other_, FUTEX_WAIT, 3); });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  EXPECT_THAT(FutexCount(word_, FUTEX_WAKE_OP, 1, 1, other_, operation),
              SyscallSucceedsWithValue(1));
  EXPECT_EQ(*other_, 7);
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

// The mutex of "Futexes are tricky": 0 free, 1 held, 2 held with waiters.
TEST_F(FutexTest, ManyThreadsHandOverAMutex) {
  std::atomic<int> state{0};
  int counter = 0;
  auto work = [&] {
    for (int i = 0; i < 500; i++) {
      int seen = 0;
      if (!state.compare_exchange_strong(seen, 1)) {
        while (state.exchange(2) != 0) Futex(&state, FUTEX_WAIT_PRIVATE, 2);
      }
      counter++;
      if (state.exchange(0) == 2) Futex(&state, FUTEX_WAKE_PRIVATE, 1);
    }
  };
  { ScopedThread a(work), b(work), c(work); }
  EXPECT_EQ(counter, 1500);
}

}  // namespace
}  // namespace caisson::test
