// The base filter, run in an interpreter over every call number from inside and outside the blob.
#include "platform/stub/filter.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/syscall.h>

#include <cstring>
#include <set>

#include "platform/stub/blob.h"
#include "platform/stub/layout.h"

namespace caisson::platform::stub {
namespace {

constexpr uint32_t kOtherwise = SECCOMP_RET_TRAP;
constexpr uint64_t kInside = kBlobAddr + 100;

// Classic BPF, as much of it as the filter uses; fails the test on anything else.
uint32_t Evaluate(const std::vector<BpfInstruction>& program, const seccomp_data& data) {
  uint32_t a = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const BpfInstruction& i = program[pc];
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (i.k + 4 > sizeof(data) || i.k % 4 != 0) return 0xdead;
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, 4);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K: pc += a == i.k ? i.jump_true : i.jump_false; break;
      case BPF_JMP | BPF_JGE | BPF_K: pc += a >= i.k ? i.jump_true : i.jump_false; break;
      case BPF_RET | BPF_K: return i.k;
      default: return 0xdead;
    }
  }
  return 0xdead;
}

class FilterTest : public ::testing::Test {
 protected:
  uint32_t Ask(uint32_t number, uint64_t ip, uint64_t arg0 = 0, uint32_t arch = AUDIT_ARCH_X86_64) {
    seccomp_data data{};
    data.nr = static_cast<int>(number);
    data.arch = arch;
    data.instruction_pointer = ip;
    data.args[0] = arg0;
    return Evaluate(program_, data);
  }
  std::vector<BpfInstruction> program_ = BaseFilter(kOtherwise);
};

TEST_F(FilterTest, FromTheBlobExactlyTheTableIsAllowed) {
  for (bool threads_start : {false, true}) {
    program_ = BaseFilter(kOtherwise, threads_start);
    std::set<uint32_t> allowed;
    const std::vector<AllowedCall> table = AllowedCalls(threads_start);
    for (const AllowedCall& call : table) allowed.insert(call.number);
    for (uint32_t number = 0; number < 2048; ++number) {
      const bool in_table = allowed.count(number) != 0;
      uint64_t arg0 = 0;
      for (const AllowedCall& call : table) {
        if (call.number == number && call.has_arg0) arg0 = call.arg0[0];
      }
      EXPECT_EQ(Ask(number, kInside, arg0), in_table ? SECCOMP_RET_ALLOW : kOtherwise) << number;
    }
    printf("calls allowed from the blob: %zu\n", allowed.size());
    EXPECT_LE(allowed.size(), threads_start ? 20u : 16u);  // Only goes down.
  }
}

TEST_F(FilterTest, NothingIsAllowedFromElsewhere) {
  for (uint32_t number = 0; number < 2048; ++number) {
    for (uint64_t ip : {uint64_t{0x400000}, kBlobAddr - 1, kBlobAddr + kBlobSize,
                        kBlobAddr + (uint64_t{1} << 32), kBlobAddr & 0xffffffff,
                        uint64_t{0xffffffffff600000}}) {
      ASSERT_EQ(Ask(number, ip, kCloneThreadFlags), kOtherwise) << number << " " << ip;
    }
    ASSERT_EQ(Ask(number, kInside, kCloneThreadFlags, AUDIT_ARCH_I386), kOtherwise) << number;
    ASSERT_EQ(Ask(number | 0x40000000, kInside, kCloneThreadFlags), kOtherwise) << number;
  }
}

TEST_F(FilterTest, CloneHasTwoSetsOfFlags) {
  EXPECT_EQ(Ask(SYS_clone, kInside, kCloneThreadFlags), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Ask(SYS_clone, kInside, kCloneStubFlags), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Ask(SYS_clone, kInside, 0), kOtherwise);
  EXPECT_EQ(Ask(SYS_clone, kInside, kCloneThreadFlags | 0x10000000), kOtherwise);
  EXPECT_EQ(Ask(SYS_clone, kInside, kCloneStubFlags | (uint64_t{1} << 32)), kOtherwise);
  EXPECT_EQ(Ask(SYS_prctl, kInside, 22), kOtherwise);
}

TEST(BlobTest, FitsItsPagesAndHasNoOtherEntry) {
  const Blob blob = GenerateBlob(7);
  EXPECT_LE(blob.code.size(), kBlobSize);
  for (uint64_t address : {blob.entry, blob.fault, blob.restorer, blob.exit_thread, blob.park}) {
    EXPECT_GT(address, kBlobAddr);
    EXPECT_LT(address, kBlobAddr + blob.code.size());
  }
}

}  // namespace
}  // namespace caisson::platform::stub
