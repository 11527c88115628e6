#include "platform/trap/guest_filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
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

constexpr uint32_t kChangeMappings[] = {SYS_mmap, SYS_mprotect, SYS_munmap,
                                        SYS_brk,  SYS_mremap,   SYS_madvise};

constexpr uint32_t kMapFile = MAP_PRIVATE | MAP_FIXED, kMapAnonymous = kMapFile | MAP_ANONYMOUS;

constexpr uint32_t High(uint64_t v) { return static_cast<uint32_t>(v >> 32); }
constexpr uint32_t Low(uint64_t v) { return static_cast<uint32_t>(v); }

}  // namespace

bool ChangesMappings(uint32_t number) {
  return std::find(std::begin(kChangeMappings), std::end(kChangeMappings), number) !=
         std::end(kChangeMappings);
}

bool IsFreeHostCall(uint64_t number, const uint64_t (&args)[6]) {
  switch (number) {
    case SYS_munmap:
      break;
    case SYS_madvise:
      if (args[2] != MADV_DONTNEED && args[2] != MADV_FREE) return false;
      break;
    case SYS_mprotect:
      if ((args[2] & ~uint64_t{PROT_READ | PROT_WRITE}) != 0) return false;
      break;
    case SYS_mmap: {
      const uint64_t flags = args[3] & ~uint64_t{MAP_NORESERVE};
      if ((args[2] & ~uint64_t{PROT_READ | PROT_WRITE}) != 0 ||
          (flags != kMapAnonymous && (flags != kMapFile || args[4] != kHostCallFd)))
        return false;
      break;
    }
    default:
      return false;
  }
  return args[0] >= stub::kGuestRange.start.value && args[0] < stub::kGuestRange.end.value &&
         args[1] <= Low(stub::kGuestRange.end.value) &&
         args[1] <= stub::kGuestRange.end.value - args[0];
}

namespace {

// Instructions that allow what IsFreeHostCall() says, or fall through; the accumulator has the number
// before and after.
void AllowFreeHostCalls(stub::BpfBuilder& b, uint32_t otherwise) {
  constexpr uint32_t kArgs = offsetof(seccomp_data, args);
  constexpr uint64_t kStart = stub::kGuestRange.start.value, kEnd = stub::kGuestRange.end.value;
  static_assert(High(kStart) == 0 && Low(kEnd) != 0);
  auto arg = [](int i, bool high = false) {
    return static_cast<uint32_t>(kArgs + 8 * i + (high ? 4 : 0));
  };
  auto must = [otherwise](stub::BpfBuilder& in, uint16_t op, uint32_t k) {
    in.IfSkip(op, k, 1);
    in.Return(otherwise);
  };
  // [args 0, + args 1) is in the guest's range. The length has to be less than 4 GiB, so what is at
  // least 4 GiB below the end needs no look at it.
  stub::BpfBuilder range;
  range.Load(arg(1, true));
  must(range, BPF_JEQ, 0);
  range.Load(arg(1));
  range.UnlessSkip(BPF_JGT, Low(kEnd), 1);
  range.Return(otherwise);
  range.Load(arg(0, true));
  range.UnlessSkip(BPF_JEQ, 0, 3);
  range.Load(arg(0));
  must(range, BPF_JGE, Low(kStart));
  range.Load(arg(0, true));
  range.IfSkip(BPF_JGE, High(kEnd), 1);
  range.Return(SECCOMP_RET_ALLOW);
  must(range, BPF_JEQ, High(kEnd));
  range.Load(arg(0));
  range.UnlessSkip(BPF_JGE, Low(kEnd), 1);
  range.Return(otherwise);
  range.ToX();
  range.Set(Low(kEnd));
  range.SubtractX();  // What is left of the range.
  range.ToX();
  range.Load(arg(1));
  range.UnlessAtLeastXSkip(3);
  range.SubtractX();
  must(range, BPF_JEQ, 0);
  range.Return(SECCOMP_RET_ALLOW);

  stub::BpfBuilder advise;  // Before `range`.
  advise.Load(arg(2, true));
  must(advise, BPF_JEQ, 0);
  advise.Load(arg(2));
  advise.IfSkip(BPF_JEQ, MADV_DONTNEED, 2);
  must(advise, BPF_JEQ, MADV_FREE);

  stub::BpfBuilder map;  // Before `advise`.
  map.Load(arg(2, true));
  must(map, BPF_JEQ, 0);
  map.Load(arg(2));
  map.UnlessSkip(BPF_JSET, ~uint32_t{PROT_READ | PROT_WRITE}, 1);
  map.Return(otherwise);
  map.Load(arg(3, true));
  must(map, BPF_JEQ, 0);
  map.Load(arg(3));
  stub::BpfBuilder file;
  file.IfSkip(BPF_JEQ, kMapFile, 2);
  must(file, BPF_JEQ, kMapFile | MAP_NORESERVE);
  file.Load(arg(4, true));
  must(file, BPF_JEQ, 0);
  file.Load(arg(4));
  must(file, BPF_JEQ, kHostCallFd);
  map.IfSkip(BPF_JEQ, kMapAnonymous, static_cast<uint8_t>(file.size() + 1));
  map.IfSkip(BPF_JEQ, kMapAnonymous | MAP_NORESERVE, static_cast<uint8_t>(file.size()));
  map.Append(file);
  map.Skip(static_cast<uint8_t>(advise.size()));

  stub::BpfBuilder protect;  // Before `map`.
  protect.Load(arg(2, true));
  must(protect, BPF_JEQ, 0);
  protect.Load(arg(2));
  protect.UnlessSkip(BPF_JSET, ~uint32_t{PROT_READ | PROT_WRITE}, 1);
  protect.Return(otherwise);
  protect.Skip(static_cast<uint8_t>(map.size() + advise.size()));

  // Only kHostCallFd itself.
  stub::BpfBuilder close;  // Before `protect`.
  for (int i : {0, 1, 2}) {
    close.Load(arg(i, true));
    must(close, BPF_JEQ, 0);
    close.Load(arg(i));
    must(close, BPF_JEQ, i == 2 ? 0 : kHostCallFd);
  }
  close.Return(SECCOMP_RET_ALLOW);

  struct Part {
    uint32_t number;
    const stub::BpfBuilder& code;
  };
  const Part parts[] = {{SYS_close_range, close}, {SYS_mprotect, protect}, {SYS_mmap, map},
                        {SYS_madvise, advise},    {SYS_munmap, range}};
  size_t skip = std::size(parts);  // From the first comparison to the first part, but one.
  for (const Part& part : parts) {
    CHECK(skip < 256);
    b.IfSkip(BPF_JEQ, part.number, static_cast<uint8_t>(skip));
    skip += part.code.size() - 1;
  }
  b.Skip(static_cast<uint8_t>(skip));
  for (const Part& part : parts) b.Append(part.code);
}

// futex(2): FUTEX_WAIT or FUTEX_WAKE on a word of a slot.
void AllowFutex(stub::BpfBuilder& b, uint32_t otherwise) {
  constexpr uint32_t kArgs = offsetof(seccomp_data, args);
  constexpr uint64_t kSlotEnd = stub::kSlotAddr + stub::kSlotCount * stub::kSlotSize;
  static_assert(High(stub::kSlotAddr) == High(kSlotEnd));
  b.IfSkip(BPF_JEQ, SYS_futex, 1);
  b.Return(otherwise);
  b.Load(kArgs + 4);
  b.IfSkip(BPF_JEQ, High(stub::kSlotAddr), 1);
  b.Return(otherwise);
  b.Load(kArgs);
  b.IfSkip(BPF_JGE, Low(stub::kSlotAddr), 1);
  b.Return(otherwise);
  b.UnlessSkip(BPF_JGE, Low(kSlotEnd), 1);
  b.Return(otherwise);
  b.Load(kArgs + 8);
  b.UnlessSkip(BPF_JGE, 2, 1);
  b.Return(otherwise);
  b.Return(SECCOMP_RET_ALLOW);
}

constexpr uint32_t kIp = offsetof(seccomp_data, instruction_pointer);

}  // namespace

stub::FilterParts GuestFilterParts(uint64_t gate) {
  stub::FilterParts parts;
  parts.gate = gate;
  // Calls of the guest's code, whose way is the shortest.
  stub::BpfBuilder outside;
  outside.Load(offsetof(seccomp_data, nr));
  for (uint32_t number : kNeedRegisters) {
    outside.UnlessSkip(BPF_JEQ, number, 1);
    outside.Return(SECCOMP_RET_TRAP);
  }
  for (uint32_t number : kChangeMappings) {
    outside.UnlessSkip(BPF_JEQ, number, 1);
    outside.Return(SECCOMP_RET_TRAP);
  }
  outside.Return(SECCOMP_RET_USER_NOTIF);
  parts.outside = outside.Take();
  // What only a guest that jumps there asks for. Not a notification: it would be the base filter's,
  // which nobody listens for.
  stub::BpfBuilder b;
  b.Load(offsetof(seccomp_data, nr));
  AllowFreeHostCalls(b, SECCOMP_RET_TRAP);
  b.UnlessSkip(BPF_JEQ, SYS_rt_sigreturn, 1);
  b.Return(SECCOMP_RET_ALLOW);
  AllowFutex(b, SECCOMP_RET_TRAP);
  parts.at_gate = b.Take();
  return parts;
}

std::vector<stub::BpfInstruction> GuestFilter(uint64_t gate) {
  stub::BpfBuilder b;
  b.Load(kIp);
  b.UnlessSkip(BPF_JEQ, Low(gate), 3);
  b.Load(kIp + 4);
  b.UnlessSkip(BPF_JEQ, High(gate), 1);
  b.Return(SECCOMP_RET_ALLOW);
  b.Return(SECCOMP_RET_USER_NOTIF);
  return b.Take();
}

std::vector<stub::BpfInstruction> GuestFilterWithoutNotifications() {
  constexpr uint64_t kBlobEnd = stub::kBlobAddr + stub::kBlobSize;
  static_assert(High(stub::kBlobAddr) == High(kBlobEnd));
  // The architecture is the base filter's to check: what it answers to another one wins.
  stub::BpfBuilder b;
  b.Load(kIp + 4);
  b.UnlessSkip(BPF_JEQ, High(stub::kBlobAddr), 3);
  b.Load(kIp);
  b.UnlessSkip(BPF_JGE, Low(stub::kBlobAddr), 1);
  b.UnlessSkip(BPF_JGE, Low(kBlobEnd), 1);
  b.Return(SECCOMP_RET_TRAP);
  b.Load(offsetof(seccomp_data, nr));
  b.UnlessSkip(BPF_JEQ, SYS_rt_sigreturn, 1);
  b.Return(SECCOMP_RET_ALLOW);
  b.UnlessSkip(BPF_JEQ, SYS_exit, 1);
  b.Return(SECCOMP_RET_ALLOW);
  AllowFutex(b, SECCOMP_RET_TRAP);
  return b.Take();
}

}  // namespace caisson::platform::trap
