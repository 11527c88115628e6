#include "platform/stub/address_space.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace caisson::platform::stub {
namespace {

constexpr int kMadvPopulateRead = 22, kMadvPopulateWrite = 23;  // Linux 5.14.

// The part of [addr, addr + length) before the end of the guest's range; 0 if `addr` is outside.
size_t GuestLength(GuestAddr addr, size_t length) {
  if (!kGuestRange.contains(addr)) return 0;
  return std::min<uint64_t>(length, kGuestRange.end - addr);
}

// The same for a read, which may also be of the vDSO, as on Linux.
size_t ReadableLength(GuestAddr addr, size_t length) {
  constexpr AddrRange kVdso{GuestAddr(kVdsoAddr), GuestAddr(kVdsoEnd)};
  if (!kVdso.contains(addr)) return GuestLength(addr, length);
  return std::min<uint64_t>(length, kVdso.end - addr);
}

bool ValidRange(GuestAddr addr, uint64_t length) {
  const std::optional<GuestAddr> end = addr.Plus(length);
  return length != 0 && length % kPageSize == 0 && addr.page_aligned() && end.has_value() &&
         kGuestRange.contains(AddrRange{addr, *end});
}

// What the host is asked for. process_vm_readv(2) needs PROT_READ, which x86 pages that can be
// written or executed have in any case (docs/platform.md 20).
uint64_t HostProtection(Protection p) {
  return (p & (kProtWrite | kProtExec)) != 0 ? p | kProtRead : p;
}

// Advice that concerns memory only; poisoning of pages is not a guest's to ask for.
bool AdviceIsAllowed(int advice) {
  return (advice >= 0 && advice <= 4) || (advice >= 8 && advice <= 25) || advice == 102 ||
         advice == 103;
}

Request Syscall(uint32_t number, uint64_t a0, uint64_t a1, uint64_t a2 = 0, uint64_t a3 = 0,
                uint64_t a4 = 0, uint64_t a5 = 0) {
  return {RequestKind::kSyscall, number, {a0, a1, a2, a3, a4, a5}, 0};
}

// The errors that mmap(2) and its like may return to a guest.
Errno MapError(int host_errno) {
  switch (host_errno) {
    case ENOMEM: return Errno::kENOMEM;
    case EINVAL: return Errno::kEINVAL;
    case EACCES: return Errno::kEACCES;
    case ENODEV: return Errno::kENODEV;
    case EPERM: return Errno::kEPERM;
    case EFAULT: return Errno::kEFAULT;
    case EAGAIN: return Errno::kEAGAIN;
    case EBUSY: return Errno::kEBUSY;
    case EOVERFLOW: return Errno::kEOVERFLOW;
    case EBADF: return Errno::kEBADF;
    default: return FromHostErrno(host_errno);
  }
}

template <bool kWrite>
size_t CopyRemote(pid_t pid, GuestAddr addr, char* data, size_t length) {
  length = kWrite ? GuestLength(addr, length) : ReadableLength(addr, length);
  size_t done = 0;
  while (done < length) {
    iovec local{data + done, length - done};
    iovec remote{reinterpret_cast<void*>(addr.value + done), length - done};
    const ssize_t n = syscall(kWrite ? SYS_process_vm_writev : SYS_process_vm_readv, pid, &local, 1,
                              &remote, 1, 0);
    // A short copy ends at a page that faults, or it is more than the host does at once: go on.
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

}  // namespace

StubAddressSpace::StubAddressSpace(std::unique_ptr<StubProcess> stub, ProcView* proc)
    : stub_(std::move(stub)), proc_(proc) {}

StubAddressSpace::~StubAddressSpace() {
  const StubProcess::FinalUsage host = stub_->End();
  SetFinalUsage({.peak = host.peak,
                 .minor_faults = host.minor_faults,
                 .major_faults = host.major_faults});
}

Result<void> StubAddressSpace::Translate(const MapOp& op, Vector* vector) {
  constexpr Protection kAllProtections = kProtRead | kProtWrite | kProtExec;
  if (!ValidRange(op.addr, op.kind == MapOp::Kind::kRemap ? op.old_length : op.length) ||
      (op.protection & ~kAllProtections) != 0)
    return Errno::kEINVAL;
  const uint64_t addr = op.addr.value;
  const uint64_t protection = HostProtection(op.protection);
  const uint64_t reserve = op.no_reserve ? MAP_NORESERVE : 0;
  uint64_t expected = 0;
  switch (op.kind) {
    case MapOp::Kind::kMapAnonymous:
      if (op.shared) return Errno::kEINVAL;
      vector->requests.push_back(Syscall(SYS_mmap, addr, op.length, protection,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | reserve,
                                         ~uint64_t{0}));
      expected = addr;
      break;
    case MapOp::Kind::kMapFile: {
      if (op.offset % kPageSize != 0 || op.offset + op.length < op.offset) return Errno::kEINVAL;
      if (op.host_fd < 0) return Errno::kEBADF;
      auto fd = std::find(vector->fds.begin(), vector->fds.end(), op.host_fd);
      if (fd == vector->fds.end()) fd = vector->fds.insert(fd, op.host_fd);
      const uint64_t stub_fd = kStubSocket + 1 + (fd - vector->fds.begin());
      vector->requests.push_back(Syscall(SYS_mmap, addr, op.length, protection,
                                         (op.shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED | reserve,
                                         stub_fd, op.offset));
      expected = addr;
      break;
    }
    case MapOp::Kind::kUnmap:
      vector->requests.push_back(Syscall(SYS_munmap, addr, op.length));
      break;
    case MapOp::Kind::kProtect:
      vector->requests.push_back(Syscall(SYS_mprotect, addr, op.length, protection));
      break;
    case MapOp::Kind::kRemap: {
      if (!ValidRange(op.new_addr, op.length)) return Errno::kEINVAL;
      // In its place a mapping grows or shrinks without MREMAP_FIXED, which refuses overlap.
      const bool moves = op.new_addr != op.addr;
      if (op.dont_unmap && (!moves || op.length != op.old_length)) return Errno::kEINVAL;
      constexpr uint64_t kDontUnmap = 4;  // MREMAP_DONTUNMAP, Linux 5.7.
      const uint64_t flags = (moves ? MREMAP_MAYMOVE | MREMAP_FIXED : 0) |
                             (op.dont_unmap ? kDontUnmap : 0);
      vector->requests.push_back(
          Syscall(SYS_mremap, addr, op.old_length, op.length, flags, op.new_addr.value));
      expected = op.new_addr.value;
      break;
    }
    case MapOp::Kind::kAdvise:
      if (!AdviceIsAllowed(op.advice)) return Errno::kEINVAL;
      vector->requests.push_back(
          Syscall(SYS_madvise, addr, op.length, static_cast<uint64_t>(op.advice)));
      break;
    case MapOp::Kind::kPopulate:
      vector->requests.push_back(
          Syscall(SYS_madvise, addr, op.length,
                  (op.protection & kProtWrite) != 0 ? kMadvPopulateWrite : kMadvPopulateRead));
      break;
    default:
      return Errno::kEINVAL;
  }
  vector->requests.back().proven = op.proven;
  vector->expected.push_back(expected);
  return OkResult();
}

Result<void> StubAddressSpace::Run(absl::Span<const Request> requests, absl::Span<const int> fds,
                                   StubProcess::Outcome* outcome) {
  return stub_->Run(requests, fds, outcome);
}

Result<void> StubAddressSpace::RunVector(const Vector& vector, size_t* done) {
  StubProcess::Outcome outcome;
  TRY(Run(vector.requests, vector.fds, &outcome));
  for (size_t i = 0; i < outcome.executed; ++i) {
    if (static_cast<uint64_t>(outcome.results[i]) == vector.expected[i]) continue;
    stub_->Kill();  // The guest has changed it.
    return Errno::kEIO;
  }
  *done += outcome.executed;
  if (outcome.executed < vector.requests.size()) return MapError(outcome.host_errno);
  return OkResult();
}

Result<void> StubAddressSpace::Apply(absl::Span<const MapOp> ops, size_t* done) {
  size_t ignored = 0;
  if (done == nullptr) done = &ignored;
  *done = 0;
  size_t next = 0;
  while (next < ops.size()) {
    Vector vector;
    Result<void> translated;
    while (next < ops.size() && vector.requests.size() < kMaxRequests &&
           vector.fds.size() < kMaxDescriptors) {
      translated = Translate(ops[next], &vector);
      if (!translated.ok()) break;
      ++next;
    }
    if (!vector.requests.empty()) TRY(RunVector(vector, done));
    if (!translated.ok()) return translated.error();
  }
  return OkResult();
}

Result<std::unique_ptr<AddressSpace>> StubAddressSpace::Fork() {
  Result<std::unique_ptr<StubProcess>> child = stub_->Clone();
  if (!child.ok())
    return child.error() == Errno::kENOMEM ? Errno::kENOMEM : Errno::kEAGAIN;
  return Wrap(std::move(child).value());
}

std::unique_ptr<AddressSpace> StubAddressSpace::Wrap(std::unique_ptr<StubProcess> stub) const {
  return std::make_unique<StubAddressSpace>(std::move(stub), proc_);
}

size_t StubAddressSpace::CopyIn(GuestAddr from, absl::Span<char> to) {
  return CopyRemote<false>(stub_->pid(), from, to.data(), to.size());
}

size_t StubAddressSpace::CopyOut(GuestAddr to, absl::Span<const char> from) {
  return CopyRemote<true>(stub_->pid(), to, const_cast<char*>(from.data()), from.size());
}

size_t StubAddressSpace::CopyOutForced(GuestAddr to, absl::Span<const char> from) {
  from = from.first(GuestLength(to, from.size()));
  const size_t done = CopyOut(to, from);
  if (done == from.size()) return done;
  return done + stub_->Poke(to.value + done, from.subspan(done));
}

// The aligned 8 bytes around `addr` in one read, which does not tear (docs/platform.md 21).
Result<uint64_t> StubAddressSpace::LoadWord(GuestAddr addr) {
  uint64_t word;
  const GuestAddr aligned(addr.value & ~uint64_t{7});
  if (CopyRemote<false>(stub_->pid(), aligned, reinterpret_cast<char*>(&word), sizeof(word)) !=
      sizeof(word))
    return Errno::kEFAULT;
  return word;
}

Result<uint32_t> StubAddressSpace::Load32(GuestAddr addr) {
  if (addr.value % 4 != 0) return Errno::kEINVAL;
  const uint64_t word = TRY(LoadWord(addr));
  return static_cast<uint32_t>(addr.value % 8 == 0 ? word : word >> 32);
}

Result<uint64_t> StubAddressSpace::Load64(GuestAddr addr) {
  if (addr.value % 8 != 0) return Errno::kEINVAL;
  return LoadWord(addr);
}

Result<uint32_t> StubAddressSpace::CompareExchange32(GuestAddr addr, uint32_t expected,
                                                     uint32_t desired) {
  if (addr.value % 4 != 0) return Errno::kEINVAL;
  if (GuestLength(addr, 4) != 4) return Errno::kEFAULT;
  const Request request{RequestKind::kCompareExchange, 0, {addr.value, expected, desired}, 0};
  StubProcess::Outcome outcome;
  if (!stub_->Run({&request, 1}, {}, &outcome).ok() || outcome.executed != 1) return Errno::kEFAULT;
  return static_cast<uint32_t>(outcome.results[0]);
}

Result<void> StubAddressSpace::Residency(GuestAddr addr, uint64_t length, absl::Span<uint8_t> out) {
  if (!ValidRange(addr, length) || out.size() < length / kPageSize) return Errno::kEINVAL;
  const size_t pages = length / kPageSize;
  for (size_t i = 0; i < pages; i += kPageSize) {
    TRY(stub_->Residency(addr.value + i * kPageSize,
                         out.subspan(i, std::min<size_t>(pages - i, kPageSize))));
  }
  return OkResult();
}

Result<void> StubAddressSpace::PageStates(GuestAddr addr, absl::Span<uint8_t> out) {
  if (proc_ == nullptr) return Errno::kENOSYS;
  if (!ValidRange(addr, out.size() * kPageSize)) return Errno::kEINVAL;
  constexpr uint64_t kExclusive = uint64_t{1} << 56, kFile = uint64_t{1} << 61,
                     kSwapped = uint64_t{1} << 62, kPresent = uint64_t{1} << 63;
  std::vector<uint64_t> entries(std::min<size_t>(out.size(), 4096));
  for (size_t done = 0; done < out.size(); done += entries.size()) {
    const size_t n = std::min(entries.size(), out.size() - done);
    TRY(proc_->ReadPagemap(stub_->pid(), addr.value + done * kPageSize,
                           absl::MakeSpan(entries).first(n)));
    for (size_t i = 0; i < n; ++i) {
      const uint64_t e = entries[i];
      out[done + i] = static_cast<uint8_t>(((e & kPresent) != 0 ? kPageResident : 0) |
                                           ((e & kSwapped) != 0 ? kPageSwapped : 0) |
                                           ((e & kFile) != 0 ? kPageOfFile : 0) |
                                           ((e & kExclusive) != 0 ? kPageExclusive : 0));
    }
  }
  return OkResult();
}

AddressSpace::Usage StubAddressSpace::GetUsage() {
  if (proc_ == nullptr) return {};
  Result<ProcView::Memory> m = proc_->ReadMemory(stub_->pid());
  if (!m.ok()) return {};
  return {m->resident, std::min(m->shared, m->resident), std::max(m->peak, m->resident),
          m->minor_faults, m->major_faults};
}

void StubAddressSpace::SetName(absl::string_view name) { stub_->SetName(name); }

}  // namespace caisson::platform::stub
