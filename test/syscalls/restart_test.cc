// Which calls a handler interrupts and which go on: signal(7), "Interruption of system calls".
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// Runs `body`, which blocks, in a child with a handler for SIGUSR1, and signals it once.
class RestartTest : public testing::Test {
 protected:
  // The child's status; `after` runs in the parent once the child has had its signal.
  int Interrupt(
      int flags, const std::function<void()>& body, const std::function<void()>& after = [] {}) {
    Pipe handled;
    Child child([&] {
      static int report;
      report = handled.writer;
      ScopedAction action(
          SIGUSR1, +[](int) { WriteAll(report, "h"); }, flags);
      body();
    });
    if (!WaitUntilSleeping(child.pid())) return -1;
    child.Kill(SIGUSR1);
    EXPECT_EQ(ReadOnce(handled.reader, 1), "h");
    after();
    return child.Wait();
  }
  Pipe pipe_;
  char byte_ = 0;
};

TEST_F(RestartTest, PipeReadIsInterrupted) {
  EXPECT_THAT(
      Interrupt(0,
                [&] { EXPECT_THAT(read(pipe_.reader, &byte_, 1), SyscallFailsWithErrno(EINTR)); }),
      ExitsWith(0));
}

TEST_F(RestartTest, PipeReadIsRestartedWithTheFlag) {
  EXPECT_THAT(Interrupt(
                  SA_RESTART,
                  [&] { EXPECT_THAT(read(pipe_.reader, &byte_, 1), SyscallSucceedsWithValue(1)); },
                  [&] { WriteAll(pipe_.writer, "x"); }),
              ExitsWith(0));
}

TEST_F(RestartTest, PartialPipeWriteReturnsWhatWasWritten) {
  const std::string big(200000, 'b');
  EXPECT_THAT(Interrupt(SA_RESTART,
                        [&] {
                          EXPECT_THAT(write(pipe_.writer, big.data(), big.size()),
                                      SyscallSucceedsWithValue(65536));
                        }),
              ExitsWith(0));
}

TEST_F(RestartTest, NanosleepReportsTheRest) {
  EXPECT_THAT(Interrupt(SA_RESTART,
                        [&] {
                          timespec time = {1000, 0}, rest = {};
                          EXPECT_THAT(nanosleep(&time, &rest), SyscallFailsWithErrno(EINTR));
                          EXPECT_GT(rest.tv_sec, 0);
                          EXPECT_LE(rest.tv_sec, 1000);
                        }),
              ExitsWith(0));
}

TEST_F(RestartTest, PauseAlwaysReturns) {
  EXPECT_THAT(Interrupt(SA_RESTART, [] { EXPECT_THAT(pause(), SyscallFailsWithErrno(EINTR)); }),
              ExitsWith(0));
}

TEST_F(RestartTest, FutexWaitIsInterrupted) {
  static int word = 0;
  EXPECT_THAT(Interrupt(0,
                        [] {
                          EXPECT_THAT(syscall(SYS_futex, &word, FUTEX_WAIT, 0, nullptr),
                                      SyscallFailsWithErrno(EINTR));
                        }),
              ExitsWith(0));
}

TEST_F(RestartTest, FutexWaitIsRestartedWithTheFlag) {
  SharedMapping memory;
  int* word = memory.as<int>();
  EXPECT_THAT(
      Interrupt(
          SA_RESTART,
          [&] { EXPECT_THAT(syscall(SYS_futex, word, FUTEX_WAIT, 0, nullptr), SyscallSucceeds()); },
          [&] {
            EXPECT_TRUE(
                WaitUntil([&] { return syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr) == 1; }));
          }),
      ExitsWith(0));
}

TEST_F(RestartTest, PollIsNeverRestarted) {
  EXPECT_THAT(Interrupt(SA_RESTART,
                        [&] {
                          pollfd fd = {pipe_.reader, POLLIN, 0};
                          EXPECT_THAT(poll(&fd, 1, 1000000), SyscallFailsWithErrno(EINTR));
                        }),
              ExitsWith(0));
}

TEST_F(RestartTest, EpollWaitIsNeverRestarted) {
  FdCloser epoll(epoll_create1(0));
  EXPECT_THAT(Interrupt(SA_RESTART,
                        [&] {
                          epoll_event event;
                          EXPECT_THAT(epoll_wait(epoll, &event, 1, -1),
                                      SyscallFailsWithErrno(EINTR));
                        }),
              ExitsWith(0));
}

TEST_F(RestartTest, WaitIsRestarted) {
  EXPECT_THAT(Interrupt(
                  SA_RESTART,
                  [&] {
                    pid_t pid = fork();
                    if (pid == 0) {
                      ReadOnce(pipe_.reader, 1);
                      _exit(0);
                    }
                    EXPECT_THAT(waitpid(pid, nullptr, 0), SyscallSucceedsWithValue(pid));
                  },
                  [&] { WriteAll(pipe_.writer, "x"); }),
              ExitsWith(0));
}

TEST_F(RestartTest, SocketReceiveIsRestartedButNotWithATimeout) {
  int pair[2];
  ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), SyscallSucceeds());
  FdCloser a(pair[0]), b(pair[1]);
  EXPECT_THAT(
      Interrupt(
          SA_RESTART, [&] { EXPECT_THAT(recv(a, &byte_, 1, 0), SyscallSucceedsWithValue(1)); },
          [&] { send(b, "x", 1, 0); }),
      ExitsWith(0));
  timeval timeout = {1000, 0};
  ASSERT_THAT(setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), SyscallSucceeds());
  EXPECT_THAT(Interrupt(SA_RESTART,
                        [&] { EXPECT_THAT(recv(a, &byte_, 1, 0), SyscallFailsWithErrno(EINTR)); }),
              ExitsWith(0));
}

TEST_F(RestartTest, MessageReceiveIsNeverRestarted) {
  const int queue = msgget(IPC_PRIVATE, 0600);
  ASSERT_THAT(queue, SyscallSucceeds());
  struct {
    long type;
    char text[8];
  } message;
  EXPECT_THAT(
      Interrupt(
          SA_RESTART,
          [&] { EXPECT_THAT(msgrcv(queue, &message, 8, 0, 0), SyscallFailsWithErrno(EINTR)); }),
      ExitsWith(0));
  msgctl(queue, IPC_RMID, nullptr);
}

// A stop and a continue without a handler are invisible to the call.
TEST_F(RestartTest, StopAndContinueDoNotInterrupt) {
  Child child([&] { EXPECT_THAT(read(pipe_.reader, &byte_, 1), SyscallSucceedsWithValue(1)); });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  child.Kill(SIGSTOP);
  ASSERT_THAT(waitpid(child.pid(), nullptr, WUNTRACED), SyscallSucceeds());
  child.Kill(SIGCONT);
  ASSERT_TRUE(WriteAll(pipe_.writer, "x"));
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(RestartTest, NanosleepGoesOnAfterStopAndContinue) {
  Child child([&] {
    timespec time = {0, 300 * 1000 * 1000};
    EXPECT_THAT(nanosleep(&time, nullptr), SyscallSucceeds());
  });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  child.Kill(SIGSTOP);
  ASSERT_THAT(waitpid(child.pid(), nullptr, WUNTRACED), SyscallSucceeds());
  child.Kill(SIGCONT);
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
