// Locks of guests and of host processes exclude each other on shared mounts. Needs root.
#include <sys/file.h>

#include <atomic>

#include "vfs/file_lock.h"
#include "vfs/gofer/test_world.h"

namespace caisson::vfs {
namespace {

class SharedLocksTest : public GoferTest {
 protected:
  void SetUp() override {
    GoferOptions options;
    options.host_locks = true;
    Start(std::move(options));
    Host("echo 0123456789 > f");
    file_ = *ctx().Open("/f", kOpenReadWrite);
    host_.reset(open(HostPath("f").c_str(), O_RDWR | O_CLOEXEC));
  }
  void TearDown() override {
    file_.reset();
    GoferTest::TearDown();
  }
  FileLocks& locks() { return file_->inode()->locks(); }
  Result<void> Guest(const void* owner, LockType type, int64_t start, int64_t end,
                     bool wait = false) {
    RecordLock lock{type, {start, end}, owner, false, 7};
    return locks().SetRecord(ctx(), lock, wait);
  }
  // Whether a host process gets [start, end].
  bool HostGets(short type, int64_t start, int64_t end) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_start = start;
    lock.l_len = end - start + 1;
    if (fcntl(host_.get(), F_OFD_SETLK, &lock) != 0) return false;
    lock.l_type = F_UNLCK;
    return fcntl(host_.get(), F_OFD_SETLK, &lock) == 0;
  }
  int a_, b_;  // Owners, by address.
  RefPtr<FileDescription> file_;
  UniqueFd host_;
};

TEST_F(SharedLocksTest, TheHostSeesWhatGuestsHold) {
  ASSERT_OK(Guest(&a_, LockType::kWrite, 2, 5));
  EXPECT_FALSE(HostGets(F_RDLCK, 5, 9));
  EXPECT_TRUE(HostGets(F_WRLCK, 6, 9));
  ASSERT_OK(Guest(&a_, LockType::kUnlock, 2, 3));
  EXPECT_TRUE(HostGets(F_WRLCK, 2, 3));
  EXPECT_FALSE(HostGets(F_WRLCK, 4, 4));
  locks().ReleaseRecords(&a_);
  EXPECT_TRUE(HostGets(F_WRLCK, 0, 100));
}

TEST_F(SharedLocksTest, ASharedLockStaysWhileAnyGuestHoldsIt) {
  ASSERT_OK(Guest(&a_, LockType::kRead, 0, 9));
  ASSERT_OK(Guest(&b_, LockType::kRead, 3, 5));
  ASSERT_OK(Guest(&a_, LockType::kUnlock, 0, 9));
  EXPECT_FALSE(HostGets(F_WRLCK, 3, 5));
  EXPECT_TRUE(HostGets(F_RDLCK, 3, 5));
  EXPECT_TRUE(HostGets(F_WRLCK, 0, 2));
  EXPECT_TRUE(HostGets(F_WRLCK, 6, 9));
  locks().ReleaseRecords(&b_);
  EXPECT_TRUE(HostGets(F_WRLCK, 0, 9));
}

TEST_F(SharedLocksTest, GuestsSeeWhatTheHostHolds) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_start = 4;
  lock.l_len = 2;
  ASSERT_EQ(fcntl(host_.get(), F_OFD_SETLK, &lock), 0);
  EXPECT_ERRNO(Guest(&a_, LockType::kRead, 0, 9), kEAGAIN);
  ASSERT_OK(Guest(&a_, LockType::kWrite, 0, 3));
  std::optional<RecordLock> found = locks().TestRecord({LockType::kRead, {0, 9}, &b_, false, 1});
  ASSERT_TRUE(found.has_value());  // The guest's, which is asked first.
  EXPECT_EQ(found->range.end, 3);
  found = locks().TestRecord({LockType::kRead, {4, 9}, &b_, false, 1});
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->range.start, 4);
  EXPECT_EQ(found->tgid, 0);
}

TEST_F(SharedLocksTest, AGuestWaitsForTheHost) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  ASSERT_EQ(fcntl(host_.get(), F_OFD_SETLK, &lock), 0);
  std::atomic<bool> got{false};
  std::thread guest([&] {
    testing::TestContext mine(*world_);
    RecordLock wanted{LockType::kWrite, {}, &a_, false, 7};
    EXPECT_TRUE(locks().SetRecord(mine, wanted, true).ok());
    got = true;
  });
  timespec ms = {0, 60'000'000};
  nanosleep(&ms, nullptr);
  EXPECT_FALSE(got);
  lock.l_type = F_UNLCK;
  ASSERT_EQ(fcntl(host_.get(), F_OFD_SETLK, &lock), 0);
  EXPECT_TRUE(Soon([&] { return got.load(); }));
  guest.join();
}

TEST_F(SharedLocksTest, FlocksExcludeEachOther) {
  ASSERT_OK(locks().SetFlock(ctx(), LockType::kRead, &a_, false));
  EXPECT_NE(flock(host_.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(flock(host_.get(), LOCK_SH | LOCK_NB), 0);
  EXPECT_ERRNO(locks().SetFlock(ctx(), LockType::kWrite, &b_, false), kEAGAIN);
  locks().ReleaseFlock(&a_);
  EXPECT_ERRNO(locks().SetFlock(ctx(), LockType::kWrite, &b_, false), kEAGAIN);
  EXPECT_EQ(flock(host_.get(), LOCK_UN), 0);
  ASSERT_OK(locks().SetFlock(ctx(), LockType::kWrite, &b_, false));
  EXPECT_NE(flock(host_.get(), LOCK_SH | LOCK_NB), 0);
  locks().ReleaseFlock(&b_);
  EXPECT_EQ(flock(host_.get(), LOCK_EX | LOCK_NB), 0);
}

TEST_F(GoferTest, LocksStayInsideWhereNobodyShares) {
  Host("echo x > f");
  RefPtr<FileDescription> file = *ctx().Open("/f", kOpenReadWrite);
  int owner;
  RecordLock lock{LockType::kWrite, {}, &owner, false, 7};
  EXPECT_EQ(Calls([&] { ASSERT_OK(file->inode()->locks().SetRecord(ctx(), lock, false)); }), 0u);
  file->inode()->locks().ReleaseRecords(&owner);
}

}  // namespace
}  // namespace caisson::vfs
