#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "platform/fake/fake_platform.h"

namespace caisson::platform::fake {
namespace {

constexpr uint64_t kSize = FakeAddressSpace::kRange.end.value;

bool ValidRange(GuestAddr addr, uint64_t length) {
  const std::optional<GuestAddr> end = addr.Plus(length);
  return length != 0 && length % kPageSize == 0 && addr.page_aligned() && end.has_value() &&
         FakeAddressSpace::kRange.contains(AddrRange{addr, *end});
}

int HostProtection(Protection p) {
  return static_cast<int>((p & (kProtWrite | kProtExec)) != 0 ? p | kProtRead : p);
}

}  // namespace

FakeAddressSpace::FakeAddressSpace() {
  void* p = mmap(nullptr, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(p != MAP_FAILED);
  base_ = static_cast<char*>(p);
}

FakeAddressSpace::~FakeAddressSpace() { munmap(base_, kSize); }

void FakeAddressSpace::SplitLocked(uint64_t at) {
  auto it = pieces_.upper_bound(at);
  if (it == pieces_.begin()) return;
  --it;
  if (it->first == at || it->second.end <= at) return;
  Piece upper = it->second;
  it->second.end = at;
  pieces_.emplace(at, upper);
}

void FakeAddressSpace::EraseLocked(uint64_t start, uint64_t end) {
  SplitLocked(start);
  SplitLocked(end);
  pieces_.erase(pieces_.lower_bound(start), pieces_.lower_bound(end));
}

// Makes the range what it was in the beginning.
Result<void> FakeAddressSpace::ReserveLocked(uint64_t start, uint64_t end) {
  EraseLocked(start, end);
  if (mmap(Host(start), end - start, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
    return FromHostErrno(errno);
  return OkResult();
}

bool FakeAddressSpace::CoveredLocked(uint64_t start, uint64_t end) {
  SplitLocked(start);
  while (start < end) {
    auto it = pieces_.find(start);
    if (it == pieces_.end()) return false;
    start = it->second.end;
  }
  return true;
}

Result<void> FakeAddressSpace::RemapLocked(const MapOp& op) {
  const uint64_t old_start = op.addr.value, old_end = old_start + op.old_length;
  const uint64_t new_start = op.new_addr.value, new_end = new_start + op.length;
  if (!ValidRange(op.addr, op.old_length) || !ValidRange(op.new_addr, op.length))
    return Errno::kEINVAL;
  SplitLocked(old_start);
  SplitLocked(old_end);
  auto it = pieces_.find(old_start);
  if (it == pieces_.end() || it->second.end < old_end) return Errno::kEFAULT;
  const Piece piece = it->second;
  if (new_start == old_start) {
    if (op.dont_unmap) return Errno::kEINVAL;
    if (op.length <= op.old_length)
      return op.length == op.old_length ? OkResult() : ReserveLocked(new_end, old_end);
    auto next = pieces_.lower_bound(old_end);
    if (next != pieces_.end() && next->first < new_end) return Errno::kENOMEM;
    // Growing in place: what is behind is only our reservation.
    munmap(Host(old_end), new_end - old_end);
    if (mremap(Host(old_start), op.old_length, op.length, 0) == MAP_FAILED)
      return FromHostErrno(errno);
  } else {
    if (old_start < new_end && new_start < old_end) return Errno::kEINVAL;
    if (mremap(Host(old_start), op.old_length, op.length, MREMAP_MAYMOVE | MREMAP_FIXED,
               Host(new_start)) == MAP_FAILED)
      return FromHostErrno(errno);
    TRY(ReserveLocked(old_start, old_end));
    if (op.dont_unmap) {
      mprotect(Host(old_start), op.old_length, HostProtection(piece.protection));
      pieces_[old_start] = piece;
    }
  }
  EraseLocked(new_start, new_end);
  pieces_[new_start] = {new_end, piece.protection, piece.shared};
  return OkResult();
}

Result<void> FakeAddressSpace::ApplyOneLocked(const MapOp& op) {
  if (op.kind == MapOp::Kind::kRemap) return RemapLocked(op);
  if (!ValidRange(op.addr, op.length)) return Errno::kEINVAL;
  const uint64_t start = op.addr.value, end = start + op.length;
  const int protection = HostProtection(op.protection);
  switch (op.kind) {
    case MapOp::Kind::kMapAnonymous:
    case MapOp::Kind::kMapFile: {
      const bool file = op.kind == MapOp::Kind::kMapFile;
      if (!file && op.shared) return Errno::kEINVAL;
      if (file && op.host_fd < 0) return Errno::kEBADF;
      const int flags = MAP_FIXED | (op.shared ? MAP_SHARED : MAP_PRIVATE) |
                        (file ? 0 : MAP_ANONYMOUS | MAP_NORESERVE);
      if (mmap(Host(start), op.length, protection, flags, file ? op.host_fd : -1,
               static_cast<off_t>(op.offset)) == MAP_FAILED)
        return FromHostErrno(errno);
      EraseLocked(start, end);
      pieces_[start] = {end, op.protection, op.shared};
      return OkResult();
    }
    case MapOp::Kind::kUnmap:
      return ReserveLocked(start, end);
    case MapOp::Kind::kProtect:
      if (!CoveredLocked(start, end)) return Errno::kENOMEM;
      if (mprotect(Host(start), op.length, protection) != 0) return FromHostErrno(errno);
      SplitLocked(end);
      for (auto it = pieces_.find(start); it != pieces_.end() && it->first < end; ++it)
        it->second.protection = op.protection;
      return OkResult();
    default: {
      const int advice = op.kind == MapOp::Kind::kAdvise            ? op.advice
                         : (op.protection & kProtWrite) != 0 ? 23  // MADV_POPULATE_WRITE
                                                             : 22;
      if (!CoveredLocked(start, end)) return Errno::kENOMEM;
      if (madvise(Host(start), op.length, advice) != 0) return FromHostErrno(errno);
      return OkResult();
    }
  }
}

Result<void> FakeAddressSpace::Apply(absl::Span<const MapOp> ops, size_t* done) {
  MutexLock lock(mu_);
  size_t ignored = 0;
  if (done == nullptr) done = &ignored;
  *done = 0;
  for (const MapOp& op : ops) {
    if (fail_op_.has_value() && fail_op_->first-- == 0) {
      const Errno error = fail_op_->second;
      fail_op_.reset();
      return error;
    }
    TRY(ApplyOneLocked(op));
    log_.push_back(op);
    ++*done;
  }
  return OkResult();
}

// Into the same place of `to`, which nobody else uses yet.
bool FakeAddressSpace::CopyPieceLocked(uint64_t start, const Piece& piece, FakeAddressSpace& to) {
  const uint64_t length = piece.end - start;
  if (piece.shared) {  // An old length of 0 duplicates a shared mapping (mremap(2)).
    return mremap(Host(start), 0, length, MREMAP_MAYMOVE | MREMAP_FIXED, to.Host(start)) !=
           MAP_FAILED;
  }
  const int protection = HostProtection(piece.protection);
  if (mprotect(to.Host(start), length, PROT_READ | PROT_WRITE) != 0) return false;
  if ((protection & PROT_READ) == 0) mprotect(Host(start), length, PROT_READ);
  unsigned char resident[512];
  for (uint64_t at = start; at < piece.end; at += sizeof(resident) * kPageSize) {
    const uint64_t n = std::min<uint64_t>(sizeof(resident) * kPageSize, piece.end - at);
    if (mincore(Host(at), n, resident) != 0) return false;
    for (uint64_t page = 0; page < n; page += kPageSize) {
      if ((resident[page / kPageSize] & 1) == 0) continue;
      char bytes[kPageSize];
      if (Copy<false>(GuestAddr(at + page), bytes, kPageSize) == kPageSize)
        std::memcpy(to.Host(at + page), bytes, kPageSize);
    }
  }
  if ((protection & PROT_READ) == 0) mprotect(Host(start), length, protection);
  return mprotect(to.Host(start), length, protection) == 0;
}

Result<std::unique_ptr<AddressSpace>> FakeAddressSpace::Fork() {
  MutexLock lock(mu_);
  if (fail_fork_.has_value()) {
    const Errno error = *fail_fork_;
    fail_fork_.reset();
    return error;
  }
  auto child = std::make_unique<FakeAddressSpace>();
  for (const auto& [start, piece] : pieces_) {
    if (!CopyPieceLocked(start, piece, *child)) return Errno::kENOMEM;
  }
  // The new object is ours alone; the analysis wants its lock all the same.
  std::map<uint64_t, Piece> copy = pieces_;
  FakeAddressSpace& other = *child;
  {
    MutexLock child_lock(other.mu_);
    other.pieces_ = std::move(copy);
  }
  return std::unique_ptr<AddressSpace>(std::move(child));
}

template <bool kWrite>
size_t FakeAddressSpace::Copy(GuestAddr addr, char* data, size_t length) const {
  if (!kRange.contains(addr)) return 0;
  length = std::min<uint64_t>(length, kRange.end - addr);
  size_t done = 0;
  while (done < length) {
    iovec local{data + done, length - done};
    iovec remote{Host(addr.value + done), length - done};
    const ssize_t n =
        kWrite ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
               : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

size_t FakeAddressSpace::CopyIn(GuestAddr from, absl::Span<char> to) {
  return Copy<false>(from, to.data(), to.size());
}

size_t FakeAddressSpace::CopyOut(GuestAddr to, absl::Span<const char> from) {
  return Copy<true>(to, const_cast<char*>(from.data()), from.size());
}

size_t FakeAddressSpace::CopyOutForced(GuestAddr to, absl::Span<const char> from) {
  MutexLock lock(mu_);
  size_t done = 0;
  while (done < from.size()) {
    const uint64_t at = to.value + done;
    auto it = pieces_.upper_bound(at);
    if (it == pieces_.begin()) break;
    --it;
    if (it->second.end <= at || it->second.shared) break;
    const size_t n = std::min<uint64_t>(from.size() - done, it->second.end - at);
    const uint64_t length = it->second.end - it->first;
    mprotect(Host(it->first), length, PROT_READ | PROT_WRITE);
    const size_t copied = Copy<true>(GuestAddr(at), const_cast<char*>(&from[done]), n);
    mprotect(Host(it->first), length, HostProtection(it->second.protection));
    done += copied;
    if (copied != n) break;
  }
  return done;
}

Result<uint32_t> FakeAddressSpace::Load32(GuestAddr addr) {
  uint32_t value;
  if (addr.value % 4 != 0) return Errno::kEINVAL;
  if (Copy<false>(addr, reinterpret_cast<char*>(&value), 4) != 4) return Errno::kEFAULT;
  return value;
}

Result<uint64_t> FakeAddressSpace::Load64(GuestAddr addr) {
  uint64_t value;
  if (addr.value % 8 != 0) return Errno::kEINVAL;
  if (Copy<false>(addr, reinterpret_cast<char*>(&value), 8) != 8) return Errno::kEFAULT;
  return value;
}

Result<uint32_t> FakeAddressSpace::CompareExchange32(GuestAddr addr, uint32_t expected,
                                                     uint32_t desired) {
  MutexLock lock(mu_);
  const uint32_t old = TRY(Load32(addr));
  uint32_t stored = old == expected ? desired : old;  // As the instruction: written in any case.
  if (Copy<true>(addr, reinterpret_cast<char*>(&stored), 4) != 4) return Errno::kEFAULT;
  return old;
}

Result<void> FakeAddressSpace::Residency(GuestAddr addr, uint64_t length, absl::Span<uint8_t> out) {
  MutexLock lock(mu_);
  if (!ValidRange(addr, length) || out.size() < length / kPageSize) return Errno::kEINVAL;
  if (!CoveredLocked(addr.value, addr.value + length)) return Errno::kENOMEM;
  if (mincore(Host(addr.value), length, out.data()) != 0) return FromHostErrno(errno);
  for (uint64_t i = 0; i < length / kPageSize; ++i) out[i] &= 1;
  return OkResult();
}

AddressSpace::Usage FakeAddressSpace::GetUsage() {
  MutexLock lock(mu_);
  Usage usage;
  for (const auto& [start, piece] : pieces_) {
    std::vector<unsigned char> resident((piece.end - start) / kPageSize);
    if (mincore(Host(start), piece.end - start, resident.data()) != 0) continue;
    for (unsigned char page : resident) usage.resident += (page & 1) * kPageSize;
    if (piece.shared) {
      for (unsigned char page : resident) usage.shared += (page & 1) * kPageSize;
    }
  }
  usage.peak = usage.resident;
  return usage;
}

void FakeAddressSpace::FailOp(size_t n, Errno error) {
  MutexLock lock(mu_);
  fail_op_ = {n, error};
}

void FakeAddressSpace::CountWaiter(GuestAddr addr, int delta) {
  MutexLock lock(mu_);
  waiters_[addr.value] += delta;
  all_waiters_ += delta;
  fewest_waiters_ = std::min(fewest_waiters_, all_waiters_);
}

int FakeAddressSpace::FewestWaiters() {
  MutexLock lock(mu_);
  return std::exchange(fewest_waiters_, all_waiters_);
}

int FakeAddressSpace::Waiters(GuestAddr addr) {
  MutexLock lock(mu_);
  return waiters_[addr.value];
}

void FakeAddressSpace::FailNextFork(Errno error) {
  MutexLock lock(mu_);
  fail_fork_ = error;
}

std::optional<Protection> FakeAddressSpace::ProtectionAt(GuestAddr addr) {
  MutexLock lock(mu_);
  auto it = pieces_.upper_bound(addr.value);
  if (it == pieces_.begin()) return std::nullopt;
  --it;
  if (it->second.end <= addr.value) return std::nullopt;
  return it->second.protection;
}

std::vector<MapOp> FakeAddressSpace::TakeLog() {
  MutexLock lock(mu_);
  return std::exchange(log_, {});
}

}  // namespace caisson::platform::fake
