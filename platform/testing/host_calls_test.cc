// Mappings that change while a guest thread is stopped: on platform trap that thread makes the host's
// calls itself. Whatever comes in between, each is made, failures are told, and the guest goes on as
// if nothing had been. On other platforms the same must hold.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "platform/testing/testing.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;
using Op = MapOp::Kind;

constexpr GuestAddr kFree(0x10000000);

uint64_t HostCalls() {
  for (const Platform::Counter& counter : TestPlatform().Counters())
    if (counter.name == "host_calls") return counter.value;
  return 0;
}

// Calls by trap, or from a site that is patched.
class HostCallsTest : public ::testing::TestWithParam<bool> {
 protected:
  static void Loop(Code& c) { CallForEver(c, SYS_brk); }
  void SetUp() override {
    before_ = HostCalls();
    space_ = NewSpace();
    context_ = TestPlatform().NewContext();
    regs_ = Load(*space_, Loop);
    if (GetParam()) {
      file_ = LoadFromFile(*space_, Assemble(Loop));
      for (int i = 0; i < 200; ++i) Call();
    } else {
      Call();
    }
  }
  void Call() {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    ASSERT_EQ(regs_.rdi, ++calls_);
  }
  // How many vectors the thread has run.
  uint64_t Made() {
    context_->Detach();  // Which adds them to the counter.
    return HostCalls() - before_;
  }
  static bool ByThreads() { return TestPlatformName() == "trap"; }
  bool Map(const MapOp& op) { return space_->Apply({op}).ok(); }
  Errno Refused(const MapOp& op) {
    Result<void> result = space_->Apply({op});
    return result.ok() ? Errno{0} : result.error();
  }
  bool CanWrite(GuestAddr at) { return space_->CopyOut(at, absl::string_view("x")) == 1; }
  char Byte(GuestAddr at) {
    char byte = '?';
    return space_->CopyIn(at, absl::MakeSpan(&byte, 1)) == 1 ? byte : '-';
  }

  uint64_t before_ = 0, calls_ = 0;
  UniqueFd file_;
  std::unique_ptr<AddressSpace> space_;
  std::unique_ptr<Context> context_;
  Registers regs_{};
};

TEST_P(HostCallsTest, EveryKindOfChange) {
  UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 0x2000), 0);
  ASSERT_EQ(pwrite(file.get(), "fg", 2, 0xfff), 2);
  for (int round = 0; round < 30; ++round) {
    ASSERT_TRUE(Map(MapAnonymous(kFree, 0x4000, kReadWrite)));
    ASSERT_EQ(Byte(kFree), '\0');
    ASSERT_TRUE(CanWrite(kFree));
    ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kProtRead)));
    ASSERT_FALSE(CanWrite(kFree));
    ASSERT_TRUE(CanWrite(kFree + 0x1000));
    ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kReadWrite)));
    ASSERT_TRUE(CanWrite(kFree));
    ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kProtNone)));
    ASSERT_EQ(Byte(kFree), '-');
    ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kReadWrite | kProtExec)));
    ASSERT_EQ(Byte(kFree), 'x');
    ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kReadWrite)));
    MapOp advise = Simple(Op::kAdvise, kFree, 0x1000);
    advise.advice = MADV_DONTNEED;
    ASSERT_TRUE(Map(advise));
    ASSERT_EQ(Byte(kFree), '\0');
    MapOp move = Simple(Op::kRemap, kFree, 0x3000);
    move.old_length = 0x2000;
    move.new_addr = kFree + 0x100000;
    ASSERT_TRUE(Map(move));
    ASSERT_EQ(Byte(kFree + 0x101000), 'x');
    ASSERT_EQ(Byte(kFree), '-');
    ASSERT_TRUE(Map(MapFile(kFree, 0x1000, kReadWrite, file.get(), true, 0x1000)));
    ASSERT_EQ(Byte(kFree), 'g');
    ASSERT_TRUE(CanWrite(kFree));
    char byte;
    ASSERT_EQ(pread(file.get(), &byte, 1, 0x1000), 1);
    ASSERT_EQ(byte, 'x');
    ASSERT_EQ(pwrite(file.get(), "g", 1, 0x1000), 1);
    // In one vector, the file in the middle of it.
    ASSERT_TRUE(space_
                    ->Apply({Simple(Op::kUnmap, kFree, 0x1000), MapAnonymous(kFree, 0x1000, kReadWrite),
                             MapFile(kFree + 0x1000, 0x1000, kProtRead, file.get(), false),
                             Simple(Op::kProtect, kFree, 0x1000, kProtRead),
                             Simple(Op::kUnmap, kFree + 0x100000, 0x3000)})
                    .ok());
    ASSERT_FALSE(CanWrite(kFree));
    ASSERT_EQ(Byte(kFree + 0x1fff), 'f');
    ASSERT_EQ(Byte(kFree + 0x100000), '-');
    ASSERT_TRUE(Map(Simple(Op::kUnmap, kFree, 0x100000)));
    ASSERT_EQ(Byte(kFree + 0x1000), '-');
    Call();
  }
  // No descriptor is left.
  const std::string fds = "/proc/" + std::to_string(space_->host_pid()) + "/fd/";
  EXPECT_NE(access((fds + "63").c_str(), F_OK), 0);
  if (ByThreads()) {
    EXPECT_GE(Made(), 30 * 10u);
  }
}

TEST_P(HostCallsTest, FailuresAreTold) {
  UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  for (int round = 0; round < 5; ++round) {
    MapOp move = Simple(Op::kRemap, kFree + 0x50000, 0x1000);
    move.old_length = 0x1000;
    move.new_addr = kFree + 0x100000;
    size_t done = 99;
    Result<void> result = space_->Apply(
        {MapAnonymous(kFree, 0x1000, kReadWrite), move, MapAnonymous(kFree + 0x2000, 0x1000, kReadWrite)},
        &done);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error(), Errno::kEFAULT);
    EXPECT_EQ(done, 1u);
    EXPECT_TRUE(CanWrite(kFree));
    EXPECT_FALSE(CanWrite(kFree + 0x2000));
    EXPECT_EQ(Refused(Simple(Op::kProtect, kFree + 0x4000, 0x1000, kProtRead)), Errno::kENOMEM);
    EXPECT_EQ(Refused(Simple(Op::kProtect, kFree + 0x4000, 0x1000, kReadWrite)), Errno::kENOMEM);
    EXPECT_EQ(Refused(MapFile(kFree, 0x1000, kReadWrite, file.get(), true)), Errno::kEACCES);
    EXPECT_EQ(Refused(MapAnonymous(GuestAddr(0), 0x1000, kReadWrite)), Errno::kEINVAL);
    Call();
  }
}

TEST_P(HostCallsTest, RegistersStayWhatTheyWere) {
  constexpr uint64_t Registers::* kFields[] = {
      &Registers::rbx, &Registers::rsi, &Registers::rdx, &Registers::r8,  &Registers::r9,
      &Registers::r10, &Registers::r12, &Registers::r13, &Registers::r14, &Registers::r15,
      &Registers::rbp, &Registers::rsp, &Registers::fs_base};
  for (uint64_t i = 1; i < 60; ++i) {
    context_->FullRegisters(regs_);
    uint64_t v = i << 20;
    for (auto field : kFields) regs_.*field = ++v;
    const Registers want = regs_;
    bool ok = i % 3 == 0 || Map(MapAnonymous(kFree, 0x1000, kReadWrite));
    Call();
    // Before all registers are asked for, after it, or both.
    ok &= i % 2 != 0 || Map(Simple(Op::kProtect, kData, 0x1000, kReadWrite));
    context_->FullRegisters(regs_);
    ok &= i % 4 >= 2 || Map(Simple(Op::kUnmap, kFree, 0x1000));
    ASSERT_TRUE(ok);
    for (auto field : kFields) ASSERT_EQ(regs_.*field, want.*field) << i;
    ASSERT_EQ(regs_.gs_base, 0u);
  }
}

// A change in each call while `disturb` is at work.
void ChangeAll(AddressSpace& space, Context& context, Registers& regs, GuestAddr at, int n,
               uint64_t calls) {
  for (int i = 0; i < n; ++i) {
    ASSERT_TRUE(space.Apply({MapAnonymous(at, 0x2000, kReadWrite)}).ok());
    ASSERT_EQ(space.CopyOut(at + 0x1000, absl::string_view("y")), 1u);
    ASSERT_EQ(RunGuest(context, space, regs).kind, Kind::kSyscall);
    ASSERT_EQ(regs.rdi, ++calls);
    ASSERT_TRUE(space.Apply({Simple(Op::kProtect, at, 0x1000, kProtRead)}).ok());
    ASSERT_EQ(space.CopyOut(at, absl::string_view("y")), 0u);
    ASSERT_TRUE(space.Apply({Simple(Op::kProtect, at, 0x1000, kReadWrite)}).ok());
    ASSERT_EQ(space.CopyOut(at, absl::string_view("y")), 1u);
    ASSERT_TRUE(space.Apply({Simple(Op::kUnmap, at, 0x2000)}).ok());
    ASSERT_EQ(space.CopyOut(at + 0x1000, absl::string_view("y")), 0u);
  }
}

TEST_P(HostCallsTest, AmongInterrupts) {
  const Interrupter interrupter(*context_);
  ChangeAll(*space_, *context_, regs_, kFree, 3000, calls_);
}

TEST_P(HostCallsTest, AmongStopsOfTheHost) {
  if (TestPlatformName() == "ptrace") GTEST_SKIP() << "SIGSTOP is a stop of the tracee's own there";
  const pid_t pid = space_->host_pid();
  std::atomic<bool> stop{false};
  std::atomic<int> stops{0};
  std::thread stopper([&] {
    for (int i = 0; !stop.load(); ++i, ++stops) {
      kill(pid, SIGSTOP);
      usleep(i * 7 % 300);
      kill(pid, SIGCONT);
      usleep(i * 13 % 500);
    }
  });
  const time_t deadline = time(nullptr) + 5;
  while (stops < 500 && time(nullptr) < deadline && !HasFatalFailure()) {
    ASSERT_TRUE(Map(MapAnonymous(kFree, 0x2000, kReadWrite)));
    EXPECT_TRUE(CanWrite(kFree));
    ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kProtRead)));
    EXPECT_FALSE(CanWrite(kFree));
    ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kReadWrite)));
    EXPECT_TRUE(CanWrite(kFree));
    ASSERT_TRUE(Map(Simple(Op::kUnmap, kFree, 0x2000)));
    EXPECT_FALSE(CanWrite(kFree));
  }
  stop = true;
  stopper.join();
  EXPECT_GT(stops, 50);
  kill(pid, SIGCONT);
  Call();
}

TEST_P(HostCallsTest, ManyThreadsOfOneAddressSpace) {
  context_->FullRegisters(regs_);
  context_->Detach();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      auto context = TestPlatform().NewContext();
      Registers regs = regs_;
      regs.rdi = 0;
      ASSERT_EQ(RunGuest(*context, *space_, regs).kind, Kind::kSyscall);
      ChangeAll(*space_, *context, regs, kFree + t * 0x10000, 500, 1);
      context->Detach();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// As many mappings as the host gives: what it refuses is told, and the guest stops and goes on.
TEST_P(HostCallsTest, AsManyMappingsAsThereCanBe) {
  size_t mapped = 0;
  Errno error{0};
  for (; mapped < 100'000; ++mapped) {
    error = Refused(MapAnonymous(kFree + mapped * 0x1000, 0x1000, mapped % 2 ? kProtRead : kReadWrite));
    if (error != Errno{0}) break;
  }
  EXPECT_GT(mapped, 60'000u);
  EXPECT_EQ(error, Errno::kENOMEM);
  for (int i = 0; i < 5; ++i) {
    Call();
    context_->FullRegisters(regs_);
    context_->Interrupt();
    ASSERT_EQ(context_->Switch(*space_, regs_).kind, Kind::kInterrupted);
  }
  // A hole would be one more mapping: it is not made.
  EXPECT_EQ(Refused(Simple(Op::kProtect, kData + 0x4000, 0x1000, kProtRead)), Errno::kENOMEM);
  EXPECT_TRUE(CanWrite(kData + 0x4000));
  EXPECT_TRUE(Map(Simple(Op::kUnmap, kFree, mapped * 0x1000)));
  EXPECT_TRUE(Map(Simple(Op::kProtect, kData + 0x4000, 0x1000, kProtRead)));
  Call();
}

INSTANTIATE_TEST_SUITE_P(Stops, HostCallsTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Patched" : "Trap"; });

}  // namespace
}  // namespace caisson::platform
