// chdir(2), fchdir(2), getcwd(2), chroot(2), umask in path walks.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

std::string Cwd() {
  char buffer[4096];
  return getcwd(buffer, sizeof(buffer)) == nullptr ? "" : buffer;
}

class CwdTest : public testing::Test {
 protected:
  int Run(const std::function<void()>& body) { return InChild(body); }
  TempDir dir_;
};

TEST_F(CwdTest, ChdirIsSeenByGetcwdAndProc) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(chdir(dir_.c_str()), SyscallSucceeds());
                EXPECT_EQ(Cwd(), dir_.path());
                char link[256] = {};
                ASSERT_THAT(readlink("/proc/self/cwd", link, 255), SyscallSucceeds());
                EXPECT_EQ(std::string(link), dir_.path());
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, LinksAndDotsAreResolved) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(mkdir((dir_ / "real").c_str(), 0755), SyscallSucceeds());
                ASSERT_THAT(symlink("real", (dir_ / "link").c_str()), SyscallSucceeds());
                ASSERT_THAT(chdir((dir_ / "./link/../link/.").c_str()), SyscallSucceeds());
                EXPECT_EQ(Cwd(), dir_ / "real");
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, ParentOfTheRootIsTheRoot) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(chdir("/../../.."), SyscallSucceeds());
                EXPECT_EQ(Cwd(), "/");
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, FollowsARename) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(mkdir((dir_ / "old").c_str(), 0755), SyscallSucceeds());
                ASSERT_THAT(chdir((dir_ / "old").c_str()), SyscallSucceeds());
                ASSERT_THAT(rename((dir_ / "old").c_str(), (dir_ / "new").c_str()),
                            SyscallSucceeds());
                EXPECT_EQ(Cwd(), dir_ / "new");
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, RemovedDirectoryHasNoName) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(mkdir((dir_ / "d").c_str(), 0755), SyscallSucceeds());
                ASSERT_THAT(chdir((dir_ / "d").c_str()), SyscallSucceeds());
                ASSERT_THAT(rmdir((dir_ / "d").c_str()), SyscallSucceeds());
                char buffer[4096];
                EXPECT_THAT(syscall(SYS_getcwd, buffer, sizeof(buffer)),
                            SyscallFailsWithErrno(ENOENT));
                EXPECT_THAT(open("x", O_CREAT | O_RDWR, 0644), SyscallFailsWithErrno(ENOENT));
                EXPECT_THAT(chdir(".."), SyscallSucceeds());
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, SmallBufferIsErange) {
  char buffer[2];
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(chdir(dir_.c_str()), SyscallSucceeds());
                EXPECT_THAT(syscall(SYS_getcwd, buffer, sizeof(buffer)),
                            SyscallFailsWithErrno(ERANGE));
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, FileIsEnotdirAndForbiddenOneEacces) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_THAT(mkdir((dir_ / "locked").c_str(), 0600), SyscallSucceeds());
  EXPECT_THAT(Run([&] {
                EXPECT_THAT(chdir((dir_ / "f").c_str()), SyscallFailsWithErrno(ENOTDIR));
                EXPECT_THAT(chdir((dir_ / "none").c_str()), SyscallFailsWithErrno(ENOENT));
                FdCloser locked(open((dir_ / "locked").c_str(), O_RDONLY));
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(chdir((dir_ / "locked").c_str()), SyscallFailsWithErrno(EACCES));
                EXPECT_THAT(fchdir(locked), SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, FchdirOfAPathDescriptor) {
  EXPECT_THAT(Run([&] {
                FdCloser fd(open(dir_.c_str(), O_PATH));
                ASSERT_THAT(fchdir(fd), SyscallSucceeds());
                EXPECT_EQ(Cwd(), dir_.path());
                EXPECT_THAT(fchdir(1000), SyscallFailsWithErrno(EBADF));
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, ChrootChangesWhatSlashMeans) {
  EXPECT_THAT(Run([&] {
                ASSERT_TRUE(WriteFile(dir_ / "inside", "x"));
                ASSERT_THAT(chroot(dir_.c_str()), SyscallSucceeds());
                ASSERT_THAT(chdir("/"), SyscallSucceeds());
                EXPECT_THAT(access("/inside", F_OK), SyscallSucceeds());
                EXPECT_THAT(access("/../../inside", F_OK), SyscallSucceeds());
                EXPECT_THAT(access("/tmp", F_OK), SyscallFailsWithErrno(ENOENT));
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, ChrootLeavesTheWorkingDirectoryOutside) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(mkdir((dir_ / "jail").c_str(), 0755), SyscallSucceeds());
                ASSERT_THAT(chdir(dir_.c_str()), SyscallSucceeds());
                ASSERT_THAT(chroot((dir_ / "jail").c_str()), SyscallSucceeds());
                EXPECT_THAT(access("jail", F_OK), SyscallSucceeds());
                char buffer[4096];
                ASSERT_THAT(syscall(SYS_getcwd, buffer, sizeof(buffer)), SyscallSucceeds());
                EXPECT_EQ(std::string(buffer).substr(0, 13), "(unreachable)");
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, AbsoluteLinkStartsAtTheNewRoot) {
  EXPECT_THAT(Run([&] {
                ASSERT_TRUE(WriteFile(dir_ / "target", "jailed"));
                ASSERT_THAT(symlink("/target", (dir_ / "l").c_str()), SyscallSucceeds());
                ASSERT_THAT(chroot(dir_.c_str()), SyscallSucceeds());
                EXPECT_EQ(ReadFile("/l"), "jailed");
              }),
              ExitsWith(0));
}

TEST_F(CwdTest, ChrootNeedsPrivilege) {
  EXPECT_THAT(Run([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(chroot("/tmp"), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
