// A hostile sentry, and a host that changes things under the server's feet.
#include <dirent.h>

#include <atomic>
#include <random>

#include "gofer/server/test_peer.h"

namespace caisson::gofer {
namespace {

int OpenDescriptors() {
  int n = 0;
  DIR* d = opendir("/proc/self/fd");
  while (readdir(d) != nullptr) ++n;
  closedir(d);
  return n;
}

TEST_F(ServerTest, NoNameLeadsOut) {
  WriteHost("f", "x");
  EXPECT_EQ(0, symlink("/etc", Path("abs").c_str()));
  EXPECT_EQ(0, symlink("..", Path("up").c_str()));
  for (const char* path : {"..", "../file", "a/..", "./f", "/etc", "//", "", "f/", "abs/passwd",
                           "up/root", "a//b", "."}) {
    std::string p = path;
    if (p.empty()) continue;
    int error = Stat(kRootHandle, p).error();
    EXPECT_TRUE(error == EINVAL || error == ENOTDIR || error == ENOENT) << p << ": " << error;
    EXPECT_NE(OpenAt(kRootHandle, p, kAccessRead).error(), 0) << p;
    Answer walk = Walk(kRootHandle, p);
    if (walk.error() == 0) {
      EXPECT_EQ(walk.As<WalkReply>().count, 1u) << p;  // The link itself.
    }
  }
  EXPECT_EQ(Make(Op::kMkdir, "..", S_IFDIR | 0755).error(), EINVAL);
  EXPECT_EQ(Make(Op::kCreate, "../x", S_IFREG | 0644).error(), EINVAL);
  EXPECT_EQ(Make(Op::kCreate, absl::string_view("x\0y", 3), S_IFREG | 0644).error(), EINVAL);
  EXPECT_EQ(Make(Op::kCreate, std::string(300, 'x'), S_IFREG | 0644).error(), ENAMETOOLONG);
}

TEST_F(ServerTest, NothingButRegularFilesIsOpened) {
  mkfifo(Path("fifo").c_str(), 0666);
  mknod(Path("null").c_str(), S_IFCHR | 0666, 0x103);
  EXPECT_EQ(0, symlink("/etc/passwd", Path("link").c_str()));
  mkdir(Path("dir").c_str(), 0755);
  for (const char* name : {"fifo", "null", "link", "dir"}) {
    Answer a = OpenAt(kRootHandle, name, kAccessRead);
    EXPECT_EQ(a.error(), ENXIO) << name;
    EXPECT_FALSE(a.fd.valid());
  }
}

TEST_F(ServerTest, HandlesAreCheckedAndDoNotComeBack) {
  WriteHost("f", "x");
  for (uint64_t h : {uint64_t{0}, uint64_t{2}, uint64_t{1} << 32 | 1, ~uint64_t{0}, uint64_t{77}})
    EXPECT_EQ(Stat(h, "").error(), ESTALE) << h;
  uint64_t first = Stat(kRootHandle, "f", kLocateKeep).header.handle;
  uint64_t list[2] = {first, kRootHandle};
  SendRaw(Message(Op::kRelease, ReleaseRequest{2, 0},
                  absl::string_view(reinterpret_cast<char*>(list), sizeof(list))));
  // Another thread may take the release up: poll for its effect.
  int error = 0;
  for (int i = 0; i < 5000 && error == 0; ++i) error = Stat(first, "").error();
  EXPECT_EQ(error, ESTALE);
  EXPECT_EQ(Stat(kRootHandle, "").error(), 0);
  uint64_t second = Stat(kRootHandle, "f", kLocateKeep).header.handle;
  EXPECT_NE(first, second);
  EXPECT_EQ(static_cast<uint32_t>(first), static_cast<uint32_t>(second));
}

TEST_F(ServerTest, HandlesRunOutWithoutHarm) {
  WriteHost("f", "x");
  uint32_t limit = Call(Op::kAttach, AttachRequest{kProtocolVersion, 0}).As<AttachReply>().max_handles;
  uint64_t handle = 1;
  uint32_t made = 0;
  while (made <= limit + 10) {
    Answer a = Stat(kRootHandle, "f", kLocateKeep);
    ASSERT_EQ(a.error(), 0);
    handle = a.header.handle;
    if (handle == 0) break;
    ++made;
  }
  EXPECT_EQ(handle, 0u);
  EXPECT_LE(made, limit);
  EXPECT_EQ(OpenAt(kRootHandle, "f", kAccessRead).error(), 0);
}

TEST_F(ServerTest, TruncatedMessagesOfEveryKindAreRefused) {
  for (uint16_t op = 1; op <= kLastOp; ++op) {
    if (static_cast<Op>(op) == Op::kRelease) continue;
    for (size_t length = 0; length < 96; length += 3) {
      Writer out;
      out.Put(RequestHeader{7, op, 0, static_cast<uint32_t>(sizeof(RequestHeader) + length)});
      std::string tail(length, '\xff');
      out.PutBytes(tail);
      SendRaw(out.bytes());
      EXPECT_NE(Receive().error(), 0) << op << " " << length;
    }
  }
}

// Random bytes behind a valid header, half of them aimed at the root, so that they get somewhere.
TEST_F(ServerTest, SurvivesManyRandomMessages) {
#ifdef __SANITIZE_THREAD__
  constexpr int kMessages = 20'000;  // A minute of them.
#else
  constexpr int kMessages = 100'000;
#endif
  WriteHost("f", "x");
  mkdir(Path("d").c_str(), 0755);
  std::mt19937_64 random(20261121);
  int before = OpenDescriptors();
  std::string buffer;
  int outstanding = 0;
  for (int i = 0; i < kMessages; ++i) {
    size_t length = random() % 160;
    buffer.assign(sizeof(RequestHeader) + length, '\0');
    for (char& c : buffer) c = static_cast<char>(random() % 4 == 0 ? random() : 0);
    RequestHeader header = {uint64_t(i), static_cast<uint16_t>(random() % (kLastOp + 2)), 0,
                            static_cast<uint32_t>(buffer.size())};
    if (random() % 50 == 0) header.size ^= 1;
    memcpy(buffer.data(), &header, sizeof(header));
    if (length >= sizeof(Locator) && random() % 2 == 0) {
      Locator l = At(kRootHandle, random() % 2 == 0 ? "" : "f", random() % 4);
      memcpy(buffer.data() + sizeof(header), &l, sizeof(l));
      if (random() % 2 == 0) buffer.back() = random() % 2 == 0 ? 'f' : 'd';
    }
    bool answered = header.size == buffer.size() && header.op >= 1 && header.op <= kLastOp &&
                    static_cast<Op>(header.op) != Op::kRelease;
    SendRaw(buffer);
    outstanding += answered ? 1 : 0;
    while (outstanding > 8) {
      Receive();
      --outstanding;
    }
  }
  while (outstanding-- > 0) Receive();
  EXPECT_EQ(Stat(kRootHandle, "").error(), 0);
  // Whatever was kept is bounded by the handle table; nothing was made outside of the root.
  EXPECT_LT(OpenDescriptors() - before, 40'000);
  struct stat st;
  EXPECT_EQ(stat(root_.c_str(), &st), 0);
  int entries = 0;
  DIR* d = opendir(base_.c_str());
  while (readdir(d) != nullptr) ++entries;
  closedir(d);
  EXPECT_EQ(entries, 3);
}

// A directory of the path is replaced by a link to the outside, over and over: the server either
// finds the file inside or fails, but never reads the one outside.
TEST_F(ServerTest, ARenamingHostCannotLeadAWalkOut) {
  mkdir((base_ + "/outside").c_str(), 0755);
  int secret = open((base_ + "/outside/f").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  ASSERT_EQ(write(secret, "secret", 6), 6);
  close(secret);
  mkdir(Path("dir").c_str(), 0755);
  WriteHost("dir/f", "in");
  EXPECT_EQ(0, symlink("../outside", Path("link").c_str()));
  std::atomic<bool> stop{false};
  std::thread renamer([&] {
    while (!stop) renameat2(AT_FDCWD, Path("dir").c_str(), AT_FDCWD, Path("link").c_str(), 2);
  });
  int inside = 0;
  for (int i = 0; i < 5000; ++i) {
    Answer a = OpenAt(kRootHandle, "dir/f", kAccessRead);
    if (a.error() == 0) {
      ++inside;
      struct stat st;
      ASSERT_EQ(fstat(a.fd.get(), &st), 0);
      EXPECT_EQ(st.st_size, 2);
    }
  }
  stop = true;
  renamer.join();
  EXPECT_GT(inside, 0);
}

// The object between check and open is a FIFO or a device at times.
TEST_F(ServerTest, ARaceWithAFifoNeitherBlocksNorOpensIt) {
  WriteHost("a", "regular");
  mkfifo(Path("b").c_str(), 0666);
  std::atomic<bool> stop{false};
  std::thread renamer([&] {
    while (!stop) renameat2(AT_FDCWD, Path("a").c_str(), AT_FDCWD, Path("b").c_str(), 2);
  });
  for (int i = 0; i < 5000; ++i) {
    Answer a = OpenAt(kRootHandle, "a", kAccessRead);
    if (a.error() != 0) {
      EXPECT_EQ(a.error(), ENXIO);
      continue;
    }
    struct stat st;
    ASSERT_EQ(fstat(a.fd.get(), &st), 0);
    EXPECT_TRUE(S_ISREG(st.st_mode));
  }
  stop = true;
  renamer.join();
}

TEST_F(ServerTest, DescriptorsThatComeWithARequestAreDropped) {
  Stat(kRootHandle, "");
  int before = OpenDescriptors();
  for (int i = 0; i < 50; ++i) {
    std::string message = Message(Op::kGetAttributes, ObjectRequest{At(kRootHandle)}, "");
    ASSERT_EQ(SendPacket(socket_.get(), message, socket_.get()), 0);
    Receive();
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

}  // namespace
}  // namespace caisson::gofer
