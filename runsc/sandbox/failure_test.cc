// Each process killed at each stage: nothing keeps running, and the caller is told.
#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#include <cstdlib>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/sandbox/test_sandbox.h"

int main(int argc, char** argv) {
  // Orphans of a killed monitor come to us, as to a shim, so that they can be counted.
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  return caisson::runsc::TestMain(argc, argv);
}

namespace caisson::runsc {
namespace {

using testing::HasSubstr;

// Reaps what has ended; true once no child is left.
bool NoChildLeft() {
  for (int waited = 0; waited < 10'000; ++waited) {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD) return true;
    usleep(1000);
  }
  return false;
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  DIR* proc = opendir("/proc");
  while (dirent* entry = readdir(proc)) {
    const int pid = atoi(entry->d_name);
    if (pid > 0 && StatusField(pid, "PPid") == absl::StrCat(parent)) children.push_back(pid);
  }
  closedir(proc);
  return children;
}

enum class Victim { kMonitor, kSentry, kGofer };

class RunningTest : public testing::TestWithParam<std::tuple<Victim, bool>> {};

TEST_P(RunningTest, DeathOfOneEndsAll) {
  const auto [victim, started] = GetParam();
  TestSandbox box({"sleep"});
  ASSERT_TRUE(box.Start().ok());
  if (started) box.StartContainer();
  const SandboxProcesses& p = box.processes;
  const pid_t pid = victim == Victim::kMonitor  ? p.monitor_pid
                    : victim == Victim::kSentry ? p.sentry_pid
                                                : p.gofer_pid;
  ASSERT_EQ(KillOne(pid, SIGKILL), 0);
  const int status = box.AwaitMonitor();
  if (victim == Victim::kMonitor) {
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  } else {
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 137) << status;
  }
  EXPECT_TRUE(AwaitGone(p.sentry_pid));
  EXPECT_TRUE(AwaitGone(p.gofer_pid));
  EXPECT_TRUE(NoChildLeft());
  EXPECT_EQ(ControlClient::Connect(box.socket_path).status().code(),
            absl::StatusCode::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(Each, RunningTest,
                         testing::Combine(testing::Values(Victim::kMonitor, Victim::kSentry,
                                                          Victim::kGofer),
                                          testing::Bool()));

TEST(FailureTest, SentryThatAbortsEndsTheContainerWith137) {
  TestSandbox box({"abort"});
  ASSERT_TRUE(box.Start().ok());
  box.StartContainer();
  const int status = box.AwaitMonitor();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 137) << status;
  EXPECT_TRUE(NoChildLeft());
}

TEST(FailureTest, MonitorKilledWhileHooksRun) {
  TestSandbox box({"sleep"});
  absl::Status started = box.Start(box.Config(), [](pid_t monitor) {
    KillOne(monitor, SIGKILL);
    return absl::OkStatus();
  });
  EXPECT_FALSE(started.ok());
  EXPECT_TRUE(NoChildLeft());
}

TEST(FailureTest, CallerKilledWhileHooksRun) {
  TestSandbox box({"sleep"});
  const pid_t caller = fork();
  if (caller == 0) {
    box.Start(box.Config(), [](pid_t) {
      raise(SIGKILL);
      return absl::OkStatus();
    }).IgnoreError();
    _exit(1);
  }
  EXPECT_TRUE(WIFSIGNALED(TestSandbox::AwaitChild(caller)));
  EXPECT_TRUE(NoChildLeft());
}

// In a child: a creation that never ends, whose victim dies. The child's exit status is 0 if
// StartSandbox failed within its time and nothing was left.
int KillDuringCreation(Victim victim, std::string* error) {
  int report[2];
  EXPECT_EQ(pipe2(report, O_CLOEXEC), 0);
  TestSandbox box({"hang"});
  const pid_t caller = fork();
  if (caller == 0) {
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    absl::Status started = box.Start();
    const std::string text(started.message());
    [[maybe_unused]] ssize_t n = write(report[1], text.data(), text.size());
    _exit(!started.ok() && NoChildLeft() ? 0 : 1);
  }
  // Wait until all three run and the sentry is in its creation: it has a thread for it.
  pid_t pids[3] = {-1, -1, -1};
  const auto ready = [&] {
    return pids[0] > 1 && pids[1] > 1 && pids[2] > 1 && StatusField(pids[1], "Threads") == "2";
  };
  for (int waited = 0; waited < 5'000 && !ready(); ++waited) {
    usleep(1000);
    for (pid_t child : ChildrenOf(caller)) {
      if (StatusField(child, "Name") == "runsc-monitor") pids[0] = child;
    }
    for (pid_t child : pids[0] > 0 ? ChildrenOf(pids[0]) : std::vector<pid_t>()) {
      if (StatusField(child, "Name") == "runsc-sentry") pids[1] = child;
      if (StatusField(child, "Name") == "runsc-gofer") pids[2] = child;
    }
  }
  EXPECT_TRUE(ready());
  KillOne(ready() ? pids[static_cast<int>(victim)] : caller, SIGKILL);
  const int status = TestSandbox::AwaitChild(caller);
  char text[1024];
  const ssize_t n = read(report[0], text, sizeof(text));
  *error = std::string(text, n > 0 ? static_cast<size_t>(n) : 0);
  close(report[0]);
  close(report[1]);
  for (pid_t pid : pids) EXPECT_TRUE(AwaitGone(pid));
  EXPECT_TRUE(NoChildLeft());
  return status;
}

TEST(FailureTest, EachKilledDuringCreation) {
  std::string error;
  EXPECT_EQ(KillDuringCreation(Victim::kMonitor, &error), 0) << error;
  EXPECT_EQ(KillDuringCreation(Victim::kSentry, &error), 0) << error;
  EXPECT_THAT(error, HasSubstr("sentry was ended by signal 9"));
  EXPECT_EQ(KillDuringCreation(Victim::kGofer, &error), 0) << error;
  EXPECT_THAT(error, HasSubstr("gofer was ended by signal 9"));
}

TEST(FailureTest, CallerKilledDuringCreation) {
  TestSandbox box({"hang"});
  const pid_t caller = fork();
  if (caller == 0) {
    box.Start().IgnoreError();
    _exit(1);
  }
  usleep(50'000);
  KillOne(caller, SIGKILL);
  TestSandbox::AwaitChild(caller);
  EXPECT_TRUE(NoChildLeft());
}

// Killed at some moment of a whole start, many times.
TEST(FailureTest, KilledAtAnyMoment) {
  unsigned seed = 1;
  for (int round = 0; round < 60; ++round) {
    TestSandbox box({"exit", "0"});
    const pid_t caller = fork();
    if (caller == 0) {
      if (box.Start().ok()) box.StartContainer();
      _exit(0);
    }
    usleep(rand_r(&seed) % 12'000);
    std::vector<pid_t> victims = ChildrenOf(caller);
    if (!victims.empty() && round % 3 != 0) {
      std::vector<pid_t> below = ChildrenOf(victims[0]);
      if (!below.empty() && round % 3 == 2) victims[0] = below[rand_r(&seed) % below.size()];
      KillOne(victims[0], SIGKILL);
    }
    KillOne(caller, SIGKILL);
    TestSandbox::AwaitChild(caller);
    // The container may have been created by then; its monitor is what remains to be killed.
    for (int waited = 0; waited < 2000 && !ChildrenOf(getpid()).empty(); ++waited) {
      for (pid_t child : ChildrenOf(getpid())) {
        if (StatusField(child, "Name") == "runsc-monitor" && waited > 50) KillOne(child, SIGKILL);
      }
      while (waitpid(-1, nullptr, WNOHANG) > 0) {
      }
      usleep(1000);
    }
    EXPECT_TRUE(NoChildLeft()) << round;
  }
}

TEST(FailureTest, KillSandboxLeavesNothingAndSparesOthers) {
  TestSandbox box({"sleep"});
  ASSERT_TRUE(box.Start().ok());
  SandboxProcesses wrong = box.processes;
  wrong.monitor_start_time ^= 1;
  wrong.sentry_start_time ^= 1;
  wrong.gofer_start_time ^= 1;
  EXPECT_TRUE(KillSandbox(wrong).ok());  // Others' processes by the same pids.
  EXPECT_TRUE(IsAlive(box.processes.monitor_pid));
  EXPECT_TRUE(KillSandbox(box.processes).ok());
  for (pid_t pid :
       {box.processes.monitor_pid, box.processes.sentry_pid, box.processes.gofer_pid}) {
    EXPECT_FALSE(IsAlive(pid));
  }
  EXPECT_TRUE(KillSandbox(box.processes).ok());  // Again.
  EXPECT_TRUE(NoChildLeft());
}

}  // namespace
}  // namespace caisson::runsc
