// /proc/[pid] of other processes and of threads, and what writing to it does.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string Link(const std::string& path) {
  char buffer[4096];
  ssize_t n = readlink(path.c_str(), buffer, sizeof(buffer));
  return std::string(buffer, n < 0 ? 0 : n);
}
std::string Proc(pid_t pid, const std::string& name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}
std::string FdPath(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

// Open and write; the errno of what failed, or 0.
int Put(const std::string& path, const std::string& text) {
  FdCloser fd(open(path.c_str(), O_WRONLY));
  if (fd < 0) return errno;
  return write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
}

// A child that waits until it is killed, and has reached its pause(2) when the constructor returns.
struct PausedChild : Child {
  PausedChild() : Child([] { pause(); }) { EXPECT_TRUE(WaitUntilSleeping(pid())); }
};

TEST(ProcPidTest, PipesOpenAgainThroughTheirLink) {
  Pipe pipe;
  EXPECT_THAT(Link(FdPath(pipe.writer)), StartsWith("pipe:["));
  EXPECT_EQ(Link(FdPath(pipe.writer)), Link(FdPath(pipe.reader)));
  FdCloser reader(open(FdPath(pipe.writer).c_str(), O_RDONLY));
  ASSERT_THAT(static_cast<int>(reader), SyscallSucceeds());
  ASSERT_TRUE(WriteAll(pipe.writer, "x"));
  EXPECT_EQ(ReadOnce(reader), "x");
}

TEST(ProcPidTest, MemfdsOpenAgainThroughTheirLink) {
  FdCloser memfd(memfd_create("named", 0));
  ASSERT_TRUE(WriteAll(memfd, "content"));
  EXPECT_EQ(Link(FdPath(memfd)), "/memfd:named (deleted)");
  EXPECT_EQ(ReadFile(FdPath(memfd)), "content");
}

TEST(ProcPidTest, DeletedFilesOpenAgainThroughTheirLink) {
  TempFile file("still here");
  FdCloser fd = file.Open(O_RDONLY);
  ASSERT_THAT(unlink(file.c_str()), SyscallSucceeds());
  EXPECT_EQ(Link(FdPath(fd)), file.path() + " (deleted)");
  EXPECT_EQ(ReadFile(FdPath(fd)), "still here");
}

TEST(ProcPidTest, SocketsHaveAnInodeButDoNotOpen) {
  FdCloser socket_fd(socket(AF_UNIX, SOCK_STREAM, 0));
  struct stat by_fd, by_link;
  ASSERT_THAT(fstat(socket_fd, &by_fd), SyscallSucceeds());
  ASSERT_THAT(stat(FdPath(socket_fd).c_str(), &by_link), SyscallSucceeds());
  EXPECT_EQ(by_fd.st_ino, by_link.st_ino);
  EXPECT_TRUE(S_ISSOCK(by_link.st_mode));
  EXPECT_EQ(Link(FdPath(socket_fd)), "socket:[" + std::to_string(by_fd.st_ino) + "]");
  EXPECT_THAT(open(FdPath(socket_fd).c_str(), O_RDWR), SyscallFailsWithErrno(ENXIO));
}

TEST(ProcPidTest, FdLinksShowTheAccessMode) {
  TempFile file;
  struct stat st;
  FdCloser reading = file.Open(O_RDONLY), writing = file.Open(O_WRONLY), both = file.Open(O_RDWR);
  ASSERT_THAT(lstat(FdPath(reading).c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_mode, mode_t{S_IFLNK | 0500});
  ASSERT_THAT(lstat(FdPath(writing).c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_mode, mode_t{S_IFLNK | 0300});
  ASSERT_THAT(lstat(FdPath(both).c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_mode, mode_t{S_IFLNK | 0700});
}

TEST(ProcPidTest, CloseOnExecIsInFdinfo) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY | O_CLOEXEC);
  EXPECT_THAT(ReadFile("/proc/self/fdinfo/" + std::to_string(fd)), HasSubstr("flags:\t02100000\n"));
}

TEST(ProcPidTest, LocksAreInFdinfoAndProcLocks) {
  TempFile file;
  FdCloser fd = file.Open(O_RDWR);
  ASSERT_THAT(flock(fd, LOCK_EX), SyscallSucceeds());
  const std::string line = "FLOCK  ADVISORY  WRITE " + std::to_string(getpid()) + " ";
  EXPECT_THAT(ReadFile("/proc/self/fdinfo/" + std::to_string(fd)), HasSubstr("lock:\t1: " + line));
  EXPECT_THAT(ReadFile("/proc/locks"), HasSubstr(line));
}

TEST(ProcPidTest, ZombiesHaveAStateButNoMemory) {
  Child child([] {});
  ASSERT_TRUE(WaitUntil([&] { return ProcessState(child.pid()) == 'Z'; }));
  EXPECT_EQ(ReadFile(Proc(child.pid(), "cmdline")), "");
  EXPECT_EQ(ReadFile(Proc(child.pid(), "maps")), "");
  EXPECT_EQ(ReadFile(Proc(child.pid(), "statm")), "0 0 0 0 0 0 0\n");
  EXPECT_EQ(StatusField(std::to_string(child.pid()), "VmSize"), "");
  EXPECT_EQ(StatusField(std::to_string(child.pid()), "State"), "Z (zombie)");
  char buffer[16];
  EXPECT_THAT(readlink(Proc(child.pid(), "exe").c_str(), buffer, sizeof(buffer)),
              SyscallFailsWithErrno(ENOENT));
  EXPECT_THAT(readlink(Proc(child.pid(), "cwd").c_str(), buffer, sizeof(buffer)),
              SyscallFailsWithErrno(ENOENT));
}

TEST(ProcPidTest, OpenFilesOfAGoneProcessGiveEsrch) {
  Child child([] { pause(); });
  FdCloser stat_fd(open(Proc(child.pid(), "stat").c_str(), O_RDONLY));
  FdCloser dir(open(Proc(child.pid(), "").c_str(), O_RDONLY | O_DIRECTORY));
  child.Kill(SIGKILL);
  child.Wait();
  char c;
  EXPECT_THAT(read(stat_fd, &c, 1), SyscallFailsWithErrno(ESRCH));
  EXPECT_THAT(openat(dir, "stat", O_RDONLY), SyscallFailsWithErrno(ESRCH));
}

TEST(ProcPidTest, MemIsThatOfTheOtherProcess) {
  static volatile int value = 1;
  PausedChild child;  // Has a copy of its own.
  value = 2;
  FdCloser mem(open(Proc(child.pid(), "mem").c_str(), O_RDWR));
  ASSERT_THAT(static_cast<int>(mem), SyscallSucceeds());
  int there = 0;
  const auto address = static_cast<off_t>(reinterpret_cast<uintptr_t>(&value));
  ASSERT_EQ(pread(mem, &there, sizeof(there), address), ssize_t{sizeof(there)});
  EXPECT_EQ(there, 1);
  there = 77;
  ASSERT_EQ(pwrite(mem, &there, sizeof(there), address), ssize_t{sizeof(there)});
  EXPECT_EQ(value, 2);
  there = 0;
  ASSERT_EQ(pread(mem, &there, sizeof(there), address), ssize_t{sizeof(there)});
  EXPECT_EQ(there, 77);
}

TEST(ProcPidTest, ChildrenAndParentsAgree) {
  PausedChild child;
  EXPECT_EQ(StatusField(std::to_string(child.pid()), "PPid"), std::to_string(getpid()));
  const std::string self = std::to_string(getpid());
  const std::string children = ReadFile("/proc/self/task/" + self + "/children");
  EXPECT_THAT(" " + children, HasSubstr(" " + std::to_string(child.pid()) + " "));
}

TEST(ProcPidTest, CwdAndRootAreTheOtherProcesss) {
  TempDir dir;
  Pipe ready;
  Child child([&] {
    ASSERT_THAT(chdir(dir.c_str()), SyscallSucceeds());
    ASSERT_THAT(chroot(dir.c_str()), SyscallSucceeds());
    WriteAll(ready.writer, "x");
    pause();
  });
  ASSERT_EQ(ReadOnce(ready.reader, 1), "x");
  EXPECT_EQ(Link(Proc(child.pid(), "cwd")), dir.path());
  EXPECT_EQ(Link(Proc(child.pid(), "root")), dir.path());
  ASSERT_TRUE(WriteFile(dir / "file", "inside"));
  EXPECT_EQ(ReadFile(Proc(child.pid(), "root/file")), "inside");
}

TEST(ProcPidTest, ThreadsHaveNamesOfTheirOwn) {
  Pipe done;
  ScopedThread thread([&] {
    prctl(PR_SET_NAME, "worker");
    ReadOnce(done.reader, 1);
  });
  const std::string comm = "/proc/self/task/" + std::to_string(thread.tid()) + "/comm";
  EXPECT_TRUE(WaitUntil([&] { return ReadFile(comm) == "worker\n"; }));
  EXPECT_EQ(Put(comm, "renamed"), 0);
  EXPECT_EQ(ReadFile(comm), "renamed\n");
  // A thread has a directory that is not listed.
  EXPECT_EQ(StatusField(std::to_string(thread.tid()), "Tgid"), std::to_string(getpid()));
  struct stat st;
  ASSERT_THAT(stat("/proc/self/task", &st), SyscallSucceeds());
  EXPECT_EQ(st.st_nlink, 4u);
  WriteAll(done.writer, "x");
}

TEST(ProcPidTest, CommOfOthersCannotBeWritten) {
  PausedChild child;
  EXPECT_EQ(Put(Proc(child.pid(), "comm"), "x"), EINVAL);
}

TEST(ProcPidTest, OomScoreAdjIsInheritedAndChecked) {
  EXPECT_EQ(InChild([] {
              EXPECT_EQ(Put("/proc/self/oom_score_adj", "1001"), EINVAL);
              EXPECT_EQ(Put("/proc/self/oom_score_adj", "nonsense"), EINVAL);
              EXPECT_EQ(Put("/proc/self/oom_score_adj", "300"), 0);
              EXPECT_EQ(ReadFile("/proc/self/oom_score_adj"), "300\n");
              PausedChild child;
              EXPECT_EQ(ReadFile(Proc(child.pid(), "oom_score_adj")), "300\n");
            }),
            0);
}

TEST(ProcPidTest, UserNamespaceMapsAreWrittenOnce) {
  EXPECT_EQ(InChild([] {
              if (unshare(CLONE_NEWUSER) != 0) GTEST_SKIP();
              const std::string own = "0 0 1\n";
              EXPECT_EQ(ReadFile("/proc/self/uid_map"), "");
              EXPECT_EQ(ReadFile("/proc/self/setgroups"), "allow\n");
              EXPECT_EQ(Put("/proc/self/uid_map", "0 0 0"), EINVAL);
              EXPECT_EQ(Put("/proc/self/uid_map", "0 zero 1"), EINVAL);
              EXPECT_EQ(Put("/proc/self/setgroups", "deny"), 0);
              EXPECT_EQ(Put("/proc/self/setgroups", "allow"), EPERM);
              EXPECT_EQ(Put("/proc/self/uid_map", own), 0);
              EXPECT_EQ(Put("/proc/self/uid_map", own), EPERM);
              EXPECT_EQ(Put("/proc/self/gid_map", own), 0);
              EXPECT_EQ(ReadFile("/proc/self/uid_map"), "         0          0          1\n");
              EXPECT_EQ(getuid(), 0u);
            }),
            0);
}

TEST(ProcPidTest, NotDumpableMeansRootsAndClosed) {
  Pipe ready;
  Child child([&] {
    ASSERT_THAT(setresgid(1000, 1000, 1000), SyscallSucceeds());
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    ASSERT_THAT(prctl(PR_SET_DUMPABLE, 0), SyscallSucceeds());
    WriteAll(ready.writer, "x");
    pause();
  });
  ASSERT_EQ(ReadOnce(ready.reader, 1), "x");
  struct stat st;
  ASSERT_THAT(stat(Proc(child.pid(), "stat").c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_uid, 0u);
  ASSERT_THAT(stat(Proc(child.pid(), "").c_str(), &st), SyscallSucceeds());
  EXPECT_EQ(st.st_uid, 1000u);
  const pid_t pid = child.pid();
  EXPECT_EQ(InChild([pid] {
              ASSERT_THAT(setresgid(1000, 1000, 1000), SyscallSucceeds());
              ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
              EXPECT_THAT(open(Proc(pid, "environ").c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
              EXPECT_THAT(open(Proc(pid, "maps").c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
              char buffer[16];
              EXPECT_THAT(readlink(Proc(pid, "cwd").c_str(), buffer, sizeof(buffer)),
                          SyscallFailsWithErrno(EACCES));
            }),
            0);
}

TEST(ProcPidTest, OpenMapsStayThoseOfTheProgramThatWasThere) {
  Pipe go;
  Child child([&] {
    ReadOnce(go.reader, 1);
    execl(SelfPath().c_str(), "other", "--gtest_list_tests", nullptr);
  });
  FdCloser environ_fd(open(Proc(child.pid(), "environ").c_str(), O_RDONLY));
  ASSERT_THAT(static_cast<int>(environ_fd), SyscallSucceeds());
  FdCloser null(open("/dev/null", O_WRONLY));
  WriteAll(go.writer, "x");
  child.Wait();
  // The old memory has gone with the old program: nothing of the new one is to be seen.
  EXPECT_EQ(ReadAll(environ_fd).find("--gtest_list_tests"), std::string::npos);
}

TEST(ProcPidTest, NamespaceFilesTellTheirType) {
  FdCloser uts(open("/proc/self/ns/uts", O_RDONLY));
  struct stat st;
  ASSERT_THAT(fstat(uts, &st), SyscallSucceeds());
  EXPECT_EQ(Link("/proc/self/ns/uts"), "uts:[" + std::to_string(st.st_ino) + "]");
  EXPECT_EQ(InChild([&st] {
              ASSERT_THAT(unshare(CLONE_NEWUTS), SyscallSucceeds());
              struct stat now;
              ASSERT_THAT(stat("/proc/self/ns/uts", &now), SyscallSucceeds());
              EXPECT_NE(now.st_ino, st.st_ino);
              EXPECT_EQ(now.st_dev, st.st_dev);
            }),
            0);
}

TEST(ProcPidTest, MountsArePolledForChanges) {
  EXPECT_EQ(InChild([] {
              ASSERT_THAT(unshare(CLONE_NEWNS), SyscallSucceeds());
              ASSERT_THAT(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr),
                          SyscallSucceeds());
              FdCloser fd(open("/proc/self/mounts", O_RDONLY));
              pollfd entry = {fd, POLLPRI, 0};
              EXPECT_EQ(poll(&entry, 1, 0), 0);
              TempDir dir;
              ASSERT_THAT(mount("none", dir.c_str(), "tmpfs", 0, nullptr), SyscallSucceeds());
              EXPECT_EQ(poll(&entry, 1, 0), 1);
              EXPECT_EQ(entry.revents, POLLPRI | POLLERR);
              EXPECT_EQ(poll(&entry, 1, 0), 0);
              EXPECT_THAT(ReadFile("/proc/self/mounts"), HasSubstr(" " + dir.path() + " tmpfs "));
              umount2(dir.c_str(), MNT_DETACH);
            }),
            0);
}

TEST(ProcPidTest, HostnameIsTheNamespaces) {
  EXPECT_EQ(InChild([] {
              ASSERT_THAT(unshare(CLONE_NEWUTS), SyscallSucceeds());
              const int error = Put("/proc/sys/kernel/hostname", "from-proc\n");
              if (error == EROFS) GTEST_SKIP();
              EXPECT_EQ(error, 0);
              char name[65] = {};
              ASSERT_THAT(gethostname(name, sizeof(name)), SyscallSucceeds());
              EXPECT_STREQ(name, "from-proc");
            }),
            0);
}

TEST(ProcPidTest, DirectoryOffsetsResume) {
  FdCloser dir(open("/proc/self", O_RDONLY | O_DIRECTORY));
  DIR* stream = fdopendir(dup(dir));
  std::vector<std::string> all;
  std::vector<long> places;
  while (dirent* e = readdir(stream)) {
    all.push_back(e->d_name);
    places.push_back(telldir(stream));
  }
  ASSERT_GT(all.size(), 20u);
  seekdir(stream, places[9]);
  dirent* e = readdir(stream);
  ASSERT_NE(e, nullptr);
  EXPECT_EQ(std::string(e->d_name), all[10]);
  closedir(stream);
}

}  // namespace
}  // namespace caisson::test
