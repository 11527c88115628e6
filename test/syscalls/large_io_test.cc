// Large reads and writes, often enough that every shortcut of a kernel is taken, among what can come between.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

constexpr int kOften = 100;
constexpr size_t kLarge = (size_t{1} << 20) + 4321;

std::string Pattern(size_t size, uint32_t seed) {
  std::string s(size, '\0');
  for (char& c : s) c = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  return s;
}

FdCloser Memfd(const std::string& content) {
  FdCloser fd(memfd_create("large", 0));
  EXPECT_THAT(write(fd, content.data(), content.size()), SyscallSucceedsWithValue(content.size()));
  return fd;
}

TEST(LargeIoTest, WhatIsWrittenIsRead) {
  TempFile disk("");
  const FdCloser files[] = {Memfd(""), disk.Open(O_RDWR)};
  std::string to(kLarge, '?');
  for (uint32_t i = 0; i < kOften; ++i) {
    const std::string bytes = Pattern(kLarge, i);
    const size_t n = kLarge - i * 7919;
    for (const FdCloser& fd : files) {
      ASSERT_THAT(pwrite(fd, bytes.data() + i, n - i, i), SyscallSucceedsWithValue(n - i));
      std::memset(&to[0], '?', to.size());
      ASSERT_THAT(pread(fd, &to[i], n - i, i), SyscallSucceedsWithValue(n - i));
      ASSERT_TRUE(memcmp(to.data() + i, bytes.data() + i, n - i) == 0) << i;
      ASSERT_TRUE(n == kLarge || to[n] == '?');
      ASSERT_TRUE(i == 0 || to[i - 1] == '?');
    }
  }
}

TEST(LargeIoTest, ABufferThatEndsIsUsedToItsEnd) {
  const std::string bytes = Pattern(kLarge, 1);
  FdCloser fd = Memfd(bytes), out = Memfd("");
  Mapping buffer(kLarge + kPage);
  for (size_t i = 0; i < kOften; ++i) {
    const size_t good = (1 + i * 2) * kPage;
    ASSERT_THAT(mprotect(buffer.get() + good, kPage, PROT_NONE), SyscallSucceeds());
    ASSERT_THAT(pread(fd, buffer.get() + i, kLarge, 0), SyscallSucceedsWithValue(good - i));
    ASSERT_TRUE(memcmp(buffer.get() + i, bytes.data(), good - i) == 0) << i;
    // A write may take less than what is there.
    const ssize_t written = pwrite(out, buffer.get() + i, kLarge, 0);
    ASSERT_THAT(written, SyscallSucceeds());
    ASSERT_LE(written, static_cast<ssize_t>(good - i));
    ASSERT_GT(written, static_cast<ssize_t>(good - i) - static_cast<ssize_t>(2 * kPage));
    ASSERT_THAT(pread(fd, buffer.get() + good, kLarge, 0), SyscallFailsWithErrno(EFAULT));
    ASSERT_THAT(mprotect(buffer.get() + good, kPage, PROT_READ | PROT_WRITE), SyscallSucceeds());
  }
}

TEST(LargeIoTest, IntoMemoryThatWasNeverTouched) {
  const std::string bytes = Pattern(kLarge, 2);
  FdCloser fd = Memfd(bytes);
  for (int i = 0; i < kOften; ++i) {
    Mapping fresh(kLarge);
    ASSERT_THAT(pread(fd, fresh.get(), kLarge, 0), SyscallSucceedsWithValue(kLarge));
    ASSERT_TRUE(memcmp(fresh.get(), bytes.data(), kLarge) == 0);
  }
}

TEST(LargeIoTest, AParentsMemoryIsItsOwn) {
  const std::string mine = Pattern(kLarge, 3), its = Pattern(kLarge, 4);
  FdCloser fd = Memfd(its);
  std::string buffer = mine;
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      for (int k = 0; k < 4; ++k)
        if (pread(fd, &buffer[0], kLarge, 0) != static_cast<ssize_t>(kLarge) || buffer != its) _exit(1);
      _exit(0);
    }
    int status;
    ASSERT_THAT(waitpid(child, &status, 0), SyscallSucceedsWithValue(child));
    ASSERT_EQ(status, 0);
    ASSERT_TRUE(buffer == mine);
  }
}

TEST(LargeIoTest, ThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      const std::string bytes = Pattern(kLarge, 100 + t);
      FdCloser fd = Memfd("");
      std::string to(kLarge, '?');
      for (int i = 0; i < 60; ++i) {
        ASSERT_THAT(pwrite(fd, bytes.data(), kLarge, 0), SyscallSucceedsWithValue(kLarge));
        std::memset(&to[0], '?', kLarge);
        ASSERT_THAT(pread(fd, &to[0], kLarge, 0), SyscallSucceedsWithValue(kLarge));
        ASSERT_TRUE(to == bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::atomic<int> alarms{0};

TEST(LargeIoTest, AmongSignals) {
  struct sigaction action = {}, before;
  action.sa_handler = [](int) { alarms.fetch_add(1); };
  action.sa_flags = SA_RESTART;
  ASSERT_THAT(sigaction(SIGALRM, &action, &before), SyscallSucceeds());
  const itimerval often{{0, 300}, {0, 300}}, never{};
  ASSERT_THAT(setitimer(ITIMER_REAL, &often, nullptr), SyscallSucceeds());
  const std::string bytes = Pattern(kLarge, 5);
  FdCloser fd = Memfd("");
  std::string to(kLarge, '?');
  for (int i = 0; i < 300 || alarms.load() < 20; ++i) {
    // Files in memory are written and read whole, whatever arrives.
    ASSERT_THAT(pwrite(fd, bytes.data(), kLarge, 0), SyscallSucceedsWithValue(kLarge));
    to[static_cast<size_t>(i) % kLarge] = '?';
    ASSERT_THAT(pread(fd, &to[0], kLarge, 0), SyscallSucceedsWithValue(kLarge));
    ASSERT_TRUE(to == bytes);
  }
  ASSERT_THAT(setitimer(ITIMER_REAL, &never, nullptr), SyscallSucceeds());
  ASSERT_THAT(sigaction(SIGALRM, &before, nullptr), SyscallSucceeds());
}

// Pages come and go while they are copied to: what is reported as read is right where nobody has changed it.
TEST(LargeIoTest, WhileTheBufferIsUnmapped) {
  const std::string bytes = Pattern(kLarge, 6);
  FdCloser fd = Memfd(bytes);
  Mapping buffer(2 << 20);
  std::atomic<bool> stop{false};
  constexpr size_t kStable = 300 * 1024;
  std::thread changer([&] {
    while (!stop.load()) {
      ASSERT_THAT(munmap(buffer.get() + kStable, kPage * 10), SyscallSucceeds());
      ASSERT_NE(mmap(buffer.get() + kStable, kPage * 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED);
    }
  });
  for (int i = 0; i < 300; ++i) {
    std::memset(buffer.get(), '?', kStable);
    const ssize_t n = pread(fd, buffer.get(), kLarge, 0);
    ASSERT_GE(n, static_cast<ssize_t>(kStable));
    ASSERT_TRUE(memcmp(buffer.get(), bytes.data(), kStable) == 0);
  }
  stop.store(true);
  changer.join();
}

TEST(LargeIoTest, AKillInTheMiddleIsAtOnce) {
  FdCloser fd = Memfd(Pattern(kLarge, 7));
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      static char buffer[kLarge];
      for (;;)
        if (pread(fd, buffer, kLarge, 0) != static_cast<ssize_t>(kLarge)) _exit(1);
    }
    usleep(static_cast<useconds_t>(5000 + i * 500));
    ASSERT_THAT(kill(child, SIGKILL), SyscallSucceeds());
    int status;
    ASSERT_THAT(waitpid(child, &status, 0), SyscallSucceedsWithValue(child));
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  }
}

TEST(LargeIoTest, StreamsKeepTheirOrder) {
  int ends[2];
  ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), SyscallSucceeds());
  const std::string bytes = Pattern(kLarge, 8);
  std::thread writer([&] {
    for (int i = 0; i < 30; ++i) {
      for (size_t done = 0; done < kLarge;) {
        const ssize_t n = write(ends[0], bytes.data() + done, kLarge - done);
        ASSERT_THAT(n, SyscallSucceeds());
        done += static_cast<size_t>(n);
      }
    }
    close(ends[0]);
  });
  std::string to(kLarge, '?');
  for (int i = 0; i < 30; ++i) {
    for (size_t done = 0; done < kLarge;) {
      const ssize_t n = read(ends[1], &to[done], kLarge - done);
      ASSERT_GT(n, 0);
      done += static_cast<size_t>(n);
    }
    ASSERT_TRUE(to == bytes);
  }
  writer.join();
  close(ends[1]);
}

}  // namespace
}  // namespace caisson::test
