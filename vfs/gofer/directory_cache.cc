#include "vfs/gofer/directory_cache.h"

#include <algorithm>

namespace caisson::vfs {

namespace {

// Names of one directory that are remembered as absent or unknown: a guest can ask for any number.
constexpr size_t kMaxEntries = 16384;
constexpr size_t kMaxExpected = 256;

}  // namespace

DirectoryCache::DirectoryCache() : limit_(kMaxEntries) {}

DirectoryCache::Found DirectoryCache::FindLocked(absl::string_view name) const {
  auto it = entries_.find(name);
  if (it != entries_.end())
    return {it->second.kind, it->second.inode, it->second.record.get()};
  return {complete_ ? Kind::kAbsent : Kind::kUnknown, nullptr, nullptr};
}

void DirectoryCache::ResetLocked(Entry& entry) {
  if (entry.record != nullptr) records_.fetch_sub(1, std::memory_order_relaxed);
  entry = Entry();
}

DirectoryCache::Entry& DirectoryCache::SlotLocked(absl::string_view name) {
  auto it = entries_.find(name);
  if (it == entries_.end()) {
    if (entries_.size() >= limit_) {
      DropRecordsLocked();  // Inodes are bounded by the dentry cache.
      limit_ = std::max(kMaxEntries, 2 * entries_.size());
    }
    it = entries_.try_emplace(std::string(name)).first;
  }
  ResetLocked(it->second);
  return it->second;
}

void DirectoryCache::SetInodeLocked(absl::string_view name, GoferInode* inode) {
  Entry& entry = SlotLocked(name);
  entry.kind = Kind::kInode;
  entry.inode = inode;
}

void DirectoryCache::SetRecordLocked(absl::string_view name,
                                     const caisson::gofer::WireAttributes& attr) {
  Entry& entry = SlotLocked(name);
  entry.kind = Kind::kRecord;
  entry.record = std::make_unique<caisson::gofer::WireAttributes>(attr);
  records_.fetch_add(1, std::memory_order_relaxed);
}

void DirectoryCache::SetAbsentLocked(absl::string_view name) {
  if (complete_) {
    auto it = entries_.find(name);
    if (it == entries_.end()) return;
    ResetLocked(it->second);
    entries_.erase(it);
    return;
  }
  SlotLocked(name).kind = Kind::kAbsent;
}

void DirectoryCache::SetUnknownLocked(absl::string_view name) {
  if (!complete_) {
    auto it = entries_.find(name);
    if (it == entries_.end()) return;
    ResetLocked(it->second);
    entries_.erase(it);
    return;
  }
  SlotLocked(name).kind = Kind::kUnknown;
}

void DirectoryCache::ForgetInode(absl::string_view name, const GoferInode* inode,
                                 const caisson::gofer::WireAttributes* record) {
  MutexLock lock(mu_);
  auto it = entries_.find(name);
  if (it == entries_.end() || it->second.inode != inode) return;
  if (record != nullptr) {
    SetRecordLocked(name, *record);
  } else {
    SetUnknownLocked(name);
  }
}

std::vector<GoferInode*> DirectoryCache::ClearLocked() {
  std::vector<GoferInode*> inodes;
  for (auto& [name, entry] : entries_)
    if (entry.inode != nullptr) inodes.push_back(entry.inode);
  entries_.clear();
  records_.store(0, std::memory_order_relaxed);
  complete_ = false;
  misses_ = 0;
  listing_.reset();
  return inodes;
}

void DirectoryCache::DropRecordsLocked() {
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (it->second.kind == Kind::kInode) {
      ++it;
      continue;
    }
    entries_.erase(it++);
  }
  records_.store(0, std::memory_order_relaxed);
  complete_ = false;
  misses_ = 0;
  listing_.reset();
}

void DirectoryCache::ForeignChangeLocked(bool names) {
  ++foreign_changes_;
  ++changes_;
  if (!names) return;
  listing_.reset();
  generation_.fetch_add(1, std::memory_order_acq_rel);
}

bool DirectoryCache::ExpectLocked(uint32_t mask, absl::string_view name) {
  if (watch() < 0 || expected_.size() >= kMaxExpected) return false;
  expected_.push_back({mask, std::string(name)});
  return true;
}

bool DirectoryCache::UnexpectLocked(uint32_t mask, absl::string_view name) {
  for (auto it = expected_.begin(); it != expected_.end(); ++it) {
    if (it->mask != mask || it->name != name) continue;
    expected_.erase(it);
    return true;
  }
  return false;
}

}  // namespace caisson::vfs
