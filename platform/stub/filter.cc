#include "platform/stub/filter.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <iterator>

#include "base/check.h"
#include "platform/stub/blob.h"
#include "platform/stub/layout.h"

namespace caisson::platform::stub {
namespace {

constexpr uint64_t kThreadFlags = 0x00050f00;  // kCloneThreadFlags, checked below.
constexpr uint64_t kStubFlags = 0x00008011;    // kCloneStubFlags.

// The kernel calls of the blob. A guest thread that jumps into the blob is stopped by its tracer
// before this filter is asked; the trap platform adds a second filter to its guest threads, which
// use the first.
constexpr AllowedCall kCalls[] = {
    {SYS_rt_sigreturn, "rt_sigreturn", "return from a handler of the blob"},
    {SYS_recvmsg, "recvmsg", "the worker waits for the sentry's bell and descriptors"},
    {SYS_sendto, "sendto", "the worker's answer"},
    {SYS_mmap, "mmap", "guest mappings, and a child's own pages"},
    {SYS_munmap, "munmap", "guest mappings"},
    {SYS_mprotect, "mprotect", "guest mappings"},
    {SYS_mremap, "mremap", "guest mappings"},
    {SYS_madvise, "madvise", "guest mappings"},
    {SYS_mincore, "mincore", "residency of guest pages"},
    {SYS_close_range, "close_range", "after a vector only the socket stays open"},
    {SYS_dup3, "dup3", "a child takes its socket"},
    {SYS_clone, "clone", "guest threads and new stubs", true, {kThreadFlags, kStubFlags}},
    {SYS_pause, "pause", "a new guest thread waits for its tracer"},
    {SYS_prctl, "prctl", "the name that ps shows", true, {PR_SET_NAME, PR_SET_NAME}},
    {SYS_exit, "exit", "a guest thread ends"},
    {SYS_exit_group, "exit_group", "the worker when its sentry is gone"},
};

// A guest thread that starts; its own filter then allows less.
constexpr uint64_t kSetModeFilter = 1;
constexpr AllowedCall kStartCalls[] = {
    {SYS_futex, "futex", "start and waits of guest threads, on their slots"},
    {SYS_sigaltstack, "sigaltstack", "the handler's stack is in the slot"},
    {SYS_rt_sigprocmask, "rt_sigprocmask", "from all blocked to the mask of guest code"},
    {SYS_seccomp, "seccomp", "a guest thread's own filter", true, {kSetModeFilter, kSetModeFilter}},
};

}  // namespace

std::vector<AllowedCall> AllowedCalls(bool threads_start) {
  std::vector<AllowedCall> calls(std::begin(kCalls), std::end(kCalls));
  if (threads_start) calls.insert(calls.begin() + 1, std::begin(kStartCalls), std::end(kStartCalls));
  return calls;
}

void BpfBuilder::Load(uint32_t offset) { Add(BPF_LD | BPF_W | BPF_ABS, offset); }
void BpfBuilder::Return(uint32_t value) { Add(BPF_RET | BPF_K, value); }
void BpfBuilder::UnlessSkip(uint16_t op, uint32_t k, uint8_t skip) {
  code_.push_back({static_cast<uint16_t>(BPF_JMP | op | BPF_K), 0, skip, k});
}
void BpfBuilder::IfSkip(uint16_t op, uint32_t k, uint8_t skip) {
  code_.push_back({static_cast<uint16_t>(BPF_JMP | op | BPF_K), skip, 0, k});
}

void BpfBuilder::ToX() { Add(BPF_MISC | BPF_TAX, 0); }
void BpfBuilder::Set(uint32_t k) { Add(BPF_LD | BPF_IMM, k); }
void BpfBuilder::SubtractX() { Add(BPF_ALU | BPF_SUB | BPF_X, 0); }
void BpfBuilder::UnlessAtLeastXSkip(uint8_t skip) {
  code_.push_back({BPF_JMP | BPF_JGE | BPF_X, 0, skip, 0});
}
void BpfBuilder::Skip(uint8_t skip) { Add(BPF_JMP | BPF_JA, skip); }
void BpfBuilder::Append(const BpfBuilder& other) {
  Append(other.code_);
}
void BpfBuilder::Append(const std::vector<BpfInstruction>& code) {
  code_.insert(code_.end(), code.begin(), code.end());
}

std::vector<BpfInstruction> BaseFilter(uint32_t otherwise, bool threads_start,
                                       const FilterParts& parts) {
  CHECK(kCloneThreadFlags == kThreadFlags && kCloneStubFlags == kStubFlags);
  constexpr uint32_t kIp = offsetof(seccomp_data, instruction_pointer);
  constexpr uint32_t kArg0 = offsetof(seccomp_data, args);
  BpfBuilder b;
  b.Load(offsetof(seccomp_data, arch));
  b.IfSkip(BPF_JEQ, AUDIT_ARCH_X86_64, 1);
  b.Return(otherwise);
  static_assert((kBlobAddr >> 32) == ((kBlobAddr + kBlobSize) >> 32));
  BpfBuilder outside;
  outside.Append(parts.outside);
  if (parts.outside.empty()) outside.Return(otherwise);
  CHECK(outside.size() < 256 && parts.at_gate.size() < 256);
  b.Load(kIp + 4);
  b.UnlessSkip(BPF_JEQ, static_cast<uint32_t>(kBlobAddr >> 32), 3);
  b.Load(kIp);
  b.UnlessSkip(BPF_JGE, static_cast<uint32_t>(kBlobAddr), 1);
  b.UnlessSkip(BPF_JGE, static_cast<uint32_t>(kBlobAddr + kBlobSize), static_cast<uint8_t>(outside.size()));
  b.Append(outside);
  if (parts.gate != 0) {
    CHECK(parts.gate >> 32 == kBlobAddr >> 32);
    b.UnlessSkip(BPF_JEQ, static_cast<uint32_t>(parts.gate), static_cast<uint8_t>(parts.at_gate.size()));
    b.Append(parts.at_gate);
  }
  b.Load(offsetof(seccomp_data, nr));
  for (const AllowedCall& call : AllowedCalls(threads_start)) {
    if (!call.has_arg0) {
      b.UnlessSkip(BPF_JEQ, call.number, 1);
      b.Return(SECCOMP_RET_ALLOW);
      continue;
    }
    CHECK(call.arg0[0] >> 32 == 0 && call.arg0[1] >> 32 == 0);
    b.UnlessSkip(BPF_JEQ, call.number, 8);
    b.Load(kArg0 + 4);
    b.IfSkip(BPF_JEQ, 0, 1);
    b.Return(otherwise);
    b.Load(kArg0);
    b.IfSkip(BPF_JEQ, static_cast<uint32_t>(call.arg0[0]), 2);
    b.IfSkip(BPF_JEQ, static_cast<uint32_t>(call.arg0[1]), 1);
    b.Return(otherwise);
    b.Return(SECCOMP_RET_ALLOW);
  }
  b.Return(otherwise);
  return b.Take();
}

}  // namespace caisson::platform::stub
