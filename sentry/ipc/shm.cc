#include "sentry/ipc/shm.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "sentry/ipc/namespace.h"

namespace caisson::ipc {

using auth::Capability;

// What the VMAs of one attachment hold. The last of them gone is the detach.
class ShmAttachment final : public mm::MappedObject {
 public:
  ShmAttachment(RefPtr<IpcNamespace> ns, RefPtr<ShmSegment> segment, vfs::ProcessId process)
      : ns_(std::move(ns)), segment_(std::move(segment)), process_(std::move(process)) {
    MutexLock lock(segment_->mu);
    ++segment_->attached;
    segment_->atime = NowSeconds();
    segment_->last = process_;
  }
  ~ShmAttachment() override {
    bool last = false;
    int32_t key = 0;
    {
      MutexLock lock(segment_->mu);
      --segment_->attached;
      segment_->dtime = NowSeconds();
      segment_->last = process_;
      if (segment_->attached == 0 && (segment_->owner.mode & abi::kShmDest) != 0 &&
          !segment_->removed) {
        segment_->removed = last = true;
        key = segment_->owner.key;
      }
    }
    if (last) ns_->shm.Destroy(*segment_, key);
  }
  RefPtr<mm::MappedObject> Fork() override { return MakeRef<ShmAttachment>(ns_, segment_, process_); }

 private:
  const RefPtr<IpcNamespace> ns_;
  const RefPtr<ShmSegment> segment_;
  const vfs::ProcessId process_;
};

Result<int> SharedMemory::Get(vfs::CallContext& ctx, int32_t key, uint64_t size, int flags) {
  const auth::Credentials& creds = ctx.creds();
  if (key != abi::kIpcPrivate) {
    MutexLock lock(registry_.mu());
    if (RefPtr<ShmSegment> found = registry_.FindKeyLocked(key)) {
      if ((flags & abi::kIpcCreat) != 0 && (flags & abi::kIpcExcl) != 0) return Errno::kEEXIST;
      if (found->size < size) return Errno::kEINVAL;
      MutexLock object_lock(found->mu);
      TRY(CheckAccess(creds, ns_.user_ns(), found->owner, flags & 0777));
      return found->id;
    }
    if ((flags & abi::kIpcCreat) == 0) return Errno::kENOENT;
  }
  if (size < 1 || size > ns_.tunables.shmmax.load()) return Errno::kEINVAL;
  if (size > INT64_MAX) return Errno::kENOSPC;  // PageRoundUp() must not wrap, nor a file's size.
  if ((flags & abi::kShmHugetlb) != 0) return Errno::kENOMEM;  // None in the pool.
  if (factory_ == nullptr) return Errno::kENOSYS;
  const uint64_t length = PageRoundUp(size);
  std::string name =
      absl::StrCat("/SYSV", absl::Hex(static_cast<uint32_t>(key), absl::kZeroPad8), " (deleted)");
  RefPtr<vfs::FileDescription> file = TRY(factory_->NewSegment(ctx, name, length));
  MutexLock lock(registry_.mu());
  // Someone else may have made it meanwhile.
  if (key != abi::kIpcPrivate) {
    if (RefPtr<ShmSegment> found = registry_.FindKeyLocked(key)) {
      if ((flags & abi::kIpcExcl) != 0) return Errno::kEEXIST;
      return found->size < size ? Result<int>(Errno::kEINVAL) : Result<int>(found->id);
    }
  }
  RefPtr<ShmSegment> made = TRY(registry_.InsertLocked(ns_.tunables.shmmni.load(), key, [&](int id) {
    auto segment = MakeRef<ShmSegment>(id, size, std::move(file));
    MutexLock object_lock(segment->mu);
    segment->owner = {key,        creds.euid, creds.euid,
                      creds.egid, creds.egid, static_cast<uint32_t>(flags & 0777)};
    segment->ctime = NowSeconds();
    segment->creator = ctx.process_id();
    return segment;
  }));
  pages_.fetch_add(length / kPageSize, std::memory_order_relaxed);
  return made->id;
}

Result<GuestAddr> SharedMemory::Attach(vfs::CallContext& ctx, mm::MemoryManager& mm, int id,
                                       GuestAddr addr, int flags, const mm::Limits& limits) {
  const bool remap = (flags & abi::kShmRemap) != 0;
  mm::MmapArgs args;
  args.flags = mm::kMapShared;
  if (!addr.is_null()) {
    if (!addr.page_aligned()) {
      if ((flags & abi::kShmRnd) == 0) return Errno::kEINVAL;
      addr = GuestAddr(PageRoundDown(addr.value));
      if (addr.is_null() && remap) return Errno::kEINVAL;
    }
    args.flags |= remap ? mm::kMapFixed : mm::kMapFixedNoreplace;
  } else if (remap) {
    return Errno::kEINVAL;
  }
  args.addr = addr;
  int access = 0444;
  args.protection = 1;
  if ((flags & abi::kShmRdonly) == 0) {
    access |= 0222;
    args.protection |= 2;
  } else {
    args.never_writable = true;
  }
  if ((flags & abi::kShmExec) != 0) {
    access |= 0111;
    args.protection |= 4;
  }
  RefPtr<ShmSegment> segment = TRY(registry_.Find(id));
  {
    MutexLock lock(segment->mu);
    if (segment->removed) return Errno::kEIDRM;
    TRY(CheckAccess(ctx.creds(), ns_.user_ns(), segment->owner, access));
    args.name =
        absl::StrCat("/SYSV", absl::Hex(static_cast<uint32_t>(segment->owner.key), absl::kZeroPad8),
                     " (deleted)");
  }
  args.length = PageRoundUp(segment->size);
  args.file = segment->file;
  args.object = MakeRef<ShmAttachment>(RefPtr<IpcNamespace>(&ns_), segment, ctx.process_id());
  Result<GuestAddr> mapped = mm.Mmap(ctx, args, limits);
  // An address that is taken is a bad one (do_shmat()).
  if (!mapped.ok() && mapped.error() == Errno::kEEXIST) return Errno::kEINVAL;
  return mapped;
}

Result<void> SharedMemory::Detach(vfs::CallContext& ctx, mm::MemoryManager& mm, GuestAddr addr) {
  TRY(mm.Detach(addr));
  return {};
}

void SharedMemory::Destroy(ShmSegment& segment, int32_t key) {
  pages_.fetch_sub(PageRoundUp(segment.size) / kPageSize, std::memory_order_relaxed);
  registry_.Remove(segment, key);
}

abi::ShmidDs SharedMemory::Show(const auth::Credentials& creds, ShmSegment& segment) {
  MutexLock lock(segment.mu);
  abi::ShmidDs out = {};
  out.perm = ShowOwner(creds, segment.owner, segment.id);
  out.segsz = segment.size;
  out.atime = segment.atime;
  out.dtime = segment.dtime;
  out.ctime = segment.ctime;
  out.cpid = segment.creator.number;
  out.lpid = segment.last.number;
  out.nattch = segment.attached;
  return out;
}

Result<abi::ShmidDs> SharedMemory::Stat(vfs::CallContext& ctx, int id, bool by_index, bool any,
                                        int* id_out) {
  RefPtr<ShmSegment> segment = TRY(by_index ? registry_.FindIndex(id) : registry_.Find(id));
  if (!any) {
    MutexLock lock(segment->mu);
    TRY(CheckAccess(ctx.creds(), ns_.user_ns(), segment->owner, 0444));
  }
  if (id_out != nullptr) *id_out = segment->id;
  return Show(ctx.creds(), *segment);
}

Result<void> SharedMemory::Set(vfs::CallContext& ctx, int id, const abi::IpcPerm& perm) {
  RefPtr<ShmSegment> segment = TRY(registry_.Find(id));
  MutexLock lock(segment->mu);
  TRY(CheckOwner(ctx.creds(), ns_.user_ns(), segment->owner));
  TRY(SetOwner(ctx.creds(), perm, segment->owner));
  segment->ctime = NowSeconds();
  return {};
}

Result<void> SharedMemory::Remove(vfs::CallContext& ctx, int id) {
  RefPtr<ShmSegment> segment = TRY(registry_.Find(id));
  int32_t key = 0;
  {
    // The key goes at once; the segment with its last attachment.
    MutexLock lock(registry_.mu());
    MutexLock object_lock(segment->mu);
    if (segment->removed) return Errno::kEIDRM;
    TRY(CheckOwner(ctx.creds(), ns_.user_ns(), segment->owner));
    key = segment->owner.key;
    if (segment->attached != 0) {
      segment->owner.mode |= abi::kShmDest;
      registry_.RemoveKeyLocked(*segment, key);
      segment->owner.key = abi::kIpcPrivate;
      return {};
    }
    segment->removed = true;
  }
  Destroy(*segment, key);
  return {};
}

Result<void> SharedMemory::Lock(vfs::CallContext& ctx, int id, bool lock, uint64_t memlock_limit) {
  RefPtr<ShmSegment> segment = TRY(registry_.Find(id));
  MutexLock object_lock(segment->mu);
  const auth::Credentials& creds = ctx.creds();
  if (!creds.HasCapability(Capability::kIpcLock, ns_.user_ns())) {
    if (creds.euid != segment->owner.uid && creds.euid != segment->owner.cuid) return Errno::kEPERM;
    if (lock && memlock_limit == 0) return Errno::kEPERM;
  }
  if (lock) {
    segment->owner.mode |= abi::kShmLocked;
  } else {
    segment->owner.mode &= ~abi::kShmLocked;
  }
  return {};
}

abi::ShmInfo64 SharedMemory::Limits() const {
  abi::ShmInfo64 info = {};
  info.shmmax = ns_.tunables.shmmax.load();
  info.shmmin = 1;
  info.shmmni = info.shmseg = ns_.tunables.shmmni.load();
  info.shmall = ns_.tunables.shmall.load();
  return info;
}

abi::ShmInfo SharedMemory::Info() {
  abi::ShmInfo info = {};
  info.used_ids = static_cast<int32_t>(registry_.count());
  info.shm_tot = info.shm_rss = pages_.load(std::memory_order_relaxed);
  return info;
}

std::vector<abi::ShmidDs> SharedMemory::All(vfs::CallContext& ctx, std::vector<int>* ids) {
  std::vector<abi::ShmidDs> out;
  for (const RefPtr<ShmSegment>& segment : registry_.All()) {
    ids->push_back(segment->id);
    out.push_back(Show(ctx.creds(), *segment));
  }
  return out;
}

}  // namespace caisson::ipc
