#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/sandbox/test_sandbox.h"

int main(int argc, char** argv) { return caisson::runsc::TestMain(argc, argv); }

namespace caisson::runsc {
namespace {

using protocol::Reply;
using testing::HasSubstr;

TEST(StartTest, RunsToAnExitStatus) {
  TestSandbox box({"exit", "42"});
  absl::Status started = box.Start();
  ASSERT_TRUE(started.ok()) << started;
  EXPECT_TRUE(IsAlive(box.processes.monitor_pid));
  EXPECT_EQ(box.StartContainer().code(), Reply::OK);
  const int status = box.AwaitMonitor();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42) << status;
  EXPECT_FALSE(IsAlive(box.processes.sentry_pid));
  EXPECT_FALSE(IsAlive(box.processes.gofer_pid));
}

}  // namespace
}  // namespace caisson::runsc
