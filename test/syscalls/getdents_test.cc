// getdents64(2), and what lseek(2) does on directories.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

struct Entry {
  std::string name;
  unsigned char type;
  int64_t next;
  uint64_t inode;
};

// One getdents64 with a buffer of `size` bytes; nothing at the end.
std::vector<Entry> Next(int fd, size_t size = 4096) {
  std::string buffer(size, '\0');
  long n = syscall(SYS_getdents64, fd, buffer.data(), size);
  EXPECT_GE(n, 0) << strerror(errno);
  std::vector<Entry> entries;
  for (long at = 0; at < n;) {
    dirent64* entry = reinterpret_cast<dirent64*>(buffer.data() + at);
    EXPECT_EQ(entry->d_reclen % 8, 0);
    entries.push_back({entry->d_name, entry->d_type, entry->d_off, entry->d_ino});
    at += entry->d_reclen;
  }
  return entries;
}

std::vector<std::string> All(int fd, size_t size = 4096) {
  std::vector<std::string> names;
  for (;;) {
    std::vector<Entry> entries = Next(fd, size);
    if (entries.empty()) return names;
    for (const Entry& entry : entries) names.push_back(entry.name);
  }
}

TEST(GetdentsTest, ListsDotsAndTypes) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", ""));
  ASSERT_THAT(mkdir((dir / "dir").c_str(), 0755), SyscallSucceeds());
  ASSERT_THAT(symlink("x", (dir / "link").c_str()), SyscallSucceeds());
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  std::set<std::pair<std::string, int>> seen;
  for (const Entry& entry : Next(fd)) seen.insert({entry.name, entry.type});
  EXPECT_EQ(
      seen,
      (std::set<std::pair<std::string, int>>{
          {".", DT_DIR}, {"..", DT_DIR}, {"file", DT_REG}, {"dir", DT_DIR}, {"link", DT_LNK}}));
}

TEST(GetdentsTest, InodesAgreeWithStat) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  struct stat st;
  ASSERT_THAT(stat((dir / "f").c_str(), &st), SyscallSucceeds());
  for (const Entry& entry : Next(fd)) {
    if (entry.name == "f") {
      EXPECT_EQ(entry.inode, st.st_ino);
    }
  }
}

TEST(GetdentsTest, EachEntryOfABigDirectoryOnce) {
  TempDir dir;
  constexpr int kFiles = 1000;
  for (int i = 0; i < kFiles; i++) {
    ASSERT_THAT(mknod((dir / ("file" + std::to_string(i))).c_str(), S_IFREG | 0600, 0),
                SyscallSucceeds());
  }
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  std::vector<std::string> names = All(fd, 1024);
  std::set<std::string> unique(names.begin(), names.end());
  EXPECT_EQ(names.size(), kFiles + 2u);
  EXPECT_EQ(unique.size(), names.size());
}

TEST(GetdentsTest, RewindReadsAgain) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  EXPECT_EQ(All(fd).size(), 3u);
  EXPECT_TRUE(Next(fd).empty());
  ASSERT_THAT(lseek(fd, 0, SEEK_SET), SyscallSucceedsWithValue(0));
  EXPECT_EQ(All(fd).size(), 3u);
}

TEST(GetdentsTest, SeekToAnEntrysOffsetGoesOnBehindIt) {
  TempDir dir;
  for (int i = 0; i < 20; i++) ASSERT_TRUE(WriteFile(dir / std::to_string(i), ""));
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  std::vector<Entry> entries = Next(fd);
  ASSERT_EQ(entries.size(), 22u);
  ASSERT_THAT(lseek(fd, entries[9].next, SEEK_SET), SyscallSucceeds());
  std::vector<Entry> rest = Next(fd);
  ASSERT_EQ(rest.size(), 12u);
  EXPECT_EQ(rest[0].name, entries[10].name);
}

TEST(GetdentsTest, RemovingWhileReadingSkipsNothingElse) {
  TempDir dir;
  constexpr int kFiles = 500;
  for (int i = 0; i < kFiles; i++) ASSERT_TRUE(WriteFile(dir / std::to_string(i), ""));
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  for (;;) {
    std::vector<Entry> entries = Next(fd, 512);
    if (entries.empty()) break;
    for (const Entry& entry : entries) unlinkat(fd, entry.name.c_str(), 0);
  }
  EXPECT_TRUE(ListDir(dir.path()).empty());
}

TEST(GetdentsTest, BufferTooSmallForOneEntryIsInvalid) {
  TempDir dir;
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  char buffer[8];
  EXPECT_THAT(syscall(SYS_getdents64, static_cast<int>(fd), buffer, sizeof(buffer)),
              SyscallFailsWithErrno(EINVAL));
}

TEST(GetdentsTest, NonDirectoryIsEnotdir) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  char buffer[1024];
  EXPECT_THAT(syscall(SYS_getdents64, static_cast<int>(fd), buffer, sizeof(buffer)),
              SyscallFailsWithErrno(ENOTDIR));
}

TEST(GetdentsTest, RemovedDirectoryIsEnoent) {
  TempDir dir;
  ASSERT_THAT(mkdir((dir / "d").c_str(), 0755), SyscallSucceeds());
  FdCloser fd(open((dir / "d").c_str(), O_RDONLY));
  ASSERT_THAT(rmdir((dir / "d").c_str()), SyscallSucceeds());
  char buffer[1024];
  EXPECT_THAT(syscall(SYS_getdents64, static_cast<int>(fd), buffer, sizeof(buffer)),
              SyscallFailsWithErrno(ENOENT));
}

TEST(GetdentsTest, EntriesNeverPassTheBuffer) {
  TempDir dir;
  for (int i = 0; i < 50; i++) ASSERT_TRUE(WriteFile(dir / std::to_string(i), ""));
  FdCloser fd(open(dir.c_str(), O_RDONLY));
  GuardedPage page;
  EXPECT_THAT(syscall(SYS_getdents64, static_cast<int>(fd), page.At(100), 100),
              SyscallSucceedsWithValue(testing::Le(100)));
}

}  // namespace
}  // namespace caisson::test
