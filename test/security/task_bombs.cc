// What a hostile guest makes too many of: processes, threads, signals, namespaces. Each ends in the
// errno of Linux, the sandbox goes on, and what was made goes away. Run with a pids limit of 600.
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

constexpr uid_t kUser = 1000;

void BecomeUser() {
  ASSERT_THAT(setresgid(kUser, kUser, kUser), SyscallSucceeds());
  ASSERT_THAT(setresuid(kUser, kUser, kUser), SyscallSucceeds());
}
void SetLimit(int what, rlim_t value) {
  rlimit limit{value, value};
  ASSERT_THAT(setrlimit(static_cast<__rlimit_resource>(what), &limit), SyscallSucceeds());
}

TEST(TaskBombs, ForksEndAtThePidsLimitAndZombiesCount) {
  EXPECT_THAT(InChild([] {
    std::vector<pid_t> children;
    int error = 0;
    for (int i = 0; i < 5000; ++i) {
      pid_t pid = fork();
      if (pid == 0) _exit(0);
      if (pid < 0) {
        error = errno;
        break;
      }
      children.push_back(pid);
    }
    EXPECT_EQ(error, EAGAIN);
    EXPECT_LT(children.size(), 600u);
    EXPECT_GT(children.size(), 500u);
    for (pid_t pid : children) EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    EXPECT_GT(pid, 0);
    EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
  }), ExitsWith(0));
}

TEST(TaskBombs, AForkBombOfAUserEndsAtRlimitNproc) {
  EXPECT_THAT(InChild([] {
    BecomeUser();
    SetLimit(RLIMIT_NPROC, 60);
    setsid();
    alarm(60);
    timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 2;
    pid_t first = fork();
    if (first == 0) {
      setpgid(0, 0);
      for (;;) {
        timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > until.tv_sec) _exit(0);
        (void)!fork();
      }
    }
    ASSERT_GT(first, 0);
    int refused = 0;
    for (;;) {
      timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      if (now.tv_sec > until.tv_sec) break;
      pid_t pid = fork();
      if (pid == 0) _exit(0);
      if (pid < 0) {
        EXPECT_EQ(errno, EAGAIN);
        ++refused;
      } else {
        waitpid(pid, nullptr, 0);
      }
    }
    EXPECT_GT(refused, 0);
    kill(-first, SIGKILL);
    waitpid(first, nullptr, 0);
  }), ExitsWith(0));
}

TEST(TaskBombs, ThreadsCountAgainstRlimitNproc) {
  EXPECT_THAT(InChild([] {
    BecomeUser();
    SetLimit(RLIMIT_NPROC, 20);
    std::vector<pthread_t> threads;
    int error = 0;
    for (int i = 0; i < 100 && error == 0; ++i) {
      pthread_t t;
      error = pthread_create(&t, nullptr, [](void*) -> void* { pause(); return nullptr; }, nullptr);
    }
    EXPECT_EQ(error, EAGAIN);
  }), ExitsWith(0));
}

TEST(TaskBombs, ThreadsEndAtThePidsLimit) {
  EXPECT_THAT(InChild([] {
    int made = 0, error = 0;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    for (; made < 2000 && error == 0; ++made) {
      pthread_t t;
      error = pthread_create(&t, &attr, [](void*) -> void* { pause(); return nullptr; }, nullptr);
    }
    EXPECT_EQ(error, EAGAIN);
    EXPECT_GT(made, 400);
  }), ExitsWith(0));
}

TEST(TaskBombs, AFailedCloneLeavesNoPidfdAndNoChild) {
  EXPECT_THAT(InChild([] {
    BecomeUser();
    SetLimit(RLIMIT_NPROC, 1);
    int pidfd = -1;
    long r = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, nullptr, &pidfd, nullptr, 0);
    if (r == 0) _exit(9);
    EXPECT_THAT(r, SyscallFailsWithErrno(EAGAIN));
    EXPECT_THAT(waitpid(-1, nullptr, WNOHANG), SyscallFailsWithErrno(ECHILD));
    int next = dup(0);
    EXPECT_EQ(next, dup(0) - 1);
    sigset_t pending;
    sigpending(&pending);
    EXPECT_FALSE(sigismember(&pending, SIGCHLD));
  }), ExitsWith(0));
}

TEST(TaskBombs, QueuedSignalsAreLimitedForTheUserOverAllItsProcesses) {
  EXPECT_THAT(InChild([] {
    BecomeUser();
    SetLimit(RLIMIT_SIGPENDING, 64);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);
    Child other([] { for (;;) pause(); });
    int queued = 0;
    while (queued < 1000 && sigqueue(other.pid(), SIGRTMIN + 1, {}) == 0) ++queued;
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_LE(queued, 64);
    EXPECT_THAT(sigqueue(getpid(), SIGRTMIN + 1, {}), SyscallFailsWithErrno(EAGAIN));
    // kill(2) still gets through, without its siginfo.
    EXPECT_THAT(kill(getpid(), SIGRTMIN + 2), SyscallSucceeds());
    siginfo_t info{};
    timespec zero{};
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 2);
    EXPECT_EQ(sigtimedwait(&one, &info, &zero), SIGRTMIN + 2);
    EXPECT_EQ(info.si_pid, 0);
    other.Kill(SIGKILL);
    other.Wait();
    EXPECT_THAT(sigqueue(getpid(), SIGRTMIN + 1, {}), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST(TaskBombs, ASignalFloodDoesNotStopOthers) {
  Child target([] {
    signal(SIGUSR1, [](int) {});
    for (;;) pause();
  });
  std::vector<std::unique_ptr<Child>> senders;
  for (int i = 0; i < 4; ++i)
    senders.push_back(std::make_unique<Child>([&target] {
      for (int n = 0; n < 20000; ++n) {
        kill(target.pid(), SIGUSR1);
        sigqueue(target.pid(), SIGRTMAX, {});
      }
    }));
  EXPECT_THAT(InChild([] {}), ExitsWith(0));
  for (auto& s : senders) s->Wait();
  target.Kill(SIGKILL);
  target.Wait();
}

TEST(TaskBombs, PosixTimersEndAtRlimitSigpending) {
  EXPECT_THAT(InChild([] {
    BecomeUser();
    SetLimit(RLIMIT_SIGPENDING, 100);
    timer_t id;
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    int made = 0;
    while (made < 1000 && timer_create(CLOCK_MONOTONIC, &event, &id) == 0) ++made;
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_LE(made, 100);
  }), ExitsWith(0));
}

TEST(TaskBombs, TimersOfANanosecondLeaveTheMachineToOthers) {
  Child storm([] {
    struct sigaction ignore{};
    ignore.sa_handler = [](int) {};
    sigaction(SIGRTMIN, &ignore, nullptr);
    for (int i = 0; i < 50; ++i) {
      timer_t id;
      sigevent event{};
      event.sigev_notify = SIGEV_SIGNAL;
      event.sigev_signo = SIGRTMIN;
      timer_create(CLOCK_MONOTONIC, &event, &id);
      itimerspec spec{{0, 1}, {0, 1}};
      timer_settime(id, 0, &spec, nullptr);
      int fd = timerfd_create(CLOCK_MONOTONIC, 0);
      timerfd_settime(fd, 0, &spec, nullptr);
    }
    for (;;) pause();
  });
  for (int i = 0; i < 20; ++i) EXPECT_THAT(InChild([] {}), ExitsWith(0));
  storm.Kill(SIGKILL);
  storm.Wait();
}

TEST(TaskBombs, NestedNamespacesEnd) {
  for (int kind : {CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWPID}) {
    EXPECT_THAT(InChild([kind] {
      int depth = 0;
      // Each level in a child, as CLONE_NEWPID takes effect for children.
      for (;; ++depth) {
        if (depth > 40) _exit(3);
        const uid_t uid = geteuid();
        const gid_t gid = getegid();
        if (unshare(kind) != 0) {
          EXPECT_EQ(errno, ENOSPC);
          EXPECT_GE(depth, 30);
          return;
        }
        std::ofstream("/proc/self/setgroups") << "deny";
        std::ofstream("/proc/self/uid_map") << "0 " << uid << " 1";
        std::ofstream("/proc/self/gid_map") << "0 " << gid << " 1";
        pid_t pid = fork();
        if (pid != 0) {
          int status = 0;
          waitpid(pid, &status, 0);
          _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
        }
      }
    }), ExitsWith(0));
  }
}

TEST(TaskBombs, NamespacesOfAUserAreBounded) {
  EXPECT_THAT(InChild([] {
    int made = 0;
    while (made < 40000 && unshare(CLONE_NEWUTS | CLONE_NEWIPC) == 0) ++made;
    EXPECT_EQ(made, 40000) << errno;  // Each is let go of by the next.
  }), ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
