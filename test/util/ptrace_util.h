// Tracees and what their tracers wait for.
#ifndef CAISSON_TEST_UTIL_PTRACE_UTIL_H_
#define CAISSON_TEST_UTIL_PTRACE_UTIL_H_

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>

#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {

// What `waitpid() >> 8` is for an event.
inline int EventStop(int event, int signo = SIGTRAP) { return signo | event << 8; }

// A child that is traced and has stopped itself; `body` is what it does when it is let go.
class PtraceFixture : public testing::Test {
 protected:
  pid_t Start(const std::function<void()>& body, int options = 0) {
    child_.reset(new Child([&] {
      ASSERT_THAT(ptrace(PTRACE_TRACEME, 0, 0, 0), SyscallSucceeds());
      raise(SIGSTOP);
      body();
    }));
    const int status = WaitStop();
    EXPECT_TRUE(WIFSTOPPED(status)) << status;
    EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
    if (options != 0) {
      EXPECT_THAT(ptrace(PTRACE_SETOPTIONS, child_->pid(), 0, options), SyscallSucceeds());
    }
    return child_->pid();
  }
  // Not traced; it runs.
  pid_t Run(const std::function<void()>& body) {
    child_.reset(new Child(body));
    return child_->pid();
  }
  int WaitStop() {
    int status = -1;
    EXPECT_THAT(waitpid(child_->pid(), &status, __WALL), SyscallSucceedsWithValue(child_->pid()));
    if (WIFEXITED(status) || WIFSIGNALED(status)) child_->Reaped();
    return status;
  }
  // Resumes it by `request` and returns the next status.
  int Go(__ptrace_request request = PTRACE_CONT, long signo = 0) {
    EXPECT_THAT(ptrace(request, child_->pid(), 0, signo), SyscallSucceeds());
    return WaitStop();
  }
  user_regs_struct Registers() {
    user_regs_struct registers = {};
    EXPECT_THAT(ptrace(PTRACE_GETREGS, child_->pid(), 0, &registers), SyscallSucceeds());
    return registers;
  }
  // Runs the child from call stop to call stop until it enters `number`.
  user_regs_struct RunToEntry(pid_t pid, unsigned long number) {
    user_regs_struct registers = {};
    for (int stop = 0; stop < 100; stop++) {
      EXPECT_THAT(ptrace(PTRACE_SYSCALL, pid, 0, 0), SyscallSucceeds());
      if (!WIFSTOPPED(WaitStop())) break;
      EXPECT_THAT(ptrace(PTRACE_GETREGS, pid, 0, &registers), SyscallSucceeds());
      if (registers.orig_rax == number) return registers;
    }
    ADD_FAILURE() << "the call was not seen";
    return registers;
  }
  std::unique_ptr<Child> child_;
};

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_PTRACE_UTIL_H_
