#include "vfs/tty/pty.h"

#include <string>

#include <gtest/gtest.h>

#include "vfs/testing/test_context.h"
#include "vfs/tty/fake_job_control.h"

namespace caisson::vfs::tty {
namespace {

using testing::TestContext;
using testing::TestWorld;

class PtyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    DevptsFileSystem::Options options = DevptsFileSystem::ParseOptions(
        "newinstance,ptmxmode=0666,mode=0620,gid=5", *world_.user_ns()).value();
    devpts_ = MakeRef<DevptsFileSystem>(jobs_, options);
    ASSERT_OK(ctx_.Mkdir("pts"));
    ASSERT_OK(ctx_.ns_->Add(devpts_, ctx_.Walk("pts").value(), 0, "devpts"));
    master_ = ctx_.Open("pts/ptmx", kOpenReadWrite | kOpenNoCtty).value();
    Set(*master_, kTiocsptlck, int32_t{0});
    slave_ = ctx_.Open("pts/0", kOpenReadWrite | kOpenNoCtty).value();
  }
  void TearDown() override { jobs_.controlling = nullptr; }
  template <typename T>
  void Set(FileDescription& file, uint32_t request, T value) {
    ASSERT_OK(file.Ioctl(ctx_, request, reinterpret_cast<uint64_t>(&value)));
  }
  template <typename T>
  Result<T> Get(FileDescription& file, uint32_t request) {
    T value{};
    TRY(file.Ioctl(ctx_, request, reinterpret_cast<uint64_t>(&value)));
    return value;
  }
  void SetFlags(uint32_t lflag, uint8_t min = 1, uint8_t time = 0) {
    Termios t = *Get<Termios>(*slave_, kTcgets2);
    t.lflag = lflag;
    t.cc[kVmin] = min;
    t.cc[kVtime] = time;
    Set(*slave_, kTcsets2, t);
  }
  Result<std::string> Read(FileDescription& file, size_t n = 100) { return ctx_.Read(file, n); }

  TestWorld world_;
  TestContext ctx_{world_};
  FakeJobControl jobs_;
  RefPtr<DevptsFileSystem> devpts_;
  RefPtr<FileDescription> master_, slave_;
};

TEST_F(PtyTest, BytesGoBothWaysThroughTheDiscipline) {
  ASSERT_OK(ctx_.Write(*master_, "hi\r"));
  EXPECT_EQ(*Read(*slave_), "hi\n");
  EXPECT_EQ(*Read(*master_), "hi\r\n");
  ASSERT_OK(ctx_.Write(*slave_, "out\n"));
  EXPECT_EQ(*Read(*master_), "out\r\n");
  EXPECT_ERRNO(Read(*master_), kEAGAIN);
  EXPECT_ERRNO(Read(*slave_), kEAGAIN);
}

TEST_F(PtyTest, NodesFollowTheMountOptions) {
  Attributes attr = *ctx_.Stat("pts/0");
  EXPECT_EQ(attr.mode, kModeChar | 0620u);
  EXPECT_EQ(attr.gid, 5u);
  EXPECT_EQ(attr.rdev, (DeviceNumber{136, 0}));
  EXPECT_EQ(ctx_.Stat("pts/ptmx")->mode, kModeChar | 0666u);
  EXPECT_EQ(*ctx_.List("pts"), (std::vector<std::string>{"0", "ptmx"}));
  RefPtr<FileDescription> second = ctx_.Open("pts/ptmx", kOpenReadWrite).value();
  EXPECT_EQ(*Get<int32_t>(*second, kTiocgptn), 1);
  EXPECT_ERRNO(ctx_.Open("pts/1", kOpenReadWrite), kEIO);  // Locked.
  second = nullptr;
  EXPECT_ERRNO(ctx_.Stat("pts/1"), kENOENT);
}

TEST_F(PtyTest, MasterCloseHangsUpTheSlave) {
  ASSERT_OK(slave_->Ioctl(ctx_, kTiocsctty, 0));
  jobs_.TakeLog();
  master_ = nullptr;
  EXPECT_EQ(*Read(*slave_), "");
  EXPECT_ERRNO(ctx_.Write(*slave_, "x"), kEIO);
  EXPECT_EQ(slave_->Readiness(kAllEvents), kReadable | kWritable | kEventErr | kEventHup);
  EXPECT_ERRNO(Get<int32_t>(*slave_, kTiocgpgrp), kEIO);
  EXPECT_EQ(jobs_.TakeLog(),
            (std::vector<std::string>{"clear 10", "leader 10 sig 1", "leader 10 sig 18"}));
  EXPECT_FALSE(jobs_.controlling);
}

TEST_F(PtyTest, SlaveCloseIsSeenByTheMasterUntilItIsOpenedAgain) {
  ASSERT_OK(ctx_.Write(*slave_, "bye"));
  slave_ = nullptr;
  EXPECT_EQ(master_->Readiness(kAllEvents), kReadable | kWritable | kEventHup);
  EXPECT_EQ(*Read(*master_), "bye");
  EXPECT_ERRNO(Read(*master_), kEIO);
  slave_ = ctx_.Open("pts/0", kOpenReadWrite | kOpenNoCtty).value();
  EXPECT_ERRNO(Read(*master_), kEAGAIN);
}

TEST_F(PtyTest, OpeningMakesItTheControllingTerminalOfALeader) {
  EXPECT_FALSE(jobs_.controlling);
  jobs_.caller.session_leader = false;
  RefPtr<FileDescription> other = ctx_.Open("pts/0", kOpenReadWrite).value();
  EXPECT_FALSE(jobs_.controlling);
  jobs_.caller.session_leader = true;
  other = ctx_.Open("pts/0", kOpenReadWrite).value();
  EXPECT_TRUE(jobs_.controlling == &AsTty(*slave_)->tty());
  EXPECT_EQ(*Get<int32_t>(*slave_, kTiocgsid), 10);
  EXPECT_EQ(*Get<int32_t>(*master_, kTiocgpgrp), 10);
}

TEST_F(PtyTest, SignalsGoToTheForegroundGroup) {
  ASSERT_OK(slave_->Ioctl(ctx_, kTiocsctty, 0));
  Set(*slave_, kTiocspgrp, int32_t{20});
  jobs_.caller.group = 20;
  ASSERT_OK(ctx_.Write(*master_, "\x03"));
  WindowSize size{24, 80, 0, 0};
  Set(*master_, kTiocswinsz, size);
  Set(*master_, kTiocswinsz, size);
  EXPECT_EQ(jobs_.TakeLog(), (std::vector<std::string>{"group 20 sig 2", "group 20 sig 28"}));
  EXPECT_EQ(*Get<WindowSize>(*slave_, kTiocgwinsz), size);
}

TEST_F(PtyTest, SettingTheForegroundGroupIsChecked) {
  int32_t group = 20;
  uint64_t arg = reinterpret_cast<uint64_t>(&group);
  EXPECT_ERRNO(slave_->Ioctl(ctx_, kTiocspgrp, arg), kENOTTY);
  ASSERT_OK(slave_->Ioctl(ctx_, kTiocsctty, 0));
  group = 30;
  EXPECT_ERRNO(slave_->Ioctl(ctx_, kTiocspgrp, arg), kEPERM);
  group = 99;
  EXPECT_ERRNO(slave_->Ioctl(ctx_, kTiocspgrp, arg), kESRCH);
  group = -1;
  EXPECT_ERRNO(slave_->Ioctl(ctx_, kTiocspgrp, arg), kEINVAL);
}

TEST_F(PtyTest, BackgroundReadersAndWritersAreStopped) {
  ASSERT_OK(slave_->Ioctl(ctx_, kTiocsctty, 0));
  jobs_.caller.group = 20;
  EXPECT_ERRNO(Read(*slave_), kERESTARTSYS);
  ASSERT_OK(ctx_.Write(*slave_, "x"));  // Allowed without TOSTOP.
  EXPECT_EQ(ctx_.signals_, std::vector<int>{kSigTtin});
  jobs_.ignores = true;
  EXPECT_ERRNO(Read(*slave_), kEIO);
  SetFlags(kIcanon | kTostop);
  ASSERT_OK(ctx_.Write(*slave_, "x"));
  jobs_.ignores = false;
  EXPECT_ERRNO(ctx_.Write(*slave_, "x"), kERESTARTSYS);
  EXPECT_EQ(ctx_.signals_.back(), kSigTtou);
  jobs_.orphaned = true;
  EXPECT_ERRNO(ctx_.Write(*slave_, "x"), kEIO);
}

TEST_F(PtyTest, TimedRawReads) {
  SetFlags(0, 0, 0);
  EXPECT_EQ(*Read(*slave_), "");  // VMIN and VTIME 0: what is there.
  SetFlags(0, 0, 5);
  EXPECT_ERRNO(Read(*slave_), kEAGAIN);
  EXPECT_EQ(slave_->ReadDeadline(1000), 500'001'000);
  char byte;
  SpanBuffer to({&byte, 1});
  EXPECT_EQ(*slave_->Read(ctx_, to, kRwfTimedOut), 0u);
  SetFlags(0, 3, 100);
  EXPECT_EQ(slave_->ReadDeadline(0), time::kNever);
  ASSERT_OK(ctx_.Write(*master_, "ab"));
  EXPECT_ERRNO(Read(*slave_), kEAGAIN);
  int64_t deadline = slave_->ReadDeadline(0);
  EXPECT_GT(deadline, time::MonotonicNow());
  EXPECT_LE(deadline, time::MonotonicNow() + 10'000'000'000);
  EXPECT_EQ(*Read(*slave_, 2), "ab");  // Fewer than VMIN were asked for.
}

TEST_F(PtyTest, PacketModeReportsFlowAndData) {
  Set(*master_, kTiocpkt, int32_t{1});
  ASSERT_OK(ctx_.Write(*slave_, "x"));
  EXPECT_EQ(*Read(*master_), std::string("\0x", 2));
  ASSERT_OK(slave_->Ioctl(ctx_, kTcxonc, 0));
  EXPECT_NE(master_->Readiness(kAllEvents) & kEventPri, 0u);
  EXPECT_EQ(*Read(*master_), std::string(1, kPacketStop));
  EXPECT_ERRNO(ctx_.Write(*slave_, "y"), kEAGAIN);
  ASSERT_OK(slave_->Ioctl(ctx_, kTcxonc, 1));
  EXPECT_EQ(*Read(*master_), std::string(1, kPacketStart));
}

TEST_F(PtyTest, OutputIsBoundedAndInputToo) {
  size_t total = 0;
  for (;;) {
    Result<size_t> n = ctx_.Write(*slave_, std::string(1000, 'x'));
    if (!n.ok()) break;
    total += *n;
  }
  EXPECT_EQ(total, 8192u);
  SetFlags(0);
  total = 0;
  for (;;) {
    Result<size_t> n = ctx_.Write(*master_, std::string(1000, 'x'));
    if (!n.ok()) break;
    total += *n;
  }
  EXPECT_GE(total, 4095u + 8192u);
  EXPECT_EQ(master_->Readiness(kWritable), 0u);
  size_t got = 0;
  while (got < total) got += Read(*slave_, 3000)->size();
  EXPECT_EQ(got, total);
}

TEST_F(PtyTest, PeerHasTheSlavesName) {
  Result<RefPtr<FileDescription>> peer =
      static_cast<PtyMaster&>(*master_).OpenPeer(ctx_, kOpenReadWrite | kOpenNoCtty);
  ASSERT_OK(peer);
  EXPECT_EQ(ctx_.PathName((*peer)->path()), "/pts/0");
}

TEST_F(PtyTest, DevTtyIsTheControllingTerminal) {
  RefPtr<Inode> inode = ctx_.Walk("pts/0")->dentry->inode();
  EXPECT_ERRNO(OpenControllingTty(ctx_, jobs_, {VfsPath(), kOpenReadWrite}, *inode), kENXIO);
  ASSERT_OK(slave_->Ioctl(ctx_, kTiocsctty, 0));
  RefPtr<FileDescription> tty =
      OpenControllingTty(ctx_, jobs_, {VfsPath(), kOpenReadWrite}, *inode).value();
  ASSERT_OK(ctx_.Write(*tty, "x"));
  EXPECT_EQ(*Read(*master_), "x");
  ASSERT_OK(tty->Ioctl(ctx_, kTiocnotty, 0));
  EXPECT_FALSE(jobs_.controlling);
}

}  // namespace
}  // namespace caisson::vfs::tty
