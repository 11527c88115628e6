// fork(2), vfork(2), clone(2), clone3(2), exit codes and threads.
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

int WaitStatus(pid_t pid, int options = 0) {
  int status = -1;
  EXPECT_THAT(waitpid(pid, &status, options), SyscallSucceedsWithValue(pid));
  return status;
}

// clone(2) without a new stack: returns twice, as fork does.
pid_t RawClone(unsigned long flags, pid_t* parent_tid = nullptr, pid_t* child_tid = nullptr) {
  return syscall(SYS_clone, flags, nullptr, parent_tid, child_tid, nullptr);
}

TEST(ForkTest, ChildHasAnotherPidAndItsParents) {
  const pid_t parent = getpid();
  EXPECT_THAT(InChild([&] {
                EXPECT_NE(getpid(), parent);
                EXPECT_EQ(getppid(), parent);
                EXPECT_EQ(gettid(), getpid());
              }),
              ExitsWith(0));
}

TEST(ForkTest, ExitCodeIsEightBits) {
  EXPECT_THAT(InChild([] { _exit(0x1ff); }), ExitsWith(255));
}

TEST(ForkTest, DescriptorsAreCopiedNotShared) {
  Pipe pipe;
  EXPECT_THAT(InChild([&] { close(pipe.reader); }), ExitsWith(0));
  EXPECT_TRUE(FdIsOpen(pipe.reader));
}

TEST(ForkTest, PendingSignalsAreNotInherited) {
  EXPECT_THAT(InChild([] {
                sigset_t set, pending;
                sigemptyset(&set);
                sigaddset(&set, SIGUSR1);
                sigprocmask(SIG_BLOCK, &set, nullptr);
                kill(getpid(), SIGUSR1);
                EXPECT_THAT(InChild([&] {
                              sigpending(&pending);
                              EXPECT_FALSE(sigismember(&pending, SIGUSR1));
                            }),
                            ExitsWith(0));
              }),
              ExitsWith(0));
}

TEST(ForkTest, OnlyTheCallingThreadIsCopied) {
  Pipe pipe;
  ScopedThread thread([&] { ReadOnce(pipe.reader, 1); });
  EXPECT_THAT(InChild([] { EXPECT_EQ(ListDir("/proc/self/task").size(), 1u); }), ExitsWith(0));
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
}

TEST(VforkTest, ParentWaitsAndSharesMemory) {
  volatile int shared = 0;
  pid_t pid = vfork();
  if (pid == 0) {
    shared = 42;
    _exit(3);
  }
  EXPECT_EQ(shared, 42);
  EXPECT_THAT(WaitStatus(pid), ExitsWith(3));
}

TEST(VforkTest, ParentGoesOnAtExec) {
  // The child waits for the parent after its exec: a deadlock if vfork returned only at its exit.
  Pipe pipe;
  std::string self = SelfPath();
  char option[] = "--program=wait_for_byte";
  std::string fd = std::to_string(pipe.reader);
  char* argv[] = {self.data(), option, fd.data(), nullptr};
  pid_t pid = vfork();
  if (pid == 0) {
    execv(self.c_str(), argv);
    _exit(127);
  }
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  EXPECT_THAT(WaitStatus(pid), ExitsWith(7));
}
GUEST_PROGRAM(wait_for_byte) { return ReadOnce(atoi(argv[1]), 1) == "x" ? 7 : 1; }

TEST(CloneTest, SettidFlagsStoreTheTid) {
  SharedMapping memory;
  pid_t* child_tid = memory.as<pid_t>();
  pid_t parent_tid = 0;
  pid_t pid = RawClone(SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, &parent_tid, child_tid);
  if (pid == 0) _exit(*child_tid == static_cast<pid_t>(syscall(SYS_getpid)) ? 0 : 1);
  EXPECT_EQ(parent_tid, pid);
  EXPECT_THAT(WaitStatus(pid), ExitsWith(0));
}

TEST(CloneTest, ClearTidIsZeroedAndWokenAtExit) {
  SharedMapping memory;
  pid_t* tid = memory.as<pid_t>();
  *tid = 1;
  // The address is looked up in the child's memory, which is a copy; the page is shared.
  pid_t pid = RawClone(SIGCHLD | CLONE_CHILD_CLEARTID, nullptr, tid);
  if (pid == 0) _exit(0);
  WaitStatus(pid);
  // Linux mm_release(): only if somebody else uses the memory (a plain copy has one user).
  EXPECT_EQ(*tid, 1);
}

TEST(CloneTest, FilesFlagSharesTheTable) {
  FdCloser fd(open("/dev/null", O_RDONLY));
  pid_t pid = RawClone(SIGCHLD | CLONE_FILES);
  if (pid == 0) {
    close(fd);
    _exit(0);
  }
  EXPECT_THAT(WaitStatus(pid), ExitsWith(0));
  EXPECT_FALSE(FdIsOpen(fd));
  fd.Release();
}

TEST(CloneTest, FsFlagSharesDirectoryAndUmask) {
  EXPECT_THAT(InChild([] {
                pid_t pid = RawClone(SIGCHLD | CLONE_FS);
                if (pid == 0) {
                  umask(0123);
                  _exit(chdir("/proc"));
                }
                EXPECT_THAT(WaitStatus(pid), ExitsWith(0));
                EXPECT_EQ(umask(0), 0123u);
                char cwd[64];
                EXPECT_STREQ(getcwd(cwd, sizeof(cwd)), "/proc");
              }),
              ExitsWith(0));
}

TEST(CloneTest, ParentFlagMakesASibling) {
  SharedMapping memory;
  volatile pid_t* sibling = memory.as<pid_t>();
  EXPECT_THAT(InChild([&] {
                pid_t pid = RawClone(SIGCHLD | CLONE_PARENT);
                if (pid == 0) _exit(5);
                *sibling = pid;
                EXPECT_THAT(waitpid(pid, nullptr, 0), SyscallFailsWithErrno(ECHILD));
              }),
              ExitsWith(0));
  EXPECT_THAT(WaitStatus(*sibling), ExitsWith(5));
}

TEST(CloneTest, NoExitSignalNeedsWclone) {
  pid_t pid = RawClone(0);
  if (pid == 0) _exit(6);
  EXPECT_THAT(waitpid(pid, nullptr, 0), SyscallFailsWithErrno(ECHILD));
  EXPECT_THAT(WaitStatus(pid, __WCLONE), ExitsWith(6));
}

TEST(CloneTest, ImpossibleCombinationsAreInvalid) {
  EXPECT_THAT(RawClone(CLONE_THREAD), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(RawClone(CLONE_SIGHAND), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(RawClone(CLONE_NEWNS | CLONE_FS | SIGCHLD), SyscallFailsWithErrno(EINVAL));
}

TEST(CloneTest, PidfdBecomesReadableAtExit) {
  int pidfd = -1;
  pid_t pid = RawClone(SIGCHLD | CLONE_PIDFD, &pidfd);
  if (pid == 0) _exit(9);
  FdCloser closer(pidfd);
  siginfo_t info = {};
  EXPECT_THAT(waitid(P_PIDFD, pidfd, &info, WEXITED), SyscallSucceeds());
  EXPECT_EQ(info.si_pid, pid);
  EXPECT_EQ(info.si_status, 9);
}

TEST(Clone3Test, ForksLikeClone) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  pid_t pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid == 0) _exit(4);
  EXPECT_THAT(WaitStatus(pid), ExitsWith(4));
}

TEST(Clone3Test, ChecksItsArgument) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  EXPECT_THAT(syscall(SYS_clone3, &args, 8), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_clone3, &args, 100000), SyscallFailsWithErrno(E2BIG));
  args.exit_signal = 0x100;
  EXPECT_THAT(syscall(SYS_clone3, &args, sizeof(args)), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(syscall(SYS_clone3, nullptr, sizeof(args)), SyscallFailsWithErrno(EFAULT));
}

TEST(ThreadTest, ShareProcessIdButNotThreadId) {
  pid_t pid = 0, tid = 0;
  ScopedThread([&] {
    pid = getpid();
    tid = gettid();
  }).Join();
  EXPECT_EQ(pid, getpid());
  EXPECT_NE(tid, gettid());
}

TEST(ThreadTest, ManyThreadsCountTogether) {
  std::atomic<int> count{0};
  std::vector<std::unique_ptr<ScopedThread>> threads;
  for (int i = 0; i < 32; i++) {
    threads.push_back(std::make_unique<ScopedThread>([&] {
      for (int j = 0; j < 1000; j++) count++;
    }));
  }
  threads.clear();
  EXPECT_EQ(count, 32000);
}

TEST(ThreadTest, LocalStorageIsPerThread) {
  static thread_local int value = 1;
  value = 2;
  int seen = 0;
  ScopedThread([&] { seen = value; }).Join();
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(value, 2);
}

TEST(ThreadTest, ExitGroupEndsAllThreads) {
  EXPECT_THAT(InChild([] {
                Pipe pipe;
                ScopedThread blocked([&] { ReadOnce(pipe.reader, 1); });
                ScopedThread([] { syscall(SYS_exit_group, 21); }).Join();
                pause();
              }),
              ExitsWith(21));
}

TEST(ThreadTest, LeaderMayExitFirst) {
  EXPECT_THAT(InChild([] {
                const pid_t leader = gettid();
                new ScopedThread([leader] {
                  WaitUntil([&] { return ThreadState(leader) == 'Z'; });
                  _exit(13);
                });
                syscall(SYS_exit, 1);
              }),
              ExitsWith(13));
}

TEST(ThreadTest, ProcessDiesWithTheLastThread) {
  EXPECT_THAT(InChild([] { syscall(SYS_exit, 17); }), ExitsWith(17));
}

}  // namespace
}  // namespace caisson::test
