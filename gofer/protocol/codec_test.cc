#include "gofer/protocol/codec.h"

#include <sys/socket.h>

#include "gofer/protocol/channel.h"
#include "gtest/gtest.h"

namespace caisson::gofer {
namespace {

TEST(ReaderTest, RefusesToReadPastTheEnd) {
  Reader reader("abcdefg");
  uint32_t four;
  absl::string_view bytes;
  EXPECT_TRUE(reader.Take(&four));
  EXPECT_FALSE(reader.Take(&four));
  EXPECT_FALSE(reader.TakeBytes(4, &bytes));
  EXPECT_TRUE(reader.TakeBytes(3, &bytes));
  EXPECT_EQ(bytes, "efg");
  EXPECT_TRUE(reader.empty());
}

TEST(NameTest, RefusesStepsUpSlashesAndNuls) {
  EXPECT_TRUE(IsValidName("a"));
  EXPECT_TRUE(IsValidName("..."));
  EXPECT_TRUE(IsValidName(std::string(255, 'x')));
  EXPECT_FALSE(IsValidName(std::string(256, 'x')));
  EXPECT_FALSE(IsValidName(""));
  EXPECT_FALSE(IsValidName("."));
  EXPECT_FALSE(IsValidName(".."));
  EXPECT_FALSE(IsValidName("a/b"));
  EXPECT_FALSE(IsValidName(absl::string_view("a\0b", 3)));
}

class ChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    a_.reset(fds[0]);
    b_.reset(fds[1]);
  }
  UniqueFd a_, b_;
};

TEST_F(ChannelTest, ADescriptorComesAlong) {
  ASSERT_EQ(SendPacket(a_.get(), "hello", a_.get()), 0);
  char buffer[16];
  UniqueFd fd;
  EXPECT_EQ(ReceivePacket(b_.get(), buffer, sizeof(buffer), &fd), 5);
  EXPECT_TRUE(fd.valid());
}

TEST_F(ChannelTest, ALongPacketIsAnError) {
  ASSERT_EQ(SendPacket(a_.get(), std::string(100, 'x'), -1), 0);
  char buffer[16];
  EXPECT_EQ(ReceivePacket(b_.get(), buffer, sizeof(buffer), nullptr), -EMSGSIZE);
}

TEST_F(ChannelTest, SeveralDescriptorsAreAnErrorAndDoNotLeak) {
  iovec iov{const_cast<char*>("x"), 1};
  alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))] = {};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&msg);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(3 * sizeof(int));
  int fds[3] = {a_.get(), a_.get(), a_.get()};
  memcpy(CMSG_DATA(c), fds, sizeof(fds));
  ASSERT_EQ(sendmsg(a_.get(), &msg, 0), 1);
  int next_before = dup(0);
  close(next_before);
  char buffer[16];
  {
    UniqueFd fd;
    EXPECT_EQ(ReceivePacket(b_.get(), buffer, sizeof(buffer), &fd), -EMSGSIZE);
  }
  int next_after = dup(0);
  close(next_after);
  EXPECT_EQ(next_before, next_after);
}

TEST_F(ChannelTest, TheEndIsZero) {
  a_.reset();
  char buffer[16];
  EXPECT_EQ(ReceivePacket(b_.get(), buffer, sizeof(buffer), nullptr), 0);
  EXPECT_EQ(SendPacket(b_.get(), "x", -1), EPIPE);
}

}  // namespace
}  // namespace caisson::gofer
