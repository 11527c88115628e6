// getxattr(2), setxattr(2), listxattr(2), removexattr(2).
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

class XattrTest : public testing::Test {
 protected:
  TempFile file_;
  const char* path_ = file_.c_str();
};

TEST_F(XattrTest, ValueIsKept) {
  ASSERT_THAT(setxattr(path_, "user.key", "value", 5, 0), SyscallSucceeds());
  char value[16];
  EXPECT_THAT(getxattr(path_, "user.key", value, sizeof(value)), SyscallSucceedsWithValue(5));
  EXPECT_EQ(std::string(value, 5), "value");
}

TEST_F(XattrTest, SizeZeroAsksForTheLength) {
  ASSERT_THAT(setxattr(path_, "user.key", "value", 5, 0), SyscallSucceeds());
  EXPECT_THAT(getxattr(path_, "user.key", nullptr, 0), SyscallSucceedsWithValue(5));
  EXPECT_THAT(listxattr(path_, nullptr, 0), SyscallSucceedsWithValue(testing::Ge(9)));
}

TEST_F(XattrTest, SmallBufferIsErange) {
  ASSERT_THAT(setxattr(path_, "user.key", "value", 5, 0), SyscallSucceeds());
  char value[2];
  EXPECT_THAT(getxattr(path_, "user.key", value, sizeof(value)), SyscallFailsWithErrno(ERANGE));
  EXPECT_THAT(listxattr(path_, value, sizeof(value)), SyscallFailsWithErrno(ERANGE));
}

TEST_F(XattrTest, MissingIsEnodata) {
  EXPECT_THAT(getxattr(path_, "user.none", nullptr, 0), SyscallFailsWithErrno(ENODATA));
  EXPECT_THAT(removexattr(path_, "user.none"), SyscallFailsWithErrno(ENODATA));
}

TEST_F(XattrTest, CreateAndReplaceFlags) {
  EXPECT_THAT(setxattr(path_, "user.a", "1", 1, XATTR_REPLACE), SyscallFailsWithErrno(ENODATA));
  EXPECT_THAT(setxattr(path_, "user.a", "1", 1, XATTR_CREATE), SyscallSucceeds());
  EXPECT_THAT(setxattr(path_, "user.a", "1", 1, XATTR_CREATE), SyscallFailsWithErrno(EEXIST));
  EXPECT_THAT(setxattr(path_, "user.a", "1", 1, 4), SyscallFailsWithErrno(EINVAL));
}

TEST_F(XattrTest, ListNamesThemAll) {
  ASSERT_THAT(setxattr(path_, "user.one", "1", 1, 0), SyscallSucceeds());
  ASSERT_THAT(setxattr(path_, "user.two", "2", 1, 0), SyscallSucceeds());
  std::string names(1024, '\0');
  const ssize_t size = listxattr(path_, names.data(), names.size());
  ASSERT_THAT(size, SyscallSucceeds());
  names.resize(size);
  EXPECT_NE(names.find(std::string("user.one\0", 9)), std::string::npos);
  EXPECT_NE(names.find(std::string("user.two\0", 9)), std::string::npos);
}

TEST_F(XattrTest, UnknownPrefixIsNotSupported) {
  EXPECT_THAT(setxattr(path_, "nonsense.key", "1", 1, 0), SyscallFailsWithErrno(EOPNOTSUPP));
}

TEST_F(XattrTest, LongNameIsErangeAndLongValueE2big) {
  const std::string name = "user." + std::string(251, 'n');
  EXPECT_THAT(setxattr(path_, name.c_str(), "1", 1, 0), SyscallFailsWithErrno(ERANGE));
  const std::string value(65537, 'v');
  EXPECT_THAT(setxattr(path_, "user.v", value.data(), value.size(), 0),
              SyscallFailsWithErrno(E2BIG));
}

TEST_F(XattrTest, UserAttributesOfALinkAreEperm) {
  TempDir dir;
  ASSERT_THAT(symlink("x", (dir / "l").c_str()), SyscallSucceeds());
  EXPECT_THAT(lsetxattr((dir / "l").c_str(), "user.a", "1", 1, 0), SyscallFailsWithErrno(EPERM));
}

TEST_F(XattrTest, WritingNeedsWritePermission) {
  EXPECT_THAT(InChild([&] {
                ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
                EXPECT_THAT(setxattr(path_, "user.a", "1", 1, 0), SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST_F(XattrTest, ThroughADescriptor) {
  FdCloser fd = file_.Open(O_RDONLY);
  ASSERT_THAT(fsetxattr(fd, "user.fd", "abc", 3, 0), SyscallSucceeds());
  char value[8];
  EXPECT_THAT(fgetxattr(fd, "user.fd", value, 8), SyscallSucceedsWithValue(3));
  EXPECT_THAT(fremovexattr(fd, "user.fd"), SyscallSucceeds());
  EXPECT_THAT(fgetxattr(fd, "user.fd", value, 8), SyscallFailsWithErrno(ENODATA));
}

}  // namespace
}  // namespace caisson::test
