// A guest that jumps to any byte of the blob with registers of its choice: it gets an event, or goes round in a loop
// of its own. Never does the sentry put it right and let it go on without an end.
#include <sys/resource.h>
#include <time.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"

#include "platform/stub/layout.h"
#include "platform/testing/testing.h"
#include "platform/trap/slot.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;

constexpr uint64_t Registers::* kGeneral[] = {
    &Registers::rax, &Registers::rbx, &Registers::rcx, &Registers::rdx, &Registers::rsi,
    &Registers::rdi, &Registers::rbp, &Registers::rsp, &Registers::r8,  &Registers::r9,
    &Registers::r10, &Registers::r11, &Registers::r12, &Registers::r13, &Registers::r14,
    &Registers::r15,
};

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

// What this thread has done since: every hand-off that it waits for puts it to sleep, or costs time.
struct Work {
  int64_t switches = 0, cpu_ns = 0;
  static Work Now() {
    rusage usage;
    timespec cpu;
    getrusage(RUSAGE_THREAD, &usage);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return {usage.ru_nvcsw, cpu.tv_sec * int64_t{1'000'000'000} + cpu.tv_nsec};
  }
};

// Interrupts a context that has been in Switch() for long.
class Alarm {
 public:
  static constexpr int64_t kNs = 15'000'000;
  Alarm() : thread_([this] { Watch(); }) {}
  ~Alarm() {
    stop_ = true;
    thread_.join();
  }
  void Set(Context* context) {
    MutexLock lock(mu_);
    context_ = context;
    since_ = Now();
  }
  // After this it is not interrupted any more.
  void Clear() {
    MutexLock lock(mu_);
    since_ = 0;
  }

 private:
  void Watch() {
    while (!stop_) {
      usleep(2000);
      MutexLock lock(mu_);
      if (since_ != 0 && Now() - since_ > kNs) context_->Interrupt();
    }
  }
  Mutex mu_;
  Context* context_ ABSL_GUARDED_BY(mu_) = nullptr;
  int64_t since_ ABSL_GUARDED_BY(mu_) = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class BlobJumpTest : public ::testing::Test {
 protected:
  static constexpr int64_t kMaxSwitches = 150, kMaxCpuNs = 4'000'000;

  void SetUp() override { New(); }
  void New() {
    context_.reset();
    space_ = NewSpace();
    context_ = TestPlatform().NewContext();
    // rdi: what all of CallRegisters in the slot is to be, but rip, which is rsi.
    start_ = Load(*space_, [](Code& c) {
      c.mov(c.rax, trap::SlotAddress(0) + offsetof(trap::Slot, registers));
      for (size_t i = 0; i < sizeof(trap::CallRegisters) / 8; ++i)
        c.mov(c.qword[c.rax + i * 8], i * 8 == offsetof(trap::CallRegisters, rip) ? c.rsi : c.rdi);
      c.mov(c.eax, 444);
      c.syscall();
    });
  }
  // False if the sentry worked for long. On a busy machine the interrupt comes late: what counts is how much it
  // worked meanwhile.
  bool Jump(Registers regs) {
    const Work before = Work::Now();
    const int64_t start = Now();
    alarm_.Set(context_.get());
    const Event event = context_->Switch(*space_, regs);
    alarm_.Clear();
    const Work after = Work::Now();
    ++kinds_[event.kind];
    const int64_t switches = after.switches - before.switches, cpu = after.cpu_ns - before.cpu_ns;
    const int64_t windows = (Now() - start) / Alarm::kNs + 1;
    if (event.kind == Kind::kKilled) New();
    return event.kind != Kind::kInterrupted || (switches < kMaxSwitches * windows && cpu < kMaxCpuNs * windows);
  }
  void SetSlot(uint64_t garbage, uint64_t rip) {
    for (int attempt = 0; attempt < 2; ++attempt) {
      Registers regs = start_;
      regs.rdi = garbage;
      regs.rsi = rip;
      if (RunGuest(*context_, *space_, regs).kind == Kind::kSyscall) return;
      ASSERT_EQ(attempt, 0);
      New();  // What the guest did before has broken its slot.
    }
  }

  Alarm alarm_;
  std::unique_ptr<AddressSpace> space_;
  std::unique_ptr<Context> context_;
  Registers start_{};
  std::map<Kind, int> kinds_;
};

TEST_F(BlobJumpTest, EveryByteWithGarbageInAllRegisters) {
  const bool slots = TestPlatformName() != "ptrace";
  const uint64_t size = TestBlobCode().size();
  const uint64_t values[] = {0, 0x0123456789abcdef, kData.value + 0x800, trap::SlotAddress(0),
                             trap::SlotAddress(0) + trap::kStackOffset + 0x1800};
  std::string loops;
  for (uint64_t garbage : values) {
    for (uint64_t at = stub::kBlobAddr; at < stub::kBlobAddr + size; ++at) {
      // What is loaded from the slot jumps to the same place again.
      if (slots) SetSlot(garbage, at);
      ASSERT_FALSE(HasFatalFailure()) << std::hex << garbage << " " << at << " after " << loops;
      Registers regs = start_;
      for (auto field : kGeneral) regs.*field = garbage;
      regs.rip = at;
      if (!Jump(regs)) absl::StrAppend(&loops, absl::Hex(at - stub::kBlobAddr), "/", absl::Hex(garbage), " ");
    }
  }
  EXPECT_EQ(loops, "");
  EXPECT_GT(kinds_[Kind::kFault], 0);
}

}  // namespace
}  // namespace caisson::platform
