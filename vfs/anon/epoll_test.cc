#include "vfs/anon/epoll.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "vfs/anon/anon_inode.h"
#include "vfs/anon/eventfd.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class EpollTest : public ::testing::Test {
 protected:
  RefPtr<Eventfd> NewEvent(uint64_t initial = 0) {
    return MakeRef<Eventfd>(inode_, initial, false, 0u);
  }
  RefPtr<Epoll> NewEpoll() { return MakeRef<Epoll>(inode_); }
  std::vector<EpollEvent> Poll(Epoll& epoll, size_t max = 16) {
    std::vector<EpollEvent> events(max);
    events.resize(epoll.Wait(ctx_, 0, absl::MakeSpan(events)).value());
    return events;
  }
  void Drain(Eventfd& e) { ASSERT_OK(ctx_.Read(e, 8)); }

  TestWorld world_;
  TestContext ctx_{world_};
  RefPtr<AnonFileSystem> fs_ = MakeRef<AnonFileSystem>();
  RefPtr<Inode> inode_ = fs_->root();
};

TEST_F(EpollTest, LevelTriggeredReportsWhileItHolds) {
  RefPtr<Epoll> epoll = NewEpoll();
  RefPtr<Eventfd> e = NewEvent();
  ASSERT_OK(epoll->Add(3, *e, {kEventIn, 77}));
  EXPECT_TRUE(Poll(*epoll).empty());
  e->Signal(1);
  for (int i = 0; i < 2; ++i) {
    std::vector<EpollEvent> got = Poll(*epoll);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(uint32_t{got[0].events}, kEventIn);
    EXPECT_EQ(uint64_t{got[0].data}, 77u);
  }
  Drain(*e);
  EXPECT_TRUE(Poll(*epoll).empty());
}

TEST_F(EpollTest, EdgeTriggeredReportsOnceAnEvent) {
  RefPtr<Epoll> epoll = NewEpoll();
  RefPtr<Eventfd> e = NewEvent(1);
  ASSERT_OK(epoll->Add(3, *e, {kEventIn | kEpollEdge, 0}));
  EXPECT_EQ(Poll(*epoll).size(), 1u);
  EXPECT_TRUE(Poll(*epoll).empty());
  e->Signal(1);
  EXPECT_EQ(Poll(*epoll).size(), 1u);
  EXPECT_TRUE(Poll(*epoll).empty());
}

TEST_F(EpollTest, OneshotWaitsForModify) {
  RefPtr<Epoll> epoll = NewEpoll();
  RefPtr<Eventfd> e = NewEvent(1);
  ASSERT_OK(epoll->Add(3, *e, {kEventIn | kEpollOneshot, 0}));
  EXPECT_EQ(Poll(*epoll).size(), 1u);
  e->Signal(1);
  EXPECT_TRUE(Poll(*epoll).empty());
  ASSERT_OK(epoll->Modify(3, *e, {kEventIn | kEpollOneshot, 0}));
  EXPECT_EQ(Poll(*epoll).size(), 1u);
}

TEST_F(EpollTest, FewSlotsAreSharedFairly) {
  RefPtr<Epoll> epoll = NewEpoll();
  std::vector<RefPtr<Eventfd>> files;
  for (int i = 0; i < 4; ++i) {
    files.push_back(NewEvent(1));
    ASSERT_OK(epoll->Add(i, *files[i], {kEventIn, static_cast<uint64_t>(i)}));
  }
  std::vector<uint64_t> seen;
  for (int i = 0; i < 4; ++i) seen.push_back(Poll(*epoll, 1)[0].data);
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 1, 2, 3}));
  EXPECT_EQ(Poll(*epoll, 3).size(), 3u);
}

TEST_F(EpollTest, RegistrationsGoWithTheirFile) {
  RefPtr<Epoll> epoll = NewEpoll();
  RefPtr<Eventfd> e = NewEvent(1);
  ASSERT_OK(epoll->Add(3, *e, {kEventIn, 0}));
  ASSERT_OK(epoll->Add(4, *e, {kEventIn, 0}));  // As after dup(2).
  EXPECT_EQ(e->ref_count(), 1u);
  e = nullptr;
  EXPECT_TRUE(Poll(*epoll).empty());
  EXPECT_EQ(epoll->FdInfo(), "");
}

TEST_F(EpollTest, TheFileOutlivesTheInstance) {
  RefPtr<Eventfd> e = NewEvent();
  {
    RefPtr<Epoll> epoll = NewEpoll();
    ASSERT_OK(epoll->Add(3, *e, {kEventIn, 0}));
  }
  e->Signal(1);
  EXPECT_EQ(e->Readiness(kReadable), kReadable);
}

TEST_F(EpollTest, Errors) {
  RefPtr<Epoll> epoll = NewEpoll();
  RefPtr<Eventfd> e = NewEvent();
  ASSERT_OK(epoll->Add(3, *e, {kEventIn, 0}));
  EXPECT_ERRNO(epoll->Add(3, *e, {kEventIn, 0}), kEEXIST);
  EXPECT_ERRNO(epoll->Modify(4, *e, {kEventIn, 0}), kENOENT);
  EXPECT_ERRNO(epoll->Delete(4, *e), kENOENT);
  EXPECT_ERRNO(epoll->Add(5, *epoll, {kEventIn, 0}), kEINVAL);
  EXPECT_ERRNO(epoll->Add(6, *e, {kEventIn, 0}, 1), kENOSPC);
  ASSERT_OK(ctx_.WriteFile("file", ""));
  EXPECT_ERRNO(epoll->Add(7, *ctx_.Open("file").value(), {kEventIn, 0}), kEPERM);
  EXPECT_ERRNO(epoll->Modify(3, *e, {kEventIn | kEpollExclusive, 0}), kEINVAL);
  EXPECT_ERRNO(epoll->Add(8, *e, {kEventIn | kEpollExclusive | kEpollOneshot, 0}), kEINVAL);
  ASSERT_OK(epoll->Add(8, *e, {kEventIn | kEpollExclusive, 0}));
  ASSERT_OK(epoll->Delete(3, *e));
  EXPECT_ERRNO(epoll->Delete(3, *e), kENOENT);
}

TEST_F(EpollTest, NestingIsReportedAndBounded) {
  std::vector<RefPtr<Epoll>> chain;
  for (int i = 0; i < 7; ++i) chain.push_back(NewEpoll());
  RefPtr<Eventfd> e = NewEvent();
  ASSERT_OK(chain[0]->Add(1, *e, {kEventIn, 0}));
  for (int i = 1; i <= 5; ++i) ASSERT_OK(chain[i]->Add(1, *chain[i - 1], {kEventIn, 0}));
  EXPECT_ERRNO(chain[6]->Add(1, *chain[5], {kEventIn, 0}), kELOOP);
  EXPECT_ERRNO(chain[0]->Add(2, *chain[3], {kEventIn, 0}), kELOOP);
  EXPECT_TRUE(Poll(*chain[5]).empty());
  e->Signal(1);
  EXPECT_EQ(Poll(*chain[5]).size(), 1u);
  EXPECT_EQ(chain[5]->Readiness(kReadable), kReadable);
  Drain(*e);
  EXPECT_EQ(chain[5]->Readiness(kReadable), 0u);
  // Without the middle it may grow again.
  ASSERT_OK(chain[3]->Delete(1, *chain[2]));
  ASSERT_OK(chain[6]->Add(1, *chain[5], {kEventIn, 0}));
}

TEST_F(EpollTest, WaitSleepsUntilAnEvent) {
  RefPtr<Epoll> epoll = NewEpoll();
  RefPtr<Eventfd> e = NewEvent();
  ASSERT_OK(epoll->Add(3, *e, {kEventIn, 5}));
  std::thread thread([&] { e->Signal(1); });
  EpollEvent event;
  EXPECT_EQ(*epoll->Wait(ctx_, time::kNever, {&event, 1}), 1u);
  thread.join();
  EXPECT_EQ(uint64_t{event.data}, 5u);
  Drain(*e);
  EXPECT_EQ(*epoll->Wait(ctx_, time::MonotonicNow() + 1'000'000, {&event, 1}), 0u);
  ctx_.Interrupt();
  EXPECT_ERRNO(epoll->Wait(ctx_, time::kNever, {&event, 1}), kERESTARTSYS);
}

TEST_F(EpollTest, FilesAndRegistrationsMayGoAtTheSameTime) {
  RefPtr<Epoll> epoll = NewEpoll();
  std::atomic<bool> stop{false};
  std::thread waiter([&] {
    TestContext ctx(world_);
    EpollEvent events[8];
    while (!stop.load()) ASSERT_OK(epoll->Wait(ctx, 0, absl::MakeSpan(events)));
  });
  for (int round = 0; round < 2000; ++round) {
    RefPtr<Eventfd> e = NewEvent(1);
    ASSERT_OK(epoll->Add(3, *e, {kEventIn, 0}));
    RefPtr<FileDescription> second = e;
    std::thread closer([file = std::move(second)]() mutable { file = nullptr; });
    if (round % 2 == 0) ASSERT_OK(epoll->Delete(3, *e));
    e->Signal(1);
    e = nullptr;
    closer.join();
  }
  stop.store(true);
  waiter.join();
  EXPECT_EQ(epoll->FdInfo(), "");
}

}  // namespace
}  // namespace caisson::vfs
