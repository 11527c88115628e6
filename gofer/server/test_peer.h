// A hand-driven client, for tests of the server: says anything, checks nothing.
#ifndef CAISSON_GOFER_SERVER_TEST_PEER_H_
#define CAISSON_GOFER_SERVER_TEST_PEER_H_

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <thread>

#include "base/test_temp.h"
#include "gofer/protocol/channel.h"
#include "gofer/protocol/codec.h"
#include "gofer/server/server.h"
#include "gtest/gtest.h"

namespace caisson::gofer {

struct Answer {
  ReplyHeader header = {};
  std::string body;
  UniqueFd fd;
  int error() const { return header.error; }
  template <typename T>
  T As(size_t at = 0) const {
    T value = {};
    EXPECT_LE(at + sizeof(T), body.size());
    if (at + sizeof(T) <= body.size()) memcpy(&value, body.data() + at, sizeof(T));
    return value;
  }
};

inline Locator At(uint64_t handle, absl::string_view path = "", uint16_t flags = 0) {
  Locator l = {};
  l.handle = handle;
  l.path_length = static_cast<uint16_t>(path.size());
  l.flags = flags;
  return l;
}

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(false); }
  void Start(bool read_only, bool is_file = false) {
    std::string name = TempPattern("gofer_test");
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    base_ = name;
    root_ = base_ + "/root";
    mkdir(root_.c_str(), 0755);
    StartOn(is_file ? base_ + "/file" : root_, read_only, is_file);
  }
  void StartOn(const std::string& path, bool read_only, bool is_file) {
    if (is_file) close(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    socket_.reset(fds[0]);
    std::vector<Connection> connections(1);
    connections[0].socket.reset(fds[1]);
    connections[0].root.reset(open(path.c_str(), O_PATH | O_CLOEXEC));
    connections[0].read_only = read_only;
    connections[0].is_file = is_file;
    server_ = std::thread(
        [](std::vector<Connection> c) { EXPECT_EQ(Serve(std::move(c)), 0); },
        std::move(connections));
  }
  void Stop() {
    socket_.reset();
    if (server_.joinable()) server_.join();
  }
  void TearDown() override {
    Stop();
    if (base_.empty()) return;
    EXPECT_EQ(system(("rm -rf " + base_).c_str()), 0);
  }

  void SendRaw(absl::string_view bytes) { ASSERT_EQ(SendPacket(socket_.get(), bytes, -1), 0); }
  Answer Receive() {
    Answer answer;
    std::string buffer(kMaxMessage, '\0');
    pollfd p{socket_.get(), POLLIN, 0};
    if (poll(&p, 1, 5000) != 1) {
      ADD_FAILURE() << "no answer";
      return answer;
    }
    ssize_t n = ReceivePacket(socket_.get(), buffer.data(), buffer.size(), &answer.fd);
    Reader in(absl::string_view(buffer.data(), n > 0 ? n : 0));
    EXPECT_TRUE(in.Take(&answer.header));
    EXPECT_EQ(answer.header.size, n);
    answer.body.assign(in.rest().data(), in.rest().size());
    return answer;
  }
  template <typename T>
  std::string Message(Op op, const T& request, absl::string_view tail) {
    Writer out;
    RequestHeader header = {++id_, static_cast<uint16_t>(op), 0,
                            static_cast<uint32_t>(sizeof(RequestHeader) + sizeof(T) + tail.size())};
    out.Put(header);
    out.Put(request);
    out.PutBytes(tail);
    return std::string(out.bytes());
  }
  template <typename T>
  Answer Call(Op op, const T& request, absl::string_view tail = "") {
    SendRaw(Message(op, request, tail));
    Answer answer = Receive();
    EXPECT_EQ(answer.header.id, id_);
    return answer;
  }

  Answer Walk(uint64_t handle, absl::string_view path) {
    WalkRequest r = {};
    r.directory = At(handle);
    r.path_length = static_cast<uint16_t>(path.size());
    return Call(Op::kWalk, r, path);
  }
  Answer Stat(uint64_t handle, absl::string_view path, uint16_t flags = 0) {
    return Call(Op::kGetAttributes, ObjectRequest{At(handle, path, flags)}, path);
  }
  Answer OpenAt(uint64_t handle, absl::string_view path, uint32_t access, uint16_t flags = 0) {
    return Call(Op::kOpen, OpenRequest{At(handle, path, flags), access, 0}, path);
  }
  Answer Make(Op op, absl::string_view name, uint32_t mode, uint32_t uid = 0, uint32_t gid = 0,
              absl::string_view target = "") {
    MakeRequest r = {};
    r.directory = At(kRootHandle);
    r.mode = mode;
    r.uid = uid;
    r.gid = gid;
    r.name_length = static_cast<uint16_t>(name.size());
    r.target_length = static_cast<uint16_t>(target.size());
    return Call(op, r, std::string(name) + std::string(target));
  }
  std::string Path(const std::string& name) { return root_ + "/" + name; }
  void WriteHost(const std::string& name, const std::string& text) {
    int fd = open(Path(name).c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd);
  }

  std::string base_, root_;
  UniqueFd socket_;
  std::thread server_;
  uint64_t id_ = 0;
};

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_SERVER_TEST_PEER_H_
