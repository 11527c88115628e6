#include <memory>
#include <set>
#include <thread>

#include "abi/futex.h"
#include "gtest/gtest.h"
#include "platform/fake/fake_platform.h"
#include "sentry/futex/futex.h"
#include "sentry/mm/testing/fake_vfs.h"
#include "time/clock.h"

namespace caisson::futex {
namespace {

using mm::testing::TestContext;

template <typename T>
Errno ErrorOf(const Result<T>& r) {
  return r.ok() ? Errno{0} : r.error();
}

class PiTest : public ::testing::Test {
 protected:
  PiTest() : mm_(mm::MemoryManager::New(platform_).value()) {
    mm::MmapArgs args;
    args.length = kPageSize;
    args.protection = 3;
    args.flags = mm::kMapAnonymous | mm::kMapPrivate;
    base_ = mm_->Mmap(ctx_, args, {}).value();
  }
  Word At(int i) { return {*mm_, base_ + 4 * i, true}; }
  uint32_t Load(int i) { return mm_->Load32(base_ + 4 * i).value(); }
  void Store(int i, uint32_t value) {
    ASSERT_TRUE(mm_->CopyOut(base_ + 4 * i, {reinterpret_cast<char*>(&value), 4}).ok());
  }
  // Tids 1 to 9 live; the id is tid + 1000.
  PiTask Task(int32_t tid) {
    return {tid, static_cast<uint64_t>(tid + 1000),
            [](int32_t t) -> uint64_t { return t >= 1 && t <= 9 ? t + 1000 : 0; }};
  }
  Result<void> Lock(int32_t tid, bool try_only = false) {
    return futexes_.LockPi(ctx_, Task(tid), At(0), try_only, time::kNever);
  }
  struct Locker {
    TestContext ctx;
    Result<void> result = Errno::kEIO;
    std::thread thread;
    ~Locker() {
      if (thread.joinable()) thread.join();
    }
  };
  std::unique_ptr<Locker> StartLock(int32_t tid, int64_t deadline = time::kNever) {
    auto l = std::make_unique<Locker>();
    l->thread = std::thread([this, &l = *l, tid, deadline] {
      l.result = futexes_.LockPi(l.ctx, Task(tid), At(0), false, deadline);
    });
    l->ctx.AwaitBlocked();
    return l;
  }

  platform::fake::FakePlatform platform_;
  TestContext ctx_;
  RefPtr<mm::MemoryManager> mm_;
  GuestAddr base_;
  FutexManager futexes_;
};

TEST_F(PiTest, LockTakesAFreeWordAndRefusesItself) {
  EXPECT_TRUE(Lock(1).ok());
  EXPECT_EQ(Load(0), 1u);
  EXPECT_EQ(ErrorOf(Lock(1)), Errno::kEDEADLK);
  EXPECT_EQ(ErrorOf(Lock(2, true)), Errno::kEAGAIN);
  EXPECT_EQ(ErrorOf(futexes_.UnlockPi(Task(2), At(0))), Errno::kEPERM);
  EXPECT_TRUE(futexes_.UnlockPi(Task(1), At(0)).ok());
  EXPECT_EQ(Load(0), 0u);
}

TEST_F(PiTest, DeadOwnerIsReported) {
  Store(0, 77);
  EXPECT_EQ(ErrorOf(Lock(1)), Errno::kESRCH);
}

TEST_F(PiTest, OwnerDiedStaysVisible) {
  Store(0, abi::kFutexOwnerDied);
  EXPECT_TRUE(Lock(1).ok());
  EXPECT_EQ(Load(0), abi::kFutexOwnerDied | 1);
}

TEST_F(PiTest, UnlockHandsOverInOrder) {
  ASSERT_TRUE(Lock(1).ok());
  auto a = StartLock(2);
  auto b = StartLock(3);
  EXPECT_EQ(Load(0), abi::kFutexWaiters | 1);
  ASSERT_TRUE(futexes_.UnlockPi(Task(1), At(0)).ok());
  a->thread.join();
  EXPECT_TRUE(a->result.ok());
  EXPECT_EQ(Load(0), abi::kFutexWaiters | 2);
  // Plain wakes have no business here.
  EXPECT_EQ(ErrorOf(futexes_.Wake(At(0), 1)), Errno::kEINVAL);
  ASSERT_TRUE(futexes_.UnlockPi(Task(2), At(0)).ok());
  b->thread.join();
  EXPECT_EQ(Load(0), 3u);
}

TEST_F(PiTest, WaitingCanEnd) {
  ASSERT_TRUE(Lock(1).ok());
  auto a = StartLock(2, time::MonotonicNow() + 20'000'000);
  a->thread.join();
  EXPECT_EQ(ErrorOf(a->result), Errno::kETIMEDOUT);
  auto b = StartLock(2);
  b->ctx.Interrupt();
  b->thread.join();
  EXPECT_EQ(ErrorOf(b->result), Errno::kERESTARTNOINTR);
  ASSERT_TRUE(futexes_.UnlockPi(Task(1), At(0)).ok());
  EXPECT_EQ(Load(0), 0u);
}

TEST_F(PiTest, AnOwnerThatEndsPassesTheLockOn) {
  ASSERT_TRUE(Lock(1).ok());
  auto a = StartLock(2);
  auto b = StartLock(3);
  futexes_.ExitPi(Task(5));
  futexes_.ExitPi(Task(1));
  a->thread.join();
  EXPECT_TRUE(a->result.ok());
  EXPECT_EQ(Load(0), abi::kFutexWaiters | abi::kFutexOwnerDied | 2);
  futexes_.ExitPi(Task(2));
  b->thread.join();
  EXPECT_EQ(Load(0), abi::kFutexOwnerDied | 3);
}

TEST_F(PiTest, RequeuePiGivesTheLockOrQueuesForIt) {
  std::vector<std::unique_ptr<Locker>> waiters;
  for (int tid = 2; tid <= 4; ++tid) {
    auto l = std::make_unique<Locker>();
    l->thread = std::thread([this, &l = *l, tid] {
      l.result = futexes_.WaitRequeuePi(l.ctx, Task(tid), At(1), At(0), 0, ~0u, time::kNever);
    });
    l->ctx.AwaitBlocked();
    waiters.push_back(std::move(l));
  }
  EXPECT_EQ(ErrorOf(futexes_.Wake(At(1), 1)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(futexes_.CmpRequeuePi(Task(1), At(1), At(0), 1, 9, 7)), Errno::kEAGAIN);
  EXPECT_EQ(ErrorOf(futexes_.CmpRequeuePi(Task(1), At(1), At(2), 1, 9, 0)), Errno::kEINVAL);
  EXPECT_EQ(futexes_.CmpRequeuePi(Task(1), At(1), At(0), 1, 1, 0).value(), 2);
  waiters[0]->thread.join();
  EXPECT_TRUE(waiters[0]->result.ok());
  EXPECT_EQ(Load(0), abi::kFutexWaiters | 2);
  ASSERT_TRUE(futexes_.UnlockPi(Task(2), At(0)).ok());
  waiters[1]->thread.join();
  EXPECT_TRUE(waiters[1]->result.ok());
  EXPECT_EQ(Load(0), 3u);
  waiters[2]->ctx.Interrupt();
  waiters[2]->thread.join();
  EXPECT_EQ(ErrorOf(waiters[2]->result), Errno::kERESTARTNOINTR);
}

TEST_F(PiTest, ManyThreadsExcludeEachOther) {
  int inside = 0, total = 0;
  std::vector<std::thread> threads;
  for (int tid = 1; tid <= 4; ++tid) {
    threads.emplace_back([&, tid] {
      TestContext ctx(tid);
      for (int i = 0; i < 300; ++i) {
        if (mm_->CompareExchange32(base_, 0, tid).value() != 0) {
          ASSERT_TRUE(futexes_.LockPi(ctx, Task(tid), At(0), false, time::kNever).ok());
        }
        EXPECT_EQ(++inside, 1);
        ++total;
        --inside;
        if (mm_->CompareExchange32(base_, tid, 0).value() != static_cast<uint32_t>(tid)) {
          ASSERT_TRUE(futexes_.UnlockPi(Task(tid), At(0)).ok());
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(total, 1200);
  EXPECT_EQ(Load(0), 0u);
}

}  // namespace
}  // namespace caisson::futex
