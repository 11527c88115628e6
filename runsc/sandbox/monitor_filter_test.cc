#include "runsc/sandbox/monitor_filter.h"

#include "confine/filter_test_util.h"
#include "gtest/gtest.h"

namespace caisson::runsc {
namespace {

TEST(MonitorFilterTest, ProgramMatchesTheTable) {
  confine::ExpectProgramMatchesTable(MonitorFilterTable(), MonitorFilterProgram());
}

TEST(MonitorFilterTest, DeniedCallsKill) {
  confine::ExpectDeniedCallsKill(MonitorFilterTable(), MonitorFilterProgram());
}

TEST(MonitorFilterTest, SignalsOnlyItself) {
  const auto kill_in_child = [](bool self) {
    const pid_t child = fork();
    if (child == 0) {
      const confine::FilterConstant own{kOwnPid, static_cast<uint32_t>(getpid())};
      if (!confine::SetNoNewPrivileges().ok() ||
          !confine::InstallFilter(MonitorFilterProgram(), confine::OnViolation::kKill, {&own, 1})
               .ok()) {
        _exit(255);
      }
      kill(self ? getpid() : getppid(), 0);
      _exit(1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
  };
  EXPECT_EQ(WEXITSTATUS(kill_in_child(true)), 1);
  const int other = kill_in_child(false);
  EXPECT_TRUE(WIFSIGNALED(other) && WTERMSIG(other) == SIGSYS);
}

// This number only goes down. A call that must be added goes in with a sentence in the table.
TEST(MonitorFilterTest, AllowsNoMoreCallsThanBefore) {
#ifndef CAISSON_SANITIZED
  EXPECT_LE(confine::AllowedCalls(MonitorFilterTable()), 24u);
#endif
}

}  // namespace
}  // namespace caisson::runsc
