// Arguments that came along with a call, and results that the guest's thread stores itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "syscalls/testing/call_world.h"

namespace caisson::syscalls {
namespace {

using testing::CallWorld;
using testing::kData;

constexpr uint64_t kPath = kData, kBuffer = kData + kPageSize;

class CopiesTest : public ::testing::Test {
 protected:
  std::string Memory(uint64_t at, size_t n) {
    std::string out(n, '?');
    EXPECT_TRUE(world_.task().mm().CopyIn(GuestAddr(at), absl::Span<char>(out.data(), n)).ok());
    return out;
  }
  // A call from the dispatcher's outside, as the run loop makes it.
  int64_t Call(int number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0) {
    world_.task().memory().BeginCall(number);
    const int64_t result = world_.Call(number, a, b, c, d);
    world_.task().memory().EndCall();
    return result;
  }
  CallWorld world_;
};

TEST_F(CopiesTest, AStringThatCameAlongIsNotReadAgain) {
  world_.Put(kPath, "/nothing");
  world_.context().MoveAlong(GuestAddr(kPath), std::string("/a/b/c/file\0", 12));
  EXPECT_GE(Call(SYS_open, kPath, O_RDONLY), 0);
}

TEST_F(CopiesTest, HalfAStringIsReadFromMemory) {
  world_.Put(kPath, "/a/b/c/file");
  world_.context().MoveAlong(GuestAddr(kPath), "/a/b");
  EXPECT_GE(Call(SYS_open, kPath, O_RDONLY), 0);
}

TEST_F(CopiesTest, ResultsWaitForTheGuest) {
  world_.Put(kPath, "/a/b/c/file");
  const int64_t fd = Call(SYS_open, kPath, O_RDONLY);
  world_.context().MoveAlong(GuestAddr(0), "");
  ASSERT_EQ(Call(SYS_pread64, static_cast<uint64_t>(fd), kBuffer, 3, 0), 3);
  EXPECT_EQ(world_.context().copies_waiting(), 1u);
  EXPECT_EQ(Memory(kBuffer, 3), std::string(3, '\0'));
  world_.context().FlushCopies(world_.task().mm().address_space());
  EXPECT_EQ(Memory(kBuffer, 3), "xxx");
}

TEST_F(CopiesTest, ACallThatDependsOnMemoryDoesNotWait) {
  world_.context().MoveAlong(GuestAddr(0), "");
  ASSERT_EQ(Call(SYS_socketpair, 1, 1, 0, kBuffer), 0);
  EXPECT_EQ(world_.context().copies_waiting(), 0u);
  EXPECT_NE(Memory(kBuffer, 8), std::string(8, '\0'));
}

TEST_F(CopiesTest, WhatTheGuestMayNotWriteFaultsAtOnce) {
  world_.Put(kPath, "/a/b/c/file");
  const int64_t fd = Call(SYS_open, kPath, O_RDONLY);
  world_.context().MoveAlong(GuestAddr(0), "");
  EXPECT_EQ(Call(SYS_pread64, static_cast<uint64_t>(fd), testing::kCode, 3, 0), -EFAULT);
  EXPECT_EQ(Call(SYS_pread64, static_cast<uint64_t>(fd), uint64_t{1} << 37, 3, 0), -EFAULT);
  // Over the end of the mapping: what fits, at once.
  const uint64_t end = kData + testing::kPages * kPageSize;
  EXPECT_EQ(Call(SYS_pread64, static_cast<uint64_t>(fd), end - 2, 3, 0), 2);
  EXPECT_EQ(world_.context().copies_waiting(), 0u);
}

TEST_F(CopiesTest, AReadSeesWhatWaits) {
  auto& memory = world_.task().memory();
  world_.context().MoveAlong(GuestAddr(0), "");
  memory.BeginCall(SYS_read);
  ASSERT_TRUE(memory.CopyOut(GuestAddr(kBuffer), {"new", 3}).ok());
  ASSERT_EQ(world_.context().copies_waiting(), 1u);
  char text[3];
  ASSERT_TRUE(memory.CopyIn(GuestAddr(kBuffer), absl::Span<char>(text, 3)).ok());
  EXPECT_EQ(std::string(text, 3), "new");
  memory.EndCall();
}

TEST_F(CopiesTest, AfterBlockingArgumentsAreReadAnew) {
  auto& memory = world_.task().memory();
  world_.Put(kBuffer, "memory");
  world_.context().MoveAlong(GuestAddr(kBuffer), "copied");
  memory.BeginCall(SYS_write);
  char text[6];
  ASSERT_TRUE(memory.CopyIn(GuestAddr(kBuffer), absl::Span<char>(text, 6)).ok());
  EXPECT_EQ(std::string(text, 6), "copied");
  memory.Settle();
  ASSERT_TRUE(memory.CopyIn(GuestAddr(kBuffer), absl::Span<char>(text, 6)).ok());
  EXPECT_EQ(std::string(text, 6), "memory");
}

}  // namespace
}  // namespace caisson::syscalls
