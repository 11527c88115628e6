#include "vfs/tmpfs/memory_account.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace caisson::vfs::tmpfs {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(MemoryAccountTest, ReservesAnEighthWithinBounds) {
  EXPECT_EQ(MemoryAccount::Reserve(1024 * kMiB), 128 * kMiB);
  EXPECT_EQ(MemoryAccount::Reserve(128 * kMiB), 32 * kMiB);
  EXPECT_EQ(MemoryAccount::Reserve(40 * kMiB), 20 * kMiB);
  EXPECT_EQ(MemoryAccount::Reserve(kMiB << 20), 256 * kMiB);
  EXPECT_EQ(MemoryAccount::Reserve(1), 0u);
}

TEST(MemoryAccountTest, ChargesUpToTheLimitAndNotOver) {
  MemoryAccount account;
  account.SetMemory(128 * kMiB);
  EXPECT_EQ(account.available(), 96 * kMiB);
  EXPECT_FALSE(account.Charge(96 * kMiB + 1));
  EXPECT_TRUE(account.Charge(90 * kMiB));
  EXPECT_FALSE(account.Charge(7 * kMiB));
  EXPECT_TRUE(account.Charge(6 * kMiB));
  EXPECT_FALSE(account.Charge(1));
  account.Uncharge(kMiB);
  EXPECT_EQ(account.available(), kMiB);
  EXPECT_TRUE(account.Charge(kMiB));
}

TEST(MemoryAccountTest, ASumThatOverflowsIsPastTheLimit) {
  for (uint64_t memory : {uint64_t{0}, 128 * kMiB}) {
    MemoryAccount account;
    account.SetMemory(memory);
    ASSERT_TRUE(account.Charge(4096));
    EXPECT_FALSE(account.Charge(~uint64_t{0}));
    EXPECT_FALSE(account.Charge(~uint64_t{0} - 4095));
    EXPECT_EQ(account.used(), 4096u);
  }
}

TEST(MemoryAccountTest, ALowerLimitStopsNewChargesOnly) {
  MemoryAccount account;
  account.SetMemory(256 * kMiB);
  ASSERT_TRUE(account.Charge(200 * kMiB));
  account.SetMemory(128 * kMiB);
  EXPECT_EQ(account.available(), 0u);
  EXPECT_FALSE(account.Charge(1));
  account.Uncharge(200 * kMiB);
  EXPECT_TRUE(account.Charge(96 * kMiB));
}

TEST(MemoryAccountTest, ThreadsTogetherStayBelowTheLimit) {
  MemoryAccount account;
  account.SetMemory(128 * kMiB);
  std::atomic<uint64_t> got{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (account.Charge(4096)) got.fetch_add(4096);
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(got.load(), 96 * kMiB);
}

TEST(MemoryAccountTest, WhatGuestsPutThereThroughMappingsCounts) {
  const int usage = memfd_create("usage", 0), limit = memfd_create("limit", 0),
            statistics = memfd_create("stat", 0);
  auto write = [](int fd, const std::string& text) {
    ASSERT_EQ(ftruncate(fd, 0), 0);
    ASSERT_EQ(pwrite(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  };
  write(usage, std::to_string(100 * kMiB));
  write(limit, std::to_string(128 * kMiB));
  write(statistics, "shmem " + std::to_string(80 * kMiB) + "\n");
  auto headroom = std::make_shared<MemoryHeadroom>(MemoryHeadroom::Files{
      UniqueFd(usage), UniqueFd(limit), UniqueFd(statistics)});
  MemoryAccount account(headroom);
  account.SetMemory(128 * kMiB);
  EXPECT_TRUE(account.Charge(4096));  // There is room.
  EXPECT_FALSE(account.Charge(40 * kMiB));
  EXPECT_EQ(account.used(), 4096u);
  write(statistics, "shmem 0\n");  // All of it is memory of guests: theirs to lose.
  EXPECT_TRUE(account.Charge(40 * kMiB));
}

}  // namespace
}  // namespace caisson::vfs::tmpfs
