#include "sentry/mm/vma_tree.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace caisson::mm {

platform::MapOp Vma::MakeOp(uint64_t from, uint64_t to) const {
  platform::MapOp op;
  op.kind = host_anonymous ? platform::MapOp::Kind::kMapAnonymous : platform::MapOp::Kind::kMapFile;
  op.protection = HostProtection(protection);
  // What may never be written is the same as a private mapping, and is one: with a descriptor that writes, the
  // host would let a guest make it writable (platform/trap/README.md, Host calls).
  op.shared = writes_through();
  op.follows_file = shared();
  op.no_reserve = has(kVmaNoReserve);
  op.addr = GuestAddr(from);
  op.length = to - from;
  if (!host_anonymous) {
    op.host_fd = host_fd;
    op.offset = OffsetAt(from) + host_delta;
  }
  return op;
}

void VmaTree::CopyFrom(const VmaTree& other) {
  CHECK(map_.empty() && range_ == other.range_);
  map_ = other.map_;
  gaps_.CopyFrom(other.gaps_);
  totals_ = other.totals_;
  totals_.peak_virtual = totals_.virtual_bytes;
}

const Vma* VmaTree::Find(uint64_t address) const {
  const Vma* vma = FindFrom(address);
  return vma != nullptr && vma->start <= address ? vma : nullptr;
}

const Vma* VmaTree::FindFrom(uint64_t address) const {
  auto it = map_.upper_bound(address);
  if (it != map_.begin()) {
    auto before = std::prev(it);
    if (before->second.end > address) return &before->second;
  }
  return it == map_.end() ? nullptr : &it->second;
}

const Vma* VmaTree::FindBefore(uint64_t address) const {
  auto it = map_.lower_bound(address);
  return it == map_.begin() ? nullptr : &std::prev(it)->second;
}

bool VmaTree::Covers(AddrRange range) const {
  uint64_t at = range.start.value;
  ForEach(range, [&](const Vma& vma) {
    if (vma.start > at) return false;
    at = vma.end;
    return true;
  });
  return at >= range.end.value;
}

bool VmaTree::ForEach(AddrRange range, absl::FunctionRef<bool(const Vma&)> f) const {
  auto it = map_.upper_bound(range.start.value);
  if (it != map_.begin() && std::prev(it)->second.end > range.start.value) --it;
  for (; it != map_.end() && it->first < range.end.value; ++it) {
    if (!f(it->second)) return false;
  }
  return true;
}

size_t VmaTree::SplitsNeeded(AddrRange range) const {
  const Vma* first = Find(range.start.value);
  const Vma* last = Find(range.end.value);
  return (first != nullptr && first->start < range.start.value ? 1 : 0) +
         (last != nullptr && last->start < range.end.value ? 1 : 0);
}

void VmaTree::Account(const Vma& vma, int sign) {
  auto add = [&](uint64_t& total) { total += sign * vma.length(); };
  add(totals_.virtual_bytes);
  bool writable = (vma.protection & platform::kProtWrite) != 0;
  if (vma.has(kVmaGrowsDown)) {
    add(totals_.stack);
  } else if ((vma.protection & platform::kProtExec) != 0 && !writable) {
    add(totals_.exec);
  } else if (writable && !vma.shared()) {
    add(totals_.data);
  }
  if (vma.has(kVmaLocked)) add(totals_.locked);
  if (vma.shared()) add(totals_.shared_virtual);
  totals_.peak_virtual = std::max(totals_.peak_virtual, totals_.virtual_bytes);
}

bool VmaTree::CanMerge(const Vma& a, const Vma& b) {
  // Linux mm/vma.c, is_mergeable_vma() and can_vma_merge_after().
  return a.end == b.start && a.protection == b.protection && a.flags == b.flags &&
         !a.has(kVmaSpecial) && a.file == b.file && a.object == b.object &&
         a.OffsetAt(a.end) == b.offset && a.host_anonymous == b.host_anonymous &&
         a.host_fd == b.host_fd && a.host_delta == b.host_delta && a.name == b.name;
}

void VmaTree::MergeAround(AddrRange range) {
  auto it = map_.upper_bound(range.start.value);
  // One VMA before `range` takes part, and one after it.
  for (int back = 0; back < 2 && it != map_.begin(); ++back) --it;
  while (it != map_.end() && it->first <= range.end.value) {
    auto next = std::next(it);
    if (next == map_.end()) break;
    if (next->first <= range.end.value && CanMerge(it->second, next->second)) {
      it->second.end = next->second.end;
      map_.erase(next);  // `it` holds references on the same objects: nothing is released here.
    } else {
      it = next;
    }
  }
}

void VmaTree::SplitAt(uint64_t address) {
  auto it = map_.lower_bound(address);
  if (it == map_.begin()) return;
  Vma& low = std::prev(it)->second;
  if (low.end <= address) return;
  Vma high = low;
  high.offset = low.OffsetAt(address);
  high.start = address;
  low.end = address;
  map_.emplace_hint(it, address, std::move(high));
}

void VmaTree::Insert(Vma vma) {
  AddrRange range = vma.range();
  CHECK(range_.contains(range) && !range.empty() && gaps_.IsFree(range));
  ++generation_;
  gaps_.Occupy(range);
  Account(vma, 1);
  map_.emplace(vma.start, std::move(vma));
  MergeAround(range);
}

void VmaTree::Remove(AddrRange range, Garbage* garbage) {
  ++generation_;
  SplitAt(range.start.value);
  SplitAt(range.end.value);
  auto it = map_.lower_bound(range.start.value);
  while (it != map_.end() && it->first < range.end.value) {
    Account(it->second, -1);
    gaps_.Release(it->second.range());
    garbage->push_back(std::move(it->second));
    it = map_.erase(it);
  }
}

void VmaTree::Update(AddrRange range, absl::FunctionRef<void(Vma&)> f) {
  ++generation_;
  SplitAt(range.start.value);
  SplitAt(range.end.value);
  for (auto it = map_.lower_bound(range.start.value);
       it != map_.end() && it->first < range.end.value; ++it) {
    Account(it->second, -1);
    f(it->second);
    Account(it->second, 1);
  }
  MergeAround(range);
}

void VmaTree::GrowDown(uint64_t start, uint64_t new_start) {
  auto it = map_.find(start);
  CHECK(it != map_.end());
  AddrRange added{GuestAddr(new_start), GuestAddr(start)};
  CHECK(gaps_.IsFree(added));
  ++generation_;
  gaps_.Occupy(added);
  Account(it->second, -1);
  auto node = map_.extract(it);
  node.key() = new_start;
  // Wraps for a small offset: only differences of offsets matter for anonymous memory.
  node.mapped().offset -= start - new_start;
  node.mapped().start = new_start;
  Account(node.mapped(), 1);
  map_.insert(std::move(node));
  MergeAround(added);
}

AddrRange VmaTree::WithoutGuard(AddrRange gap) const {
  auto it = map_.lower_bound(gap.end.value);
  if (it == map_.end() || !it->second.has(kVmaGrowsDown)) return gap;
  uint64_t limit = it->first > kStackGuardGap ? it->first - kStackGuardGap : 0;
  gap.end = GuestAddr(std::clamp(limit, gap.start.value, gap.end.value));
  return gap;
}

bool VmaTree::IsUsable(AddrRange range) const {
  if (!range_.contains(range) || !gaps_.IsFree(range)) return false;
  return WithoutGuard(range) == range;
}

GuestAddr VmaTree::FindTopDown(uint64_t length, AddrRange window, uint64_t align) const {
  GuestAddr found;
  gaps_.VisitDown(length, window, [&](AddrRange gap) {
    gap = WithoutGuard(gap);
    if (gap.length() < length) return false;
    uint64_t at = (gap.end.value - length) & ~(align - 1);
    if (at < gap.start.value) return false;
    found = GuestAddr(at);
    return true;
  });
  return found;
}

GuestAddr VmaTree::FindBottomUp(uint64_t length, AddrRange window, uint64_t align) const {
  GuestAddr found;
  gaps_.VisitUp(length, window, [&](AddrRange gap) {
    gap = WithoutGuard(gap);
    uint64_t at = (gap.start.value + align - 1) & ~(align - 1);
    if (at > gap.end.value || gap.end.value - at < length) return false;
    found = GuestAddr(at);
    return true;
  });
  return found;
}

}  // namespace caisson::mm
