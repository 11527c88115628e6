// Directories: finding and listing names.
#include "time/clock.h"
#include "vfs/gofer/inode.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

// After so many lookups that the cache could not answer, the directory is listed: attributes of all
// its files for one message, and "not there" for none from then on.
constexpr int kMissesBeforeListing = 4;
constexpr int kMaxChunksForCache = 4;  // Not if it is that large.
// A listing that is longer fills no cache. Also keeps a hostile gofer from filling memory.
constexpr size_t kMaxPrimed = 8192;
constexpr size_t kMaxListing = 64 << 20;

}  // namespace

GoferInode::CachedLookup GoferInode::LookupCached(absl::string_view name) {
  CachedLookup result;
  gp::WireAttributes record;
  Snapshot begin;
  {
    MutexLock lock(directory_->mu());
    if (directory_->watch() < 0) return result;
    DirectoryCache::Found found = directory_->FindLocked(name);
    switch (found.kind) {
      case DirectoryCache::Kind::kAbsent: result.known = true; return result;
      case DirectoryCache::Kind::kInode:
        if (found.inode->TryIncRef()) {
          result.inode = RefPtr<GoferInode>::Adopt(found.inode);
          result.known = true;
          return result;
        }
        [[fallthrough]];
      case DirectoryCache::Kind::kUnknown:
        result.should_list =
            !directory_->completeLocked() && directory_->CountMissLocked() == kMissesBeforeListing;
        return result;
      case DirectoryCache::Kind::kRecord: break;
    }
    record = *found.record;
    begin.taken_at = directory_->listed_at_locked();
  }
  RefPtr<GoferInode> inode = gofer().MakeInode(record);
  // Attach() looks again whether the record still stands.
  begin.invalidations = kAny;
  begin.permissions_covered = begin.rest_covered = Attach(name, *inode, Evidence::kRecord);
  if (!begin.permissions_covered) return result;
  inode->TakeAttributes(record, begin);  // Unless it has newer ones.
  result.inode = std::move(inode);
  result.known = true;
  return result;
}

Result<RefPtr<Inode>> GoferInode::Lookup(CallContext&, absl::string_view name) {
  if (directory_ == nullptr) return Errno::kENOTDIR;
  CachedLookup cached = LookupCached(name);
  if (cached.should_list && List(true).ok()) cached = LookupCached(name);
  if (cached.known) {
    if (!cached.inode) return Errno::kENOENT;
    return RefPtr<Inode>(std::move(cached.inode));
  }
  const uint64_t foreign_before = ForeignChanges();
  gp::WalkRequest request = {};
  request.path_length = static_cast<uint16_t>(name.size());
  Snapshot begin;
  begin.stamp = gofer().NextStamp();
  begin.invalidations = kAny;
  GoferCallResult r =
      TRY(gofer().CallOn(*this, gp::kLocateKeep | WatchFlag(), gp::Op::kWalk, request, name));
  bool sure;
  {
    MutexLock lock(directory_->mu());
    sure = directory_->watch() >= 0 && !r.uncertain &&
           directory_->foreign_changes_locked() == foreign_before;
    unwatchable_.store(directory_->watch() < 0, std::memory_order_relaxed);
    if (!sure) {
      directory_->ForeignChangeLocked(true);
    } else if (!r.status.ok() && r.status.error() == Errno::kENOENT) {
      directory_->SetAbsentLocked(name);
    }
  }
  TRY(r.status);
  gp::Reader in(r.body);
  gp::WalkReply reply;
  gp::WireAttributes wire;
  if (!in.Take(&reply) || reply.count != 1 || !in.Take(&wire) || !IsPlausible(wire))
    return Errno::kEIO;
  RefPtr<GoferInode> child = gofer().MakeInode(wire);
  if (child.get() == this) return Errno::kEIO;
  begin.permissions_covered = begin.rest_covered =
      Attach(name, *child, sure ? Evidence::kSure : Evidence::kDoubtful, foreign_before);
  // A directory that is watched itself has better ones, or will ask.
  if (!child->is_watched()) child->TakeAttributes(wire, begin);
  return RefPtr<Inode>(std::move(child));
}

void GoferInode::Prime(const DirectoryListing& listing,
                       const std::vector<gp::WireAttributes>& attributes) {
  bool complete = listing.size() == attributes.size();
  for (size_t i = 0; i < attributes.size() && complete; ++i) {
    const std::string& name = listing[i].name;
    if (directory_->FindLocked(name).kind == DirectoryCache::Kind::kInode) continue;
    if (IsPlausible(attributes[i])) {
      directory_->SetRecordLocked(name, attributes[i]);
    } else {
      complete = false;
    }
  }
  if (complete) directory_->SetCompleteLocked();
}

Result<std::shared_ptr<const DirectoryListing>> GoferInode::List(bool for_cache) {
  uint64_t changes_before;
  {
    MutexLock lock(directory_->mu());
    if (directory_->watch() >= 0 && directory_->listing_locked() != nullptr)
      return directory_->listing_locked();
    changes_before = directory_->changes_locked();
  }
  auto listing = std::make_shared<DirectoryListing>();
  std::vector<gp::WireAttributes> attributes;
  Snapshot begin = Begin();
  const bool was_watched = is_watched();
  const int64_t now = time::MonotonicNow();
  bool uncertain = false;
  size_t bytes = 0;
  gp::ReadDirectoryRequest request = {};
  int chunks = 0;
  for (bool end = false; !end;) {
    if (for_cache && ++chunks > kMaxChunksForCache) return Errno::kE2BIG;
    const uint16_t watch = request.cookie == 0 ? WatchFlag() : 0;
    GoferCallResult r =
        TRY(gofer().CallOn(*this, gp::kLocateKeep | watch, gp::Op::kReadDirectory, request));
    TRY(r.status);
    uncertain |= r.uncertain;
    gp::Reader in(r.body);
    gp::ReadDirectoryReply reply;
    if (!in.Take(&reply) || !IsPlausible(reply.self)) return Errno::kEIO;
    if (listing->empty()) {
      if (!was_watched && is_watched() && !uncertain)
        begin.permissions_covered = begin.rest_covered = true;
      TakeAttributes(reply.self, begin);
    }
    for (uint32_t i = 0; i < reply.count; ++i) {
      gp::DirectoryEntry entry;
      absl::string_view name;
      if (!in.Take(&entry) || !in.TakeBytes(entry.name_length, &name) || !gp::IsValidName(name))
        return Errno::kEIO;
      bytes += name.size() + sizeof(DirectoryListingEntry);
      listing->push_back({std::string(name), entry.attributes.ino, entry.type});
      if (attributes.size() < kMaxPrimed) attributes.push_back(entry.attributes);
    }
    end = reply.end != 0;
    // Each reply but the last has entries, so this ends.
    if ((!end && reply.count == 0) || bytes > kMaxListing) return Errno::kEIO;
    request.cookie = reply.next_cookie;
  }
  bool current;
  {
    MutexLock lock(directory_->mu());
    current = directory_->watch() >= 0 && !uncertain &&
              directory_->changes_locked() == changes_before;
    if (current) {
      directory_->SetListingLocked(listing, now);
      Prime(*listing, attributes);
    }
  }
  if (current) gofer().KeepRecords(*this);
  return std::shared_ptr<const DirectoryListing>(std::move(listing));
}

}  // namespace caisson::vfs
