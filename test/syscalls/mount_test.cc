// mount(2), umount2(2), mount_namespaces(7), pivot_root(2).
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// Every body runs in a child with a mount namespace of its own, cut off from ours.
class MountTest : public testing::Test {
 protected:
  int Run(const std::function<void()>& body) {
    return InChild([&] {
      ASSERT_THAT(unshare(CLONE_NEWNS), SyscallSucceeds());
      ASSERT_THAT(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), SyscallSucceeds());
      body();
    });
  }
  static int Tmpfs(const std::string& path, unsigned long flags = 0, const char* data = nullptr) {
    return mount("none", path.c_str(), "tmpfs", flags, data);
  }
  int Bind(const std::string& from, const std::string& to, unsigned long flags = 0) {
    return mount((dir_ / from).c_str(), (dir_ / to).c_str(), nullptr, MS_BIND | flags, nullptr);
  }
  void MakeDir(const std::string& name) {
    ASSERT_THAT(mkdir((dir_ / name).c_str(), 0755), SyscallSucceeds());
  }
  TempDir dir_;
};

TEST_F(MountTest, TmpfsCoversAndUncovers) {
  ASSERT_TRUE(WriteFile(dir_ / "below", "x"));
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path()), SyscallSucceeds());
                EXPECT_FALSE(Exists(dir_ / "below"));
                struct statfs fs;
                ASSERT_THAT(statfs(dir_.c_str(), &fs), SyscallSucceeds());
                EXPECT_EQ(fs.f_type, 0x01021994);
                ASSERT_THAT(umount(dir_.c_str()), SyscallSucceeds());
                EXPECT_TRUE(Exists(dir_ / "below"));
              }),
              ExitsWith(0));
}

// The restrictions of mount_namespaces(7) on what a less privileged namespace inherits.
TEST_F(MountTest, InheritedMountsAreLockedInALessPrivilegedNamespace) {
  MakeDir("a");
  MakeDir("b");
  EXPECT_THAT(
      Run([&] {
        ASSERT_THAT(Tmpfs(dir_.path(), MS_NOSUID), SyscallSucceeds());
        MakeDir("a");
        MakeDir("b");
        ASSERT_THAT(Tmpfs(dir_ / "a", MS_RDONLY | MS_NOATIME), SyscallSucceeds());
        EXPECT_THAT(InChild([&] {
                      ASSERT_THAT(unshare(CLONE_NEWUSER | CLONE_NEWNS), SyscallSucceeds());
                      EXPECT_THAT(umount(dir_.c_str()), SyscallFailsWithErrno(EINVAL));
                      EXPECT_THAT(umount2((dir_ / "a").c_str(), MNT_DETACH), SyscallFailsWithErrno(EINVAL));
                      auto remount = [&](const std::string& name, unsigned long flags) {
                        return mount(nullptr, (dir_ / name).c_str(), nullptr,
                                     MS_REMOUNT | MS_BIND | flags, nullptr);
                      };
                      EXPECT_THAT(remount("a", 0), SyscallFailsWithErrno(EPERM));
                      EXPECT_THAT(remount("a", MS_RDONLY | MS_RELATIME), SyscallFailsWithErrno(EPERM));
                      EXPECT_THAT(remount("a", MS_RDONLY | MS_NOEXEC), SyscallSucceeds());
                      EXPECT_THAT(remount("a", MS_RDONLY), SyscallSucceeds());
                      EXPECT_THAT(remount("", 0), SyscallFailsWithErrno(EPERM));
                      EXPECT_THAT(mount((dir_ / "a").c_str(), (dir_ / "b").c_str(), nullptr, MS_MOVE, nullptr),
                                  SyscallFailsWithErrno(EINVAL));
                    }),
                    ExitsWith(0));
        // Nothing of that has reached the owner's.
        EXPECT_THAT(umount((dir_ / "a").c_str()), SyscallSucceeds());
      }),
      ExitsWith(0));
}

TEST_F(MountTest, CopyWithoutTheLockedMountsOnItIsRefused) {
  MakeDir("a");
  MakeDir("a/inner");
  MakeDir("b");
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Bind("a", "a"), SyscallSucceeds());
                ASSERT_THAT(Tmpfs(dir_ / "a/inner"), SyscallSucceeds());
                EXPECT_THAT(InChild([&] {
                              ASSERT_THAT(unshare(CLONE_NEWUSER | CLONE_NEWNS), SyscallSucceeds());
                              EXPECT_THAT(Bind("a", "b"), SyscallFailsWithErrno(EINVAL));
                              ASSERT_THAT(Bind("a", "b", MS_REC), SyscallSucceeds());
                              EXPECT_THAT(umount((dir_ / "b/inner").c_str()), SyscallFailsWithErrno(EINVAL));
                              // What it mounts itself is its own.
                              EXPECT_THAT(Tmpfs(dir_ / "a/inner"), SyscallSucceeds());
                              EXPECT_THAT(umount((dir_ / "a/inner").c_str()), SyscallSucceeds());
                              EXPECT_THAT(umount((dir_ / "a/inner").c_str()), SyscallFailsWithErrno(EINVAL));
                              EXPECT_THAT(umount2((dir_ / "b").c_str(), MNT_DETACH), SyscallSucceeds());
                            }),
                            ExitsWith(0));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, SharedMountIsSlaveInALessPrivilegedNamespace) {
  MakeDir("a");
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_ / "a"), SyscallSucceeds());
                ASSERT_THAT(mount(nullptr, (dir_ / "a").c_str(), nullptr, MS_SHARED, nullptr),
                            SyscallSucceeds());
                ASSERT_THAT(mkdir((dir_ / "a/x").c_str(), 0755), SyscallSucceeds());
                EXPECT_THAT(InChild([&] {
                              ASSERT_THAT(unshare(CLONE_NEWUSER | CLONE_NEWNS), SyscallSucceeds());
                              ASSERT_THAT(Tmpfs(dir_ / "a/x"), SyscallSucceeds());
                            }),
                            ExitsWith(0));
                // Nothing of that is here.
                EXPECT_THAT(umount((dir_ / "a/x").c_str()), SyscallFailsWithErrno(EINVAL));
                int ready[2], go[2];
                ASSERT_THAT(pipe(ready), SyscallSucceeds());
                ASSERT_THAT(pipe(go), SyscallSucceeds());
                Child other([&] {
                  ASSERT_THAT(unshare(CLONE_NEWUSER | CLONE_NEWNS), SyscallSucceeds());
                  char c = 0;
                  ASSERT_THAT(write(ready[1], &c, 1), SyscallSucceedsWithValue(1));
                  ASSERT_THAT(read(go[0], &c, 1), SyscallSucceedsWithValue(1));
                  EXPECT_TRUE(Exists(dir_ / "a/x/ours"));
                  // It came from there, and is the other's to take away.
                  EXPECT_THAT(umount((dir_ / "a/x").c_str()), SyscallSucceeds());
                });
                char c = 0;
                ASSERT_THAT(read(ready[0], &c, 1), SyscallSucceedsWithValue(1));
                ASSERT_THAT(Tmpfs(dir_ / "a/x"), SyscallSucceeds());
                ASSERT_TRUE(WriteFile(dir_ / "a/x/ours", "x"));
                ASSERT_THAT(write(go[1], &c, 1), SyscallSucceedsWithValue(1));
                EXPECT_THAT(other.Wait(), ExitsWith(0));
                EXPECT_TRUE(Exists(dir_ / "a/x/ours"));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, NamespaceHidesItFromOthers) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path()), SyscallSucceeds());
                ASSERT_TRUE(WriteFile(dir_ / "secret", "x"));
              }),
              ExitsWith(0));
  EXPECT_FALSE(Exists(dir_ / "secret"));
}

TEST_F(MountTest, TmpfsOptionsSetModeAndSize) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path(), 0, "mode=711,size=8192"), SyscallSucceeds());
                struct stat st;
                ASSERT_THAT(stat(dir_.c_str(), &st), SyscallSucceeds());
                EXPECT_EQ(st.st_mode & 07777, 0711u);
                FdCloser fd(open((dir_ / "f").c_str(), O_CREAT | O_WRONLY, 0644));
                std::string big(12288, 'x');
                EXPECT_THAT(write(fd, big.data(), big.size()), SyscallSucceedsWithValue(8192));
                EXPECT_THAT(write(fd, "x", 1), SyscallFailsWithErrno(ENOSPC));
                EXPECT_THAT(Tmpfs(dir_.path(), 0, "nonsense=1"), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, BindShowsTheSameFiles) {
  MakeDir("a");
  MakeDir("b");
  ASSERT_TRUE(WriteFile(dir_ / "a/f", "x"));
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Bind("a", "b"), SyscallSucceeds());
                ASSERT_TRUE(WriteFile(dir_ / "b/f", "through b"));
                EXPECT_EQ(ReadFile(dir_ / "a/f"), "through b");
                EXPECT_THAT(rename((dir_ / "a/f").c_str(), (dir_ / "b/g").c_str()),
                            SyscallFailsWithErrno(EXDEV));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, FileCanBeBoundOverAFile) {
  ASSERT_TRUE(WriteFile(dir_ / "a", "from a"));
  ASSERT_TRUE(WriteFile(dir_ / "b", "from b"));
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Bind("a", "b"), SyscallSucceeds());
                EXPECT_EQ(ReadFile(dir_ / "b"), "from a");
                EXPECT_THAT(unlink((dir_ / "b").c_str()), SyscallFailsWithErrno(EBUSY));
                EXPECT_THAT(Bind("a", ""), SyscallFailsWithErrno(ENOTDIR));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, RecursiveBindTakesMountsBelow) {
  for (const char* name : {"a", "a/sub", "plain", "deep"}) MakeDir(name);
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_ / "a/sub"), SyscallSucceeds());
                ASSERT_TRUE(WriteFile(dir_ / "a/sub/f", "x"));
                ASSERT_THAT(Bind("a", "plain"), SyscallSucceeds());
                ASSERT_THAT(Bind("a", "deep", MS_REC), SyscallSucceeds());
                EXPECT_FALSE(Exists(dir_ / "plain/sub/f"));
                EXPECT_TRUE(Exists(dir_ / "deep/sub/f"));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, ReadOnlyIsErofs) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path()), SyscallSucceeds());
                const std::string file = dir_ / "f";
                ASSERT_TRUE(WriteFile(file, "x"));
                ASSERT_THAT(Tmpfs(dir_.path(), MS_REMOUNT | MS_RDONLY), SyscallSucceeds());
                EXPECT_THAT(open(file.c_str(), O_WRONLY), SyscallFailsWithErrno(EROFS));
                EXPECT_THAT(mkdir((dir_ / "d").c_str(), 0755), SyscallFailsWithErrno(EROFS));
                EXPECT_THAT(unlink(file.c_str()), SyscallFailsWithErrno(EROFS));
                EXPECT_THAT(chmod(file.c_str(), 0600), SyscallFailsWithErrno(EROFS));
                EXPECT_THAT(access(file.c_str(), W_OK), SyscallFailsWithErrno(EROFS));
                EXPECT_EQ(ReadFile(file), "x");
              }),
              ExitsWith(0));
}

TEST_F(MountTest, ReadOnlyBindLeavesTheOriginalWritable) {
  MakeDir("a");
  MakeDir("b");
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Bind("a", "b"), SyscallSucceeds());
                ASSERT_THAT(mount(nullptr, (dir_ / "b").c_str(), nullptr,
                                  MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr),
                            SyscallSucceeds());
                EXPECT_THAT(open((dir_ / "b/f").c_str(), O_CREAT | O_RDWR, 0644),
                            SyscallFailsWithErrno(EROFS));
                EXPECT_TRUE(WriteFile(dir_ / "a/f", "x"));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, NoexecIsEacces) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path(), MS_NOEXEC), SyscallSucceeds());
                ASSERT_TRUE(WriteFile(dir_ / "program", ReadFile(SelfPath()), 0755));
                char* argv[] = {nullptr};
                EXPECT_THAT(execve((dir_ / "program").c_str(), argv, argv),
                            SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, BusyMountNeedsDetach) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path()), SyscallSucceeds());
                FdCloser fd(open((dir_ / "f").c_str(), O_CREAT | O_RDWR, 0644));
                EXPECT_THAT(umount(dir_.c_str()), SyscallFailsWithErrno(EBUSY));
                EXPECT_THAT(umount2(dir_.c_str(), MNT_DETACH), SyscallSucceeds());
                EXPECT_TRUE(WriteAll(fd, "still"));
                EXPECT_THAT(umount(dir_.c_str()), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, MountPointCannotBeRemovedOrRenamed) {
  MakeDir("m");
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_ / "m"), SyscallSucceeds());
                EXPECT_THAT(rmdir((dir_ / "m").c_str()), SyscallFailsWithErrno(EBUSY));
                EXPECT_THAT(rename((dir_ / "m").c_str(), (dir_ / "n").c_str()),
                            SyscallFailsWithErrno(EBUSY));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, SharedMountPropagates) {
  MakeDir("a");
  MakeDir("b");
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_ / "a"), SyscallSucceeds());
                ASSERT_THAT(mount(nullptr, (dir_ / "a").c_str(), nullptr, MS_SHARED, nullptr),
                            SyscallSucceeds());
                ASSERT_THAT(mkdir((dir_ / "a/x").c_str(), 0755), SyscallSucceeds());
                ASSERT_THAT(Bind("a", "b"), SyscallSucceeds());
                ASSERT_THAT(Tmpfs(dir_ / "a/x"), SyscallSucceeds());
                ASSERT_TRUE(WriteFile(dir_ / "a/x/f", "x"));
                EXPECT_TRUE(Exists(dir_ / "b/x/f"));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, MountinfoListsItWithOptions) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path(), MS_NOSUID | MS_NODEV), SyscallSucceeds());
                EXPECT_THAT(ReadFile("/proc/self/mountinfo"),
                            testing::ContainsRegex(" / " + dir_.path() +
                                                   " rw,nosuid,nodev,relatime.* - tmpfs none rw"));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, PivotRootExchangesTheRoot) {
  EXPECT_THAT(Run([&] {
                ASSERT_THAT(Tmpfs(dir_.path()), SyscallSucceeds());
                ASSERT_TRUE(WriteFile(dir_ / "marker", "x"));
                ASSERT_THAT(mkdir((dir_ / "old").c_str(), 0755), SyscallSucceeds());
                ASSERT_THAT(syscall(SYS_pivot_root, dir_.c_str(), (dir_ / "old").c_str()),
                            SyscallSucceeds());
                EXPECT_TRUE(Exists("/marker"));
                EXPECT_TRUE(Exists("/old/tmp"));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, UnknownTypeAndMissingTarget) {
  EXPECT_THAT(Run([&] {
                EXPECT_THAT(mount("none", dir_.c_str(), "no_such_fs", 0, nullptr),
                            SyscallFailsWithErrno(ENODEV));
                EXPECT_THAT(Tmpfs(dir_ / "none"), SyscallFailsWithErrno(ENOENT));
                EXPECT_THAT(umount2(dir_.c_str(), 0x100), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST_F(MountTest, NeedsPrivilege) {
  EXPECT_THAT(InChild([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(Tmpfs(dir_.path()), SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(umount("/proc"), SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(unshare(CLONE_NEWNS), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
