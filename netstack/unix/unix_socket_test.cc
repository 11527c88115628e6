#include "netstack/unix/unix_socket.h"

#include <cstring>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"

namespace caisson::netstack {
namespace {

using vfs::testing::TestContext;
using vfs::testing::TestWorld;

class UnixSocketTest : public ::testing::Test {
 protected:
  RefPtr<vfs::Socket> New(int type) {
    return NewUnixSocket(ctx_, ns_, fs_, type, 0, 0).value();
  }
  std::pair<RefPtr<vfs::Socket>, RefPtr<vfs::Socket>> Pair(int type) {
    return NewUnixPair(ctx_, ns_, fs_, type, 0, 0).value();
  }
  static std::string Path(absl::string_view name) {
    return UnixAddressOf(absl::StrCat(name, absl::string_view("\0", 1)));
  }
  static std::string Abstract(absl::string_view name) {
    return UnixAddressOf(absl::StrCat(absl::string_view("\0", 1), name));
  }
  Result<size_t> Send(vfs::Socket& s, absl::string_view text, absl::string_view to = "",
                      int flags = 0) {
    SpanBuffer from = SpanBuffer::ForWrite({text.data(), text.size()});
    return s.Send(ctx_, from, flags, to, {});
  }
  struct Got {
    std::string text;
    vfs::ReceiveResult result;
  };
  Result<Got> Recv(vfs::Socket& s, size_t n = 100, int flags = 0) {
    Got got;
    got.text.resize(n);
    SpanBuffer to(absl::MakeSpan(got.text));
    got.result = TRY(s.Receive(ctx_, to, flags, true));
    got.text.resize(std::min(n, got.result.bytes));
    return got;
  }
  std::string Text(vfs::Socket& s, size_t n = 100, int flags = 0) {
    Result<Got> got = Recv(s, n, flags);
    return got.ok() ? got->text : std::string(ErrnoName(got.error()));
  }
  void SetInt(vfs::Socket& s, int name, int32_t value) {
    ASSERT_OK(s.SetOption(ctx_, kSolSocket, name, IntOption(value)));
  }
  int GetInt(vfs::Socket& s, int name) {
    return *ParseIntOption(s.GetOption(ctx_, kSolSocket, name, 4).value());
  }
  // A listener and both ends of a connection to it.
  void Connect(int type) {
    listener_ = New(type);
    ASSERT_OK(listener_->Bind(ctx_, Abstract("l")));
    ASSERT_OK(listener_->Listen(ctx_, 5));
    client_ = New(type);
    ASSERT_OK(client_->Connect(ctx_, Abstract("l")));
    server_ = listener_->Accept(ctx_, nullptr).value();
  }

  TestWorld world_;
  TestContext ctx_{world_};
  RefPtr<UnixNamespace> ns_ = MakeRef<UnixNamespace>(MakeRef<UnixFlight>());
  RefPtr<SocketFileSystem> fs_ = MakeRef<SocketFileSystem>();
  RefPtr<vfs::Socket> listener_, client_, server_;
};

TEST_F(UnixSocketTest, StreamsJoinWhatWasSentApart) {
  auto [a, b] = Pair(kSockStream);
  ASSERT_OK(Send(*a, "hello "));
  ASSERT_OK(Send(*a, "world"));
  EXPECT_EQ(Text(*b, 100, vfs::kMsgPeek), "hello world");
  EXPECT_EQ(Text(*b, 8), "hello wo");
  EXPECT_EQ(Text(*b), "rld");
  EXPECT_EQ(Text(*b), "EAGAIN");
}

TEST_F(UnixSocketTest, ConnectAcceptAndNames) {
  Connect(kSockStream);
  EXPECT_EQ(*client_->PeerAddress(ctx_), Abstract("l"));
  EXPECT_EQ(*server_->LocalAddress(ctx_), Abstract("l"));
  EXPECT_EQ(*server_->PeerAddress(ctx_), std::string("\1\0", 2));
  ASSERT_OK(Send(*client_, "ping"));
  EXPECT_EQ(Text(*server_), "ping");
  EXPECT_ERRNO(listener_->Accept(ctx_, nullptr), kEAGAIN);
  EXPECT_ERRNO(client_->Connect(ctx_, Abstract("l")), kEISCONN);
  EXPECT_EQ(GetInt(*listener_, kSoAcceptconn), 1);
  EXPECT_ERRNO(New(kSockStream)->Listen(ctx_, 1), kEINVAL);
}

TEST_F(UnixSocketTest, PathsAreFoundByInode) {
  listener_ = New(kSockStream);
  ASSERT_OK(listener_->Bind(ctx_, Path("sock")));
  EXPECT_EQ(ctx_.Stat("sock")->mode, vfs::kModeSocket | 0755u);
  EXPECT_EQ(*listener_->LocalAddress(ctx_), Path("sock"));
  EXPECT_ERRNO(listener_->Bind(ctx_, Path("other")), kEINVAL);
  EXPECT_ERRNO(New(kSockStream)->Bind(ctx_, Path("sock")), kEADDRINUSE);
  RefPtr<vfs::Socket> c = New(kSockStream);
  EXPECT_ERRNO(c->Connect(ctx_, Path("sock")), kECONNREFUSED);  // Does not listen.
  ASSERT_OK(listener_->Listen(ctx_, 1));
  EXPECT_ERRNO(New(kSockDgram)->Connect(ctx_, Path("sock")), kEPROTOTYPE);
  ASSERT_OK(ctx_.Rename("sock", "moved"));
  ASSERT_OK(c->Connect(ctx_, Path("moved")));
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(New(kSockStream)->Connect(ctx_, Path("moved")), kEACCES);
  ctx_.BecomeRoot();
  listener_ = nullptr;
  EXPECT_ERRNO(New(kSockStream)->Connect(ctx_, Path("moved")), kECONNREFUSED);
  EXPECT_ERRNO(New(kSockStream)->Connect(ctx_, Path("gone")), kENOENT);
  ASSERT_OK(ctx_.WriteFile("file", ""));
  EXPECT_ERRNO(New(kSockStream)->Connect(ctx_, Path("file")), kECONNREFUSED);
}

TEST_F(UnixSocketTest, AbstractNamesAreFreeAgainAfterClose) {
  RefPtr<vfs::Socket> a = New(kSockDgram);
  ASSERT_OK(a->Bind(ctx_, Abstract("x")));
  EXPECT_ERRNO(New(kSockDgram)->Bind(ctx_, Abstract("x")), kEADDRINUSE);
  ASSERT_OK(New(kSockStream)->Bind(ctx_, Abstract("x")));
  a = nullptr;
  ASSERT_OK(New(kSockDgram)->Bind(ctx_, Abstract("x")));
  a = New(kSockDgram);
  ASSERT_OK(a->Bind(ctx_, absl::string_view("\1\0", 2)));
  EXPECT_EQ(a->LocalAddress(ctx_)->size(), 2u + 1 + 5);
}

TEST_F(UnixSocketTest, BadAddresses) {
  RefPtr<vfs::Socket> s = New(kSockStream);
  EXPECT_ERRNO(s->Bind(ctx_, ""), kEINVAL);
  EXPECT_ERRNO(s->Bind(ctx_, std::string("\2\0abc", 5)), kEINVAL);
  EXPECT_ERRNO(s->Bind(ctx_, UnixAddressOf(std::string(109, 'x'))), kEINVAL);
  EXPECT_ERRNO(s->Connect(ctx_, UnixAddressOf("")), kEINVAL);
  EXPECT_ERRNO(NewUnixSocket(ctx_, ns_, fs_, 9, 0, 0), kESOCKTNOSUPPORT);
  EXPECT_ERRNO(NewUnixSocket(ctx_, ns_, fs_, kSockStream, 9, 0), kEPROTONOSUPPORT);
}

TEST_F(UnixSocketTest, CloseGivesEofOrResetAndBrokenPipe) {
  auto [a, b] = Pair(kSockStream);
  ASSERT_OK(Send(*a, "last"));
  a = nullptr;
  EXPECT_EQ(Text(*b), "last");
  EXPECT_EQ(Text(*b), "");
  EXPECT_EQ(b->Readiness(kAllEvents) & (kEventHup | kEventRdHup), kEventHup | kEventRdHup);
  EXPECT_ERRNO(Send(*b, "x", "", vfs::kMsgNosignal), kEPIPE);
  EXPECT_TRUE(ctx_.signals_.empty());
  EXPECT_ERRNO(Send(*b, "x"), kEPIPE);
  EXPECT_EQ(ctx_.signals_, std::vector<int>{13});

  std::tie(a, b) = Pair(kSockStream);
  ASSERT_OK(Send(*b, "unread"));
  a = nullptr;
  EXPECT_EQ(GetInt(*b, kSoError), 104);
  EXPECT_EQ(Text(*b), "");
}

TEST_F(UnixSocketTest, ClosingAListenerResetsThoseWhoWait) {
  listener_ = New(kSockStream);
  ASSERT_OK(listener_->Bind(ctx_, Abstract("l")));
  ASSERT_OK(listener_->Listen(ctx_, 5));
  client_ = New(kSockStream);
  ASSERT_OK(client_->Connect(ctx_, Abstract("l")));
  ASSERT_OK(Send(*client_, "x"));
  listener_ = nullptr;
  EXPECT_EQ(Text(*client_), "ECONNRESET");
  EXPECT_EQ(Text(*client_), "");
}

TEST_F(UnixSocketTest, AFullBacklogMakesClientsWait) {
  listener_ = New(kSockStream);
  ASSERT_OK(listener_->Bind(ctx_, Abstract("l")));
  ASSERT_OK(listener_->Listen(ctx_, 0));
  RefPtr<vfs::Socket> first = New(kSockStream), second = New(kSockStream);
  ASSERT_OK(first->Connect(ctx_, Abstract("l")));
  EXPECT_ERRNO(second->Connect(ctx_, Abstract("l")), kEAGAIN);
  std::thread thread([&] {
    TestContext other(world_);
    ASSERT_OK(listener_->Accept(other, nullptr));
  });
  ASSERT_OK(vfs::WaitUntil(ctx_, *second->EventQueue(), kWritable, time::kNever,
                           [&] { return second->Connect(ctx_, Abstract("l")); }));
  thread.join();
}

TEST_F(UnixSocketTest, ShutdownStopsOneDirection) {
  auto [a, b] = Pair(kSockStream);
  ASSERT_OK(a->Shutdown(ctx_, 1));
  EXPECT_ERRNO(Send(*a, "x", "", vfs::kMsgNosignal), kEPIPE);
  EXPECT_EQ(Text(*b), "");
  EXPECT_EQ(b->Readiness(kAllEvents) & (kEventHup | kEventRdHup), kEventRdHup);
  ASSERT_OK(Send(*b, "still"));
  EXPECT_EQ(Text(*a), "still");
  EXPECT_ERRNO(a->Shutdown(ctx_, 3), kEINVAL);
}

TEST_F(UnixSocketTest, SendBufferBoundsAStream) {
  auto [a, b] = Pair(kSockStream);
  std::string part(10'000, 'x');
  size_t total = 0;
  for (;;) {
    Result<size_t> n = Send(*a, part);
    if (!n.ok()) break;
    total += *n;
  }
  EXPECT_GE(total, 150'000u);
  EXPECT_LE(total, 300'000u);
  EXPECT_EQ(a->Readiness(kWritable), 0u);
  std::string big(1 << 20, 0);
  SpanBuffer to(absl::MakeSpan(big));
  EXPECT_EQ(b->Receive(ctx_, to, 0, false)->bytes, total);
  EXPECT_EQ(a->Readiness(kWritable), kWritable);
  int32_t queued = -1;
  ASSERT_OK(a->Ioctl(ctx_, 0x5411, reinterpret_cast<uint64_t>(&queued)));
  EXPECT_EQ(queued, 0);
}

TEST_F(UnixSocketTest, DatagramsKeepTheirBounds) {
  RefPtr<vfs::Socket> a = New(kSockDgram), b = New(kSockDgram);
  ASSERT_OK(a->Bind(ctx_, Abstract("a")));
  ASSERT_OK(b->Bind(ctx_, Abstract("b")));
  ASSERT_OK(Send(*a, "first", Abstract("b")));
  ASSERT_OK(Send(*a, "", Abstract("b")));
  ASSERT_OK(Send(*a, "third", Abstract("b")));
  Result<Got> got = Recv(*b, 3, vfs::kMsgTrunc);
  EXPECT_EQ(got->text, "fir");
  EXPECT_EQ(got->result.bytes, 5u);
  EXPECT_EQ(got->result.flags & vfs::kMsgTrunc, vfs::kMsgTrunc);
  EXPECT_EQ(got->result.address, Abstract("a"));
  EXPECT_EQ(Text(*b), "");
  EXPECT_EQ(Text(*b, 100, vfs::kMsgPeek), "third");
  EXPECT_EQ(Text(*b), "third");
  EXPECT_ERRNO(Send(*a, "x"), kENOTCONN);
  EXPECT_ERRNO(Send(*a, "x", Abstract("nobody")), kECONNREFUSED);
  EXPECT_ERRNO(Send(*a, std::string(300'000, 'x'), Abstract("b")), kEMSGSIZE);
}

TEST_F(UnixSocketTest, DatagramPeersFilterAndGoAway) {
  RefPtr<vfs::Socket> a = New(kSockDgram), b = New(kSockDgram), c = New(kSockDgram);
  ASSERT_OK(a->Bind(ctx_, Abstract("a")));
  ASSERT_OK(b->Bind(ctx_, Abstract("b")));
  ASSERT_OK(a->Connect(ctx_, Abstract("b")));
  EXPECT_ERRNO(Send(*c, "x", Abstract("a")), kEPERM);
  EXPECT_ERRNO(c->Connect(ctx_, Abstract("a")), kEPERM);
  ASSERT_OK(Send(*a, "x"));
  b = nullptr;
  EXPECT_ERRNO(Send(*a, "x"), kECONNREFUSED);
  EXPECT_ERRNO(Send(*a, "x"), kENOTCONN);
  ASSERT_OK(a->Connect(ctx_, std::string(2, '\0')));
}

TEST_F(UnixSocketTest, AFullDatagramQueueMakesSendersWait) {
  RefPtr<vfs::Socket> a = New(kSockDgram), b = New(kSockDgram);
  ASSERT_OK(b->Bind(ctx_, Abstract("b")));
  ASSERT_OK(a->Connect(ctx_, Abstract("b")));
  int sent = 0;
  while (Send(*a, "x").ok()) ++sent;
  EXPECT_EQ(sent, 11);
  EXPECT_EQ(a->Readiness(kWritable), 0u);
  std::thread thread([&] {
    TestContext other(world_);
    char c;
    SpanBuffer to({&c, 1});
    ASSERT_OK(b->Receive(other, to, 0, false));
  });
  ASSERT_OK(vfs::WaitUntil(ctx_, *a->EventQueue(), kWritable, time::kNever,
                           [&] { return Send(*a, "x"); }));
  thread.join();
}

TEST_F(UnixSocketTest, SeqpacketIsAConnectionOfPackets) {
  Connect(kSockSeqpacket);
  ASSERT_OK(Send(*client_, "one"));
  ASSERT_OK(Send(*client_, "two"));
  EXPECT_EQ(Text(*server_, 2), "on");
  EXPECT_EQ(Text(*server_), "two");
  EXPECT_ERRNO(Send(*New(kSockSeqpacket), "x"), kENOTCONN);
  client_ = nullptr;
  EXPECT_EQ(Text(*server_), "");
  EXPECT_ERRNO(Send(*server_, "x"), kEPIPE);
}

TEST_F(UnixSocketTest, PeekOffsetMovesWithPeeksAndReads) {
  auto [a, b] = Pair(kSockStream);
  ASSERT_OK(Send(*a, "abc"));
  ASSERT_OK(Send(*a, "defgh"));
  SetInt(*b, kSoPeekOff, 1);
  EXPECT_EQ(Text(*b, 3, vfs::kMsgPeek), "bcd");
  EXPECT_EQ(Text(*b, 2, vfs::kMsgPeek), "ef");
  EXPECT_EQ(Text(*b, 4), "abcd");
  EXPECT_EQ(GetInt(*b, kSoPeekOff), 2);
  EXPECT_EQ(Text(*b, 9, vfs::kMsgPeek), "gh");
}

TEST_F(UnixSocketTest, Options) {
  auto [a, b] = Pair(kSockStream);
  EXPECT_EQ(GetInt(*a, kSoType), kSockStream);
  EXPECT_EQ(GetInt(*a, kSoDomain), kAfUnix);
  EXPECT_EQ(GetInt(*a, kSoSndbuf), 212992);
  SetInt(*a, kSoSndbuf, 5000);
  EXPECT_EQ(GetInt(*a, kSoSndbuf), 10000);
  SetInt(*a, kSoSndbuf, 1);
  EXPECT_EQ(GetInt(*a, kSoSndbuf), 4608);
  int64_t tv[2] = {2, 500'000};
  ASSERT_OK(a->SetOption(ctx_, kSolSocket, kSoRcvtimeo,
                         {reinterpret_cast<char*>(tv), sizeof(tv)}));
  EXPECT_EQ(a->receive_timeout(), 2'500'000'000);
  EXPECT_ERRNO(a->GetOption(ctx_, kSolSocket, 999, 4), kENOPROTOOPT);
  EXPECT_ERRNO(a->GetOption(ctx_, 6, 1, 4), kEOPNOTSUPP);
  EXPECT_ERRNO(a->SetOption(ctx_, kSolSocket, kSoType, IntOption(1)), kENOPROTOOPT);
}

TEST_F(UnixSocketTest, SnapshotShowsNamesAndStates) {
  Connect(kSockStream);
  std::string text = ns_->Snapshot();
  EXPECT_NE(text.find("00010000 0001 01"), std::string::npos) << text;
  EXPECT_NE(text.find(" @l\n"), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
}

}  // namespace
}  // namespace caisson::netstack
