#include "vfs/host/host_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include <gtest/gtest.h>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class HostFileTest : public ::testing::Test {
 protected:
  RefPtr<FileDescription> Import(int fd) { return files_.Import(UniqueFd(fd), 5, 6).value(); }
  TestWorld world_;
  TestContext ctx_{world_};
  HostPoller poller_;
  HostFiles files_{poller_};
};

TEST_F(HostFileTest, PipesNeverBlockAndWakeWaiters) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  RefPtr<FileDescription> in = Import(ends[0]);
  UniqueFd writer(ends[1]);
  EXPECT_ERRNO(ctx_.Read(*in, 10), kEAGAIN);
  EXPECT_EQ(in->Readiness(kReadable), 0u);
  for (int i = 0; i < 3; ++i) {
    std::thread thread([&] { ASSERT_EQ(write(writer.get(), "data", 4), 4); });
    Result<std::string> got = WaitUntil(ctx_, *in->EventQueue(), kReadable, time::kNever,
                                        [&] { return ctx_.Read(*in, 10); });
    thread.join();
    EXPECT_EQ(*got, "data");
  }
  writer.reset();
  EXPECT_EQ(*ctx_.Read(*in, 10), "");
  EXPECT_EQ(in->Readiness(kAllEvents) & kEventHup, kEventHup);
  EXPECT_EQ(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(HostFileTest, FullPipeAndBrokenPipe) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  RefPtr<FileDescription> out = Import(ends[1]);
  std::string big(30'000, 'x');
  size_t total = 0;
  for (;;) {
    Result<size_t> n = ctx_.Write(*out, big);
    if (!n.ok()) {
      EXPECT_EQ(n.error(), Errno::kEAGAIN);
      break;
    }
    total += *n;
  }
  EXPECT_GT(total, 60'000u);
  EXPECT_EQ(out->Readiness(kWritable), 0u);
  std::thread thread([&] {
    char buffer[65536];
    ASSERT_EQ(read(reader.get(), buffer, sizeof(buffer)), static_cast<ssize_t>(total));
  });
  ASSERT_OK(WaitUntil(ctx_, *out->EventQueue(), kWritable, time::kNever,
                      [&] { return ctx_.Write(*out, "x"); }));
  thread.join();
  reader.reset();
  signal(SIGPIPE, SIG_IGN);
  EXPECT_ERRNO(ctx_.Write(*out, "x"), kEPIPE);
  EXPECT_EQ(ctx_.signals_, std::vector<int>{13});
}

TEST_F(HostFileTest, SocketsAndHangUp) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  RefPtr<FileDescription> file = Import(ends[0]);
  UniqueFd peer(ends[1]);
  ASSERT_OK(ctx_.Write(*file, "abc"));
  char buffer[3];
  EXPECT_EQ(read(peer.get(), buffer, 3), 3);
  EXPECT_ERRNO(ctx_.Read(*file, 1), kEAGAIN);
  peer.reset();
  EXPECT_EQ(*ctx_.Read(*file, 1), "");
  EXPECT_ERRNO(ctx_.Write(*file, "x"), kEPIPE);
}

TEST_F(HostFileTest, RegularFilesShareTheHostsPosition) {
  UniqueFd fd(memfd_create("x", MFD_CLOEXEC));
  UniqueFd copy(dup(fd.get()));
  RefPtr<FileDescription> file = Import(fd.Release());
  ASSERT_OK(ctx_.Write(*file, "hello"));
  ASSERT_EQ(write(copy.get(), " world", 6), 6);
  EXPECT_EQ(*file->Seek(ctx_, 0, 0), 0);
  EXPECT_EQ(*ctx_.Read(*file, 100), "hello world");
  EXPECT_EQ(file->kind(), FileKind::kRegular);
  EXPECT_EQ(file->EventQueue(), nullptr);
  Attributes attr = *file->GetAttributes(ctx_);
  EXPECT_EQ(attr.size, 11u);
  EXPECT_EQ(attr.uid, 5u);
  EXPECT_EQ(attr.gid, 6u);
}

TEST_F(HostFileTest, ReopensWithNoMoreAccess) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  RefPtr<FileDescription> in = Import(ends[0]), out = Import(ends[1]);
  Result<RefPtr<FileDescription>> again = OpenPath(ctx_, out->path(), kOpenWriteOnly);
  ASSERT_OK(again);
  ASSERT_OK(ctx_.Write(**again, "x"));
  EXPECT_EQ(*ctx_.Read(*in, 10), "x");
  EXPECT_ERRNO(OpenPath(ctx_, out->path(), kOpenReadOnly), kEACCES);
  EXPECT_EQ(in->Describe(), "pipe:[1]");
}

TEST_F(HostFileTest, RefusesDirectories) {
  EXPECT_ERRNO(files_.Import(UniqueFd(open("/", O_RDONLY | O_CLOEXEC)), 0, 0), kEINVAL);
  EXPECT_ERRNO(files_.Import(UniqueFd(-1), 0, 0), kEBADF);
}

TEST_F(HostFileTest, DevNullIsAlwaysReadyAndNoTerminal) {
  RefPtr<FileDescription> null = Import(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(*ctx_.Read(*null, 10), "");
  EXPECT_EQ(*ctx_.Write(*null, "x"), 1u);
  EXPECT_EQ(null->Readiness(kReadable | kWritable), kReadable | kWritable);
  char termios[64];
  EXPECT_ERRNO(null->Ioctl(ctx_, 0x5401, reinterpret_cast<uint64_t>(termios)), kENOTTY);
}

}  // namespace
}  // namespace caisson::vfs
