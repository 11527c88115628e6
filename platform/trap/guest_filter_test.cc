// The filters of guest threads, run in an interpreter: what they allow from the gate is what
// IsFreeHostCall() says, at every edge.
#include "platform/trap/guest_filter.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>
#include <iterator>
#include <random>

#include "platform/stub/blob.h"
#include "platform/stub/layout.h"
#include "platform/trap/slot.h"

namespace caisson::platform::trap {
namespace {

constexpr uint64_t kGate = stub::kThreadBlobAddr + 2;
constexpr uint64_t kInside = stub::kBlobAddr + 0x1234, kOutside = 0x401000;

// Classic BPF, as much of it as the filter uses; fails the test on anything else.
uint32_t Evaluate(const std::vector<stub::BpfInstruction>& program, const seccomp_data& data) {
  uint32_t a = 0, x = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const stub::BpfInstruction& i = program[pc];
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (i.k + 4 > sizeof(data) || i.k % 4 != 0) return 0xdead;
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, 4);
        break;
      case BPF_LD | BPF_IMM: a = i.k; break;
      case BPF_MISC | BPF_TAX: x = a; break;
      case BPF_ALU | BPF_SUB | BPF_X: a -= x; break;
      case BPF_JMP | BPF_JA: pc += i.k; break;
      case BPF_JMP | BPF_JEQ | BPF_K: pc += a == i.k ? i.jump_true : i.jump_false; break;
      case BPF_JMP | BPF_JGE | BPF_K: pc += a >= i.k ? i.jump_true : i.jump_false; break;
      case BPF_JMP | BPF_JGE | BPF_X: pc += a >= x ? i.jump_true : i.jump_false; break;
      case BPF_JMP | BPF_JGT | BPF_K: pc += a > i.k ? i.jump_true : i.jump_false; break;
      case BPF_JMP | BPF_JSET | BPF_K: pc += (a & i.k) != 0 ? i.jump_true : i.jump_false; break;
      case BPF_RET | BPF_K: return i.k;
      default: return 0xdead;
    }
  }
  return 0xdead;
}

uint32_t Ask(bool notify, uint64_t ip, uint64_t number, const uint64_t (&args)[6]) {
  static const std::vector<stub::BpfInstruction> own[] = {GuestFilterWithoutNotifications(), GuestFilter(kGate)};
  static const std::vector<stub::BpfInstruction> base[] = {
      stub::BaseFilter(SECCOMP_RET_TRAP, true),
      stub::BaseFilter(SECCOMP_RET_USER_NOTIF, true, GuestFilterParts(kGate))};
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = AUDIT_ARCH_X86_64;
  data.instruction_pointer = ip;
  std::copy(std::begin(args), std::end(args), data.args);
  const uint32_t mine = Evaluate(own[notify], data), inherited = Evaluate(base[notify], data);
  // The most restrictive wins, as kernel/seccomp.c compares them; of equals the one installed last.
  const uint32_t answer = static_cast<int32_t>(inherited) < static_cast<int32_t>(mine) ? inherited : mine;
  // The base filter has no listener: the sentry would never hear of it.
  if (answer == SECCOMP_RET_USER_NOTIF && mine != answer) return 0xdead;
  return answer;
}

TEST(GuestFilterTest, FreeHostCallsAreAllowedAndNothingElse) {
  std::mt19937_64 random(7);
  const uint64_t kStart = stub::kGuestRange.start.value, kEnd = stub::kGuestRange.end.value;
  const uint64_t addresses[] = {0, kStart - 1, kStart, 0x400000, 0xfffff000, 0x7ffefffff000, 0x7fff00000000,
                                kEnd - 0x1000, kEnd - 1, kEnd, stub::kBlobAddr, uint64_t{1} << 47,
                                ~uint64_t{0} - 0xfff, uint64_t{1} << 63};
  const uint64_t lengths[] = {0, 1, 0x1000, 0x1001, 0xfbfff000, 0xfc000000, 0xfc000001, 0xffffffff,
                              uint64_t{1} << 32, ~uint64_t{0}, kEnd};
  const uint64_t thirds[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 14, uint64_t{1} << 32, (uint64_t{1} << 32) | 4};
  const uint64_t flags[] = {0x32, 0x4032, 0x22, 0x12, 0x4012, 0x2, 0x11, 0x33, 0x31, 0x100032, 0x132, uint64_t{1} << 32 | 0x32};
  int free = 0;
  for (uint64_t number : {SYS_munmap, SYS_mmap, SYS_madvise, SYS_mprotect, SYS_mremap, SYS_brk, SYS_clone}) {
    for (uint64_t address : addresses) {
      for (uint64_t length : lengths) {
        for (uint64_t third : thirds) {
          for (uint64_t flag : flags) {
            for (uint64_t moved : {uint64_t{0}, random() % 3 * 0x1000}) {
              const uint64_t fds[] = {kHostCallFd, kHostCallFd - 1, 0, uint64_t{1} << 32 | kHostCallFd, ~uint64_t{0}};
              const uint64_t args[6] = {address + moved, length - moved / 2, third, flag,
                                        fds[moved == 0 ? 0 : random() % 5]};
              const bool is_free = IsFreeHostCall(number, args);
              free += is_free;
              ASSERT_EQ(Ask(true, kGate, number, args), is_free ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP)
                  << number << std::hex << " " << args[0] << " " << args[1] << " " << third << " " << flag;
              // Without notifications, and from anywhere else, none is.
              ASSERT_EQ(Ask(true, kInside, number, args), SECCOMP_RET_USER_NOTIF);
              ASSERT_EQ(Ask(false, kInside, number, args), SECCOMP_RET_TRAP);
              ASSERT_NE(Ask(true, kOutside, number, args), SECCOMP_RET_ALLOW);
            }
          }
        }
      }
    }
  }
  EXPECT_GT(free, 1000);
}

// By itself, without the filter's help: no free call touches what is not the guest's.
TEST(GuestFilterTest, FreeHostCallsStayInTheGuestsRange) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 1'000'000; ++i) {
    const uint64_t base = i % 2 ? stub::kGuestRange.end.value : uint64_t{0x7ffefffff000};
    const uint64_t args[6] = {base + random() % 0x20000000 - 0x10000000, random() % 0x120000000, 0, 0x32};
    if (IsFreeHostCall(SYS_munmap, args)) {
      ASSERT_LE(args[0] + args[1], stub::kGuestRange.end.value);
      ASSERT_EQ(Ask(true, kGate, SYS_munmap, args), SECCOMP_RET_ALLOW);
    } else {
      ASSERT_EQ(Ask(true, kGate, SYS_munmap, args), SECCOMP_RET_TRAP);
    }
  }
}

TEST(GuestFilterTest, OnlyTheDescriptorOfHostCallsCanBeClosed) {
  for (uint64_t first : {0, 1, 62, 63, 64})
    for (uint64_t last : {uint64_t{0}, uint64_t{63}, uint64_t{64}, uint64_t{0xffffffff}, uint64_t{1} << 32 | 63})
      for (uint64_t flags : {uint64_t{0}, uint64_t{2}, uint64_t{1} << 32}) {
        const uint64_t args[6] = {first, last, flags};
        EXPECT_EQ(Ask(true, kGate, SYS_close_range, args) == SECCOMP_RET_ALLOW,
                  first == kHostCallFd && last == kHostCallFd && flags == 0);
        EXPECT_EQ(Ask(true, kInside, SYS_close_range, args), SECCOMP_RET_USER_NOTIF);
      }
}

TEST(GuestFilterTest, GuestsCallsThatChangeMappingsTrap) {
  const uint64_t args[6] = {};
  for (uint64_t number : {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_brk, SYS_madvise, SYS_clone})
    EXPECT_EQ(Ask(true, kOutside, number, args), SECCOMP_RET_TRAP);
  EXPECT_EQ(Ask(true, kOutside, SYS_read, args), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(Ask(true, kGate, SYS_rt_sigreturn, args), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Ask(true, kInside, SYS_rt_sigreturn, args), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(Ask(true, kInside, SYS_getpid, args), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(Ask(false, kInside, SYS_rt_sigreturn, args), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Ask(false, kOutside, SYS_rt_sigreturn, args), SECCOMP_RET_TRAP);
  EXPECT_EQ(Ask(false, kOutside, SYS_exit, args), SECCOMP_RET_TRAP);
}

// All calls with arguments that the worker's table allows: none of a guest thread's goes through, by any
// instruction, but those of the gate.
TEST(GuestFilterTest, NothingOfTheWorkersIsAllowed) {
  for (uint64_t number = 0; number < 1024; ++number) {
    for (uint64_t first : {uint64_t{0}, uint64_t{1}, stub::kCloneThreadFlags, stub::kCloneStubFlags, uint64_t{15},
                           uint64_t{0x400000}, stub::kSlotAddr}) {
      for (uint64_t second : {uint64_t{0}, uint64_t{2}, uint64_t{0x1000}}) {
        const uint64_t args[6] = {first, second};
        for (uint64_t ip : {kInside, kOutside, kGate - 1, kGate + 1, kGate + (uint64_t{1} << 32),
                            kGate & 0xffffffff, stub::kBlobAddr})
          ASSERT_NE(Ask(true, ip, number, args), SECCOMP_RET_ALLOW) << number << " " << std::hex << ip;
        const bool waits = number == SYS_futex && first == stub::kSlotAddr && second == 0;
        const uint32_t answer = Ask(true, kGate, number, args);
        ASSERT_EQ(answer == SECCOMP_RET_ALLOW,
                  number == SYS_rt_sigreturn || waits || IsFreeHostCall(number, args)) << number;
        ASSERT_TRUE(answer == SECCOMP_RET_ALLOW || answer == SECCOMP_RET_TRAP) << number;
      }
    }
  }
}

// Each thread installs it: docs/platform.md 4.
TEST(GuestFilterTest, AThreadsOwnFilterIsShort) { EXPECT_LE(GuestFilter(kGate).size(), 6u); }

}  // namespace
}  // namespace caisson::platform::trap
