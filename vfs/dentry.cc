#include "vfs/dentry.h"

#include <utility>

#include "vfs/dentry_cache.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

// The tree lock: taken exclusively while a dentry changes its parent or name, shared by those that
// need several levels to hold still. Only dentry locks are taken after it. It has no state that
// could differ between kernels, so one serves all.
constinit SharedMutex g_tree_lock;

uint64_t GenerationOf(Inode& directory) {
  return directory.fs().changed_beneath() ? Inode::kNeverCache : directory.LookupGeneration();
}

}  // namespace

Dentry::Dentry(RefPtr<Dentry> parent, absl::string_view name, RefPtr<Inode> inode,
               uint64_t generation)
    : parent_(std::move(parent)),
      name_(name),
      inode_(std::move(inode)),
      generation_(generation) {}

Dentry::~Dentry() = default;

RefPtr<Dentry> Dentry::NewRoot(RefPtr<Inode> inode, absl::string_view name) {
  return RefPtr<Dentry>::Adopt(new Dentry(nullptr, name, std::move(inode), 0));
}

RefPtr<Dentry> Dentry::NewUnlinked(RefPtr<Dentry> parent, absl::string_view name,
                                   RefPtr<Inode> inode) {
  auto d = RefPtr<Dentry>::Adopt(new Dentry(std::move(parent), name, std::move(inode), 0));
  d->deleted_.store(true, std::memory_order_release);
  return d;
}

void Dentry::DecRef() const {
  auto* d = const_cast<Dentry*>(this);
  while (d != nullptr && d->DropRef()) {
    // The count is 0: nobody else may use *d, but the parent's table still names it until we leave.
    RefPtr<Dentry> parent;
    std::string name;
    {
      MutexLock lock(d->mu_);
      parent = std::move(d->parent_);
      name = std::move(d->name_);
    }
    if (parent != nullptr) {
      MutexLock lock(parent->mu_);
      auto it = parent->children_.find(name);
      if (it != parent->children_.end() && it->second == d) parent->children_.erase(it);
    } else if (d->inode_ != nullptr) {
      d->inode_->fs().ForgetRootDentry(*d);
    }
    if (d->is_deleted() && d->inode_ != nullptr && d->inode_->unlinked()) {
      if (InodeWatches* watches = d->inode_->watches_if_any())
        watches->Notify(kInDeleteSelf | (d->inode_->is_directory() ? kInIsdir : 0), 0, "");
    }
    delete d;
    d = parent.Release();
  }
}

RefPtr<Dentry> Dentry::parent() const {
  MutexLock lock(mu_);
  return parent_;
}

std::string Dentry::name() const {
  MutexLock lock(mu_);
  return name_;
}

bool Dentry::is_root() const {
  MutexLock lock(mu_);
  return parent_ == nullptr;
}

bool Dentry::IsAncestorOf(const Dentry& other) const {
  if (&other == this) return true;
  RefPtr<Dentry> hold;
  RefPtr<Dentry> next;
  ReaderLock lock(g_tree_lock);
  for (const Dentry* d = &other; d != nullptr; d = hold.get()) {
    if (d == this) return true;
    next = d->parent();
    // Not the last reference: the child, held below, holds it.
    hold = std::move(next);
  }
  return false;
}

std::string Dentry::NameInFileSystem() const {
  std::vector<std::string> parts;  // Joined at the end: a guest can make very many.
  {
    RefPtr<Dentry> hold;
    RefPtr<Dentry> next;
    ReaderLock lock(g_tree_lock);
    for (const Dentry* d = this; d != nullptr; d = hold.get()) {
      next = d->parent();
      if (next != nullptr) parts.push_back(d->name());
      hold = std::move(next);
    }
  }
  std::string name;
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    name += '/';
    name += *it;
  }
  return name.empty() ? "/" : name;
}

bool Dentry::IsFresh(uint64_t generation) const {
  // A mountpoint stays what it is, whatever became of the name below the mount.
  return is_mountpoint() || (generation != Inode::kNeverCache &&
                             generation_.load(std::memory_order_relaxed) == generation);
}

RefPtr<Dentry> Dentry::FindAny(absl::string_view name) {
  MutexLock lock(mu_);
  auto it = children_.find(name);
  if (it == children_.end() || !it->second->TryIncRef()) return nullptr;
  return RefPtr<Dentry>::Adopt(it->second);
}

RefPtr<Dentry> Dentry::FindFresh(absl::string_view name, uint64_t generation) {
  RefPtr<Dentry> found = FindAny(name);
  if (found == nullptr || !found->IsFresh(generation)) return nullptr;
  if (!found->recently_used_.load(std::memory_order_relaxed))
    found->recently_used_.store(true, std::memory_order_relaxed);
  return found;
}

Result<RefPtr<Dentry>> Dentry::LookupChild(CallContext& ctx, absl::string_view name) {
  Inode* dir = inode_.get();
  if (dir == nullptr || !dir->is_directory()) return Errno::kENOTDIR;
  if (RefPtr<Dentry> hit = FindFresh(name, GenerationOf(*dir))) return hit;
  ReaderLock lock(dir->directory_lock());
  return LookupChildLocked(ctx, name);
}

Result<RefPtr<Dentry>> Dentry::LookupChildLocked(CallContext& ctx, absl::string_view name) {
  // Read before Lookup(): a change meanwhile leaves the new dentry doubtful.
  const uint64_t generation = GenerationOf(*inode_);
  RefPtr<Dentry> old = FindAny(name);
  if (old != nullptr && old->IsFresh(generation)) return old;
  RefPtr<Inode> inode;
  if (Result<RefPtr<Inode>> found = inode_->Lookup(ctx, name); found.ok()) {
    inode = *std::move(found);
  } else if (found.error() != Errno::kENOENT) {
    return found.error();
  }
  if (old != nullptr && old->inode_ == inode) {
    old->generation_.store(generation, std::memory_order_relaxed);
    return old;
  }
  auto fresh = RefPtr<Dentry>::Adopt(new Dentry(RefPtr<Dentry>(this), name, inode, generation));
  RefPtr<Dentry> winner;
  {
    MutexLock lock(mu_);
    Dentry*& slot = children_[name];
    // Another lookup under the shared lock may have come first.
    if (slot != nullptr && slot != old.get() && slot->inode_ == inode && slot->TryIncRef()) {
      winner = RefPtr<Dentry>::Adopt(slot);
    } else {
      slot = fresh.get();
    }
  }
  if (winner != nullptr) return winner;
  // What is known of a removed directory is not kept, nor, by that, the directory.
  if (generation != Inode::kNeverCache && !is_deleted()) {
    if (old != nullptr) {  // Replaced or removed behind our back.
      if (old->inode_ != nullptr) old->deleted_.store(true, std::memory_order_release);
      inode_->fs().dentry_cache().Remove(*old);
    }
    inode_->fs().dentry_cache().Insert(fresh);
  }
  return fresh;
}

void Dentry::AttachChild(absl::string_view name, RefPtr<Inode> inode, RefPtr<Dentry>* out) {
  RefPtr<Dentry> old = TakeChild(name);
  // That of the lookup which found the name free, in the same hold of the directory's lock: what somebody else did
  // since, be it before or after the file was made, leaves the new dentry doubtful.
  const uint64_t generation =
      old != nullptr ? old->generation_.load(std::memory_order_relaxed) : GenerationOf(*inode_);
  auto fresh = RefPtr<Dentry>::Adopt(
      new Dentry(RefPtr<Dentry>(this), name, std::move(inode), generation));
  {
    MutexLock lock(mu_);
    children_[name] = fresh.get();
  }
  if (old != nullptr) inode_->fs().dentry_cache().Remove(*old);
  if (generation != Inode::kNeverCache) inode_->fs().dentry_cache().Insert(fresh);
  if (out != nullptr) *out = std::move(fresh);
}

RefPtr<Dentry> Dentry::TakeChild(absl::string_view name) {
  MutexLock lock(mu_);
  auto it = children_.find(name);
  if (it == children_.end()) return nullptr;
  Dentry* child = it->second;
  children_.erase(it);
  return child->TryIncRef() ? RefPtr<Dentry>::Adopt(child) : nullptr;
}

void Dentry::DetachChild(absl::string_view name) {
  RefPtr<Dentry> child = TakeChild(name);
  if (child == nullptr) return;
  if (child->inode_ != nullptr) child->deleted_.store(true, std::memory_order_release);
  inode_->fs().dentry_cache().Remove(*child);
  // Names that a removed directory is known not to have would keep it until the cache forgets them.
  child->Invalidate();
}

void Dentry::Move(Dentry& old_parent, absl::string_view old_name, Dentry& new_parent,
                  absl::string_view new_name, bool exchange) {
  // References dropped here go after the locks.
  RefPtr<Dentry> moved, other, drop_a, drop_b;
  {
    WriterLock tree(g_tree_lock);
    moved = old_parent.TakeChild(old_name);
    other = new_parent.TakeChild(new_name);
    // As in AttachChild(): those of the lookups before the rename.
    auto generation_of = [](const RefPtr<Dentry>& d, Dentry& parent) {
      return d != nullptr ? d->generation_.load(std::memory_order_relaxed) : GenerationOf(*parent.inode_);
    };
    const uint64_t old_generation = generation_of(moved, old_parent), new_generation = generation_of(other, new_parent);
    auto place = [](Dentry& d, Dentry& parent, absl::string_view name, uint64_t generation, RefPtr<Dentry>& drop) {
      RefPtr<Dentry> up(&parent);
      {
        MutexLock lock(d.mu_);
        drop = std::exchange(d.parent_, std::move(up));
        d.name_ = std::string(name);
      }
      d.generation_.store(generation, std::memory_order_relaxed);
      MutexLock lock(parent.mu_);
      parent.children_[name] = &d;
    };
    if (moved != nullptr && moved->inode_ != nullptr)
      place(*moved, new_parent, new_name, new_generation, drop_a);
    if (exchange && other != nullptr && other->inode_ != nullptr)
      place(*other, old_parent, old_name, old_generation, drop_b);
  }
  if (!exchange && other != nullptr) {
    if (other->inode_ != nullptr) other->deleted_.store(true, std::memory_order_release);
    new_parent.inode_->fs().dentry_cache().Remove(*other);
    other->Invalidate();
  }
}

void Dentry::Invalidate() {
  std::vector<RefPtr<Dentry>> dropped;
  {
    MutexLock lock(mu_);
    for (auto it = children_.begin(); it != children_.end();) {
      Dentry* child = it->second;
      if (child->is_mountpoint()) {
        ++it;
        continue;
      }
      if (child->TryIncRef()) dropped.push_back(RefPtr<Dentry>::Adopt(child));
      children_.erase(it++);
    }
  }
  for (RefPtr<Dentry>& d : dropped) inode_->fs().dentry_cache().Remove(*d);
}

void Dentry::InvalidateChild(absl::string_view name) {
  RefPtr<Dentry> child = FindAny(name);
  if (child == nullptr || child->is_mountpoint()) return;
  if (RefPtr<Dentry> taken = TakeChild(name)) inode_->fs().dentry_cache().Remove(*taken);
}

}  // namespace caisson::vfs
