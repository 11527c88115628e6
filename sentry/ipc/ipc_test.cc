#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "platform/fake/fake_platform.h"
#include "sentry/ipc/namespace.h"
#include "sentry/mm/testing/fake_vfs.h"
#include "time/clock.h"

namespace caisson::ipc {
namespace {

using mm::testing::TestContext;
using ::testing::ElementsAre;

template <typename T>
Errno ErrorOf(const Result<T>& r) {
  return r.ok() ? Errno{0} : r.error();
}

class IpcTest : public ::testing::Test {
 protected:
  IpcTest() : ns_(MakeRef<IpcNamespace>(MakeRef<auth::UserNamespace>(), &shared_, 1)) {
    other_.mutable_creds().euid = 1000;
    other_.mutable_creds().egid = 1000;
  }
  template <typename F>
  struct Sleeper {
    explicit Sleeper(F f) : thread([this, f] { f(ctx); }) { ctx.AwaitBlocked(); }
    ~Sleeper() {
      if (thread.joinable()) thread.join();
    }
    TestContext ctx;
    std::thread thread;
  };

  platform::fake::FakePlatform platform_;
  mm::testing::TestSharedMemory shared_;
  TestContext ctx_, other_;
  RefPtr<IpcNamespace> ns_;
  const int kCreate = abi::kIpcCreat | 0600;
};

TEST_F(IpcTest, KeysFindObjectsAndPermissionsHold) {
  SharedMemory& shm = ns_->shm;
  EXPECT_EQ(ErrorOf(shm.Get(ctx_, 7, 100, 0)), Errno::kENOENT);
  int id = shm.Get(ctx_, 7, 100, kCreate).value();
  EXPECT_EQ(shm.Get(ctx_, 7, 50, 0600).value(), id);
  EXPECT_EQ(ErrorOf(shm.Get(ctx_, 7, 101, 0)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(shm.Get(ctx_, 7, 100, kCreate | abi::kIpcExcl)), Errno::kEEXIST);
  EXPECT_EQ(ErrorOf(shm.Get(other_, 7, 100, 0400)), Errno::kEACCES);
  EXPECT_EQ(ErrorOf(shm.Remove(other_, id)), Errno::kEPERM);
  EXPECT_EQ(ErrorOf(shm.Get(ctx_, 8, 0, kCreate)), Errno::kEINVAL);
  EXPECT_NE(shm.Get(ctx_, 0, 1, kCreate).value(), shm.Get(ctx_, 0, 1, kCreate).value());
  ASSERT_TRUE(shm.Remove(ctx_, id).ok());
  EXPECT_EQ(ErrorOf(shm.Stat(ctx_, id, false, false, nullptr)), Errno::kEINVAL);
}

TEST_F(IpcTest, SegmentsAreSharedAndEndWithTheirLastDetach) {
  RefPtr<mm::MemoryManager> mm = mm::MemoryManager::New(platform_, &shared_).value();
  SharedMemory& shm = ns_->shm;
  int id = shm.Get(ctx_, 7, 5000, kCreate).value();
  GuestAddr a = shm.Attach(ctx_, *mm, id, {}, 0, {}).value();
  GuestAddr b = shm.Attach(ctx_, *mm, id, {}, abi::kShmRdonly, {}).value();
  ASSERT_TRUE(mm->CopyOut(a, {"hello", 5}).ok());
  char text[5];
  ASSERT_TRUE(mm->CopyIn(b, absl::MakeSpan(text)).ok());
  EXPECT_EQ(std::string(text, 5), "hello");
  EXPECT_EQ(ErrorOf(mm->Mprotect(b, kPageSize, 3, {})), Errno::kEACCES);
  EXPECT_EQ(shm.Stat(ctx_, id, false, false, nullptr).value().nattch, 2u);
  RefPtr<mm::MemoryManager> child = mm->Fork().value();
  EXPECT_EQ(shm.Stat(ctx_, id, false, false, nullptr).value().nattch, 4u);
  ASSERT_TRUE(shm.Remove(ctx_, id).ok());
  EXPECT_EQ(ErrorOf(shm.Get(ctx_, 7, 1, 0)), Errno::kENOENT);
  EXPECT_NE(shm.Stat(ctx_, id, false, false, nullptr).value().perm.mode & abi::kShmDest, 0u);
  // Unmapping a part leaves the attachment.
  ASSERT_TRUE(mm->Munmap(a + kPageSize, kPageSize).ok());
  EXPECT_EQ(ErrorOf(SharedMemory::Detach(ctx_, *mm, a + kPageSize)), Errno::kEINVAL);
  ASSERT_TRUE(SharedMemory::Detach(ctx_, *mm, a).ok());
  ASSERT_TRUE(SharedMemory::Detach(ctx_, *mm, b).ok());
  EXPECT_EQ(mm->totals().virtual_bytes, 0u);
  EXPECT_EQ(shm.Stat(ctx_, id, false, false, nullptr).value().nattch, 2u);
  child.reset();
  EXPECT_EQ(ErrorOf(shm.Stat(ctx_, id, false, false, nullptr)), Errno::kEINVAL);
  EXPECT_EQ(shm.Info().shm_tot, 0u);
}

TEST_F(IpcTest, AttachChecksItsAddress) {
  RefPtr<mm::MemoryManager> mm = mm::MemoryManager::New(platform_, &shared_).value();
  SharedMemory& shm = ns_->shm;
  int id = shm.Get(ctx_, 7, 5000, kCreate).value();
  GuestAddr at(0x1000'0000);
  EXPECT_EQ(ErrorOf(shm.Attach(ctx_, *mm, id, at + 5, 0, {})), Errno::kEINVAL);
  EXPECT_EQ(shm.Attach(ctx_, *mm, id, at + 5, abi::kShmRnd, {}).value(), at);
  EXPECT_EQ(ErrorOf(shm.Attach(ctx_, *mm, id, at, 0, {})), Errno::kEINVAL);
  EXPECT_EQ(shm.Attach(ctx_, *mm, id, at, abi::kShmRemap, {}).value(), at);
  EXPECT_EQ(shm.Stat(ctx_, id, false, false, nullptr).value().nattch, 1u);
  EXPECT_EQ(ErrorOf(shm.Attach(ctx_, *mm, id, {}, abi::kShmRemap, {})), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(shm.Attach(other_, *mm, id, {}, 0, {})), Errno::kEACCES);
  EXPECT_EQ(mm->Vmas()[0].name, "/SYSV00000007 (deleted)");
}

TEST_F(IpcTest, SemaphoreOperationsAreAllOrNothing) {
  Semaphores& sem = ns_->sem;
  int id = sem.Get(ctx_, 0, 2, kCreate).value();
  abi::SemBuf up[] = {{0, 2, 0}};
  ASSERT_TRUE(sem.Operate(ctx_, nullptr, id, up, time::kNever).ok());
  abi::SemBuf both[] = {{0, -1, 0}, {1, -1, abi::kIpcNowait}};
  EXPECT_EQ(ErrorOf(sem.Operate(ctx_, nullptr, id, both, time::kNever)), Errno::kEAGAIN);
  EXPECT_THAT(sem.GetAll(ctx_, id).value(), ElementsAre(2, 0));
  abi::SemBuf far[] = {{2, 1, 0}};
  EXPECT_EQ(ErrorOf(sem.Operate(ctx_, nullptr, id, far, time::kNever)), Errno::kEFBIG);
  abi::SemBuf over[] = {{0, 32767, 0}};
  EXPECT_EQ(ErrorOf(sem.Operate(ctx_, nullptr, id, over, time::kNever)), Errno::kERANGE);
  EXPECT_EQ(ErrorOf(sem.Operate(ctx_, nullptr, id, {}, time::kNever)), Errno::kEINVAL);
  abi::SemBuf down[] = {{1, -1, 0}};
  EXPECT_EQ(ErrorOf(sem.Operate(ctx_, nullptr, id, down, time::MonotonicNow() + 1000)),
            Errno::kEAGAIN);
  EXPECT_EQ(ErrorOf(sem.SetValue(ctx_, id, 0, 32768)), Errno::kERANGE);
  EXPECT_EQ(sem.GetOne(ctx_, id, 0, abi::kGetPid).value(), ctx_.tgid());
}

TEST_F(IpcTest, SleepersAreServedInOrderAndCounted) {
  Semaphores& sem = ns_->sem;
  int id = sem.Get(ctx_, 0, 1, kCreate).value();
  Result<void> first = Errno::kEIO, second = Errno::kEIO, zero = Errno::kEIO;
  static constexpr abi::SemBuf kTwo[] = {{0, -2, 0}}, kOne[] = {{0, -1, 0}}, kZero[] = {{0, 0, 0}};
  Sleeper a([&](TestContext& c) { first = sem.Operate(c, nullptr, id, kTwo, time::kNever); });
  Sleeper b([&](TestContext& c) { second = sem.Operate(c, nullptr, id, kOne, time::kNever); });
  EXPECT_EQ(sem.GetOne(ctx_, id, 0, abi::kGetNcnt).value(), 2);
  ASSERT_TRUE(sem.SetValue(ctx_, id, 0, 3).ok());
  a.thread.join();
  b.thread.join();
  EXPECT_TRUE(first.ok());
  EXPECT_TRUE(second.ok());
  EXPECT_EQ(sem.GetOne(ctx_, id, 0, abi::kGetVal).value(), 0);
  ASSERT_TRUE(sem.SetValue(ctx_, id, 0, 1).ok());
  Sleeper c([&](TestContext& x) { zero = sem.Operate(x, nullptr, id, kZero, time::kNever); });
  EXPECT_EQ(sem.GetOne(ctx_, id, 0, abi::kGetZcnt).value(), 1);
  c.ctx.Interrupt();
  c.thread.join();
  EXPECT_EQ(ErrorOf(zero), Errno::kEINTR);
  Sleeper d([&](TestContext& x) { zero = sem.Operate(x, nullptr, id, kZero, time::kNever); });
  ASSERT_TRUE(sem.Remove(ctx_, id).ok());
  d.thread.join();
  EXPECT_EQ(ErrorOf(zero), Errno::kEIDRM);
}

TEST_F(IpcTest, UndoHappensWhenTheLastTaskIsGone) {
  Semaphores& sem = ns_->sem;
  int id = sem.Get(ctx_, 0, 2, kCreate).value();
  auto undo = MakeRef<SemUndoList>();
  RefPtr<SemUndoList> shared = undo;
  abi::SemBuf ops[] = {{0, 3, abi::kSemUndo}, {1, 2, 0}};
  ASSERT_TRUE(sem.Operate(ctx_, undo.get(), id, ops, time::kNever).ok());
  abi::SemBuf back[] = {{0, -1, abi::kSemUndo}};
  ASSERT_TRUE(sem.Operate(ctx_, undo.get(), id, back, time::kNever).ok());
  undo.reset();
  EXPECT_THAT(sem.GetAll(ctx_, id).value(), ElementsAre(2, 2));
  shared.reset();
  EXPECT_THAT(sem.GetAll(ctx_, id).value(), ElementsAre(0, 2));
  // SETVAL forgets adjustments.
  undo = MakeRef<SemUndoList>();
  ASSERT_TRUE(sem.Operate(ctx_, undo.get(), id, ops, time::kNever).ok());
  ASSERT_TRUE(sem.SetValue(ctx_, id, 0, 9).ok());
  undo.reset();
  EXPECT_THAT(sem.GetAll(ctx_, id).value(), ElementsAre(9, 4));
}

TEST_F(IpcTest, UndoWakesWhoWaits) {
  Semaphores& sem = ns_->sem;
  int id = sem.Get(ctx_, 0, 1, kCreate).value();
  ASSERT_TRUE(sem.SetValue(ctx_, id, 0, 1).ok());
  auto undo = MakeRef<SemUndoList>();
  static constexpr abi::SemBuf kDown[] = {{0, -1, abi::kSemUndo}}, kPlain[] = {{0, -1, 0}};
  ASSERT_TRUE(sem.Operate(ctx_, undo.get(), id, kDown, time::kNever).ok());
  Result<void> result = Errno::kEIO;
  Sleeper a([&](TestContext& c) { result = sem.Operate(c, nullptr, id, kPlain, time::kNever); });
  undo.reset();
  a.thread.join();
  EXPECT_TRUE(result.ok());
}

TEST_F(IpcTest, MessagesComeByType) {
  MessageQueues& msg = ns_->msg;
  int id = msg.Get(ctx_, 0, kCreate).value();
  for (int64_t type : {5, 3, 4, 3})
    ASSERT_TRUE(msg.Send(ctx_, id, {type, std::string(static_cast<size_t>(type), 'x')}, 0).ok());
  auto receive = [&](int64_t type, int flags, uint64_t size = 100) {
    return msg.Receive(ctx_, id, size, type, flags | abi::kIpcNowait);
  };
  EXPECT_EQ(receive(2, abi::kMsgCopy).value().type, 4);
  EXPECT_EQ(receive(4, 0).value().type, 4);
  EXPECT_EQ(ErrorOf(receive(4, 0)), Errno::kENOMSG);
  EXPECT_EQ(receive(-4, 0).value().type, 3);
  EXPECT_EQ(receive(3, abi::kMsgExcept).value().type, 5);
  EXPECT_EQ(ErrorOf(receive(0, 0, 2)), Errno::kE2BIG);
  EXPECT_EQ(receive(0, abi::kMsgNoerror, 2).value().text, "xx");
  EXPECT_EQ(ErrorOf(receive(0, 0)), Errno::kENOMSG);
  EXPECT_EQ(msg.Stat(ctx_, id, false, false, nullptr).value().cbytes, 0u);
}

TEST_F(IpcTest, QueuesBlockWhenFullOrEmpty) {
  MessageQueues& msg = ns_->msg;
  int id = msg.Get(ctx_, 0, kCreate).value();
  Result<Message> got = Errno::kEIO;
  {
    Sleeper a([&](TestContext& c) { got = msg.Receive(c, id, 100, 0, 0); });
    ASSERT_TRUE(msg.Send(ctx_, id, {1, "hi"}, 0).ok());
  }
  EXPECT_EQ(got.value().text, "hi");
  EXPECT_EQ(ErrorOf(msg.Send(ctx_, id, {1, std::string(8193, 'x')}, 0)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(msg.Send(ctx_, id, {0, "x"}, 0)), Errno::kEINVAL);
  for (int i = 0; i < 2; ++i)
    ASSERT_TRUE(msg.Send(ctx_, id, {1, std::string(8192, 'x')}, abi::kIpcNowait).ok());
  EXPECT_EQ(ErrorOf(msg.Send(ctx_, id, {1, "x"}, abi::kIpcNowait)), Errno::kEAGAIN);
  Result<void> sent = Errno::kEIO;
  {
    Sleeper b([&](TestContext& c) { sent = msg.Send(c, id, {2, "late"}, 0); });
    ASSERT_TRUE(msg.Receive(ctx_, id, 9000, 0, 0).ok());
  }
  EXPECT_TRUE(sent.ok());
  {
    Sleeper c([&](TestContext& x) { got = msg.Receive(x, id, 100, 77, 0); });
    c.ctx.Interrupt();
    c.thread.join();
    EXPECT_EQ(ErrorOf(got), Errno::kERESTARTNOHAND);
  }
  {
    Sleeper d([&](TestContext& x) { got = msg.Receive(x, id, 100, 77, 0); });
    ASSERT_TRUE(msg.Remove(ctx_, id).ok());
  }
  EXPECT_EQ(ErrorOf(got), Errno::kEIDRM);
}

TEST_F(IpcTest, IdentifiersAreNotSoonUsedAgain) {
  MessageQueues& msg = ns_->msg;
  int first = msg.Get(ctx_, 0, kCreate).value();
  ASSERT_TRUE(msg.Remove(ctx_, first).ok());
  for (int i = 0; i < 1000; ++i) {
    int id = msg.Get(ctx_, 0, kCreate).value();
    ASSERT_NE(id, first);
    ASSERT_TRUE(msg.Remove(ctx_, id).ok());
  }
}

TEST_F(IpcTest, OwnersChange) {
  Semaphores& sem = ns_->sem;
  int id = sem.Get(ctx_, 0, 1, kCreate).value();
  EXPECT_EQ(ErrorOf(sem.GetAll(other_, id)), Errno::kEACCES);
  abi::IpcPerm perm = {};
  perm.uid = 1000;
  perm.gid = 1000;
  perm.mode = 0400;
  ASSERT_TRUE(sem.Set(ctx_, id, perm).ok());
  EXPECT_TRUE(sem.GetAll(other_, id).ok());
  EXPECT_EQ(ErrorOf(sem.SetValue(other_, id, 0, 1)), Errno::kEACCES);
  EXPECT_EQ(sem.Stat(ctx_, id, false, false, nullptr).value().perm.uid, 1000u);
}

}  // namespace
}  // namespace caisson::ipc
