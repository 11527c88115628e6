#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "netstack/unix/unix_socket.h"
#include "vfs/pipe/pipe_file.h"
#include "vfs/testing/test_context.h"

namespace caisson::netstack {
namespace {

using vfs::testing::TestContext;
using vfs::testing::TestWorld;

class UnixRightsTest : public ::testing::Test {
 protected:
  std::pair<RefPtr<vfs::Socket>, RefPtr<vfs::Socket>> Pair(int type = kSockStream) {
    return NewUnixPair(ctx_, ns_, fs_, type, 0, 0).value();
  }
  Result<size_t> SendFiles(vfs::Socket& s, absl::string_view text,
                           std::vector<RefPtr<vfs::FileDescription>> files) {
    SpanBuffer from = SpanBuffer::ForWrite({text.data(), text.size()});
    vfs::ControlData control;
    control.files = std::move(files);
    return s.Send(ctx_, from, 0, "", std::move(control));
  }
  Result<vfs::ReceiveResult> Recv(vfs::Socket& s, size_t n = 100, int flags = 0,
                                  bool control = true) {
    buffer_.assign(n, '\0');
    SpanBuffer to(absl::MakeSpan(buffer_));
    return s.Receive(ctx_, to, flags, control);
  }
  // A pipe's reader; *alive tells by hang-up whether the writer is still there.
  struct Canary {
    RefPtr<vfs::FileDescription> reader, writer;
    bool alive() const { return (reader->Readiness(kAllEvents) & kEventHup) == 0; }
  };
  Canary NewCanary() {
    auto ends = pipes_.NewPipe(ctx_, 0);
    return {ends.first, ends.second};
  }

  TestWorld world_;
  TestContext ctx_{world_};
  vfs::PipeFactory pipes_;
  RefPtr<UnixFlight> flight_ = MakeRef<UnixFlight>();
  RefPtr<UnixNamespace> ns_ = MakeRef<UnixNamespace>(flight_);
  RefPtr<SocketFileSystem> fs_ = MakeRef<SocketFileSystem>();
  std::string buffer_;
};

TEST_F(UnixRightsTest, FilesTravelWithTheirBytes) {
  auto [a, b] = Pair();
  Canary canary = NewCanary();
  vfs::FileDescription* sent = canary.writer.get();
  ASSERT_OK(SendFiles(*a, "plain", {}));
  ASSERT_OK(SendFiles(*a, "files", {std::move(canary.writer)}));
  ASSERT_OK(SendFiles(*a, "after", {}));
  EXPECT_EQ(flight_->files(), 1);
  Result<vfs::ReceiveResult> got = Recv(*b, 100, vfs::kMsgPeek);
  EXPECT_EQ(got->control.files.size(), 1u);
  got = Recv(*b);
  EXPECT_EQ(got->bytes, 10u);  // Up to the message with files and no further.
  ASSERT_EQ(got->control.files.size(), 1u);
  EXPECT_EQ(got->control.files[0].get(), sent);
  EXPECT_EQ(flight_->files(), 0);
  EXPECT_EQ(Recv(*b)->bytes, 5u);
}

TEST_F(UnixRightsTest, FilesThatNobodyWantsAreClosed) {
  auto [a, b] = Pair(kSockDgram);
  Canary canary = NewCanary();
  ASSERT_OK(SendFiles(*a, "x", {std::move(canary.writer)}));
  EXPECT_TRUE(canary.alive());
  Result<vfs::ReceiveResult> got = Recv(*b, 100, 0, /*control=*/false);
  EXPECT_EQ(got->flags & vfs::kMsgCtrunc, vfs::kMsgCtrunc);
  EXPECT_FALSE(canary.alive());
}

TEST_F(UnixRightsTest, UnreadFilesGoWithTheReceiver) {
  auto [a, b] = Pair();
  Canary canary = NewCanary();
  ASSERT_OK(SendFiles(*a, "x", {std::move(canary.writer)}));
  b = nullptr;
  EXPECT_FALSE(canary.alive());
  EXPECT_EQ(flight_->files(), 0);
}

TEST_F(UnixRightsTest, CredentialsForThoseWhoAsk) {
  auto [a, b] = Pair(kSockDgram);
  ctx_.tgid_ = 42;
  ctx_.BecomeUser(1000, 1001);
  ASSERT_OK(SendFiles(*a, "x", {}));
  EXPECT_FALSE(Recv(*b)->control.creds.has_value());
  ASSERT_OK(b->SetOption(ctx_, kSolSocket, kSoPasscred, IntOption(1)));
  ASSERT_OK(SendFiles(*a, "x", {}));
  Result<vfs::ReceiveResult> got = Recv(*b);
  ASSERT_TRUE(got->control.creds.has_value());
  EXPECT_EQ(got->control.creds->process.number, 42);
  EXPECT_EQ(got->control.creds->uid, 1000u);
  EXPECT_EQ(got->control.creds->gid, 1001u);
}

TEST_F(UnixRightsTest, SendersAreNotMixedWhereTheyAreShown) {
  auto [a, b] = Pair();
  ASSERT_OK(b->SetOption(ctx_, kSolSocket, kSoPasscred, IntOption(1)));
  ASSERT_OK(SendFiles(*a, "one", {}));
  ctx_.tgid_ = 42;
  ASSERT_OK(SendFiles(*a, "two", {}));
  EXPECT_EQ(Recv(*b)->bytes, 3u);
  EXPECT_EQ(Recv(*b)->control.creds->process.number, 42);
}

TEST_F(UnixRightsTest, PeerCredentialsAreThoseOfConnectAndListen) {
  ctx_.BecomeUser(1000, 1001, {7, 8});
  ctx_.tgid_ = 9;
  auto [a, b] = Pair();
  std::string bytes = a->GetOption(ctx_, kSolSocket, kSoPeercred, 12).value();
  EXPECT_EQ(bytes, IntOption(9) + IntOption(1000) + IntOption(1001));
  EXPECT_EQ(*a->GetOption(ctx_, kSolSocket, kSoPeergroups, 8), IntOption(7) + IntOption(8));
  EXPECT_ERRNO(a->GetOption(ctx_, kSolSocket, kSoPeergroups, 4), kERANGE);
  RefPtr<vfs::Socket> lone = NewUnixSocket(ctx_, ns_, fs_, kSockStream, 0, 0).value();
  EXPECT_EQ(*lone->GetOption(ctx_, kSolSocket, kSoPeercred, 12),
            IntOption(0) + IntOption(-1) + IntOption(-1));
}

TEST_F(UnixRightsTest, CyclesAreCollected) {
  Canary canary = NewCanary();
  {
    auto [a, b] = Pair();
    ASSERT_OK(SendFiles(*a, "x", {b, canary.writer}));  // b in its own queue.
    auto [c, d] = Pair();
    auto [e, f] = Pair();
    ASSERT_OK(SendFiles(*c, "x", {f}));  // d holds f, f holds d.
    ASSERT_OK(SendFiles(*e, "x", {d}));
    canary.writer = nullptr;
    EXPECT_TRUE(canary.alive());
    EXPECT_EQ(flight_->files(), 4);
  }
  EXPECT_FALSE(canary.alive());
  EXPECT_EQ(flight_->files(), 0);
}

TEST_F(UnixRightsTest, WhatCanStillBeReceivedIsNotCollected) {
  auto [a, b] = Pair();
  Canary canary = NewCanary();
  {
    auto [c, d] = Pair();
    ASSERT_OK(SendFiles(*c, "x", {d, canary.writer}));
    ASSERT_OK(SendFiles(*a, "x", {d}));  // b's queue leads to d, whose queue leads to itself.
    canary.writer = nullptr;
  }
  flight_->Collect();
  EXPECT_TRUE(canary.alive());
  RefPtr<vfs::FileDescription> d = Recv(*b)->control.files[0];
  EXPECT_EQ(Recv(static_cast<vfs::Socket&>(*d))->control.files.size(), 2u);
  EXPECT_FALSE(canary.alive());
}

TEST_F(UnixRightsTest, CyclesThroughAListenersQueue) {
  Canary canary = NewCanary();
  {
    std::string name = UnixAddressOf(std::string("\0l", 2));
    RefPtr<vfs::Socket> listener = NewUnixSocket(ctx_, ns_, fs_, kSockStream, 0, 0).value();
    ASSERT_OK(listener->Bind(ctx_, name));
    ASSERT_OK(listener->Listen(ctx_, 5));
    RefPtr<vfs::Socket> client = NewUnixSocket(ctx_, ns_, fs_, kSockStream, 0, 0).value();
    ASSERT_OK(client->Connect(ctx_, name));
    ASSERT_OK(SendFiles(*client, "x", {listener, canary.writer}));
    canary.writer = nullptr;
    client = nullptr;
    EXPECT_TRUE(canary.alive());
  }
  EXPECT_TRUE(canary.alive());
  Pair();  // As on Linux, the end of any socket looks for garbage.
  EXPECT_FALSE(canary.alive());
}

TEST_F(UnixRightsTest, LongChainsAreTakenDownWithoutRecursion) {
  auto [a, b] = Pair(kSockDgram);
  for (int i = 0; i < 20'000; ++i) {
    auto [c, d] = Pair(kSockDgram);
    ASSERT_OK(SendFiles(*c, "x", {std::move(b)}));
    b = d;
  }
  EXPECT_EQ(flight_->files(), 20'000);
  b = nullptr;
  EXPECT_EQ(flight_->files(), 0);
}

TEST_F(UnixRightsTest, CyclesOfWhichNoSocketEverEndsAreCollected) {
  constexpr int kRounds = 2000;
  std::vector<Canary> canaries;
  for (int i = 0; i < kRounds; ++i) {
    auto [a, b] = Pair();
    canaries.push_back(NewCanary());
    ASSERT_OK(SendFiles(*a, "x", {a, b, canaries.back().writer}));
    ASSERT_OK(SendFiles(*b, "x", {a}));
    canaries.back().writer = nullptr;
    ASSERT_LE(flight_->files(), 2000) << "after " << i;
  }
  EXPECT_FALSE(canaries.front().alive());
  flight_->Collect();  // The rest.
  EXPECT_EQ(flight_->files(), 0);
}

TEST_F(UnixRightsTest, GarbageThatABurialLeavesIsCollectedToo) {
  Canary canary = NewCanary();
  {
    auto [a, b] = Pair(kSockDgram);
    auto [c, d] = Pair(kSockDgram);
    // d's queue holds d and the canary; b's queue holds d: d is reachable while b is.
    ASSERT_OK(SendFiles(*c, "x", {d, canary.writer}));
    ASSERT_OK(SendFiles(*a, "x", {d}));
    canary.writer = nullptr;
    c = d = nullptr;
    EXPECT_TRUE(canary.alive());
  }
  EXPECT_FALSE(canary.alive());
  EXPECT_EQ(flight_->files(), 0);
}

TEST_F(UnixRightsTest, OneUsersFilesInFlightAreBoundedByRlimitNofile) {
  ctx_.BecomeUser(1000, 1000);
  ctx_.open_file_limit_ = 1000;
  Canary canary = NewCanary();
  std::vector<RefPtr<vfs::FileDescription>> many(253, canary.writer);
  std::vector<std::pair<RefPtr<vfs::Socket>, RefPtr<vfs::Socket>>> pairs;
  Result<size_t> sent = size_t{0};
  for (int i = 0; i < 10 && sent.ok(); ++i) {
    pairs.push_back(Pair());
    sent = SendFiles(*pairs.back().first, "x", many);
  }
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error(), Errno::kETOOMANYREFS);
  EXPECT_EQ(flight_->files(), 4 * 253);  // The first message past the limit still goes.
}

}  // namespace
}  // namespace caisson::netstack
