#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "netstack/netlink/netlink_socket.h"
#include "vfs/testing/test_context.h"

namespace caisson::netstack {
namespace {

using vfs::testing::TestContext;
using vfs::testing::TestWorld;

class NetlinkTest : public ::testing::Test {
 protected:
  struct Header {
    uint32_t length;
    uint16_t type, flags;
    uint32_t sequence, port;
  };
  RefPtr<vfs::Socket> New() {
    return NewNetlinkSocket(ctx_, ns_, *fs_, kSockRaw, 0, 0).value();
  }
  Result<size_t> Ask(vfs::Socket& s, uint16_t type, uint16_t flags, std::string body) {
    Header h = {static_cast<uint32_t>(sizeof(Header) + body.size()), type, flags, 7, 0};
    std::string text(reinterpret_cast<char*>(&h), sizeof(h));
    text += body;
    SpanBuffer from = SpanBuffer::ForWrite({text.data(), text.size()});
    return s.Send(ctx_, from, 0, "", {});
  }
  std::string Next(vfs::Socket& s) {
    std::string text(16384, '\0');
    SpanBuffer to(absl::MakeSpan(text));
    Result<vfs::ReceiveResult> got = s.Receive(ctx_, to, 0, false);
    if (!got.ok()) return "";
    text.resize(got->bytes);
    return text;
  }
  static Header HeaderOf(const std::string& text) {
    Header h = {};
    if (text.size() >= sizeof(h)) memcpy(&h, text.data(), sizeof(h));
    return h;
  }
  TestWorld world_;
  TestContext ctx_{world_};
  RefPtr<NetlinkNamespace> ns_ = MakeRef<NetlinkNamespace>(std::make_unique<LoopbackOnly>());
  RefPtr<SocketFileSystem> fs_ = MakeRef<SocketFileSystem>();
};

TEST_F(NetlinkTest, DumpsTheLoopbackAddresses) {
  ctx_.tgid_ = 42;
  RefPtr<vfs::Socket> s = New();
  ASSERT_OK(Ask(*s, 22, 0x301, std::string(4, '\0')));
  std::string text = Next(*s);
  Header h = HeaderOf(text);
  EXPECT_EQ(h.type, 20);
  EXPECT_EQ(h.sequence, 7u);
  EXPECT_EQ(h.port, 42u);
  EXPECT_NE(text.find(std::string("\x7f\0\0\x01", 4)), std::string::npos);
  Header second = HeaderOf(text.substr(h.length));
  EXPECT_EQ(second.type, 20);
  EXPECT_EQ(h.length + second.length, text.size());
  EXPECT_EQ(HeaderOf(Next(*s)).type, 3);
  EXPECT_EQ(Next(*s), "");
  ASSERT_OK(Ask(*s, 22, 0x301, std::string("\x0a\0\0\0", 4)));
  EXPECT_EQ(Next(*s).size(), second.length);  // AF_INET6 alone.
}

TEST_F(NetlinkTest, FindsALinkByNameOrSaysThereIsNone) {
  RefPtr<vfs::Socket> s = New();
  std::string body(16, '\0');
  ASSERT_OK(Ask(*s, 18, 1, body + std::string("\x07\0\x03\0lo\0\0", 8)));
  std::string text = Next(*s);
  EXPECT_EQ(HeaderOf(text).type, 16);
  EXPECT_NE(text.find(std::string("lo\0", 3)), std::string::npos);
  ASSERT_OK(Ask(*s, 18, 1, body + std::string("\x09\0\x03\0eth0\0\0\0\0", 12)));
  text = Next(*s);
  EXPECT_EQ(HeaderOf(text).type, 2);
  int32_t error;
  memcpy(&error, text.data() + 16, sizeof(error));
  EXPECT_EQ(error, -19);
}

TEST_F(NetlinkTest, ChangesAreRefused) {
  RefPtr<vfs::Socket> s = New();
  int32_t error;
  ASSERT_OK(Ask(*s, 16, 5, std::string(16, '\0')));
  memcpy(&error, Next(*s).data() + 16, sizeof(error));
  EXPECT_EQ(error, -95);
  ctx_.BecomeUser(1000, 1000);
  ASSERT_OK(Ask(*s, 16, 5, std::string(16, '\0')));
  memcpy(&error, Next(*s).data() + 16, sizeof(error));
  EXPECT_EQ(error, -1);
}

TEST_F(NetlinkTest, PortsAreUnique) {
  ctx_.tgid_ = 42;
  RefPtr<vfs::Socket> a = New(), b = New();
  std::string any("\x10\0\0\0\0\0\0\0\0\0\0\0", 12);
  ASSERT_OK(a->Bind(ctx_, any));
  EXPECT_EQ((*a->LocalAddress(ctx_))[4], 42);
  EXPECT_ERRNO(b->Bind(ctx_, *a->LocalAddress(ctx_)), kEADDRINUSE);
  ASSERT_OK(b->Bind(ctx_, any));
  EXPECT_NE(*b->LocalAddress(ctx_), *a->LocalAddress(ctx_));
}

TEST_F(NetlinkTest, GarbageIsIgnored) {
  RefPtr<vfs::Socket> s = New();
  for (std::string text : {std::string("x"), std::string(16, '\0'), std::string(20, '\xff')}) {
    SpanBuffer from = SpanBuffer::ForWrite({text.data(), text.size()});
    ASSERT_OK(s->Send(ctx_, from, 0, "", {}));
  }
  EXPECT_EQ(Next(*s), "");
  EXPECT_ERRNO(NewNetlinkSocket(ctx_, ns_, *fs_, kSockRaw, 9, 0), kEPROTONOSUPPORT);
}

}  // namespace
}  // namespace caisson::netstack
