#include "vfs/anon/eventfd.h"

#include <cstring>

#include <gtest/gtest.h>

#include "vfs/anon/anon_inode.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class EventfdTest : public ::testing::Test {
 protected:
  RefPtr<Eventfd> Make(uint64_t initial, bool semaphore = false) {
    return MakeRef<Eventfd>(fs_->root(), initial, semaphore, 0u);
  }
  Result<void> Put(FileDescription& file, uint64_t value) {
    TRY(ctx_.Write(file, {reinterpret_cast<const char*>(&value), sizeof(value)}));
    return {};
  }
  Result<uint64_t> Get(FileDescription& file) {
    std::string bytes = TRY(ctx_.Read(file, 8));
    uint64_t value;
    memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  TestWorld world_;
  TestContext ctx_{world_};
  RefPtr<AnonFileSystem> fs_ = MakeRef<AnonFileSystem>();
};

TEST_F(EventfdTest, ReadTakesTheSum) {
  RefPtr<Eventfd> e = Make(3);
  ASSERT_OK(Put(*e, 4));
  EXPECT_EQ(*Get(*e), 7u);
  EXPECT_ERRNO(Get(*e), kEAGAIN);
}

TEST_F(EventfdTest, SemaphoreTakesOne) {
  RefPtr<Eventfd> e = Make(2, true);
  EXPECT_EQ(*Get(*e), 1u);
  EXPECT_EQ(*Get(*e), 1u);
  EXPECT_ERRNO(Get(*e), kEAGAIN);
}

TEST_F(EventfdTest, NeverOverflows) {
  RefPtr<Eventfd> e = Make(0);
  EXPECT_ERRNO(Put(*e, ~uint64_t{0}), kEINVAL);
  ASSERT_OK(Put(*e, ~uint64_t{0} - 1));
  EXPECT_EQ(e->Readiness(kAllEvents), kReadable);
  EXPECT_ERRNO(Put(*e, 1), kEAGAIN);
  ASSERT_OK(Put(*e, 0));
  e->Signal(5);
  EXPECT_EQ(e->Readiness(kAllEvents), kReadable | kEventErr);
  EXPECT_EQ(*Get(*e), ~uint64_t{0});
  EXPECT_EQ(e->Readiness(kAllEvents), kWritable);
}

TEST_F(EventfdTest, NeedsEightBytes) {
  RefPtr<Eventfd> e = Make(1);
  EXPECT_ERRNO(ctx_.Read(*e, 7), kEINVAL);
  EXPECT_ERRNO(ctx_.Write(*e, "1234567"), kEINVAL);
  EXPECT_EQ(*Get(*e), 1u);
}

TEST_F(EventfdTest, SharesTheAnonymousInode) {
  RefPtr<Eventfd> e = Make(1);
  EXPECT_EQ(e->GetAttributes(ctx_)->mode, 0600u);
  EXPECT_EQ(e->Describe(), "anon_inode:[eventfd]");
  EXPECT_NE(e->FdInfo().find("eventfd-count:                1\n"), std::string::npos);
}

}  // namespace
}  // namespace caisson::vfs
