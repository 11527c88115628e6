#include "vfs/proc/tree.h"

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "vfs/proc/inode.h"

namespace caisson::vfs::proc {

constexpr uint64_t kRootNumber = 1;

// Inodes in use by number. Weak: they leave in their destructor.
struct GeneratedFileSystem::Table {
  Mutex mu;
  absl::flat_hash_map<uint64_t, GeneratedInode*> inodes ABSL_GUARDED_BY(mu);
};

GeneratedFileSystem::GeneratedFileSystem(absl::string_view type_name, uint64_t magic,
                                         const Entry& root, RefPtr<Object> object,
                                         std::string options)
    : FileSystem(type_name),
      magic_(magic),
      root_entry_(root),
      root_object_(std::move(object)),
      options_(std::move(options)),
      table_(std::make_unique<Table>()) {
  CHECK(root.directory != nullptr);
}

GeneratedFileSystem::~GeneratedFileSystem() = default;

// Not kept: each inode holds the file system.
RefPtr<Inode> GeneratedFileSystem::root() {
  return GetInode(kRootNumber, root_entry_, root_object_);
}

Result<FsStatistics> GeneratedFileSystem::Statistics(CallContext&) {
  FsStatistics s;
  s.type = magic_;
  s.fsid = device().Encode();
  return s;
}

Result<void> GeneratedFileSystem::Remount(CallContext&, uint64_t, absl::string_view data) {
  if (!data.empty() && data != options_) return Errno::kEINVAL;
  return {};
}

RefPtr<Inode> GeneratedFileSystem::GetInode(uint64_t ino, const Entry& entry,
                                            RefPtr<Object> object) {
  RefPtr<GeneratedInode> stale;  // Dropped after the lock, which its destructor takes.
  MutexLock lock(table_->mu);
  GeneratedInode*& slot = table_->inodes[ino];
  if (slot != nullptr && slot->TryIncRef()) {
    stale = RefPtr<GeneratedInode>::Adopt(slot);
    if (&stale->entry() == &entry && stale->object().Same(*object)) return RefPtr<Inode>(stale);
  }
  auto made = MakeRef<GeneratedInode>(*this, ino, entry, std::move(object));
  slot = made.get();
  return RefPtr<Inode>(std::move(made));
}

void GeneratedFileSystem::Forget(Inode& inode, uint64_t ino) {
  MutexLock lock(table_->mu);
  auto it = table_->inodes.find(ino);
  if (it != table_->inodes.end() && it->second == &inode) table_->inodes.erase(it);
}

Object& ObjectOf(Inode& inode) { return static_cast<GeneratedInode&>(inode).object(); }
const Entry& EntryOf(const Inode& inode) {
  return static_cast<const GeneratedInode&>(inode).entry();
}

}  // namespace caisson::vfs::proc
