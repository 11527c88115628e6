#include "vfs/tty/host_terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

#include "vfs/testing/test_context.h"
#include "vfs/tty/fake_job_control.h"
#include "vfs/tty/pty.h"

namespace caisson::vfs::tty {
namespace {

using testing::TestContext;
using testing::TestWorld;

class HostTerminalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    host_ = UniqueFd(ends[0]);
    devpts_ = MakeRef<DevptsFileSystem>(jobs_, DevptsFileSystem::Options());
    terminal_ = HostTerminal::Start(devpts_, UniqueFd(ends[1]), 7, 5).value();
    slave_ = terminal_->OpenSlave(ctx_, kOpenReadWrite).value();
  }
  std::string FromHost(size_t n) {
    std::string got;
    while (got.size() < n) {
      char buffer[256];
      ssize_t r = read(host_.get(), buffer, sizeof(buffer));
      if (r <= 0) break;
      got.append(buffer, static_cast<size_t>(r));
    }
    return got;
  }
  std::string Await() {
    return WaitUntil(ctx_, *slave_->EventQueue(), kReadable, time::kNever,
                     [&] { return ctx_.Read(*slave_, 100); })
        .value();
  }
  TestWorld world_;
  TestContext ctx_{world_};
  FakeJobControl jobs_;
  RefPtr<DevptsFileSystem> devpts_;
  std::unique_ptr<HostTerminal> terminal_;
  RefPtr<FileDescription> slave_;
  UniqueFd host_;
};

TEST_F(HostTerminalTest, TheGuestsDisciplineCooksHostBytes) {
  ASSERT_EQ(write(host_.get(), "hi\r", 3), 3);
  EXPECT_EQ(Await(), "hi\n");
  EXPECT_EQ(FromHost(4), "hi\r\n");
  ASSERT_OK(ctx_.Write(*slave_, "out\n"));
  EXPECT_TRUE(terminal_->Drain(time::MonotonicNow() + 10'000'000'000));
  EXPECT_EQ(FromHost(5), "out\r\n");
  EXPECT_EQ(slave_->GetAttributes(ctx_)->uid, 7u);
}

TEST_F(HostTerminalTest, MuchOutputFlowsThrough) {
  std::string big(100'000, 'x');
  size_t sent = 0;
  std::string got;
  while (sent < big.size()) {
    Result<size_t> n = WaitUntil(ctx_, *slave_->EventQueue(), kWritable, time::kNever, [&] {
      return ctx_.Write(*slave_, absl::string_view(big).substr(sent, 5000));
    });
    ASSERT_OK(n);
    sent += *n;
    got += FromHost(*n);
  }
  EXPECT_EQ(got.size(), big.size());
}

TEST_F(HostTerminalTest, TheHostsEndHangsUp) {
  host_.reset();
  EXPECT_EQ(Await(), "");
  EXPECT_ERRNO(ctx_.Write(*slave_, "x"), kEIO);
  EXPECT_FALSE(devpts_->SlaveInode(0));
}

TEST_F(HostTerminalTest, EndingItHangsUpToo) {
  terminal_ = nullptr;
  EXPECT_EQ(Await(), "");
  char c;
  EXPECT_EQ(read(host_.get(), &c, 1), 0);
}

}  // namespace
}  // namespace caisson::vfs::tty
