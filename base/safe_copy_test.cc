#include "base/safe_copy.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace caisson {
namespace {

constexpr size_t kPage = 4096;

TEST(SafeCopyTest, CopiesAll) {
  std::string from(3 * kPage + 5, '\0');
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i * 7);
  std::string to(from.size() + 1, 'x');
  EXPECT_EQ(SafeCopy(&to[0], from.data(), from.size()), from.size());
  EXPECT_EQ(to, from + 'x');
  EXPECT_EQ(SafeCopy(&to[0], from.data(), 0), 0u);
}

class VanishingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fd_ = memfd_create("vanishing", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(fd_, 4 * kPage), 0);
    pages_ = static_cast<char*>(mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
    ASSERT_NE(pages_, MAP_FAILED);
    std::memset(pages_, 'p', 4 * kPage);
  }
  void TearDown() override {
    munmap(pages_, 4 * kPage);
    close(fd_);
  }
  int fd_ = -1;
  char* pages_ = nullptr;
};

TEST_F(VanishingTest, EndsWhereTheFileDoes) {
  ASSERT_EQ(ftruncate(fd_, 2 * kPage), 0);
  std::string to(4 * kPage, 'x');
  EXPECT_EQ(SafeCopy(&to[0], pages_ + 100, 3 * kPage), 2 * kPage - 100);
  EXPECT_EQ(to.substr(0, 2 * kPage - 100), std::string(2 * kPage - 100, 'p'));
  EXPECT_EQ(to[2 * kPage - 100], 'x');
  EXPECT_EQ(SafeCopy(&to[0], pages_ + 2 * kPage, 1), 0u);
}

TEST_F(VanishingTest, InManyThreadsAtOnce) {
  ASSERT_EQ(ftruncate(fd_, kPage), 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      std::string to(4 * kPage, 'x');
      for (int i = 0; i < 1000; ++i) ASSERT_EQ(SafeCopy(&to[0], pages_, 4 * kPage), kPage);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(VanishingTest, AnyOtherBusErrorIsTheEnd) {
  ASSERT_EQ(ftruncate(fd_, 0), 0);
  std::string to(1, 'x');
  ASSERT_EQ(SafeCopy(&to[0], pages_, 1), 0u);
  EXPECT_EXIT(*static_cast<volatile char*>(pages_) = 1, ::testing::KilledBySignal(SIGBUS), "");
  EXPECT_EXIT(raise(SIGBUS), ::testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace caisson
