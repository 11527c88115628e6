#include "sentry/protocol/channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "gtest/gtest.h"
#include "sentry/protocol/control.pb.h"

namespace caisson::protocol {
namespace {

int OpenFdCount() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

Request WaitFor(const std::string& id) {
  Request request;
  request.mutable_wait()->set_container_id(id);
  return request;
}

TEST(ChannelTest, CarriesAMessageWithDescriptors) {
  SocketPair pair = *MakeSocketPair();
  const int fds[] = {0, 1};
  ASSERT_TRUE(SendMessage(pair.first.get(), WaitFor("a"), fds).ok());
  Request got;
  std::vector<UniqueFd> got_fds;
  ASSERT_TRUE(ReceiveMessage(pair.second.get(), &got, &got_fds, 1000).ok());
  EXPECT_EQ(got.wait().container_id(), "a");
  ASSERT_EQ(got_fds.size(), 2u);
  EXPECT_EQ(fcntl(got_fds[0].get(), F_GETFD), FD_CLOEXEC);
}

TEST(ChannelTest, AnEmptyMessageIsNotTheEnd) {
  SocketPair pair = *MakeSocketPair();
  ASSERT_TRUE(SendMessage(pair.first.get(), Reply()).ok());
  Reply got;
  EXPECT_TRUE(ReceiveMessage(pair.second.get(), &got, nullptr, 1000).ok());
}

TEST(ChannelTest, ReportsCloseAndTimeout) {
  SocketPair pair = *MakeSocketPair();
  Request got;
  EXPECT_EQ(ReceiveMessage(pair.second.get(), &got, nullptr, 10).code(),
            absl::StatusCode::kDeadlineExceeded);
  pair.first.reset();
  EXPECT_EQ(ReceiveMessage(pair.second.get(), &got, nullptr, 1000).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(SendMessage(pair.second.get(), WaitFor("a")).code(), absl::StatusCode::kUnavailable);
}

TEST(ChannelTest, RefusesWhatIsTooLargeOnBothSides) {
  SocketPair pair = *MakeSocketPair();
  const Request large = WaitFor(std::string(kMaxControlMessage, 'x'));
  EXPECT_EQ(SendMessage(pair.first.get(), large).code(), absl::StatusCode::kInvalidArgument);
  const std::string bytes = "\1" + large.SerializeAsString();
  ASSERT_EQ(send(pair.first.get(), bytes.data(), bytes.size(), 0),
            static_cast<ssize_t>(bytes.size()));
  Request got;
  EXPECT_EQ(ReceiveMessage(pair.second.get(), &got, nullptr, 1000).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ChannelTest, ClosesDescriptorsOfARefusedMessage) {
  SocketPair pair = *MakeSocketPair();
  const int before = OpenFdCount();
  const int fds[] = {0, 1, 2};
  // Descriptors where none are expected.
  ASSERT_TRUE(SendMessage(pair.first.get(), WaitFor("a"), fds).ok());
  Request got;
  EXPECT_FALSE(ReceiveMessage(pair.second.get(), &got, nullptr, 1000).ok());
  EXPECT_EQ(OpenFdCount(), before);
  // Bytes that are no message.
  char junk[] = "\1\xff\xff";
  iovec data{junk, 3};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* cmsg = CMSG_FIRSTHDR(&header);
  cmsg->cmsg_level = SOL_SOCKET;
  cmsg->cmsg_type = SCM_RIGHTS;
  cmsg->cmsg_len = CMSG_LEN(sizeof(int));
  ASSERT_EQ(sendmsg(pair.first.get(), &header, 0), 3);
  std::vector<UniqueFd> got_fds;
  EXPECT_EQ(ReceiveMessage(pair.second.get(), &got, &got_fds, 1000).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(got_fds.empty());
  EXPECT_EQ(OpenFdCount(), before);
}

TEST(ChannelTest, PayloadRoundTripAndItsSeals) {
  Container container;
  container.set_id("box");
  container.mutable_init()->add_args(std::string(100'000, 'a'));
  UniqueFd fd = *SealedPayload(container, "container");
  Container got;
  ASSERT_TRUE(ReadSealedPayload(fd.get(), &got).ok());
  EXPECT_EQ(got.SerializeAsString(), container.SerializeAsString());
  EXPECT_LT(pwrite(fd.get(), "x", 1, 0), 0);
  EXPECT_LT(ftruncate(fd.get(), 0), 0);

  UniqueFd unsealed(memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_FALSE(ReadSealedPayload(unsealed.get(), &got).ok());
  UniqueFd device(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(ReadSealedPayload(device.get(), &got).ok());
  UniqueFd large(memfd_create("large", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(large.get(), kMaxPayload + 1), 0);
  fcntl(large.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  EXPECT_FALSE(ReadSealedPayload(large.get(), &got).ok());
}

}  // namespace
}  // namespace caisson::protocol
