#include "vfs/file_lock.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class FileLockTest : public ::testing::Test {
 protected:
  RecordLock Lock(LockType type, int64_t start, int64_t end, const void* owner) {
    return RecordLock{type, {start, end}, owner, false, 1};
  }
  Result<void> Set(LockType type, int64_t start, int64_t end, const void* owner) {
    return locks_.SetRecord(ctx_, Lock(type, start, end, owner), false);
  }
  TestWorld world_;
  TestContext ctx_{world_};
  FileLocks locks_;
  int a_ = 0, b_ = 0, c_ = 0;  // Owners.
};

TEST_F(FileLockTest, RangesConflictOnlyWhereTheyOverlap) {
  ASSERT_OK(Set(LockType::kWrite, 10, 19, &a_));
  EXPECT_ERRNO(Set(LockType::kRead, 19, 30, &b_), kEAGAIN);
  EXPECT_ERRNO(Set(LockType::kRead, 0, 10, &b_), kEAGAIN);
  ASSERT_OK(Set(LockType::kWrite, 20, 30, &b_));
  ASSERT_OK(Set(LockType::kWrite, 0, 9, &b_));
  ASSERT_OK(Set(LockType::kRead, 10, 19, &a_));
  ASSERT_OK(Set(LockType::kRead, 5, 25, &b_));
}

TEST_F(FileLockTest, UnlockSplitsAndLockMerges) {
  ASSERT_OK(Set(LockType::kWrite, 0, INT64_MAX, &a_));
  ASSERT_OK(Set(LockType::kUnlock, 100, 199, &a_));
  ASSERT_OK(Set(LockType::kWrite, 100, 199, &b_));
  std::optional<RecordLock> held = locks_.TestRecord(Lock(LockType::kRead, 150, 300, &c_));
  ASSERT_TRUE(held.has_value());
  EXPECT_EQ(held->owner, &b_);
  held = locks_.TestRecord(Lock(LockType::kRead, 200, 300, &c_));
  ASSERT_TRUE(held.has_value());
  EXPECT_EQ(held->owner, &a_);
  EXPECT_EQ(held->range.start, 200);
  EXPECT_EQ(held->range.end, INT64_MAX);
  ASSERT_OK(Set(LockType::kUnlock, 100, 199, &b_));
  ASSERT_OK(Set(LockType::kWrite, 100, 199, &a_));
  EXPECT_EQ(locks_.Snapshot().size(), 1u);
  ASSERT_OK(Set(LockType::kRead, 50, 59, &a_));
  EXPECT_EQ(locks_.Snapshot().size(), 3u);
  locks_.ReleaseRecords(&a_);
  EXPECT_TRUE(locks_.empty());
}

TEST_F(FileLockTest, WaiterGetsTheLockWhenItIsReleased) {
  ASSERT_OK(Set(LockType::kWrite, 0, 9, &a_));
  std::atomic<bool> got{false};
  std::thread waiter([&] {
    TestContext ctx(world_);
    got = locks_.SetRecord(ctx, Lock(LockType::kWrite, 5, 20, &b_), true).ok();
  });
  std::this_thread::yield();
  EXPECT_FALSE(got);
  ASSERT_OK(Set(LockType::kUnlock, 0, 9, &a_));
  waiter.join();
  EXPECT_TRUE(got);
}

TEST_F(FileLockTest, ASignalEndsTheWait) {
  ASSERT_OK(Set(LockType::kWrite, 0, 9, &a_));
  TestContext ctx(world_);
  ctx.Interrupt();
  EXPECT_ERRNO(locks_.SetRecord(ctx, Lock(LockType::kWrite, 0, 0, &b_), true), kERESTARTSYS);
  // No trace of the wait is left: no false deadlock.
  FileLocks other;
  ASSERT_OK(other.SetRecord(ctx_, Lock(LockType::kWrite, 0, 0, &b_), false));
  TestContext again(world_);
  again.Interrupt();
  EXPECT_ERRNO(other.SetRecord(again, Lock(LockType::kWrite, 0, 0, &a_), true), kERESTARTSYS);
}

TEST_F(FileLockTest, CyclesAreDeadlocks) {
  FileLocks second;
  ASSERT_OK(Set(LockType::kWrite, 0, 0, &a_));
  ASSERT_OK(second.SetRecord(ctx_, Lock(LockType::kWrite, 0, 0, &b_), false));
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    TestContext ctx(world_);
    // A probe below may be waiting just now, and then this is the one that closes the circle.
    Result<void> r;
    do {
      r = locks_.SetRecord(ctx, Lock(LockType::kWrite, 0, 0, &b_), true);
    } while (!r.ok() && r.error() == Errno::kEDEADLK);
    EXPECT_TRUE(r.ok());
    done = true;
  });
  // b waits for a; once it does, a waiting for b would close the circle.
  for (;;) {
    TestContext probe(world_);
    probe.Interrupt();
    Result<void> r = second.SetRecord(probe, Lock(LockType::kWrite, 0, 0, &a_), true);
    ASSERT_FALSE(r.ok());
    if (r.error() == Errno::kEDEADLK) break;
    ASSERT_EQ(r.error(), Errno::kERESTARTSYS);
    std::this_thread::yield();
  }
  EXPECT_FALSE(done);
  locks_.ReleaseRecords(&a_);
  waiter.join();
  EXPECT_TRUE(done);
}

TEST_F(FileLockTest, FlockSharesExcludesAndConverts) {
  ASSERT_OK(locks_.SetFlock(ctx_, LockType::kRead, &a_, false));
  ASSERT_OK(locks_.SetFlock(ctx_, LockType::kRead, &b_, false));
  EXPECT_ERRNO(locks_.SetFlock(ctx_, LockType::kWrite, &c_, false), kEAGAIN);
  // Conversion gives the old lock up first, also when it then fails (flock(2)).
  EXPECT_ERRNO(locks_.SetFlock(ctx_, LockType::kWrite, &a_, false), kEAGAIN);
  locks_.ReleaseFlock(&b_);
  ASSERT_OK(locks_.SetFlock(ctx_, LockType::kWrite, &c_, false));
  ASSERT_OK(locks_.SetFlock(ctx_, LockType::kUnlock, &c_, false));
  EXPECT_TRUE(locks_.empty());
}

TEST_F(FileLockTest, ClosingADescriptionDropsItsLocks) {
  ASSERT_OK(ctx_.WriteFile("/f", ""));
  RefPtr<FileDescription> f = *ctx_.Open("/f", kOpenReadWrite);
  RefPtr<Inode> inode = f->inode_ref();
  ASSERT_OK(inode->locks().SetFlock(ctx_, LockType::kWrite, f.get(), false));
  RecordLock ofd = Lock(LockType::kWrite, 0, 9, f.get());
  ofd.ofd = true;
  ASSERT_OK(inode->locks().SetRecord(ctx_, ofd, false));
  EXPECT_EQ(inode->locks().TestRecord(Lock(LockType::kRead, 0, 0, &a_))->tgid, -1);
  f.reset();
  EXPECT_TRUE(inode->locks().empty());
}

}  // namespace
}  // namespace caisson::vfs
