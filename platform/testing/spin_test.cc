// When both sides wait awake.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "platform/testing/patched_call.h"

namespace caisson::platform {
namespace {

class SpinTest : public PatchedCallTest {};

// Threads that take turns are woken with every turn: two CPUs for one of them would be two less for the others.
TEST_F(SpinTest, NotWhereThreadsTakeTurns) {
  if (TestPlatformName() == "ptrace") GTEST_SKIP() << "nobody spins on ptrace";
  if (std::thread::hardware_concurrency() > 3) GTEST_SKIP() << "there are CPUs enough for two pairs";
  Start(Loop);
  CallsArrive(kOften);
  // Alone it may have.
  context_ = TestPlatform().NewContext();
  regs_.rip = kCode.value;
  const uint64_t before = Count("patched_spin");
  std::mutex mutex;
  std::condition_variable changed;
  int turn = 0;
  auto take_turns = [&](int mine, Context& context, Registers& regs) {
    for (int i = 0; i < 10'000; ++i) {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [&] { return turn == mine; });
      ASSERT_EQ(RunGuest(context, *space_, regs).kind, Kind::kSyscall);
      regs.rax = 0;
      turn = 1 - mine;
      changed.notify_all();
    }
  };
  std::thread other([&] {
    std::unique_ptr<Context> context = TestPlatform().NewContext();
    Registers regs = regs_;
    regs.rip = kCode.value;
    take_turns(1, *context, regs);
  });
  take_turns(0, *context_, regs_);
  other.join();
  context_.reset();
  EXPECT_EQ(Count("patched_spin"), before);
}

}  // namespace
}  // namespace caisson::platform
