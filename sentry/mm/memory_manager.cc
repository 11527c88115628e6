#include "sentry/mm/memory_manager.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "sentry/mm/impl.h"

namespace caisson::mm {

using platform::MapOp;

uint64_t CoveredBytes(const VmaTree& tree, AddrRange range) {
  uint64_t total = 0;
  tree.ForEach(range, [&](const Vma& vma) {
    total += std::min(vma.end, range.end.value) - std::max(vma.start, range.start.value);
    return true;
  });
  return total;
}

bool IsData(uint32_t protection, uint32_t flags) {
  return (protection & platform::kProtWrite) != 0 && (flags & (kVmaShared | kVmaGrowsDown)) == 0;
}

MemoryManager::Impl::Impl(platform::Platform& platform_in, platform::AddressSpace& space_in,
                          SharedMemoryFactory* shared_memory_in)
    : platform(platform_in),
      space(space_in),
      shared_memory(shared_memory_in),
      headroom(shared_memory_in != nullptr ? shared_memory_in->headroom() : nullptr),
      guest_range(platform_in.guest_range()),
      tree(guest_range),
      mmap_base(guest_range.end.value) {}

MemoryManager::Impl::~Impl() {
  if (executable && executable_denies) executable->inode()->AllowWrites();
}

MemoryManager::MemoryManager(std::unique_ptr<platform::AddressSpace> space,
                             std::unique_ptr<Impl> impl)
    : space_(std::move(space)), impl_(std::move(impl)) {}

MemoryManager::~MemoryManager() {
  // The host's mappings go before the files that they came from, unless nobody can use them any more (TakeSpace()).
  space_.reset();
}

Result<RefPtr<MemoryManager>> MemoryManager::New(platform::Platform& platform,
                                                 SharedMemoryFactory* shared_memory) {
  std::unique_ptr<platform::AddressSpace> space = TRY(platform.NewAddressSpace());
  auto impl = std::make_unique<Impl>(platform, *space, shared_memory);
  return RefPtr<MemoryManager>::Adopt(new MemoryManager(std::move(space), std::move(impl)));
}

Result<RefPtr<MemoryManager>> MemoryManager::Fork() {
  VmaTree::Garbage garbage;
  MutexLock lock(impl_->mu);
  // The lock is held across both, so that no mapping changes between the host's clone and the
  // copy of the tree (docs/platform.md 18).
  std::unique_ptr<platform::AddressSpace> space = TRY(space_->Fork());
  auto child = std::make_unique<Impl>(impl_->platform, *space, impl_->shared_memory);
  MutexLock child_lock(child->mu);
  child->tree.CopyFrom(impl_->tree);
  // The few VMAs that are not simply copied.
  std::vector<MapOp> ops;
  std::vector<AddrRange> dropped, changed;
  absl::flat_hash_map<MappedObject*, RefPtr<MappedObject>> objects;
  for (const auto& [start, vma] : impl_->tree.map()) {
    if (vma.has(kVmaDontFork)) {
      MapOp op;
      op.kind = MapOp::Kind::kUnmap;
      op.addr = GuestAddr(vma.start);
      op.length = vma.length();
      ops.push_back(op);
      dropped.push_back(vma.range());
      continue;
    }
    if (vma.has(kVmaWipeOnFork)) ops.push_back(vma.MakeOp(vma.start, vma.end));
    if (vma.object && !objects.contains(vma.object.get()))
      objects[vma.object.get()] = vma.object->Fork();
    if (vma.object || vma.has(kVmaLocked)) changed.push_back(vma.range());
  }
  for (const AddrRange& range : dropped) child->tree.Remove(range, &garbage);
  for (const AddrRange& range : changed) {
    child->tree.Update(range, [&](Vma& vma) {
      vma.flags &= ~(kVmaLocked | kVmaLockOnFault);  // mlock(2): not inherited.
      if (vma.object) vma.object = objects[vma.object.get()];
    });
  }
  if (!ops.empty()) TRY(space->Apply(ops));
  child->mmap_base = impl_->mmap_base;
  child->start_brk = impl_->start_brk;
  child->brk = impl_->brk;
  child->layout = impl_->layout;
  child->stack_limit.store(impl_->stack_limit.load(std::memory_order_relaxed),
                           std::memory_order_relaxed);
  child->dumpable.store(impl_->dumpable.load(std::memory_order_relaxed), std::memory_order_relaxed);
  child->user_ns = impl_->user_ns;
  child->executable = impl_->executable;
  // Cannot fail: the parent's denial keeps writers out.
  if (impl_->executable_denies)
    child->executable_denies = impl_->executable->inode()->DenyWrites().ok();
  return RefPtr<MemoryManager>::Adopt(new MemoryManager(std::move(space), std::move(child)));
}

RefPtr<MemoryManager> MemoryManager::Replace() {
  if (!space_->BeginProgram()) return nullptr;
  auto impl = std::make_unique<Impl>(impl_->platform, *space_, impl_->shared_memory);
  {
    MutexLock lock(impl->mu);
    impl->must_clear = true;
  }
  return RefPtr<MemoryManager>::Adopt(new MemoryManager(std::move(space_), std::move(impl)));
}

Result<void> MemoryManager::MapImage(vfs::CallContext& ctx,
                                     absl::Span<const ImageMapping> mappings) {
  std::vector<Vma> vmas;
  std::vector<MapOp> ops;
  for (const ImageMapping& m : mappings) {
    if (m.range.empty() || !impl_->guest_range.contains(m.range) || !m.range.start.page_aligned() ||
        !m.range.end.page_aligned() || m.offset % kPageSize != 0)
      return Errno::kEINVAL;
    Vma vma;
    vma.start = m.range.start.value;
    vma.end = m.range.end.value;
    vma.protection = m.protection & 7;
    vma.flags = (m.never_writable ? 0 : kVmaMayWrite) | kVmaMayExec | (m.grows_down ? kVmaGrowsDown : 0);
    vma.name = m.name;
    vma.offset = vma.start;
    if (m.file) {
      vfs::HostMapping host = TRY(m.file->Map(ctx, m.offset, m.range.length(), false, false));
      vma.file = m.file;
      vma.offset = m.offset;
      vma.host_anonymous = host.anonymous;
      vma.host_fd = host.host_fd;
      vma.host_delta = host.offset - m.offset;
    }
    ops.push_back(vma.MakeOp(vma.start, vma.end));
    vmas.push_back(std::move(vma));
  }
  MutexLock lock(impl_->mu);
  // A mapping may not overlap another of the same image either.
  std::vector<AddrRange> ranges;
  for (const Vma& vma : vmas) ranges.push_back(vma.range());
  std::sort(ranges.begin(), ranges.end(),
            [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (!impl_->tree.IsFree(ranges[i])) return Errno::kEINVAL;
    if (i > 0 && ranges[i - 1].end > ranges[i].start) return Errno::kEINVAL;
  }
  if (impl_->must_clear) {
    MapOp clear;
    clear.kind = MapOp::Kind::kUnmap;
    clear.addr = impl_->guest_range.start;
    clear.length = impl_->guest_range.length();
    ops.insert(ops.begin(), clear);
    impl_->must_clear = false;
  }
  TRY(space_->Apply(ops));
  for (Vma& vma : vmas) impl_->tree.Insert(std::move(vma));
  return {};
}

Result<void> MemoryManager::ReplaceFile(vfs::CallContext& ctx, const vfs::FileDescription& from,
                                        const RefPtr<vfs::FileDescription>& to) {
  std::vector<Vma> found;
  {
    MutexLock lock(impl_->mu);
    impl_->tree.ForEach(impl_->guest_range, [&](const Vma& vma) {
      if (vma.file.get() == &from) found.push_back(vma);
      return true;
    });
  }
  for (Vma& vma : found) {
    vfs::HostMapping host = TRY(to->Map(ctx, vma.offset, vma.length(), vma.shared(), false));
    vma.file = to;
    vma.host_fd = host.host_fd;
    vma.host_delta = host.offset - vma.offset;
    VmaTree::Garbage garbage;
    MutexLock lock(impl_->mu);
    const Vma* now = impl_->tree.Find(vma.start);
    if (now == nullptr || now->file.get() != &from || now->end != vma.end) continue;
    TRY(impl_->MapLocked(std::move(vma), false, &garbage));
  }
  return {};
}

Result<void> MemoryManager::SetAnonymousName(GuestAddr addr, uint64_t length,
                                             const std::string& name) {
  if (!addr.page_aligned()) return Errno::kEINVAL;
  if (length != 0 && PageRoundUp(length) == 0) return Errno::kEINVAL;
  std::optional<GuestAddr> end = addr.Plus(PageRoundUp(length));
  if (!end) return Errno::kEINVAL;
  if (*end == addr) return {};
  const AddrRange range{addr, *end};
  MutexLock lock(impl_->mu);
  VmaTree& tree = impl_->tree;
  if (tree.count() + tree.SplitsNeeded(range) > kMaxMapCount) return Errno::kENOMEM;
  if (!tree.ForEach(range, [](const Vma& vma) { return !vma.file && vma.anonymous(); }))
    return Errno::kEBADF;
  bool covered = tree.Covers(range);
  tree.Update(range, [&](Vma& vma) { vma.name = name.empty() ? "" : "[anon:" + name + "]"; });
  if (!covered) return Errno::kENOMEM;
  return {};
}

void MemoryManager::SetLayout(const Layout& layout) {
  MutexLock lock(impl_->mu);
  impl_->layout = layout;
  if (!layout.start_brk.is_null()) impl_->start_brk = layout.start_brk.value;
}

MemoryManager::Layout MemoryManager::layout() const {
  MutexLock lock(impl_->mu);
  Layout layout = impl_->layout;
  layout.start_brk = GuestAddr(impl_->start_brk);
  return layout;
}

void MemoryManager::InitBreak(GuestAddr start) {
  MutexLock lock(impl_->mu);
  impl_->start_brk = impl_->brk = start.value;
}

void MemoryManager::SetMmapBase(GuestAddr top) {
  MutexLock lock(impl_->mu);
  impl_->mmap_base = std::clamp(PageRoundDown(top.value), impl_->guest_range.start.value,
                                impl_->guest_range.end.value);
}

void MemoryManager::set_stack_limit(uint64_t bytes) {
  impl_->stack_limit.store(bytes, std::memory_order_relaxed);
}

void MemoryManager::SetExecutable(RefPtr<vfs::FileDescription> file) {
  bool denies = file && file->inode() != nullptr && file->inode()->DenyWrites().ok();
  {
    MutexLock lock(impl_->mu);
    std::swap(impl_->executable, file);
    std::swap(impl_->executable_denies, denies);
  }
  if (denies) file->inode()->AllowWrites();
}

RefPtr<vfs::FileDescription> MemoryManager::executable() const {
  MutexLock lock(impl_->mu);
  return impl_->executable;
}

int MemoryManager::dumpable() const { return impl_->dumpable.load(std::memory_order_relaxed); }
void MemoryManager::set_dumpable(int value) {
  impl_->dumpable.store(value, std::memory_order_relaxed);
}

const auth::UserNamespace* MemoryManager::user_ns() const { return impl_->user_ns.get(); }
void MemoryManager::set_user_ns(RefPtr<const auth::UserNamespace> ns) { impl_->user_ns = std::move(ns); }

bool MemoryManager::IsOpenTo(const auth::Credentials& who) const {
  if (dumpable() == 1) return true;
  const auth::UserNamespace* ns = user_ns();
  return ns != nullptr ? who.HasCapability(auth::Capability::kSysPtrace, *ns)
                       : who.HasRootCapability(auth::Capability::kSysPtrace);
}

std::vector<MemoryManager::VmaInfo> MemoryManager::Vmas() const {
  std::vector<VmaInfo> out;
  MutexLock lock(impl_->mu);
  out.reserve(impl_->tree.count() + 2);
  for (const auto& [start, vma] : impl_->tree.map()) {
    VmaInfo info;
    info.range = vma.range();
    info.protection = vma.protection;
    info.shared = vma.shared();
    info.locked = vma.has(kVmaLocked);
    info.grows_down = vma.has(kVmaGrowsDown);
    info.offset = vma.file ? vma.offset : 0;
    info.file = vma.file;
    info.name = vma.name;
    if (!vma.file && vma.name.empty()) {
      // Linux fs/proc/task_mmu.c: by position, not by origin.
      uint64_t stack = impl_->layout.start_stack.value;
      if (vma.start <= impl_->brk && vma.end >= impl_->start_brk && impl_->brk != 0) {
        info.name = "[heap]";
      } else if (vma.start <= stack && vma.end >= stack && stack != 0) {
        info.name = "[stack]";
      }
    }
    out.push_back(std::move(info));
  }
  return out;
}

MemoryManager::Totals MemoryManager::totals() const {
  MutexLock lock(impl_->mu);
  return impl_->tree.totals();
}

}  // namespace caisson::mm
