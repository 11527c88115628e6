// rename(2), renameat2(2).
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

class RenameTest : public testing::Test {
 protected:
  int Rename(const std::string& from, const std::string& to) {
    return rename((dir_ / from).c_str(), (dir_ / to).c_str());
  }
  int Rename2(const std::string& from, const std::string& to, unsigned flags) {
    return syscall(SYS_renameat2, AT_FDCWD, (dir_ / from).c_str(), AT_FDCWD, (dir_ / to).c_str(),
                   flags);
  }
  void File(const std::string& name) { ASSERT_TRUE(WriteFile(dir_ / name, name)); }
  void Dir(const std::string& name) {
    ASSERT_THAT(mkdir((dir_ / name).c_str(), 0755), SyscallSucceeds());
  }
  std::string Content(const std::string& name) { return ReadFile(dir_ / name); }
  bool Has(const std::string& name) { return Exists(dir_ / name); }
  TempDir dir_;
};

TEST_F(RenameTest, ReplacesAFile) {
  File("a");
  File("b");
  ASSERT_THAT(Rename("a", "b"), SyscallSucceeds());
  EXPECT_FALSE(Has("a"));
  EXPECT_EQ(Content("b"), "a");
}

TEST_F(RenameTest, ReplacedOpenFileLivesOn) {
  File("a");
  File("b");
  FdCloser fd(open((dir_ / "b").c_str(), O_RDONLY));
  ASSERT_THAT(Rename("a", "b"), SyscallSucceeds());
  EXPECT_EQ(ReadAll(fd), "b");
}

TEST_F(RenameTest, TwoNamesOfOneFileStay) {
  File("a");
  ASSERT_THAT(link((dir_ / "a").c_str(), (dir_ / "b").c_str()), SyscallSucceeds());
  EXPECT_THAT(Rename("a", "b"), SyscallSucceeds());
  EXPECT_TRUE(Has("a"));
  EXPECT_TRUE(Has("b"));
}

TEST_F(RenameTest, MissingSourceIsEnoent) {
  EXPECT_THAT(Rename("a", "b"), SyscallFailsWithErrno(ENOENT));
}

TEST_F(RenameTest, DirectoryReplacesAnEmptyOneOnly) {
  Dir("a");
  File("a/x");
  Dir("b");
  File("b/y");
  EXPECT_THAT(Rename("a", "b"), SyscallFailsWithEither(ENOTEMPTY, EEXIST));
  ASSERT_THAT(unlink((dir_ / "b/y").c_str()), SyscallSucceeds());
  EXPECT_THAT(Rename("a", "b"), SyscallSucceeds());
  EXPECT_TRUE(Has("b/x"));
}

TEST_F(RenameTest, FileAndDirectoryDoNotReplaceEachOther) {
  File("f");
  Dir("d");
  EXPECT_THAT(Rename("f", "d"), SyscallFailsWithErrno(EISDIR));
  EXPECT_THAT(Rename("d", "f"), SyscallFailsWithErrno(ENOTDIR));
}

TEST_F(RenameTest, DirectoryIntoItselfIsInvalid) {
  Dir("d");
  Dir("d/e");
  EXPECT_THAT(Rename("d", "d/x"), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(Rename("d", "d/e/x"), SyscallFailsWithErrno(EINVAL));
}

TEST_F(RenameTest, OntoAnAncestorIsEnotempty) {
  Dir("d");
  Dir("d/e");
  EXPECT_THAT(Rename("d/e", "d"), SyscallFailsWithErrno(ENOTEMPTY));
}

TEST_F(RenameTest, DotsAreBusy) {
  Dir("d");
  EXPECT_THAT(Rename("d/.", "e"), SyscallFailsWithErrno(EBUSY));
  EXPECT_THAT(Rename("d", "d/.."), SyscallFailsWithErrno(EBUSY));
}

TEST_F(RenameTest, MovedDirectoryHasItsNewParent) {
  Dir("a");
  Dir("b");
  Dir("a/d");
  File("b/here");
  FdCloser fd(open((dir_ / "a/d").c_str(), O_RDONLY));
  ASSERT_THAT(Rename("a/d", "b/d"), SyscallSucceeds());
  EXPECT_THAT(faccessat(fd, "../here", F_OK, 0), SyscallSucceeds());
}

TEST_F(RenameTest, LinkItselfIsMoved) {
  File("f");
  ASSERT_THAT(symlink("f", (dir_ / "l").c_str()), SyscallSucceeds());
  ASSERT_THAT(Rename("l", "m"), SyscallSucceeds());
  EXPECT_TRUE(Has("f"));
  EXPECT_EQ(Content("m"), "f");
}

TEST_F(RenameTest, AcrossFileSystemsIsExdev) {
  File("f");
  EXPECT_THAT(rename((dir_ / "f").c_str(), "/dev/shm/guest_test_never"),
              SyscallFailsWithErrno(EXDEV));
}

TEST_F(RenameTest, NoReplaceFindsTheTarget) {
  File("a");
  File("b");
  EXPECT_THAT(Rename2("a", "b", RENAME_NOREPLACE), SyscallFailsWithErrno(EEXIST));
  EXPECT_THAT(Rename2("a", "c", RENAME_NOREPLACE), SyscallSucceeds());
}

TEST_F(RenameTest, ExchangeSwapsAFileAndADirectory) {
  File("f");
  Dir("d");
  File("d/x");
  ASSERT_THAT(Rename2("f", "d", RENAME_EXCHANGE), SyscallSucceeds());
  EXPECT_EQ(Content("d"), "f");
  EXPECT_TRUE(Has("f/x"));
}

TEST_F(RenameTest, ExchangeNeedsBoth) {
  File("f");
  EXPECT_THAT(Rename2("f", "g", RENAME_EXCHANGE), SyscallFailsWithErrno(ENOENT));
}

TEST_F(RenameTest, ContradictingOrUnknownFlagsAreInvalid) {
  File("f");
  EXPECT_THAT(Rename2("f", "g", RENAME_EXCHANGE | RENAME_NOREPLACE), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(Rename2("f", "g", 0x80), SyscallFailsWithErrno(EINVAL));
}

TEST_F(RenameTest, StickyDirectoryProtectsOthersFiles) {
  ASSERT_THAT(chmod(dir_.c_str(), 01777), SyscallSucceeds());
  File("f");
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(Rename("f", "g"), SyscallFailsWithErrno(EPERM));
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
