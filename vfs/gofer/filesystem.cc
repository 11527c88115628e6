#include "vfs/gofer/filesystem.h"

#include <errno.h>
#include <sys/inotify.h>

#include <algorithm>

#include "base/log.h"
#include "vfs/gofer/inode.h"
#include "vfs/stale.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

constexpr size_t kReleaseBatch = 64;

// Only its device number is used: st_dev of a host file system.
class HostDevice final : public FileSystem {
 public:
  HostDevice() : FileSystem("gofer") {}
  RefPtr<Inode> root() override { return nullptr; }
  Result<FsStatistics> Statistics(CallContext&) override { return Errno::kENOSYS; }
};

}  // namespace

GoferFileSystem::GoferFileSystem(UniqueFd socket, GoferOptions options)
    : FileSystem(options.type_name), options_(std::move(options)), client_(std::move(socket)) {}

GoferFileSystem::~GoferFileSystem() {
  if (watcher_ != nullptr) watcher_->Remove(*this);
}

Result<RefPtr<FileSystem>> GoferFileSystem::Mount(UniqueFd socket, GoferOptions options) {
  auto fs = RefPtr<GoferFileSystem>::Adopt(
      new GoferFileSystem(std::move(socket), std::move(options)));
  gp::Writer message = NewGoferMessage();
  message.Put(gp::AttachRequest{gp::kProtocolVersion, 0});
  GoferReply reply = TRY(fs->client_.Call(gp::Op::kAttach, message));
  TRY(reply.status());
  gp::Reader in(reply.body);
  gp::AttachReply attach;
  if (!in.Take(&attach) || attach.version != gp::kProtocolVersion || !IsPlausible(attach.root))
    return Errno::kEPROTO;
  if ((attach.flags & gp::kAttachReadOnly) != 0) fs->options_.read_only = true;
  fs->max_handles_ = attach.max_handles;
  fs->devices_ = fs->options_.devices;
  if (fs->devices_ == nullptr) {
    fs->own_devices_ = std::make_unique<GoferDevices>();
    fs->devices_ = fs->own_devices_.get();
  }
  fs->set_device(fs->DeviceOf(attach.root.dev));
  RefPtr<GoferInode> root = fs->MakeInode(attach.root);
  {
    MutexLock lock(fs->place_mu_);
    root->handle_ = gp::kRootHandle;
    root->pins_ = 1;  // Never released.
  }
  GoferInode::Snapshot begin;
  begin.stamp = fs->NextStamp();
  begin.invalidations = GoferInode::kAny;
  root->TakeAttributes(attach.root, begin);
  {
    MutexLock lock(fs->table_mu_);
    fs->root_ = std::move(root);
  }
  if (reply.fd.valid()) {
    fs->watcher_ = fs->options_.watcher;
    if (fs->watcher_ == nullptr) {
      fs->own_watcher_ = std::make_unique<GoferWatcher>();
      fs->watcher_ = fs->own_watcher_.get();
    }
    fs->watching_ = fs->watcher_->Add(std::move(reply.fd), *fs);
    if (!fs->watching_) fs->watcher_ = nullptr;
  }
  return RefPtr<FileSystem>(std::move(fs));
}

RefPtr<Inode> GoferFileSystem::root() {
  MutexLock lock(table_mu_);
  return root_;
}

void GoferFileSystem::OnLastUnmount() {
  if (watcher_ != nullptr) watcher_->Remove(*this);
  // What is still open lives on without the help of host events.
  OnEventsLost(true);
  RefPtr<GoferInode> root;
  MutexLock lock(table_mu_);
  root = std::move(root_);
}

Result<FsStatistics> GoferFileSystem::Statistics(CallContext&) {
  RefPtr<Inode> top = root();
  if (!top) return Errno::kEIO;
  GoferCallResult r = TRY(CallOn(static_cast<GoferInode&>(*top), 0, gp::Op::kStatfs,
                                 gp::ObjectRequest{}));
  TRY(r.status);
  gp::StatfsReply st;
  if (!gp::Reader(r.body).Take(&st)) return Errno::kEIO;
  FsStatistics s;
  s.type = st.type;
  s.block_size = st.block_size;
  s.blocks = st.blocks;
  s.blocks_free = st.blocks_free;
  s.blocks_available = st.blocks_available;
  s.files = st.files;
  s.files_free = st.files_free;
  s.fsid = device().Encode();
  s.name_length = std::min<uint64_t>(st.name_length, kNameMax);
  return s;
}

Result<void> GoferFileSystem::Sync() {
  RefPtr<Inode> top = root();
  if (!top || options_.read_only) return {};
  gp::SyncRequest request = {};
  request.flags = gp::kSyncFileSystem;
  GoferCallResult r = TRY(CallOn(static_cast<GoferInode&>(*top), 0, gp::Op::kSync, request));
  return r.status;
}

// --- Inodes ---

RefPtr<GoferInode> GoferFileSystem::MakeInode(const gp::WireAttributes& attr) {
  const HostId id{attr.dev, attr.ino};
  const FileMode type = attr.mode & kModeType;
  const DeviceNumber dev = DeviceOf(attr.dev);
  MutexLock lock(table_mu_);
  GoferInode*& slot = inodes_[id];
  // Of another type: the number was given to a new file. The old inode, if it lives on, leaves the
  // table to the new one.
  if (slot != nullptr && slot->type() == type && slot->TryIncRef())
    return RefPtr<GoferInode>::Adopt(slot);
  auto inode = MakeRef<GoferInode>(*this, id, type, dev);
  slot = inode.get();
  return inode;
}

void GoferFileSystem::RemoveInode(GoferInode& inode) {
  MutexLock lock(table_mu_);
  auto it = inodes_.find(inode.id());
  if (it != inodes_.end() && it->second == &inode) inodes_.erase(it);
}

DeviceNumber GoferDevices::Of(uint64_t host_dev) {
  MutexLock lock(mu_);
  RefPtr<FileSystem>& device = devices_[host_dev];
  if (!device) device = MakeRef<HostDevice>();
  return device->device();
}

DeviceNumber GoferFileSystem::DeviceOf(uint64_t host_dev) { return devices_->Of(host_dev); }

// --- Places and handles ---

GoferPlace::~GoferPlace() {
  if (!pinned_) return;
  MutexLock lock(pinned_->gofer().place_mu());
  --pinned_->pins_;
}

Result<GoferPlace> GoferFileSystem::Locate(GoferInode& inode, uint16_t flags) {
  constexpr int kMaxDepth = 256;
  GoferPlace place;
  std::vector<const std::string*> names;
  place.wire.dev = inode.id().dev;
  place.wire.ino = inode.id().ino;
  place.wire.flags = flags;
  MutexLock lock(place_mu_);
  GoferInode* at = &inode;
  size_t length = 0;
  while (at->handle_ == 0) {
    if (!at->parent_ || static_cast<int>(names.size()) >= kMaxDepth) return Errno::kENOENT;
    names.push_back(&at->name_);
    length += at->name_.size() + 1;
    at = at->parent_.get();
  }
  if (length > gp::kMaxPath) return Errno::kENAMETOOLONG;
  place.path.reserve(length);
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    if (!place.path.empty()) place.path += '/';
    place.path += **it;
  }
  place.wire.handle = at->handle_;
  place.wire.path_length = static_cast<uint16_t>(place.path.size());
  ++at->pins_;
  place.pinned_ = RefPtr<GoferInode>(at);
  return place;
}

void GoferFileSystem::AdoptHandle(GoferInode& inode, uint64_t handle) {
  if (handle == 0) return;
  {
    MutexLock lock(place_mu_);
    if (inode.handle_ == handle) return;
    if (inode.handle_ == 0) {
      inode.handle_ = handle;
      inode.ring_slot_ = handle_ring_.size();
      handle_ring_.push_back(&inode);
      TrimHandles();
      return;
    }
  }
  Release(handle, -1);
}

void GoferFileSystem::TrimHandles() {
  // The rest is for what other requests keep meanwhile.
  const size_t limit = max_handles_ - max_handles_ / 4;
  for (size_t tries = 0; handle_ring_.size() > limit && tries < 64; ++tries) {
    if (handle_hand_ >= handle_ring_.size()) handle_hand_ = 0;
    GoferInode* victim = handle_ring_[handle_hand_];
    if (victim->pins_ > 0 || !victim->parent_) {
      ++handle_hand_;
      continue;
    }
    Release(TakeHandleLocked(*victim), -1);
  }
}

uint64_t GoferFileSystem::TakeHandleLocked(GoferInode& inode) {
  if (const size_t slot = inode.ring_slot_; slot != ~size_t{0}) {
    handle_ring_.back()->ring_slot_ = slot;
    handle_ring_[slot] = handle_ring_.back();
    handle_ring_.pop_back();
    inode.ring_slot_ = ~size_t{0};
  }
  return std::exchange(inode.handle_, 0);
}

void GoferFileSystem::Release(uint64_t handle, int watch, bool soon) {
  MutexLock lock(release_mu_);
  if (handle != 0 && handle != gp::kRootHandle) released_handles_.push_back(handle);
  if (watch >= 0) released_watches_.push_back(watch);
  if (soon || released_handles_.size() + released_watches_.size() >= kReleaseBatch)
    FlushReleasesLocked();
}

void GoferFileSystem::FlushReleasesLocked() {
  gp::ReleaseRequest request = {};
  request.handle_count =
      static_cast<uint32_t>(std::min(released_handles_.size(), gp::kMaxRelease));
  request.watch_count = static_cast<uint32_t>(std::min(released_watches_.size(), gp::kMaxRelease));
  gp::Writer message = NewGoferMessage();
  message.Put(request);
  for (uint32_t i = 0; i < request.handle_count; ++i) message.Put(released_handles_[i]);
  for (uint32_t i = 0; i < request.watch_count; ++i) message.Put(released_watches_[i]);
  if (!client_.Post(gp::Op::kRelease, message)) return;  // With a later batch.
  released_handles_.erase(released_handles_.begin(),
                          released_handles_.begin() + request.handle_count);
  released_watches_.erase(released_watches_.begin(),
                          released_watches_.begin() + request.watch_count);
}

// --- Watches ---

bool GoferFileSystem::AdoptWatch(int watch, GoferInode& directory, uint64_t unknown_before) {
  MutexLock lock(watch_mu_);
  if (!watches_work() || watches_.size() >= options_.max_watches) {
    Release(0, watch);
    return false;
  }
  {
    // An inode that is gone may have had the same directory, and so the same watch.
    MutexLock release_lock(release_mu_);
    released_watches_.erase(
        std::remove(released_watches_.begin(), released_watches_.end(), watch),
        released_watches_.end());
  }
  watches_[watch] = &directory;
  directory.directory()->set_watch(watch);
  return unknown_events_ == unknown_before;
}

void GoferFileSystem::ForgetWatch(int watch, GoferInode& directory) {
  {
    MutexLock lock(watch_mu_);
    auto it = watches_.find(watch);
    if (it == watches_.end() || it->second != &directory) return;
    watches_.erase(it);
  }
  Release(0, watch);
}

bool GoferFileSystem::OnHostEvent(int watch, uint32_t mask, uint32_t cookie,
                                  absl::string_view name) {
  RefPtr<GoferInode> directory;
  {
    MutexLock lock(watch_mu_);
    auto it = watches_.find(watch);
    if (it == watches_.end()) {
      if ((mask & IN_IGNORED) == 0) ++unknown_events_;
      return false;
    }
    if (it->second->TryIncRef()) directory = RefPtr<GoferInode>::Adopt(it->second);
    if ((mask & IN_IGNORED) != 0) watches_.erase(it);
  }
  if (!directory) return false;
  if ((mask & IN_IGNORED) != 0) {
    directory->CoverageLost(true);
    return false;
  }
  return directory->HandleEvent(mask, cookie, name);
}

void GoferFileSystem::OnEventsLost(bool ended) {
  if (ended) watching_.store(false, std::memory_order_release);
  std::vector<RefPtr<GoferInode>> directories;
  {
    MutexLock lock(watch_mu_);
    ++unknown_events_;
    for (auto& [watch, inode] : watches_)
      if (inode->TryIncRef()) directories.push_back(RefPtr<GoferInode>::Adopt(inode));
    if (ended) watches_.clear();
  }
  for (RefPtr<GoferInode>& d : directories) d->CoverageLost(ended);
}

// --- Bounds ---

void GoferFileSystem::KeepOpen(GoferInode& inode) {
  MutexLock lock(open_mu_);
  if (inode.open_slot_ != ~size_t{0}) return;
  if (open_ring_.size() < std::max<size_t>(options_.max_open_files, 1)) {
    inode.open_slot_ = open_ring_.size();
    open_ring_.push_back(&inode);
    return;
  }
  if (++open_hand_ >= open_ring_.size()) open_hand_ = 0;
  // It may be on its way out, waiting in DoNotKeepOpen(): its memory is there while we hold the
  // lock.
  GoferInode* victim = open_ring_[open_hand_];
  victim->EvictReadFile();
  victim->open_slot_ = ~size_t{0};
  inode.open_slot_ = open_hand_;
  open_ring_[open_hand_] = &inode;
}

void GoferFileSystem::DoNotKeepOpen(GoferInode& inode) {
  MutexLock lock(open_mu_);
  const size_t slot = inode.open_slot_;
  if (slot == ~size_t{0}) return;
  open_ring_.back()->open_slot_ = slot;
  open_ring_[slot] = open_ring_.back();
  open_ring_.pop_back();
  inode.open_slot_ = ~size_t{0};
}

void GoferFileSystem::KeepRecords(GoferInode& directory) {
  MutexLock lock(primed_mu_);
  DropRecordsPlaceLocked(directory);
  DirectoryCache& cache = *directory.directory();
  cache.primed_place = primed_.insert(primed_.end(), &directory);
  cache.primed = true;
  cache.primed_count = cache.records();  // Counts those too that become inodes later.
  primed_records_ += cache.primed_count;
  while (primed_records_ > options_.max_records && primed_.size() > 1) {
    GoferInode& oldest = *primed_.front();
    DropRecordsPlaceLocked(oldest);
    MutexLock cache_lock(oldest.directory()->mu());
    oldest.directory()->DropRecordsLocked();
  }
}

void GoferFileSystem::DropRecordsPlaceLocked(GoferInode& directory) {
  DirectoryCache& cache = *directory.directory();
  if (!cache.primed) return;
  primed_records_ -= cache.primed_count;
  primed_.erase(cache.primed_place);
  cache.primed = false;
}

void GoferFileSystem::DoNotKeepRecords(GoferInode& directory) {
  MutexLock lock(primed_mu_);
  DropRecordsPlaceLocked(directory);
}

// --- Calls ---

namespace {

// For an object that was there when it was looked up: a walk may find what is there now.
Errno NotThere(Errno error) {
  if (error == Errno::kENOENT) NoteStale();
  return error;
}

}  // namespace

Result<GoferCallResult> GoferFileSystem::CallOnBytes(GoferInode& inode, uint16_t flags, gp::Op op,
                                                     char* body, size_t size, GoferInode* second,
                                                     size_t second_at, absl::string_view tail) {
  // An inode with several names may have been known by one that is gone.
  constexpr int kMaxTries = 4;
  for (int tries = 0; tries < kMaxTries; ++tries) {
    GoferPlace place, second_place;
    uint64_t unknown_before = 0;
    if ((flags & gp::kLocateWatch) != 0) {
      MutexLock lock(watch_mu_);
      unknown_before = unknown_events_;
    }
    Result<GoferPlace> found = Locate(inode, flags);
    if (!found.ok()) return NotThere(found.error());
    place = std::move(found).value();
    memcpy(body, &place.wire, sizeof(place.wire));
    if (second != nullptr) {
      found = Locate(*second, 0);
      if (!found.ok()) return NotThere(found.error());
      second_place = std::move(found).value();
      memcpy(body + second_at, &second_place.wire, sizeof(second_place.wire));
    }
    gp::Writer message = NewGoferMessage();
    message.PutBytes(absl::string_view(body, size));
    message.PutBytes(place.path);
    message.PutBytes(second_place.path);
    message.PutBytes(tail);
    calls_.fetch_add(1, std::memory_order_relaxed);
    GoferReply reply = TRY(client_.Call(op, message));
    if (reply.header.error == ESTALE) {
      bool other = !place.path.empty() && inode.LosePlace();
      if (second != nullptr && !second_place.path.empty()) other |= second->LosePlace();
      if (other) continue;
      return NotThere(Errno::kENOENT);
    }
    GoferCallResult result;
    if ((flags & gp::kLocateKeep) != 0) AdoptHandle(inode, reply.header.handle);
    if ((flags & gp::kLocateWatch) != 0 && (reply.header.flags & gp::kReplyWatched) != 0 &&
        reply.header.watch >= 0)
      result.uncertain = !AdoptWatch(reply.header.watch, inode, unknown_before);
    result.status = reply.status();
    result.body = std::move(reply.body);
    result.fd = std::move(reply.fd);
    return result;
  }
  return NotThere(Errno::kENOENT);
}

}  // namespace caisson::vfs
