#include "platform/trap/guest_filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "base/check.h"
#include "platform/trap/slot.h"

namespace caisson::platform::trap {
namespace {

constexpr uint32_t kNeedRegisters[] = {
    SYS_rt_sigreturn, SYS_clone, SYS_clone3,  SYS_fork,     SYS_vfork,        SYS_execve,
    SYS_execveat,     SYS_pause, SYS_arch_prctl, SYS_sigaltstack, SYS_rt_sigsuspend,
};

constexpr uint32_t High(uint64_t v) { return static_cast<uint32_t>(v >> 32); }
constexpr uint32_t Low(uint64_t v) { return static_cast<uint32_t>(v); }

}  // namespace

bool NeedsRegisters(uint32_t number) {
  return std::find(std::begin(kNeedRegisters), std::end(kNeedRegisters), number) !=
         std::end(kNeedRegisters);
}

std::vector<stub::BpfInstruction> GuestFilter(bool notify) {
  constexpr uint64_t kBlobEnd = stub::kBlobAddr + stub::kBlobSize;
  constexpr uint64_t kSlotEnd = stub::kSlotAddr + stub::kSlotCount * stub::kSlotSize;
  static_assert(High(stub::kBlobAddr) == High(kBlobEnd) && High(stub::kSlotAddr) == High(kSlotEnd));
  constexpr uint32_t kIp = offsetof(seccomp_data, instruction_pointer);
  constexpr uint32_t kArgs = offsetof(seccomp_data, args);
  const uint32_t otherwise = notify ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_TRAP;

  // Calls of the guest's code, whose way is the shortest.
  stub::BpfBuilder outside;
  if (notify) {
    outside.Load(offsetof(seccomp_data, nr));
    for (uint32_t number : kNeedRegisters) {
      outside.UnlessSkip(BPF_JEQ, number, 1);
      outside.Return(SECCOMP_RET_TRAP);
    }
  }
  outside.Return(otherwise);
  const std::vector<stub::BpfInstruction> outside_code = outside.Take();

  // The architecture is the base filter's to check: what it answers to another one wins.
  stub::BpfBuilder b;
  const auto skip = static_cast<uint8_t>(outside_code.size());
  CHECK(outside_code.size() < 250);
  b.Load(kIp + 4);
  b.UnlessSkip(BPF_JEQ, High(stub::kBlobAddr), 3);
  b.Load(kIp);
  b.UnlessSkip(BPF_JGE, Low(stub::kBlobAddr), 1);
  b.UnlessSkip(BPF_JGE, Low(kBlobEnd), skip);
  std::vector<stub::BpfInstruction> code = b.Take();
  code.insert(code.end(), outside_code.begin(), outside_code.end());

  stub::BpfBuilder inside;
  inside.Load(offsetof(seccomp_data, nr));
  inside.UnlessSkip(BPF_JEQ, SYS_rt_sigreturn, 1);
  inside.Return(SECCOMP_RET_ALLOW);
  if (!notify) {
    inside.UnlessSkip(BPF_JEQ, SYS_exit, 1);
    inside.Return(SECCOMP_RET_ALLOW);
  }
  inside.IfSkip(BPF_JEQ, SYS_futex, 1);
  inside.Return(otherwise);
  // futex(2): FUTEX_WAIT or FUTEX_WAKE on a word of a slot.
  inside.Load(kArgs + 4);
  inside.IfSkip(BPF_JEQ, High(stub::kSlotAddr), 1);
  inside.Return(otherwise);
  inside.Load(kArgs);
  inside.IfSkip(BPF_JGE, Low(stub::kSlotAddr), 1);
  inside.Return(otherwise);
  inside.UnlessSkip(BPF_JGE, Low(kSlotEnd), 1);
  inside.Return(otherwise);
  inside.Load(kArgs + 8);
  inside.UnlessSkip(BPF_JGE, 2, 1);
  inside.Return(otherwise);
  inside.Return(SECCOMP_RET_ALLOW);
  for (const stub::BpfInstruction& i : inside.Take()) code.push_back(i);
  return code;
}

}  // namespace caisson::platform::trap
