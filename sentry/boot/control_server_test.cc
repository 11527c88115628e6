#include "sentry/boot/control_server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "gtest/gtest.h"
#include "sentry/boot/fake_kernel.h"
#include "sentry/protocol/channel.h"

namespace caisson::boot {
namespace {

using protocol::Reply;
using protocol::Request;

// A server on a thread, with an owner connection and as many others as a test makes.
class ControlServerTest : public testing::Test {
 protected:
  static constexpr int kConnections = 4;

  ControlServerTest() : server_(kernel_, UniqueFd()) {
    for (int i = 0; i < kConnections; ++i) {
      protocol::SocketPair pair = *protocol::MakeSocketPair();
      clients_.push_back(std::move(pair.first));
      server_.AddConnection(std::move(pair.second), i == 0);
    }
    thread_ = std::thread([this] { server_.Run(); });
  }
  ~ControlServerTest() override {
    clients_[0].reset();
    thread_.join();
  }

  void Send(int client, const Request& request, const std::vector<int>& fds = {}) {
    ASSERT_TRUE(protocol::SendMessage(clients_[client].get(), request, fds).ok());
  }
  Reply Receive(int client, int timeout_ms = 5000) {
    Reply reply;
    std::vector<UniqueFd> fds;
    absl::Status status =
        protocol::ReceiveMessage(clients_[client].get(), &reply, &fds, timeout_ms);
    if (!status.ok()) {
      reply.set_code(Reply::INTERNAL);
      reply.set_error(std::string(status.message()));
    }
    return reply;
  }
  Reply Call(int client, const Request& request, const std::vector<int>& fds = {}) {
    Send(client, request, fds);
    return Receive(client);
  }

  Reply Create(int client, const std::string& id, const std::vector<std::string>& args) {
    protocol::Container container;
    container.set_id(id);
    for (const std::string& arg : args) container.mutable_init()->add_args(arg);
    UniqueFd payload = *protocol::SealedPayload(container, "c");
    Request request;
    request.mutable_create_container()->set_gofer_connections(1);
    return Call(client, request, {payload.get(), null_.get(), null_.get(), null_.get(), null_.get()});
  }
  Reply Start(int client, const std::string& id) {
    Request request;
    request.mutable_start_container()->set_container_id(id);
    return Call(client, request);
  }
  void SendWait(int client, const std::string& id, int pid = 0) {
    Request request;
    request.mutable_wait()->set_container_id(id);
    request.mutable_wait()->set_pid(pid);
    Send(client, request);
  }
  Reply Signal(int client, const std::string& id, int signal) {
    Request request;
    request.mutable_signal()->set_container_id(id);
    request.mutable_signal()->set_signal(signal);
    return Call(client, request);
  }
  Reply::ContainerStatus State(int client, const std::string& id) {
    Request request;
    request.mutable_state()->set_container_id(id);
    return Call(client, request).status();
  }

  UniqueFd null_{open("/dev/null", O_RDWR | O_CLOEXEC)};
  FakeKernel kernel_;
  ControlServer server_;
  std::vector<UniqueFd> clients_;
  std::thread thread_;
};

TEST_F(ControlServerTest, AWaitBlocksNobody) {
  EXPECT_EQ(Create(0, "a", {"sleep"}).code(), Reply::OK);
  EXPECT_EQ(Start(1, "a").code(), Reply::OK);
  SendWait(0, "a");
  SendWait(2, "a");
  EXPECT_EQ(State(1, "a"), Reply::RUNNING);
  EXPECT_EQ(Signal(1, "a", SIGUSR1).code(), Reply::OK);
  EXPECT_EQ(Receive(0).wait_status(), 7 << 8);
  EXPECT_EQ(Receive(2).wait_status(), 7 << 8);
  EXPECT_EQ(State(0, "a"), Reply::STOPPED);  // The connection goes on.
}

TEST_F(ControlServerTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Call(1, Request()).code(), Reply::INVALID);
  Request boot;
  boot.mutable_boot();
  EXPECT_EQ(Call(1, boot).code(), Reply::INVALID);
  EXPECT_EQ(Signal(1, "a", 65).code(), Reply::INVALID);
  EXPECT_EQ(Signal(1, "a", -1).code(), Reply::INVALID);
  EXPECT_EQ(Signal(1, "a", 9).code(), Reply::NOT_FOUND);
  // Descriptors where none belong.
  Request ps;
  ps.mutable_ps()->set_container_id("a");
  EXPECT_EQ(Call(1, ps, {null_.get()}).code(), Reply::INVALID);
}

TEST_F(ControlServerTest, RefusesACreationWithWrongDescriptors) {
  Request request;
  request.mutable_create_container()->set_gofer_connections(1);
  EXPECT_EQ(Call(1, request).code(), Reply::INVALID);
  EXPECT_EQ(Call(1, request, {null_.get()}).code(), Reply::INVALID);
  protocol::Container container;
  container.set_id("a");
  UniqueFd payload = *protocol::SealedPayload(container, "c");
  EXPECT_EQ(Call(1, request, {payload.get()}).code(), Reply::INVALID);
  EXPECT_EQ(Call(1, request, {payload.get(), null_.get(), null_.get()}).code(), Reply::INVALID);
  request.mutable_create_container()->set_gofer_connections(0xffffffff);
  EXPECT_EQ(Call(1, request, {payload.get(), null_.get(), null_.get(), null_.get()}).code(),
            Reply::INVALID);
  container.mutable_init()->set_preserved_fds(0xffffffff);
  UniqueFd many = *protocol::SealedPayload(container, "c");
  request.mutable_create_container()->set_gofer_connections(0);
  EXPECT_EQ(Call(1, request, {many.get(), null_.get(), null_.get(), null_.get()}).code(),
            Reply::INVALID);
}

TEST_F(ControlServerTest, AMalformedPacketEndsThatConnectionOnly) {
  ASSERT_EQ(send(clients_[1].get(), "\1\xff\xff", 3, 0), 3);
  EXPECT_EQ(Receive(1).error(), "control connection: closed by peer");
  EXPECT_EQ(State(2, "a"), Reply::UNKNOWN);
}

TEST_F(ControlServerTest, AContainerEndsWithItsConnection) {
  EXPECT_EQ(Create(1, "a", {"sleep"}).code(), Reply::OK);
  EXPECT_EQ(Start(2, "a").code(), Reply::OK);
  SendWait(2, "a");
  clients_[1].reset();
  EXPECT_EQ(Receive(2).wait_status(), SIGKILL);
}

TEST_F(ControlServerTest, AContainerEndsWithAConnectionThatWaits) {
  EXPECT_EQ(Create(1, "a", {"sleep"}).code(), Reply::OK);
  EXPECT_EQ(Start(2, "a").code(), Reply::OK);
  SendWait(1, "a");
  SendWait(2, "a");
  clients_[1].reset();
  EXPECT_EQ(Receive(2).wait_status(), SIGKILL);
}

TEST_F(ControlServerTest, TheLastRequestOfAClosedConnectionIsServed) {
  EXPECT_EQ(Create(1, "a", {"sleep"}).code(), Reply::OK);
  Request request;
  request.mutable_start_container()->set_container_id("a");
  Send(2, request);
  clients_[2].reset();
  for (int i = 0; i < 5000 && State(3, "a") != Reply::RUNNING; ++i) usleep(1000);
  EXPECT_EQ(State(3, "a"), Reply::RUNNING);
}

TEST_F(ControlServerTest, TheEndIsToldAfterTheStartWasAnswered) {
  for (int i = 0; i < 200; ++i) {
    const std::string id = "c" + std::to_string(i);
    ASSERT_EQ(Create(1, id, {"exit", "3"}).code(), Reply::OK);
    SendWait(1, id);
    Request request;
    request.mutable_start_container()->set_container_id(id);
    Send(2, request);
    ASSERT_EQ(Receive(1).wait_status(), 3 << 8);
    EXPECT_EQ(Receive(2, 0).code(), Reply::OK);  // It is there already.
  }
}

TEST_F(ControlServerTest, TheEndIsToldAfterTheSignalWasAnswered) {
  for (int i = 0; i < 200; ++i) {
    const std::string id = "c" + std::to_string(i);
    ASSERT_EQ(Create(1, id, {"sleep"}).code(), Reply::OK);
    SendWait(1, id);
    Request request;
    request.mutable_signal()->set_container_id(id);
    request.mutable_signal()->set_signal(SIGKILL);
    Send(2, request);
    ASSERT_EQ(Receive(1).wait_status(), SIGKILL);
    EXPECT_EQ(Receive(2, 0).code(), Reply::OK);
  }
}

TEST_F(ControlServerTest, ServesConnectionsOfTheListener) {
  // Abstract names are this network namespace's; the real socket has a path.
  UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr address{.sa_family = AF_UNIX, .sa_data = {}};
  ASSERT_EQ(bind(listener.get(), &address, sizeof(sa_family_t)), 0);
  ASSERT_EQ(listen(listener.get(), 16), 0);
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
  FakeKernel kernel;
  ControlServer server(kernel, std::move(listener));
  protocol::SocketPair owner = *protocol::MakeSocketPair();
  server.AddConnection(std::move(owner.second), true);
  std::thread thread([&] { server.Run(); });
  for (int i = 0; i < 100; ++i) {
    UniqueFd client(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
    Request request;
    request.mutable_state()->set_container_id("a");
    ASSERT_TRUE(protocol::SendMessage(client.get(), request).ok());
    Reply reply;
    ASSERT_TRUE(protocol::ReceiveMessage(client.get(), &reply, nullptr, 5000).ok());
    EXPECT_EQ(reply.code(), Reply::NOT_FOUND);
  }
  owner.first.reset();
  thread.join();
}

}  // namespace
}  // namespace caisson::boot
