// Who shares root and working directory (CLONE_FS): what setns(2), execve(2) and unshare(2) make of it.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

pid_t CloneFs(int flags = 0) {
  return static_cast<pid_t>(syscall(SYS_clone, CLONE_FS | flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

// A process in new namespaces, until the object goes.
class Holder {
 public:
  explicit Holder(int kinds) : child_([this, kinds] {
    const char go = unshare(kinds) == 0 ? 'y' : 'n';
    (void)!write(pipe_.writer, &go, 1);
    for (;;) pause();
  }) {
    EXPECT_EQ(ReadOnce(pipe_.reader, 1), "y");
  }
  int Open(const char* kind) const {
    return open(("/proc/" + std::to_string(child_.pid()) + "/ns/" + kind).c_str(), O_RDONLY);
  }
  pid_t pid() const { return child_.pid(); }

 private:
  Pipe pipe_;
  Child child_;
};

// Reads what /proc says of `pid`'s root and cwd, over and over, in several processes.
class Readers {
 public:
  explicit Readers(pid_t pid) {
    for (pid_t& reader : readers_) {
      reader = fork();
      if (reader != 0) continue;
      char text[4096];
      const std::string dir = "/proc/" + std::to_string(pid);
      for (;;) {
        const int fd = open((dir + "/status").c_str(), O_RDONLY);
        (void)!read(fd, text, sizeof(text));
        close(fd);
        (void)!readlink((dir + "/cwd").c_str(), text, sizeof(text));
      }
    }
  }
  ~Readers() {
    for (pid_t reader : readers_) kill(reader, SIGKILL), waitpid(reader, nullptr, 0);
  }

 private:
  pid_t readers_[2];
};

TEST(SetnsFsTest, ReadersOfProcDoNotShare) {
  EXPECT_THAT(InChild([] {
    Holder holder(CLONE_NEWNS);
    const int other = holder.Open("mnt"), own = open("/proc/self/ns/mnt", O_RDONLY);
    Readers readers(getpid());
    for (int i = 0; i < 500; ++i) {
      ASSERT_THAT(setns(other, CLONE_NEWNS), SyscallSucceeds()) << i;
      ASSERT_THAT(setns(own, CLONE_NEWNS), SyscallSucceeds()) << i;
    }
  }), ExitsWith(0));
}

// As soon as its end can be waited for, who shared does not any more.
TEST(SetnsFsTest, IsRefusedAsLongAsSomebodyShares) {
  for (const int kind : {CLONE_NEWUSER, CLONE_NEWNS}) {
    EXPECT_THAT(InChild([kind] {
      Holder holder(kind);
      const int ns = holder.Open(kind == CLONE_NEWUSER ? "user" : "mnt");
      ASSERT_THAT(ns, SyscallSucceeds());
      for (int i = 0; i < 20; ++i) {
        const pid_t sharer = CloneFs();
        if (sharer == 0) {
          pause();
          _exit(0);
        }
        ASSERT_THAT(setns(ns, kind), SyscallFailsWithErrno(EINVAL));
        kill(sharer, SIGKILL);
        siginfo_t info;
        ASSERT_THAT(waitid(P_PID, static_cast<id_t>(sharer), &info, WEXITED | WNOWAIT), SyscallSucceeds());
        if (kind == CLONE_NEWNS) {
          EXPECT_THAT(setns(ns, kind), SyscallSucceeds());
        }
        if (i != 19) {
          ASSERT_THAT(waitpid(sharer, nullptr, 0), SyscallSucceedsWithValue(sharer));
        }
      }
      EXPECT_THAT(setns(ns, kind), SyscallSucceeds());
    }), ExitsWith(0)) << kind;
  }
}

TEST(SetnsFsTest, UnshareEndsTheSharingForBoth) {
  EXPECT_THAT(InChild([] {
    Holder holder(CLONE_NEWUSER);
    const int ns = holder.Open("user");
    Pipe pipe;
    const pid_t sharer = CloneFs();
    if (sharer == 0) {
      if (unshare(CLONE_FS) == 0) (void)!write(pipe.writer, "x", 1);
      pause();
    }
    EXPECT_EQ(ReadOnce(pipe.reader, 1), "x");
    EXPECT_THAT(setns(ns, CLONE_NEWUSER), SyscallSucceeds());
    kill(sharer, SIGKILL);
  }), ExitsWith(0));
}

// prepare_nsset() looks at a copy unless a mount namespace alone is asked for: all sharers move.
TEST(SetnsFsTest, SeveralKindsAtOnceMoveAllWhoShare) {
  EXPECT_THAT(InChild([] {
    Holder holder(CLONE_NEWNS | CLONE_NEWUTS);
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, holder.pid(), 0));
    ASSERT_THAT(chdir("/tmp"), SyscallSucceeds());
    const pid_t sharer = CloneFs();
    if (sharer == 0) {
      pause();
      _exit(0);
    }
    EXPECT_THAT(setns(pidfd, CLONE_NEWNS), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(setns(pidfd, CLONE_NEWNS | CLONE_NEWUTS), SyscallSucceeds());
    char cwd[100] = {};
    EXPECT_GT(readlink(("/proc/" + std::to_string(sharer) + "/cwd").c_str(), cwd, sizeof(cwd)), 0);
    EXPECT_STREQ(cwd, "/");
    kill(sharer, SIGKILL);
  }), ExitsWith(0));
}

GUEST_PROGRAM(exit_0_as_1234) { return geteuid() == 1234 ? 0 : 1; }

class ExecFsTest : public ::testing::Test {
 protected:
  // A /tmp of the caller's own, where setuid bits count.
  static void OwnTmp() {
    ASSERT_THAT(unshare(CLONE_NEWNS), SyscallSucceeds());
    ASSERT_THAT(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), SyscallSucceeds());
    ASSERT_THAT(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=755"), SyscallSucceeds());
    setenv("TMPDIR", "/tmp", 1);
  }
  static void SetBit(const TempFile& file) {
    ASSERT_THAT(chown(file.c_str(), 1234, 0), SyscallSucceeds());
    ASSERT_THAT(chmod(file.c_str(), 04755), SyscallSucceeds());
  }
  // Runs `before` as user 1000, then a program of user 1234 with the setuid bit: 0 if that had an effect.
  static int ExecAfter(const std::function<void()>& before) {
    return InChild([&] {
      ASSERT_NO_FATAL_FAILURE(OwnTmp());
      TempFile file(ReadFile(SelfPath()), 0755);
      ASSERT_NO_FATAL_FAILURE(SetBit(file));
      ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
      before();
      execl(file.c_str(), "x", "--program=exit_0_as_1234", nullptr);
      _exit(2);
    });
  }
};

TEST_F(ExecFsTest, ASharingProcessTakesTheSetuidBitAway) {
  EXPECT_THAT(ExecAfter([] {}), ExitsWith(0));
  EXPECT_THAT(ExecAfter([] {
    if (CloneFs() == 0) {
      sleep(2);
      _exit(0);
    }
  }), ExitsWith(1));
}

TEST_F(ExecFsTest, AnEndedOneDoesNot) {
  EXPECT_THAT(ExecAfter([] {
    for (int i = 0; i < 20; ++i) {
      const pid_t sharer = CloneFs();
      if (sharer == 0) _exit(0);
      ASSERT_THAT(waitpid(sharer, nullptr, 0), SyscallSucceedsWithValue(sharer));
    }
  }), ExitsWith(0));
}

// Nor does who only looks at the process.
TEST_F(ExecFsTest, ReadersOfProcDoNot) {
  EXPECT_THAT(InChild([] {
    ASSERT_NO_FATAL_FAILURE(OwnTmp());
    TempFile file(ReadFile(SelfPath()), 0755);
    ASSERT_NO_FATAL_FAILURE(SetBit(file));
    SharedMapping memory;
    volatile pid_t* now = memory.as<pid_t>();
    const pid_t reader = fork();
    if (reader == 0) {
      char text[4096];
      for (;;) {
        const int fd = open(("/proc/" + std::to_string(*now) + "/status").c_str(), O_RDONLY);
        while (pread(fd, text, sizeof(text), 0) > 0) {
        }
        close(fd);
      }
    }
    for (int i = 0; i < 100; ++i) {
      const pid_t pid = fork();
      if (pid == 0) {
        *now = getpid();
        setresuid(1000, 1000, 1000);
        execl(file.c_str(), "x", "--program=exit_0_as_1234", nullptr);
        _exit(2);
      }
      int status = -1;
      ASSERT_THAT(waitpid(pid, &status, 0), SyscallSucceedsWithValue(pid));
      EXPECT_THAT(status, ExitsWith(0)) << i;
    }
    kill(reader, SIGKILL);
    waitpid(reader, nullptr, 0);
  }), ExitsWith(0));
}

TEST_F(ExecFsTest, ThreadsOfItsOwnDoNot) {
  EXPECT_THAT(ExecAfter([] {
    for (int i = 0; i < 3; ++i) new ScopedThread([] { pause(); });
  }), ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
