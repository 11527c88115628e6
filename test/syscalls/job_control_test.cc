// Controlling terminals and job control: ioctl_tty(2), credentials(7).
#include <signal.h>
#include <sys/wait.h>

#include "test/util/process_util.h"
#include "test/util/pty_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// `body` in a session leader that has the terminal.
int InSession(const Pty& pty, const std::function<void()>& body) {
  return InChild([&] {
    ASSERT_TRUE(pty.Control());
    body();
  });
}

// Waits for a stop or the end of a child.
int WaitStop(pid_t pid) {
  int status = -1;
  while (waitpid(pid, &status, WUNTRACED) < 0 && errno == EINTR) {
  }
  return status;
}

TEST(ControllingTerminalTest, LeaderGetsItAndItsForegroundGroup) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          EXPECT_EQ(tcgetpgrp(pty.terminal), getpgrp());
                          EXPECT_EQ(tcgetsid(pty.terminal), getsid(0));
                          FdCloser tty(open("/dev/tty", O_RDWR));
                          EXPECT_THAT(int{tty}, SyscallSucceeds());
                        }),
              ExitsWith(0));
}

TEST(ControllingTerminalTest, OpenByALeaderTakesItWithoutNoctty) {
  Pty pty;
  EXPECT_THAT(InChild([&] {
                setsid();
                FdCloser fd(open(pty.name.c_str(), O_RDWR));
                EXPECT_EQ(tcgetsid(fd), getpid());
              }),
              ExitsWith(0));
}

TEST(ControllingTerminalTest, NewSessionHasNone) {
  EXPECT_THAT(InChild([] {
                setsid();
                EXPECT_THAT(open("/dev/tty", O_RDWR), SyscallFailsWithErrno(ENXIO));
              }),
              ExitsWith(0));
}

TEST(ControllingTerminalTest, OnlyALeaderMayTakeIt) {
  Pty pty;
  EXPECT_THAT(InChild([&] {
                EXPECT_THAT(ioctl(pty.terminal, TIOCSCTTY, 0), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

TEST(ControllingTerminalTest, NottyGivesItUp) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          signal(SIGHUP, SIG_IGN);
                          EXPECT_THAT(ioctl(pty.terminal, TIOCNOTTY), SyscallSucceeds());
                          EXPECT_THAT(open("/dev/tty", O_RDWR), SyscallFailsWithErrno(ENXIO));
                        }),
              ExitsWith(0));
}

TEST(ControllingTerminalTest, StrangersTerminalIsNotControllable) {
  Pty pty;
  EXPECT_THAT(ioctl(pty.terminal, TIOCGPGRP, new int), SyscallFailsWithErrno(ENOTTY));
}

TEST(JobControlTest, InterruptCharacterSignalsTheForeground) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          Block({SIGINT});
                          ASSERT_TRUE(WriteAll(pty.master, "\x03"));
                          sigset_t set = SignalSet({SIGINT});
                          siginfo_t info;
                          EXPECT_THAT(sigwaitinfo(&set, &info), SyscallSucceedsWithValue(SIGINT));
                          EXPECT_EQ(info.si_code, SI_KERNEL);
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, QuitAndSuspendCharacters) {
  Pty pty;
  EXPECT_THAT(
      InSession(pty,
                [&] {
                  Block({SIGQUIT, SIGTSTP});
                  ASSERT_TRUE(WriteAll(pty.master, "\x1c\x1a"));
                  sigset_t set = SignalSet({SIGQUIT, SIGTSTP});
                  EXPECT_THAT(sigwaitinfo(&set, nullptr), SyscallSucceedsWithValue(SIGQUIT));
                  EXPECT_THAT(sigwaitinfo(&set, nullptr), SyscallSucceedsWithValue(SIGTSTP));
                }),
      ExitsWith(0));
}

TEST(JobControlTest, InterruptReachesOnlyTheForegroundGroup) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          Child background([] {
                            setpgid(0, 0);
                            pause();
                          });
                          Child foreground([] {
                            setpgid(0, 0);
                            pause();
                          });
                          setpgid(background.pid(), background.pid());
                          setpgid(foreground.pid(), foreground.pid());
                          signal(SIGTTOU, SIG_IGN);
                          ASSERT_THAT(tcsetpgrp(pty.terminal, foreground.pid()), SyscallSucceeds());
                          ASSERT_TRUE(WriteAll(pty.master, "\x03"));
                          EXPECT_THAT(foreground.Wait(), DiesOf(SIGINT));
                          EXPECT_THAT(waitpid(background.pid(), nullptr, WNOHANG),
                                      SyscallSucceedsWithValue(0));
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, BackgroundReadIsStoppedByTtin) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          Child child([&] {
                            setpgid(0, 0);
                            char byte;
                            read(pty.terminal, &byte, 1);
                          });
                          int status = WaitStop(child.pid());
                          ASSERT_TRUE(WIFSTOPPED(status));
                          EXPECT_EQ(WSTOPSIG(status), SIGTTIN);
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, BackgroundReadWithTtinIgnoredIsEio) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          EXPECT_THAT(InChild([&] {
                                        setpgid(0, 0);
                                        signal(SIGTTIN, SIG_IGN);
                                        char byte;
                                        EXPECT_THAT(read(pty.terminal, &byte, 1),
                                                    SyscallFailsWithErrno(EIO));
                                      }),
                                      ExitsWith(0));
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, BackgroundWriteStopsOnlyWithTostop) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          auto writer = [&] {
                            setpgid(0, 0);
                            EXPECT_THAT(write(pty.terminal, "x", 1), SyscallSucceedsWithValue(1));
                          };
                          EXPECT_THAT(InChild(writer), ExitsWith(0));
                          termios settings = pty.Get();
                          settings.c_lflag |= TOSTOP;
                          ASSERT_THAT(pty.Set(settings), SyscallSucceeds());
                          Child child(writer);
                          int status = WaitStop(child.pid());
                          ASSERT_TRUE(WIFSTOPPED(status));
                          EXPECT_EQ(WSTOPSIG(status), SIGTTOU);
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, BackgroundSettingsChangeIsStoppedByTtou) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          Child child([&] {
                            setpgid(0, 0);
                            pty.SetEcho(false);
                          });
                          int status = WaitStop(child.pid());
                          ASSERT_TRUE(WIFSTOPPED(status));
                          EXPECT_EQ(WSTOPSIG(status), SIGTTOU);
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, ContinuedInTheForegroundTheReadGoesOn) {
  Pty pty;
  pty.SetEcho(false);
  EXPECT_THAT(InSession(pty,
                        [&] {
                          signal(SIGTTOU, SIG_IGN);
                          Child child([&] {
                            setpgid(0, 0);
                            EXPECT_EQ(ReadOnce(pty.terminal), "line\n");
                          });
                          ASSERT_TRUE(WIFSTOPPED(WaitStop(child.pid())));
                          ASSERT_THAT(tcsetpgrp(pty.terminal, child.pid()), SyscallSucceeds());
                          ASSERT_THAT(child.Kill(SIGCONT), SyscallSucceeds());
                          ASSERT_TRUE(WriteAll(pty.master, "line\n"));
                          EXPECT_THAT(child.Wait(), ExitsWith(0));
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, OrphanedGroupIsNotStoppedByTheTerminal) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          // The only group of the session: its parent is of another session.
                          EXPECT_THAT(raise(SIGTSTP), SyscallSucceeds());
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, WindowChangeSignalsTheForeground) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          Block({SIGWINCH});
                          winsize size = {11, 22, 0, 0};
                          ASSERT_THAT(ioctl(pty.master, TIOCSWINSZ, &size), SyscallSucceeds());
                          sigset_t set = SignalSet({SIGWINCH}), pending;
                          EXPECT_THAT(sigwaitinfo(&set, nullptr),
                                      SyscallSucceedsWithValue(SIGWINCH));
                          ASSERT_THAT(ioctl(pty.master, TIOCSWINSZ, &size), SyscallSucceeds());
                          sigpending(&pending);
                          EXPECT_FALSE(sigismember(&pending, SIGWINCH));  // Nothing changed.
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, HangupOfTheMasterSignalsTheLeader) {
  Pty pty;
  Pipe ready;
  Child child([&] {
    pty.master.Close();
    ASSERT_TRUE(pty.Control());
    WriteAll(ready.writer, "x");
    for (;;) pause();
  });
  ASSERT_EQ(ReadOnce(ready.reader, 1), "x");
  pty.master.Close();
  EXPECT_THAT(child.Wait(), DiesOf(SIGHUP));
}

TEST(JobControlTest, LeadersExitHangsUpTheForeground) {
  Pty pty;
  Pipe report;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          pid_t member = fork();
                          if (member == 0) {
                            signal(SIGHUP, CountDelivery);
                            WriteAll(report.writer, "r");
                            WaitUntil([] { return g_deliveries == 1; });
                            WriteAll(report.writer, g_deliveries == 1 ? "hup" : "none");
                            _exit(0);
                          }
                          ASSERT_EQ(ReadOnce(report.reader, 1), "r");
                        }),
              ExitsWith(0));
  report.writer.Close();
  EXPECT_EQ(ReadAll(report.reader), "hup");
}

TEST(JobControlTest, ForegroundGroupThatHasGoneIsStillNamed) {
  Pty pty;
  EXPECT_THAT(InSession(pty,
                        [&] {
                          Child job([] {
                            setpgid(0, 0);
                            pause();
                          });
                          const pid_t group = job.pid();
                          setpgid(group, group);
                          ASSERT_THAT(tcsetpgrp(pty.terminal, group), SyscallSucceeds());
                          job.Kill(SIGKILL);
                          EXPECT_THAT(job.Wait(), DiesOf(SIGKILL));
                          EXPECT_EQ(tcgetpgrp(pty.terminal), group);
                        }),
              ExitsWith(0));
}

TEST(JobControlTest, ForegroundGroupMustBeOfTheSession) {
  Pty pty;
  const pid_t foreign = getpgrp();
  EXPECT_THAT(
      InSession(pty,
                [&] {
                  EXPECT_THAT(tcsetpgrp(pty.terminal, foreign), SyscallFailsWithErrno(EPERM));
                  EXPECT_THAT(tcsetpgrp(pty.terminal, 1 << 22), SyscallFailsWithErrno(ESRCH));
                  EXPECT_THAT(tcsetpgrp(pty.terminal, -1), SyscallFailsWithErrno(EINVAL));
                }),
      ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
