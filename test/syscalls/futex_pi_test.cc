// Priority-inheritance and robust futexes: futex(2), get_robust_list(2).
#include <linux/futex.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

long Futex(void* word, int operation, uint32_t value = 0, const timespec* timeout = nullptr) {
  return syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}

class PiFutexTest : public testing::Test {
 protected:
  SharedMapping memory_;
  uint32_t* word_ = memory_.as<uint32_t>();
};

TEST_F(PiFutexTest, LockStoresTheOwnerAndUnlockClearsIt) {
  ASSERT_THAT(Futex(word_, FUTEX_LOCK_PI), SyscallSucceeds());
  EXPECT_EQ(*word_ & FUTEX_TID_MASK, static_cast<uint32_t>(gettid()));
  ASSERT_THAT(Futex(word_, FUTEX_UNLOCK_PI), SyscallSucceeds());
  EXPECT_EQ(*word_, 0u);
}

TEST_F(PiFutexTest, RelockIsEdeadlkAndForeignUnlockEperm) {
  *word_ = gettid();
  EXPECT_THAT(Futex(word_, FUTEX_LOCK_PI), SyscallFailsWithErrno(EDEADLK));
  *word_ = gettid() + 1;
  EXPECT_THAT(Futex(word_, FUTEX_UNLOCK_PI), SyscallFailsWithErrno(EPERM));
}

TEST_F(PiFutexTest, OwnerThatIsGoneIsEsrch) {
  *word_ = 0x3ffffff0;
  EXPECT_THAT(Futex(word_, FUTEX_LOCK_PI), SyscallFailsWithErrno(ESRCH));
}

TEST_F(PiFutexTest, TrylockOfAHeldOneIsEagain) {
  Child owner([&] {
    Futex(word_, FUTEX_LOCK_PI);
    pause();
  });
  ASSERT_TRUE(WaitUntil([&] { return *static_cast<volatile uint32_t*>(word_) != 0; }));
  EXPECT_THAT(Futex(word_, FUTEX_TRYLOCK_PI), SyscallFailsWithErrno(EAGAIN));
}

TEST_F(PiFutexTest, UnlockHandsOverToTheWaiter) {
  ASSERT_THAT(Futex(word_, FUTEX_LOCK_PI), SyscallSucceeds());
  Child waiter([&] {
    EXPECT_THAT(Futex(word_, FUTEX_LOCK_PI), SyscallSucceeds());
    EXPECT_EQ(*word_ & FUTEX_TID_MASK, static_cast<uint32_t>(gettid()));
    EXPECT_THAT(Futex(word_, FUTEX_UNLOCK_PI), SyscallSucceeds());
  });
  ASSERT_TRUE(WaitUntil([&] { return *static_cast<volatile uint32_t*>(word_) & FUTEX_WAITERS; }));
  ASSERT_TRUE(WaitUntilSleeping(waiter.pid()));
  EXPECT_THAT(Futex(word_, FUTEX_UNLOCK_PI), SyscallSucceeds());
  EXPECT_THAT(waiter.Wait(), ExitsWith(0));
}

TEST_F(PiFutexTest, WaitTimesOutAtARealtimeInstant) {
  Child owner([&] {
    Futex(word_, FUTEX_LOCK_PI);
    pause();
  });
  ASSERT_TRUE(WaitUntil([&] { return *static_cast<volatile uint32_t*>(word_) != 0; }));
  timespec past = {1, 0};
  EXPECT_THAT(Futex(word_, FUTEX_LOCK_PI, 0, &past), SyscallFailsWithErrno(ETIMEDOUT));
}

TEST_F(PiFutexTest, PthreadMutexWithInheritanceWorks) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  pthread_mutex_t mutex;
  ASSERT_EQ(pthread_mutex_init(&mutex, &attributes), 0);
  int counter = 0;
  auto work = [&] {
    for (int i = 0; i < 500; i++) {
      pthread_mutex_lock(&mutex);
      counter++;
      pthread_mutex_unlock(&mutex);
    }
  };
  { ScopedThread a(work), b(work); }
  EXPECT_EQ(counter, 1000);
  pthread_mutex_destroy(&mutex);
}

TEST(RobustListTest, DeathOfTheOwnerIsMarkedAndWakesAWaiter) {
  struct Lock {
    robust_list node;
    uint32_t word;
  };
  SharedMapping memory;
  Lock* lock = memory.as<Lock>();
  Child owner([&] {
    static robust_list_head head;
    head.list.next = &lock->node;
    lock->node.next = &head.list;
    head.futex_offset = offsetof(Lock, word);
    ASSERT_THAT(syscall(SYS_set_robust_list, &head, sizeof(head)), SyscallSucceeds());
    lock->word = gettid() | FUTEX_WAITERS;
    pause();
  });
  ASSERT_TRUE(WaitUntil([&] { return *static_cast<volatile uint32_t*>(&lock->word) != 0; }));
  ASSERT_TRUE(WaitUntilSleeping(owner.pid()));
  const uint32_t held = lock->word;
  Child waiter([&] { EXPECT_THAT(Futex(&lock->word, FUTEX_WAIT, held), SyscallSucceeds()); });
  ASSERT_TRUE(WaitUntilSleeping(waiter.pid()));
  owner.Kill(SIGKILL);
  EXPECT_THAT(waiter.Wait(), ExitsWith(0));
  EXPECT_TRUE(lock->word & FUTEX_OWNER_DIED);
}

TEST(RobustListTest, PthreadMutexReportsTheDeadOwner) {
  SharedMapping memory;
  auto* mutex = memory.as<pthread_mutex_t>();
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ASSERT_EQ(pthread_mutex_init(mutex, &attributes), 0);
  EXPECT_THAT(InChild([&] {
                pthread_mutex_lock(mutex);
                _exit(0);
              }),
              ExitsWith(0));
  EXPECT_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
  EXPECT_EQ(pthread_mutex_consistent(mutex), 0);
  EXPECT_EQ(pthread_mutex_unlock(mutex), 0);
}

TEST(RobustListTest, IsReadBackAndItsSizeIsChecked) {
  void* head = nullptr;
  size_t size = 0;
  ASSERT_THAT(syscall(SYS_get_robust_list, 0, &head, &size), SyscallSucceeds());
  EXPECT_NE(head, nullptr);
  EXPECT_EQ(size, sizeof(robust_list_head));
  EXPECT_THAT(syscall(SYS_set_robust_list, head, 8), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
