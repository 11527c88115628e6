#include "platform/trap/patch_set.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

#include <vector>

#include "platform/trap/patch_testing.h"

namespace caisson::platform::trap {
namespace {

using Code = Xbyak::CodeGenerator;
using Function = uint64_t(uint64_t);

constexpr uint32_t kGetpid = 39, kPersonality = 135, kUmask = 95;
constexpr uint64_t kMarker = 0x1234567890;

// A wrapper as the C library's: mov eax, number; syscall; ret. The site is at 0, the return at 7.
void Wrapper(Code& c, uint32_t number) {
  c.mov(c.eax, number);
  c.syscall();
  c.ret();
}

class PatchSetTest : public PatchTest {
 protected:
  void WriteWrapper(uint32_t number = kPersonality, uint64_t at = 0) {
    Write([number](Code& c) { Wrapper(c, number); }, at);
  }
  void MakeHot(uint32_t number = kPersonality, uint64_t at = 0) {
    set_->OnTrap(kBase + at + 7, number);
  }
  bool IsPatched(uint64_t at = 0) const { return Bytes(kBase + at, 1) == "\xe9"; }
};

TEST_F(PatchSetTest, APatchedCallReachesTheSentryWithItsArguments) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  ASSERT_TRUE(IsPatched());
  FakeThread thread([](CallRegisters& r) { r.rax = r.rax * 1000 + r.rdi; });
  GsBase gs(&thread.slot());
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_EQ(At<Function>(kBase)(i), kPersonality * 1000 + i);
  EXPECT_EQ(thread.calls(), 1000u);
}

TEST_F(PatchSetTest, ASleepingPairWakesEachOther) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  FakeThread thread(
      [](CallRegisters& r) {
        if (r.rdi % 3 == 0) usleep(1000);
        r.rax = r.rdi + 1;
      },
      /*spin_cycles=*/0);
  GsBase gs(&thread.slot());
  for (uint64_t i = 0; i < 100; ++i) {
    if (i % 5 == 0) usleep(2000);  // The sentry parks.
    ASSERT_EQ(At<Function>(kBase)(i), i + 1);
  }
}

// Fills all registers, calls, and stores what they are then.
struct AllRegisters {
  uint64_t in[16], out[16];
  uint64_t flags_in, flags_out, return_address, red_zone_kept;
};

TEST_F(PatchSetTest, RegistersFlagsAndRedZoneAreThoseOfASyscall) {
  Write([](Code& c) {
    Xbyak::Label site;
    for (const Xbyak::Reg64& r : {c.rbx, c.rbp, c.r12, c.r13, c.r14, c.r15}) c.push(r);
    c.mov(c.rbp, c.rsp);
    c.and_(c.rsp, -64);
    c.sub(c.rsp, 24);  // Misaligned on purpose.
    c.push(c.rdi);
    c.push(c.rbp);
    c.mov(c.rax, c.rdi);
    c.push(c.qword[c.rax + offsetof(AllRegisters, flags_in)]);
    // The red zone.
    for (int i = 2; i <= 16; ++i) c.mov(c.qword[c.rsp + 8 - 8 * i], 0x5a5a0000 + i);
    for (int r = 1; r < 16; ++r) {
      if (r == Xbyak::Operand::RSP) continue;
      c.mov(Xbyak::Reg64(r), c.qword[c.rax + 8 * r]);
    }
    c.popfq();
    c.mov(c.qword[c.rsp - 8], 0x5a5a0001);
    c.mov(c.eax, kPersonality);
    c.syscall();
    c.L(site);
    // rax and rcx, r11 are free now, and so is the flags' place above the red zone.
    c.xchg(c.rax, c.qword[c.rsp + 8]);  // rdi's copy; keeps rax there.
    for (int r = 1; r < 16; ++r) {
      if (r != Xbyak::Operand::RSP)
        c.mov(c.qword[c.rax + offsetof(AllRegisters, out) + 8 * r], Xbyak::Reg64(r));
    }
    c.pushfq();
    c.pop(c.qword[c.rax + offsetof(AllRegisters, flags_out)]);
    c.lea(c.rcx, c.ptr[c.rip + site]);
    c.mov(c.qword[c.rax + offsetof(AllRegisters, return_address)], c.rcx);
    c.xor_(c.edx, c.edx);
    for (int i = 2; i <= 16; ++i) {  // pushfq has used the first.
      Xbyak::Label same;
      c.cmp(c.qword[c.rsp - 8 * i], 0x5a5a0000 + i);
      c.je(same);
      c.inc(c.edx);
      c.L(same);
    }
    c.mov(c.qword[c.rax + offsetof(AllRegisters, red_zone_kept)], c.rdx);
    c.mov(c.rcx, c.qword[c.rsp + 8]);
    c.mov(c.qword[c.rax + offsetof(AllRegisters, out)], c.rcx);
    c.mov(c.rsp, c.qword[c.rsp]);
    for (const Xbyak::Reg64& r : {c.r15, c.r14, c.r13, c.r12, c.rbp, c.rbx}) c.pop(r);
    c.cld();
    c.ret();
  });
  MapFile(*set_);
  size_t call = 0;
  for (const std::string code = Bytes(kBase, 512); call < 500; ++call) {
    if (code.compare(call, 2, "\x0f\x05") == 0) break;
  }
  CallRegisters seen;
  FakeThread thread([&seen](CallRegisters& r) {
    seen = r;
    r.rax = kMarker;
  });
  for (bool patched : {false, true}) {
    if (patched) set_->OnTrap(kBase + call + 2, kPersonality);
    ASSERT_EQ(Bytes(kBase + call - 5, 1) == "\xe9", patched);
    for (uint64_t flags : {uint64_t{0x202}, uint64_t{0x202 | 0x8d5}, uint64_t{0x202 | 0x400},
                           uint64_t{0x202 | 0x801}}) {
      AllRegisters all{};
      for (int i = 0; i < 16; ++i) all.in[i] = 0x1111111111111111u * static_cast<uint64_t>(i) + 7;
      if (!patched) all.in[7] = 0xffffffff;  // personality(2) that only asks.
      all.flags_in = flags;
      GsBase gs(&thread.slot());
      At<void(AllRegisters*)>(kBase)(&all);
      for (int i : {2, 3, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15})
        EXPECT_EQ(all.out[i], all.in[i]) << i << " " << patched;
      EXPECT_EQ(all.flags_out & 0xdd5, flags & 0xdd5) << patched;
      EXPECT_EQ(all.out[11] & 0xdd5, flags & 0xdd5) << patched;
      EXPECT_EQ(all.out[1], all.return_address) << patched;
      EXPECT_EQ(all.red_zone_kept, 0u) << patched;
      if (!patched) continue;
      EXPECT_EQ(all.out[0], kMarker);
      EXPECT_EQ(seen.rax, kPersonality);
      EXPECT_EQ(seen.rip, all.return_address);
      EXPECT_EQ(seen.rflags & 0xdd5, flags & 0xdd5);
      EXPECT_EQ(seen.rdi, all.in[7]);
      EXPECT_EQ(seen.r9, all.in[9]);
      EXPECT_EQ(seen.rbx, all.in[3]);
      EXPECT_EQ(seen.r15, all.in[15]);
      EXPECT_NE(seen.rsp % 64, 0u);
    }
  }
}

TEST_F(PatchSetTest, CallsAreAnsweredInTheStub) {
  WriteWrapper(kGetpid);
  MapFile(*set_);
  MakeHot(kGetpid);
  FakeThread thread([](CallRegisters& r) { r.rax = kMarker; });
  GsBase gs(&thread.slot());
  EXPECT_EQ(At<Function>(kBase)(0), kMarker);  // Not turned on.
  thread.page().answers = 1;
  thread.page().pid = 77;
  const uint64_t calls = thread.calls();
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(At<Function>(kBase)(0), 77u);
  EXPECT_EQ(thread.calls(), calls);
}

// FUTEX_WAKE of a private word for which nobody is counted.
TEST_F(PatchSetTest, AWakeUpOfNobodyIsAnsweredInTheStub) {
  constexpr uint32_t kFutex = 202;
  constexpr uint64_t kWake = 1, kPrivate = 128, kWord = 0x7f0012345670;
  WriteWrapper(kFutex);
  MapFile(*set_);
  MakeHot(kFutex);
  ASSERT_TRUE(IsPatched());
  FakeThread thread([](CallRegisters& r) { r.rax = kMarker; });
  std::vector<uint32_t> cells(kWaiterCells);
  GsBase gs(&thread.slot());
  auto call = [](uint64_t word, uint64_t op) { return At<uint64_t(uint64_t, uint64_t, uint64_t)>(kBase)(word, op, 1); };
  EXPECT_EQ(call(kWord, kWake | kPrivate), kMarker);  // No answers, no page.
  thread.page().answers = 1;
  EXPECT_EQ(call(kWord, kWake | kPrivate), kMarker);
  thread.page().waiters = reinterpret_cast<uint64_t>(cells.data());
  uint64_t calls = thread.calls();
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(call(kWord + 4096 * static_cast<uint64_t>(i), kWake | kPrivate), 0u);
  EXPECT_EQ(call(kWord, kWake | kPrivate | uint64_t{7} << 32), 0u);  // Only the lower half counts.
  EXPECT_EQ(thread.calls(), calls);
  EXPECT_EQ(thread.slot().answered, 1001u);
  // Another operation, address, or cell.
  for (uint64_t op : {kWake, kWake | kPrivate | 256, kPrivate, uint64_t{10} | kPrivate}) EXPECT_EQ(call(kWord, op), kMarker) << op;
  for (uint64_t word : {kWord + 1, kWord + 2, kWord + 3, kWord | uint64_t{1} << 47, kWord | uint64_t{1} << 63})
    EXPECT_EQ(call(word, kWake | kPrivate), kMarker) << word;
  for (size_t i = 0; i < kWaiterCells; ++i) cells[i] = i != WaiterCell(kWord);
  EXPECT_EQ(call(kWord, kWake | kPrivate), 0u);
  EXPECT_EQ(call(kWord + 4, kWake | kPrivate), kMarker);
  cells[WaiterCell(kWord)] = 0x80000000;
  EXPECT_EQ(call(kWord, kWake | kPrivate), kMarker);
  cells[WaiterCell(kWord)] = 0;
  thread.page().answers = 0;
  EXPECT_EQ(call(kWord, kWake | kPrivate), kMarker);
}

TEST_F(PatchSetTest, AGsBaseOfTheGuestsOwnMakesTheCallWhereItStands) {
  WriteWrapper(kGetpid);
  MapFile(*set_);
  MakeHot(kGetpid);
  const std::vector<char> memory(4096, 1);
  GsBase gs(memory.data());
  EXPECT_EQ(At<Function>(kBase)(0), static_cast<uint64_t>(getpid()));
}

TEST_F(PatchSetTest, JumpsBehindTheMovTrapAsBefore) {
  WriteWrapper(kGetpid);
  MapFile(*set_);
  MakeHot(kGetpid);
  ASSERT_TRUE(IsPatched());
  EXPECT_EQ(Bytes(kBase + 5, 2), "\x0f\x05");
  uint64_t result;
  asm volatile("call *%1" : "=a"(result) : "r"(kBase + 5), "0"(kGetpid) : "rcx", "r11", "memory");
  EXPECT_EQ(result, static_cast<uint64_t>(getpid()));
}

TEST_F(PatchSetTest, OnlyHotSitesOfKnownCallsArePatched) {
  WriteWrapper(kGetpid);
  WriteWrapper(kUmask, 64);
  MapFile(*set_);
  set_->OnTrap(kBase + 7, kUmask);  // Not what the mov loads.
  EXPECT_FALSE(IsPatched());
  set_->OnTrap(kBase - 100, kUmask);
  set_->OnTrap(0, 0);
  MakeHot(kUmask, 64);
  EXPECT_FALSE(IsPatched());
  EXPECT_TRUE(IsPatched(64));
  const int calls = host_calls_;
  MakeHot(kUmask, 64);  // Traps though it is patched: not again and again.
  EXPECT_EQ(host_calls_, calls);
}

TEST_F(PatchSetTest, AnotherMappingOfTheFileStartsPatched) {
  WriteWrapper();
  WriteWrapper(kGetpid, kPageSize + 32);
  MapFile(*set_);
  MakeHot();
  MakeHot(kGetpid, kPageSize + 32);
  std::unique_ptr<PatchSet> other = MakeSet();
  const int calls = host_calls_;
  MapFile(*other, kOtherBase);
  // By what was planned, with no turn of their own.
  EXPECT_GE(planned_, 2u);
  EXPECT_EQ(host_calls_, calls);
  EXPECT_EQ(Bytes(kOtherBase, 1), "\xe9");
  EXPECT_EQ(Bytes(kOtherBase + kPageSize + 32, 1), "\xe9");
  FakeThread thread([](CallRegisters& r) { r.rax = r.rip; });
  GsBase gs(&thread.slot());
  EXPECT_EQ(At<Function>(kOtherBase)(0), kOtherBase + 7);
  EXPECT_EQ(At<Function>(kBase)(0), kBase + 7);
}

TEST_F(PatchSetTest, AChangedFileIsAnotherFile) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  std::unique_ptr<PatchSet> other = MakeSet();
  WriteWrapper(kUmask);
  usleep(20'000);  // Coarse file times.
  WriteWrapper(kUmask);
  MapFile(*other);
  EXPECT_FALSE(IsPatched());
}

TEST_F(PatchSetTest, ProtectionChangesBringTheFileBack) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  ASSERT_TRUE(IsPatched());
  Protect(kBase, kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC);
  EXPECT_FALSE(IsPatched());
  // What the guest writes there stays, and is no site any more.
  *At<char>(kBase + 1) = static_cast<char>(kUmask);
  Protect(kBase, kPageSize, PROT_READ | PROT_EXEC);
  set_->OnTrap(kBase + 7, kUmask);
  EXPECT_FALSE(IsPatched());
  EXPECT_EQ(Bytes(kBase + 1, 1), std::string(1, static_cast<char>(kUmask)));
}

TEST_F(PatchSetTest, ForcedWritesAreSeenAndEndPatching) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  {
    MutexLock lock(set_->mu());
    set_->ForgetLocked(kBase + 3, kBase + 4);
  }
  EXPECT_FALSE(IsPatched());
  MakeHot();
  EXPECT_FALSE(IsPatched());
}

TEST_F(PatchSetTest, UnmappedPiecesAreForgotten) {
  WriteWrapper(kUmask, kPageSize);
  WriteWrapper(kUmask, 2 * kPageSize);
  MapFile(*set_);
  MakeHot(kUmask, kPageSize);
  MapOp op{MapOp::Kind::kUnmap};
  op.addr = GuestAddr(kBase + kPageSize);
  op.length = kPageSize;
  Apply(*set_, op, [&] { return munmap(At<void>(kBase + kPageSize), kPageSize) == 0; });
  ASSERT_NE(mmap(At<void>(kBase + kPageSize), kPageSize, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED);
  set_->OnTrap(kBase + kPageSize + 7, kUmask);  // Late news.
  EXPECT_EQ(Bytes(kBase + kPageSize, 1), std::string(1, '\0'));
  MakeHot(kUmask, 2 * kPageSize);
  EXPECT_TRUE(IsPatched(2 * kPageSize));
}

TEST_F(PatchSetTest, MovedPagesAreTheFiles) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  constexpr uint64_t kTo = kBase + (uint64_t{1} << 35);
  MapOp op{MapOp::Kind::kRemap};
  op.addr = GuestAddr(kBase);
  op.old_length = op.length = kPages * kPageSize;
  op.new_addr = GuestAddr(kTo);
  // Fails if the range is more than one mapping.
  Apply(*set_, op, [&] {
    return mremap(At<void>(kBase), op.length, op.length, MREMAP_MAYMOVE | MREMAP_FIXED, kTo) == At<void>(kTo);
  });
  EXPECT_EQ(Bytes(kTo, 1), "\xb8");
  munmap(At<void>(kTo), op.length);
}

TEST_F(PatchSetTest, TheGuestMayWantTheStubsPlace) {
  WriteWrapper(kGetpid);
  MapFile(*set_);
  MakeHot(kGetpid);
  ASSERT_TRUE(IsPatched());
  MapOp op{MapOp::Kind::kMapAnonymous};
  op.addr = GuestAddr(kBase + PatchImage::kDelta);
  op.length = 64 * kPageSize;
  Apply(*set_, op, [&] {
    return mmap(At<void>(op.addr.value), op.length, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
  });
  EXPECT_FALSE(IsPatched());
  EXPECT_EQ(At<Function>(kBase)(0), static_cast<uint64_t>(getpid()));
  // A place that is taken when a file becomes hot: below instead of above.
  std::unique_ptr<PatchSet> other = MakeSet();
  MapFile(*other);
  other->OnTrap(kBase + 7, kGetpid);
  EXPECT_TRUE(IsPatched());
  FakeThread thread([](CallRegisters& r) { r.rax = kMarker; });
  GsBase gs(&thread.slot());
  EXPECT_EQ(At<Function>(kBase)(0), kMarker);
  munmap(At<void>(op.addr.value), op.length);
}

TEST_F(PatchSetTest, CopiesShowTheGuestsOwnBytes) {
  WriteWrapper();
  MapFile(*set_);
  const std::string before = Bytes(kBase, 64);
  MakeHot();
  ASSERT_NE(Bytes(kBase, 64), before);
  for (size_t from = 0; from < 10; ++from) {
    for (size_t n = 1; n < 20; ++n) {
      std::string copy = Bytes(kBase + from, n);
      set_->Overlay(kBase + from, absl::MakeSpan(&copy[0], n));
      ASSERT_EQ(copy, before.substr(from, n)) << from << " " << n;
    }
  }
}

TEST_F(PatchSetTest, AForkedAddressSpaceStaysPatched) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  std::unique_ptr<PatchSet> child_set = MakeSet();
  MutexLock lock(set_->mu());
  child_set->CopyFrom(*set_);
  const pid_t child = fork();
  if (child == 0) {
    FakeThread thread([](CallRegisters& r) { r.rax = r.rdi * 2; });
    GsBase gs(&thread.slot());
    if (At<Function>(kBase)(21) != 42) _exit(1);
    MutexLock child_lock(child_set->mu());
    child_set->ForgetLocked(kBase, kBase + 1);
    _exit(IsPatched() ? 2 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(IsPatched());
}

TEST_F(PatchSetTest, DisablingUnpatchesForGood) {
  WriteWrapper();
  MapFile(*set_);
  MakeHot();
  set_->Disable();
  EXPECT_FALSE(IsPatched());
  MakeHot();
  EXPECT_FALSE(IsPatched());
}

TEST_F(PatchSetTest, ManySitesUntilTheImageIsFull) {
  constexpr size_t kSites = 1500;
  for (size_t i = 0; i < kSites; ++i) WriteWrapper(kUmask, i * 8);
  MapFile(*set_);
  size_t patched = 0;
  for (size_t at = 0; at + 8 < kPages * kPageSize; ++at) {
    if (Bytes(kBase + at, 1) != "\xb8") continue;
    MakeHot(kUmask, at);
    patched += IsPatched(at) ? 1 : 0;
  }
  EXPECT_GT(patched, 900u);
  EXPECT_LE(patched, 1024u);
}

}  // namespace
}  // namespace caisson::platform::trap
