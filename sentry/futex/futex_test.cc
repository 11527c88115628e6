#include "sentry/futex/futex.h"

#include <atomic>
#include <thread>
#include <vector>

#include "abi/futex.h"
#include "gtest/gtest.h"
#include "platform/fake/fake_platform.h"
#include "sentry/mm/testing/fake_vfs.h"
#include "time/clock.h"

namespace caisson::futex {
namespace {

using mm::testing::TestContext;

class FutexTest : public ::testing::Test {
 protected:
  FutexTest() : mm_(mm::MemoryManager::New(platform_, &shared_).value()) {
    base_ = Map(*mm_, mm::kMapPrivate);
  }
  GuestAddr Map(mm::MemoryManager& mm, uint32_t flags) {
    mm::MmapArgs args;
    args.length = kPageSize;
    args.protection = 3;
    args.flags = flags | mm::kMapAnonymous;
    return mm.Mmap(ctx_, args, {}).value();
  }
  Word At(int i, bool is_private = true) { return {*mm_, base_ + 4 * i, is_private}; }
  void Store(int i, uint32_t value) {
    ASSERT_TRUE(mm_->CopyOut(base_ + 4 * i, {reinterpret_cast<char*>(&value), 4}).ok());
  }
  int Waiters(int i) {
    return static_cast<platform::fake::FakeAddressSpace&>(mm_->address_space()).Waiters(base_ + 4 * i);
  }
  uint32_t Load(int i) { return mm_->Load32(base_ + 4 * i).value(); }
  // A thread in Wait().
  struct Sleeper {
    TestContext ctx;
    Result<void> result = Errno::kEIO;
    std::thread thread;
    ~Sleeper() {
      if (thread.joinable()) thread.join();
    }
  };
  std::unique_ptr<Sleeper> StartWait(Word word, uint32_t bitset = ~0u,
                                     int64_t deadline = time::kNever) {
    auto s = std::make_unique<Sleeper>();
    s->thread = std::thread([this, &s = *s, word, bitset, deadline] {
      s.result = futexes_.Wait(s.ctx, word, word.mm.Load32(word.addr).value(), bitset, deadline);
    });
    s->ctx.AwaitBlocked();
    return s;
  }

  platform::fake::FakePlatform platform_;
  mm::testing::TestSharedMemory shared_;
  TestContext ctx_;
  RefPtr<mm::MemoryManager> mm_;
  GuestAddr base_;
  FutexManager futexes_;
};

template <typename T>
Errno ErrorOf(const Result<T>& r) {
  return r.ok() ? Errno{0} : r.error();
}

TEST_F(FutexTest, WaitReturnsAtOnceIfTheWordDiffers) {
  EXPECT_EQ(ErrorOf(futexes_.Wait(ctx_, At(0), 1, ~0u, time::kNever)), Errno::kEAGAIN);
}

TEST_F(FutexTest, BadArguments) {
  Word odd{*mm_, base_ + 2, true};
  EXPECT_EQ(ErrorOf(futexes_.Wait(ctx_, odd, 0, ~0u, time::kNever)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(futexes_.Wake(odd, 1)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(futexes_.Wait(ctx_, At(0), 0, 0, time::kNever)), Errno::kEINVAL);
  Word nowhere{*mm_, GuestAddr(0x20000), true};
  EXPECT_EQ(ErrorOf(futexes_.Wait(ctx_, nowhere, 0, ~0u, time::kNever)), Errno::kEFAULT);
  EXPECT_EQ(futexes_.Wake(nowhere, 1).value(), 0);
  nowhere.is_private = false;
  EXPECT_EQ(ErrorOf(futexes_.Wake(nowhere, 1)), Errno::kEFAULT);
  EXPECT_EQ(ErrorOf(futexes_.Wake({*mm_, GuestAddr(~uint64_t{3}), true}, 1)), Errno::kEFAULT);
}

TEST_F(FutexTest, WakeCountsAndIsFirstComeFirstServed) {
  auto a = StartWait(At(0));
  auto b = StartWait(At(0));
  auto c = StartWait(At(1));
  EXPECT_EQ(futexes_.Wake(At(0), 1).value(), 1);
  a->thread.join();
  EXPECT_TRUE(a->result.ok());
  EXPECT_EQ(futexes_.Wake(At(0), 10).value(), 1);
  EXPECT_EQ(futexes_.Wake(At(0), 10).value(), 0);
  EXPECT_EQ(futexes_.Wake(At(1), 10).value(), 1);
}

TEST_F(FutexTest, BitsetsSelect) {
  auto a = StartWait(At(0), 1);
  auto b = StartWait(At(0), 2);
  EXPECT_EQ(futexes_.Wake(At(0), 10, 4).value(), 0);
  EXPECT_EQ(futexes_.Wake(At(0), 10, 2).value(), 1);
  b->thread.join();
  EXPECT_EQ(futexes_.Wake(At(0), 10, 1).value(), 1);
}

TEST_F(FutexTest, TimeoutAndInterruption) {
  EXPECT_EQ(ErrorOf(futexes_.Wait(ctx_, At(0), 0, ~0u, time::MonotonicNow() + 1000)),
            Errno::kETIMEDOUT);
  auto a = StartWait(At(0));
  a->ctx.Interrupt();
  a->thread.join();
  EXPECT_EQ(ErrorOf(a->result), Errno::kERESTARTSYS);
  auto b = StartWait(At(0), ~0u, time::MonotonicNow() + 60'000'000'000);
  b->ctx.Interrupt();
  b->thread.join();
  EXPECT_EQ(ErrorOf(b->result), Errno::kERESTART_RESTARTBLOCK);
  EXPECT_EQ(futexes_.Wake(At(0), 10).value(), 0);
}

TEST_F(FutexTest, SharedMemoryIsKeyedByItsObject) {
  GuestAddr shared = Map(*mm_, mm::kMapShared);
  RefPtr<mm::MemoryManager> child = mm_->Fork().value();
  auto a = StartWait({*mm_, shared, false});
  // The same address as a private futex is another one.
  EXPECT_EQ(futexes_.Wake({*child, shared, true}, 1).value(), 0);
  EXPECT_EQ(futexes_.Wake({*child, shared, false}, 1).value(), 1);
  // Private memory of parent and child are different futexes.
  auto b = StartWait(At(0, false));
  EXPECT_EQ(futexes_.Wake({*child, base_, false}, 1).value(), 0);
  // In private memory the flag makes no difference.
  EXPECT_EQ(futexes_.Wake(At(0, true), 1).value(), 1);
}

TEST_F(FutexTest, RequeueMovesSleepers) {
  auto a = StartWait(At(0));
  auto b = StartWait(At(0));
  auto c = StartWait(At(0));
  EXPECT_EQ(ErrorOf(futexes_.Requeue(At(0), At(1), 1, 1, 5)), Errno::kEAGAIN);
  EXPECT_EQ(futexes_.Requeue(At(0), At(1), 1, 1, 0).value(), 2);
  a->thread.join();
  EXPECT_EQ(futexes_.Wake(At(0), 10).value(), 1);
  EXPECT_EQ(futexes_.Wake(At(1), 10).value(), 1);
  EXPECT_EQ(ErrorOf(futexes_.Requeue(At(0), At(1), -1, 1, std::nullopt)), Errno::kEINVAL);
}

TEST_F(FutexTest, ARequeuedSleeperTimesOutThere) {
  auto a = StartWait(At(0), ~0u, time::MonotonicNow() + 400'000'000);
  EXPECT_EQ(futexes_.Requeue(At(0), At(1), 0, 1, std::nullopt).value(), 1);
  a->thread.join();
  EXPECT_EQ(ErrorOf(a->result), Errno::kETIMEDOUT);
  EXPECT_EQ(futexes_.Wake(At(1), 1).value(), 0);
}

uint32_t Op(uint32_t op, uint32_t cmp, uint32_t arg, uint32_t cmparg) {
  return op << 28 | cmp << 24 | (arg & 0xfff) << 12 | (cmparg & 0xfff);
}

TEST_F(FutexTest, WakeOpChangesTheWordAndComparesTheOld) {
  auto a = StartWait(At(0));
  Store(1, 7);
  auto b = StartWait(At(1));
  EXPECT_EQ(
      futexes_.WakeOp(At(0), At(1), 1, 1, Op(abi::kFutexOpAdd, abi::kFutexOpCmpEq, 3, 8)).value(),
      1);
  EXPECT_EQ(Load(1), 10u);
  EXPECT_EQ(
      futexes_.WakeOp(At(0), At(1), 1, 1, Op(abi::kFutexOpSet, abi::kFutexOpCmpGt, -1, 9)).value(),
      1);
  EXPECT_EQ(Load(1), ~0u);
  EXPECT_EQ(futexes_.WakeOp(At(0), At(1), 1, 1, Op(abi::kFutexOpAndn | 8, 0, 4, 0)).value(), 0);
  EXPECT_EQ(Load(1), ~16u);
  EXPECT_EQ(futexes_.WakeOp(At(0), At(1), 1, 1, Op(abi::kFutexOpXor, 0, 1, 0)).value(), 0);
  EXPECT_EQ(Load(1), ~17u);
  EXPECT_EQ(ErrorOf(futexes_.WakeOp(At(0), At(1), 1, 1, Op(6, 0, 1, 0))), Errno::kENOSYS);
  EXPECT_EQ(ErrorOf(futexes_.WakeOp(At(0), At(1), 1, 1, Op(0, 9, 1, 0))), Errno::kENOSYS);
}

TEST_F(FutexTest, WaitMultipleReturnsTheIndex) {
  Store(2, 5);
  std::vector<FutexManager::WaitvEntry> entries = {
      {base_, true, 0}, {base_ + 4, true, 0}, {base_ + 8, true, 5}};
  Result<int> result = Errno::kEIO;
  TestContext ctx;
  std::thread thread([&] { result = futexes_.WaitMultiple(ctx, *mm_, entries, time::kNever); });
  ctx.AwaitBlocked();
  EXPECT_EQ(futexes_.Wake(At(1), 1).value(), 1);
  thread.join();
  EXPECT_EQ(result.value(), 1);
  EXPECT_EQ(futexes_.Wake(At(0), 1).value(), 0);
  entries[2].expected = 6;
  EXPECT_EQ(ErrorOf(futexes_.WaitMultiple(ctx_, *mm_, entries, time::kNever)), Errno::kEAGAIN);
  entries.resize(2);
  EXPECT_EQ(ErrorOf(futexes_.WaitMultiple(ctx_, *mm_, entries, time::MonotonicNow() + 1000)),
            Errno::kETIMEDOUT);
}

TEST_F(FutexTest, WaitersAreCountedWhereTheyWait) {
  auto a = StartWait(At(0)), b = StartWait(At(0)), c = StartWait(At(1));
  EXPECT_EQ(Waiters(0), 2);
  EXPECT_EQ(Waiters(1), 1);
  EXPECT_EQ(futexes_.Requeue(At(0), At(1), 1, 1, std::nullopt).value(), 2);
  EXPECT_EQ(Waiters(0), 0);
  EXPECT_EQ(Waiters(1), 2);
  EXPECT_EQ(futexes_.Wake(At(1), 5).value(), 2);
  EXPECT_EQ(Waiters(1), 0);
  auto d = StartWait(At(2), ~0u, time::MonotonicNow() + 1000);
  d->thread.join();
  EXPECT_EQ(ErrorOf(futexes_.Wait(ctx_, At(2), 1, ~0u, time::kNever)), Errno::kEAGAIN);
  EXPECT_EQ(Waiters(2), 0);
}

// Who asks for both words without a lock, in either order, finds a waiter that is being moved.
TEST_F(FutexTest, AMovedWaiterIsCountedAllTheTime) {
  auto a = StartWait(At(0));
  auto& space = static_cast<platform::fake::FakeAddressSpace&>(mm_->address_space());
  space.FewestWaiters();
  EXPECT_EQ(futexes_.Requeue(At(0), At(1), 0, 1, std::nullopt).value(), 1);
  EXPECT_EQ(space.FewestWaiters(), 1);
  EXPECT_EQ(futexes_.Wake(At(1), 1).value(), 1);
  EXPECT_EQ(space.FewestWaiters(), 0);
}

// The classic three-state mutex: no wake may be lost whatever the interleaving.
TEST_F(FutexTest, MutexOfManyThreads) {
  constexpr int kThreads = 4, kRounds = 400;
  int inside = 0, total = 0;
  std::vector<std::thread> threads;
  std::vector<std::unique_ptr<TestContext>> contexts;
  for (int t = 0; t < kThreads; ++t) contexts.push_back(std::make_unique<TestContext>(t + 1));
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        uint32_t c = mm_->CompareExchange32(base_, 0, 1).value();
        while (c != 0) {
          if (c == 2 || mm_->CompareExchange32(base_, 1, 2).value() != 0)
            (void)futexes_.Wait(*contexts[t], At(0), 2, ~0u, time::kNever).ok();
          c = mm_->CompareExchange32(base_, 0, 2).value();
        }
        EXPECT_EQ(++inside, 1);
        ++total;
        --inside;
        // Unlock: exchange with 0 and wake if it was contended.
        uint32_t old = Load(0);
        while (mm_->CompareExchange32(base_, old, 0).value() != old) old = Load(0);
        if (old == 2) {
          EXPECT_TRUE(futexes_.Wake(At(0), 1).ok());
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(total, kThreads * kRounds);
}

TEST_F(FutexTest, RobustListMarksAndWakes) {
  // head, two entries; the word is 8 bytes after an entry's link.
  const uint64_t head = base_.value + 256, one = head + 64, two = head + 128;
  uint64_t list[3] = {one, 8, 0};
  ASSERT_TRUE(mm_->CopyOut(GuestAddr(head), {reinterpret_cast<char*>(list), 24}).ok());
  auto put = [&](uint64_t at, uint64_t v) {
    ASSERT_TRUE(mm_->CopyOut(GuestAddr(at), {reinterpret_cast<char*>(&v), 8}).ok());
  };
  put(one, two);
  put(one + 8, 42 | abi::kFutexWaiters);
  put(two, head);
  put(two + 8, 43);  // Held by another.
  auto a = StartWait({*mm_, GuestAddr(one + 8), true});
  futexes_.ExitRobustList(*mm_, GuestAddr(head), 42);
  a->thread.join();
  EXPECT_TRUE(a->result.ok());
  EXPECT_EQ(mm_->Load32(GuestAddr(one + 8)).value(), abi::kFutexOwnerDied | abi::kFutexWaiters);
  EXPECT_EQ(mm_->Load32(GuestAddr(two + 8)).value(), 43u);
  // Circles and bad addresses end.
  put(one, one);
  put(one + 8, 42);
  futexes_.ExitRobustList(*mm_, GuestAddr(head), 42);
  EXPECT_EQ(mm_->Load32(GuestAddr(one + 8)).value(), abi::kFutexOwnerDied);
  put(one, ~uint64_t{0});
  futexes_.ExitRobustList(*mm_, GuestAddr(head), 42);
  futexes_.ExitRobustList(*mm_, GuestAddr(1), 42);
}

TEST_F(FutexTest, ClearChildTidWakesTheJoiner) {
  Store(0, 99);
  auto a = StartWait(At(0));
  futexes_.ClearChildTid(*mm_, base_);
  a->thread.join();
  EXPECT_TRUE(a->result.ok());
  EXPECT_EQ(Load(0), 0u);
}

}  // namespace
}  // namespace caisson::futex
