// inotify(7).
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

struct Event {
  int watch;
  uint32_t mask;
  uint32_t cookie;
  std::string name;
};

class InotifyTest : public testing::Test {
 protected:
  InotifyTest() : fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {}
  int Watch(const std::string& path, uint32_t mask) {
    return inotify_add_watch(fd_, path.c_str(), mask);
  }
  std::vector<Event> Events() {
    const std::string data = ReadOnce(fd_);
    std::vector<Event> events;
    for (size_t at = 0; at + sizeof(inotify_event) <= data.size();) {
      inotify_event header;
      memcpy(&header, data.data() + at, sizeof(header));
      at += sizeof(header);
      events.push_back({header.wd, header.mask, header.cookie,
                        std::string(data.c_str() + at, strnlen(data.c_str() + at, header.len))});
      at += header.len;
    }
    return events;
  }
  TempDir dir_;
  FdCloser fd_;
};

TEST_F(InotifyTest, CreateNamesTheEntry) {
  const int watch = Watch(dir_.path(), IN_CREATE);
  ASSERT_THAT(watch, SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir_ / "new", ""));
  std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].watch, watch);
  EXPECT_EQ(events[0].mask, static_cast<uint32_t>(IN_CREATE));
  EXPECT_EQ(events[0].name, "new");
}

TEST_F(InotifyTest, DirectoriesAreMarked) {
  ASSERT_THAT(Watch(dir_.path(), IN_CREATE | IN_DELETE), SyscallSucceeds());
  ASSERT_THAT(mkdir((dir_ / "d").c_str(), 0755), SyscallSucceeds());
  ASSERT_THAT(rmdir((dir_ / "d").c_str()), SyscallSucceeds());
  std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].mask, IN_CREATE | IN_ISDIR);
  EXPECT_EQ(events[1].mask, IN_DELETE | IN_ISDIR);
}

TEST_F(InotifyTest, WriterOpensModifiesAndCloses) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_THAT(Watch(dir_ / "f", IN_OPEN | IN_MODIFY | IN_CLOSE_WRITE), SyscallSucceeds());
  FdCloser fd(open((dir_ / "f").c_str(), O_WRONLY));
  ASSERT_TRUE(WriteAll(fd, "x"));
  fd.Close();
  std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].mask, static_cast<uint32_t>(IN_OPEN));
  EXPECT_EQ(events[1].mask, static_cast<uint32_t>(IN_MODIFY));
  EXPECT_EQ(events[2].mask, static_cast<uint32_t>(IN_CLOSE_WRITE));
}

TEST_F(InotifyTest, RenamePairsByCookie) {
  ASSERT_TRUE(WriteFile(dir_ / "a", ""));
  ASSERT_THAT(Watch(dir_.path(), IN_MOVE), SyscallSucceeds());
  ASSERT_THAT(rename((dir_ / "a").c_str(), (dir_ / "b").c_str()), SyscallSucceeds());
  std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].mask, static_cast<uint32_t>(IN_MOVED_FROM));
  EXPECT_EQ(events[1].mask, static_cast<uint32_t>(IN_MOVED_TO));
  EXPECT_NE(events[0].cookie, 0u);
  EXPECT_EQ(events[0].cookie, events[1].cookie);
}

TEST_F(InotifyTest, IdenticalEventsMerge) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_THAT(Watch(dir_ / "f", IN_MODIFY), SyscallSucceeds());
  FdCloser fd(open((dir_ / "f").c_str(), O_WRONLY));
  ASSERT_TRUE(WriteAll(fd, "x"));
  ASSERT_TRUE(WriteAll(fd, "y"));
  EXPECT_EQ(Events().size(), 1u);
}

TEST_F(InotifyTest, DeletingTheWatchedFileEndsTheWatch) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_THAT(Watch(dir_ / "f", IN_DELETE_SELF), SyscallSucceeds());
  ASSERT_THAT(unlink((dir_ / "f").c_str()), SyscallSucceeds());
  std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].mask, static_cast<uint32_t>(IN_DELETE_SELF));
  EXPECT_EQ(events[1].mask, static_cast<uint32_t>(IN_IGNORED));
}

TEST_F(InotifyTest, RemovedWatchIsIgnoredOnceThenInvalid) {
  const int watch = Watch(dir_.path(), IN_CREATE);
  EXPECT_THAT(inotify_rm_watch(fd_, watch), SyscallSucceeds());
  std::vector<Event> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].mask, static_cast<uint32_t>(IN_IGNORED));
  EXPECT_THAT(inotify_rm_watch(fd_, watch), SyscallFailsWithErrno(EINVAL));
}

TEST_F(InotifyTest, OneFileHasOneWatch) {
  const int watch = Watch(dir_.path(), IN_CREATE);
  EXPECT_THAT(Watch(dir_.path(), IN_DELETE), SyscallSucceedsWithValue(watch));
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_TRUE(Events().empty());  // The mask was replaced.
}

TEST_F(InotifyTest, PollAndFionreadSeeTheQueue) {
  ASSERT_THAT(Watch(dir_.path(), IN_CREATE), SyscallSucceeds());
  pollfd poller = {fd_, POLLIN, 0};
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(0));
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(1));
  int bytes = 0;
  ASSERT_THAT(ioctl(fd_, FIONREAD, &bytes), SyscallSucceeds());
  EXPECT_EQ(bytes, 32);
}

TEST_F(InotifyTest, BadArguments) {
  EXPECT_THAT(Watch(dir_.path(), 0), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(Watch(dir_ / "none", IN_CREATE), SyscallFailsWithErrno(ENOENT));
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_THAT(Watch(dir_ / "f", IN_OPEN | IN_ONLYDIR), SyscallFailsWithErrno(ENOTDIR));
  EXPECT_THAT(inotify_init1(1), SyscallFailsWithErrno(EINVAL));
  ASSERT_THAT(Watch(dir_.path(), IN_CREATE), SyscallSucceeds());
  ASSERT_TRUE(WriteFile(dir_ / "g", ""));
  char small[8];
  EXPECT_THAT(read(fd_, small, sizeof(small)), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
