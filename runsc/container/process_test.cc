#include "runsc/container/process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace caisson::runsc {
namespace {

TEST(ParseStatTest, CommandMayHoldAnything) {
  std::optional<ProcessStat> stat =
      ParseStat("12 (a) R 1 (b)) S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->ppid, 7);
  EXPECT_EQ(stat->start_time, 98765u);
}

TEST(ParseStatTest, WhatIsShortIsNothing) {
  for (const char* text :
       {"", "1", "1 (x)", "1 (x) S 1 2 3", "1 (x) S a 1 0 -1 1 1 2 3 4 5 6 7 8 20 0 1 0 9 1"}) {
    EXPECT_FALSE(ParseStat(text).has_value()) << text;
  }
}

TEST(IsAliveTest, PidAndStartTimeTogetherName) {
  std::optional<ProcessStat> own = StatOf(getpid());
  ASSERT_TRUE(own.has_value());
  EXPECT_TRUE(IsAlive(getpid(), own->start_time));
  EXPECT_FALSE(IsAlive(getpid(), own->start_time + 1));
  EXPECT_FALSE(IsAlive(-1, 0));
}

TEST(IsAliveTest, AZombieIsNot) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  std::optional<ProcessStat> stat = StatOf(pid);
  ASSERT_TRUE(stat.has_value());
  EXPECT_FALSE(IsAlive(pid, stat->start_time));
  waitpid(pid, nullptr, 0);
  EXPECT_FALSE(StatOf(pid).has_value());
}

TEST(NamespacePidsTest, FirstIsThatOfProc) {
  ASSERT_FALSE(NamespacePids(getpid()).empty());
  EXPECT_EQ(NamespacePids(getpid()).back(), getpid());
}

}  // namespace
}  // namespace caisson::runsc
