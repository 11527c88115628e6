// A hostile gofer.
#include "vfs/gofer/client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <random>
#include <thread>

#include "gofer/protocol/channel.h"
#include "gtest/gtest.h"
#include "vfs/gofer/filesystem.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

namespace gp = caisson::gofer;

class HostileGoferTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    ours_.reset(fds[0]);
    theirs_.reset(fds[1]);
  }
  // The next request's header, or nothing at the end.
  bool Next(gp::RequestHeader* header) {
    char buffer[gp::kMaxMessage];
    ssize_t n = gp::ReceivePacket(theirs_.get(), buffer, sizeof(buffer), nullptr);
    if (n < static_cast<ssize_t>(sizeof(*header))) return false;
    memcpy(header, buffer, sizeof(*header));
    return true;
  }
  void Answer(const gp::RequestHeader& request, std::string body, int32_t error = 0, int fd = -1,
              uint32_t flags = 0, uint64_t handle = 0) {
    gp::ReplyHeader header = {};
    header.id = request.id;
    header.error = error;
    header.handle = handle;
    header.flags = flags | (fd >= 0 ? gp::kReplyDescriptor : 0);
    header.size = static_cast<uint32_t>(sizeof(header) + body.size());
    std::string message(reinterpret_cast<char*>(&header), sizeof(header));
    gp::SendPacket(theirs_.get(), message + body, fd);
  }
  template <typename T>
  static std::string Bytes(const T& value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  static gp::WireAttributes Directory() {
    gp::WireAttributes w = {};
    w.dev = 1;
    w.ino = 2;
    w.mode = kModeDirectory | 0755;
    w.nlink = 2;
    return w;
  }
  static std::string AttachBody() {
    gp::AttachReply reply = {};
    reply.version = gp::kProtocolVersion;
    reply.max_handles = 100;
    reply.root = Directory();
    return Bytes(reply);
  }

  UniqueFd ours_, theirs_;
};

TEST_F(HostileGoferTest, ASilentEndIsEio) {
  theirs_.reset();
  EXPECT_ERRNO(GoferFileSystem::Mount(std::move(ours_), {}), kEIO);
}

TEST_F(HostileGoferTest, BrokenRepliesAreEio) {
  for (int kind = 0; kind < 5; ++kind) {
    SetUp();
    std::thread gofer([&] {
      gp::RequestHeader h;
      ASSERT_TRUE(Next(&h));
      std::string body = AttachBody();
      switch (kind) {
        case 0: gp::SendPacket(theirs_.get(), "short", -1); break;
        case 1: ++h.id; Answer(h, body); break;           // Nobody asked.
        case 2: Answer(h, body.substr(0, 20)); break;     // Too short.
        case 3: Answer(h, body, 0, -1, gp::kReplyDescriptor); break;  // None came.
        case 4: Answer(h, body, 512); break;              // ERESTARTSYS is not a host's errno.
      }
    });
    EXPECT_FALSE(GoferFileSystem::Mount(std::move(ours_), {}).ok()) << kind;
    gofer.join();
  }
}

// Once mounted, every reply is random: lengths, attributes, names, descriptors, watch numbers.
TEST_F(HostileGoferTest, SurvivesRandomReplies) {
  std::thread gofer([&] {
    std::mt19937_64 random(20261121);
    gp::RequestHeader h;
    if (!Next(&h)) return;
    int pipes[2];
    ASSERT_EQ(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    Answer(h, AttachBody(), 0, pipes[0]);
    UniqueFd read_end(pipes[0]), write_end(pipes[1]);
    std::string noise(4000, 'x');
    ASSERT_GT(write(write_end.get(), noise.data(), noise.size()), 0);
    UniqueFd directory(open("/", O_RDONLY | O_CLOEXEC));
    while (Next(&h)) {
      if (h.op == static_cast<uint16_t>(gp::Op::kRelease)) continue;
      std::string body(random() % 700, '\0');
      for (char& c : body) c = random() % 3 == 0 ? static_cast<char>(random()) : '\0';
      auto put = [&](size_t at, const std::string& bytes) {
        if (at + bytes.size() <= body.size()) body.replace(at, bytes.size(), bytes);
      };
      // Half of the time what comes is nearly right.
      if (random() % 2 == 0) {
        gp::WireAttributes w = Directory();
        w.ino = random() % 5;
        static constexpr FileMode kTypes[] = {kModeDirectory, kModeRegular, kModeLink, kModeFifo};
        w.mode = kTypes[random() % 4] | 0777;
        put(0, Bytes(w));
        put(8, Bytes(w));
        put(0, Bytes(gp::WalkReply{1, 0}));
        put(16, Bytes(Directory()));
        if (h.op == static_cast<uint16_t>(gp::Op::kReadDirectory)) {
          gp::ReadDirectoryReply r = {};
          r.count = random() % 4;
          r.end = random() % 2;
          r.self = Directory();
          put(0, Bytes(r));
          gp::DirectoryEntry e = {};
          e.attributes = w;
          e.name_length = random() % 8;
          put(sizeof(r), Bytes(e));
          put(sizeof(r) + sizeof(e), random() % 2 == 0 ? "name" : "../x");
        }
      }
      int fd = random() % 4 == 0 ? directory.get() : random() % 4 == 0 ? read_end.get() : -1;
      Answer(h, body, random() % 4 == 0 ? static_cast<int32_t>(random() % 200) : 0, fd,
             random() % 2, random() % 6);
    }
  });
  {
    Result<RefPtr<FileSystem>> fs = GoferFileSystem::Mount(std::move(ours_), {});
    ASSERT_TRUE(fs.ok());
    testing::TestWorld world(*fs);
    testing::TestContext ctx(world);
    for (int i = 0; i < 20'000; ++i) {
      std::string name = "/n" + std::to_string(i % 17);
      switch (i % 9) {
        case 0: (void)ctx.Stat(name).ok(); break;
        case 1: (void)ctx.ReadFile(name).ok(); break;
        case 2: (void)ctx.List("/").ok(); break;
        case 3: (void)ctx.Mkdir(name).ok(); break;
        case 4: (void)ctx.WriteFile(name + "/x", "data").ok(); break;
        case 5: (void)ctx.Unlink(name).ok(); break;
        case 6: (void)ctx.Rename(name, "/n3").ok(); break;
        case 7: (void)ctx.Link(name, "/n5/y").ok(); break;
        case 8: (void)ctx.Symlink(name, name + "z").ok(); break;
      }
    }
  }
  theirs_.valid() ? (void)shutdown(theirs_.get(), SHUT_RDWR) : (void)0;
  gofer.join();
}

}  // namespace
}  // namespace caisson::vfs
