#include "sentry/boot/filter.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "confine/filter_test_util.h"
#include "gtest/gtest.h"

namespace caisson::boot {
namespace {

TEST(SentryFilterTest, ProgramMatchesTheTable) {
  confine::ExpectProgramMatchesTable(SentryFilterTable(), SentryFilterProgram());
}

TEST(SentryFilterTest, DeniedCallsKill) {
  confine::ExpectDeniedCallsKill(SentryFilterTable(), SentryFilterProgram());
}

int Probe(int number, const std::vector<long>& args) {
  return confine::ProbeCall(SentryFilterProgram(), number, args);
}
bool Killed(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS; }

TEST(SentryFilterTest, NothingBecomesExecutable) {
  const long page = 4096;
  EXPECT_EQ(Probe(SYS_mmap, {0, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}), 0);
  EXPECT_TRUE(Killed(
      Probe(SYS_mmap, {0, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0})));
  EXPECT_TRUE(Killed(Probe(SYS_mprotect, {0, page, PROT_EXEC})));
}

TEST(SentryFilterTest, NoProcessCanBeMade) {
  EXPECT_TRUE(Killed(Probe(SYS_clone, {SIGCHLD, 0, 0, 0, 0})));
  EXPECT_TRUE(Killed(Probe(SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0})));
  EXPECT_TRUE(Killed(Probe(SYS_clone, {CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0})));
  EXPECT_EQ(WEXITSTATUS(Probe(SYS_clone3, {0, 0})), ENOSYS);
}

TEST(SentryFilterTest, NoPathAndNoSocketCanBeOpened) {
  EXPECT_EQ(WEXITSTATUS(Probe(SYS_openat, {AT_FDCWD, reinterpret_cast<long>("/"), 0})), ENOENT);
  EXPECT_TRUE(Killed(Probe(SYS_socket, {AF_UNIX, SOCK_STREAM, 0})));
  EXPECT_TRUE(Killed(Probe(SYS_socketpair, {AF_INET, SOCK_STREAM, 0, 0})));
  EXPECT_TRUE(Killed(Probe(
      SYS_newfstatat, {AT_FDCWD, reinterpret_cast<long>("/"), 0, AT_SYMLINK_NOFOLLOW})));
}

// This number only goes down. A call that must be added goes in with a sentence in the table.
TEST(SentryFilterTest, AllowsNoMoreCallsThanBefore) {
#ifndef CAISSON_SANITIZED
  EXPECT_LE(confine::AllowedCalls(SentryFilterTable()), 68u);
#endif
}

}  // namespace
}  // namespace caisson::boot
