// Trees of mounts and the events that shared ones pass on (Linux fs/pnode.c, fs/namespace.c).
#include <algorithm>
#include <set>
#include <tuple>

#include "vfs/mount_tree.h"

namespace caisson::vfs {
namespace {

constinit SharedMutex g_mount_lock;

}  // namespace

void ChildMounts::Add(RefPtr<Mount> child) {
  child->order_ = next_++;
  by_place_[child->mountpoint_.get()] = child.get();
  const uint64_t order = child->order_;
  in_order_.emplace(order, std::move(child));
}

void ChildMounts::Remove(Mount& child) {
  if (auto it = by_place_.find(child.mountpoint_.get()); it != by_place_.end() && it->second == &child)
    by_place_.erase(it);
  in_order_.erase(child.order_);
}

Mount* ChildMounts::Find(const Dentry& at) const {
  auto it = by_place_.find(&at);
  return it != by_place_.end() ? it->second : nullptr;
}

SharedMutex& MountTree::lock() { return g_mount_lock; }

Mount* MountTree::FindChild(const Mount& parent, const Dentry& at) {
  return parent.children_.Find(at);
}

VfsPath MountTree::Topmost(VfsPath at) {
  if (!at) return at;
  // Plain pointers: attached mounts and their roots stay while the lock is held.
  Mount* mount = at.mount.get();
  while (mount != nullptr) {
    const Dentry& dentry = mount == at.mount.get() ? *at.dentry : *mount->root();
    Mount* child = dentry.is_mountpoint() ? FindChild(*mount, dentry) : nullptr;
    if (child == nullptr) break;
    mount = child;
  }
  if (mount == at.mount.get()) return at;
  return VfsPath(RefPtr<Mount>(mount), mount->root());
}

std::vector<Mount*> MountTree::Preorder(Mount& top) {
  std::vector<Mount*> order, stack{&top};
  while (!stack.empty()) {
    Mount* m = stack.back();
    stack.pop_back();
    order.push_back(m);
    const ChildMounts::Map& children = m->children_.in_order();
    for (auto it = children.rbegin(); it != children.rend(); ++it) stack.push_back(it->second.get());
  }
  return order;
}

bool MountTree::IsWithin(const Mount& mount, const Mount& ancestor) {
  for (const Mount* m = &mount; m != nullptr; m = m->parent_)
    if (m == &ancestor) return true;
  return false;
}

bool MountTree::IsReachable(const Mount& mount, const Dentry& dentry, const VfsPath& place) {
  const Mount* m = &mount;
  const Dentry* d = &dentry;
  while (m != place.mount.get() && m->parent_ != nullptr) {
    d = m->mountpoint_.get();
    m = m->parent_;
  }
  return m == place.mount.get() && place.dentry->IsAncestorOf(*d);
}

void MountTree::Attach(RefPtr<Mount> child, Mount& parent, RefPtr<Dentry> at) {
  at->AddMount();
  child->parent_ = &parent;
  child->mountpoint_ = std::move(at);
  parent.children_.Add(std::move(child));
}

RefPtr<Mount> MountTree::Detach(Mount& mount) {
  RefPtr<Mount> hold(&mount);
  if (mount.parent_ == nullptr) return hold;
  mount.parent_->children_.Remove(mount);
  mount.parent_ = nullptr;
  mount.mountpoint_->RemoveMount();
  // The mountpoint's reference stays until the mount goes or is attached again: dropping it here
  // could end an inode under the mount lock.
  return hold;
}

void MountTree::SetNamespace(Mount& top, MountNamespace* ns) {
  for (Mount* m : Preorder(top)) {
    if (m->ns_ == ns) continue;
    if (m->ns_ != nullptr) --m->ns_->mount_count_;
    m->ns_ = ns;
    if (ns != nullptr) ++ns->mount_count_;
  }
}

RefPtr<Mount> MountTree::Clone(MountNamespace::Shared& shared, Mount& old, RefPtr<Dentry> root,
                               unsigned flags) {
  auto copy = MakeRef<Mount>(RefPtr<FileSystem>(&old.fs()), std::move(root), old.flags(),
                             old.source());
  copy->locked_ = old.locked_;
  copy->locked_flags_ = old.locked_flags_;
  copy->unbindable_ = (flags & kCopyUnbindable) != 0 && old.unbindable_;
  if ((flags & kSlave) != 0 && old.peers_ != nullptr) {
    copy->master_ = old.peers_;
    old.peers_->slaves.insert(copy.get());
  } else if ((flags & kPrivate) == 0) {
    if (old.peers_ != nullptr) {
      copy->peers_ = old.peers_;
      copy->peers_->members.insert(copy.get());
    }
    if (old.master_ != nullptr) {
      copy->master_ = old.master_;
      copy->master_->slaves.insert(copy.get());
    }
  }
  if ((flags & kMakeShared) != 0) MakeShared(shared, *copy);
  return copy;
}

Result<RefPtr<Mount>> MountTree::CopyTree(MountNamespace::Shared& shared, Mount& top,
                                          RefPtr<Dentry> root, unsigned flags) {
  const bool unbindable_too = (flags & kCopyUnbindable) != 0;
  if (top.unbindable_ && !unbindable_too) return Errno::kEINVAL;
  const Dentry* below = root.get();
  if (!unbindable_too) {
    // A copy without what covers something would show it.
    for (const Mount* m : Preorder(top)) {
      if (m != &top && m->unbindable_ && m->locked_ &&
          (m->parent_ != &top || below->IsAncestorOf(*m->mountpoint_)))
        return Errno::kEPERM;
    }
  }
  RefPtr<Mount> result = Clone(shared, top, std::move(root), flags);
  std::vector<std::pair<Mount*, Mount*>> stack{{&top, result.get()}};
  while (!stack.empty()) {
    auto [old, copy] = stack.back();
    stack.pop_back();
    for (const auto& [order, child] : old->children_.in_order()) {
      if (child->unbindable_ && !unbindable_too) continue;
      if (old == &top && !below->IsAncestorOf(*child->mountpoint_)) continue;
      RefPtr<Mount> child_copy = Clone(shared, *child, child->root(), flags);
      stack.push_back({child.get(), child_copy.get()});
      Attach(std::move(child_copy), *copy, child->mountpoint_);
    }
  }
  return result;
}

Result<void> MountTree::AttachRecursive(MountNamespace::Shared& shared, RefPtr<Mount> source,
                                        Mount& parent, RefPtr<Dentry> at) {
  struct Copy {
    Mount* parent;
    RefPtr<Mount> tree;
  };
  std::vector<Copy> copies;
  const size_t tree_size = Preorder(*source).size();
  size_t budget = parent.ns_ != nullptr && parent.ns_->mount_count_ < kMaxMounts
                      ? kMaxMounts - parent.ns_->mount_count_ : 0;
  if (tree_size > budget) return Errno::kENOSPC;
  if (parent.peers_ != nullptr) {
    for (Mount* m : Preorder(*source)) MakeShared(shared, *m);
    struct Work {
      PeerGroup* group;
      Mount* like;    // What to copy.
      Mount* done;    // The member that has its copy already, or never needs one.
    };
    std::set<PeerGroup*> seen{parent.peers_.get()};
    std::vector<Work> work{{parent.peers_.get(), source.get(), &parent}};
    auto receives = [&](Mount* m) {
      return m->ns_ != nullptr && m->root()->IsAncestorOf(*at);
    };
    auto add = [&](Mount* to, Mount* like, unsigned flags) {
      Mount* made = nullptr;
      if (tree_size <= budget) {
        budget -= tree_size;
        copies.push_back({to, CopyTree(shared, *like, like->root(), flags | kCopyUnbindable).value()});
        made = copies.back().tree.get();
      }
      return made;
    };
    while (!work.empty()) {
      Work w = work.back();
      work.pop_back();
      // Those of now: copies of a tree that holds a peer of its new parent join the group too.
      for (Mount* m : std::set<Mount*>(w.group->members))
        if (m != w.done && receives(m)) add(m, w.like, kPlain);
      for (Mount* s : std::set<Mount*>(w.group->slaves)) {
        if (s->peers_ == nullptr) {
          if (receives(s)) add(s, w.like, kSlave);
          continue;
        }
        if (!seen.insert(s->peers_.get()).second) continue;
        Mount* first = nullptr;
        for (Mount* m : s->peers_->members) {
          if (receives(m)) {
            first = m;
            break;
          }
        }
        Mount* made = first != nullptr ? add(first, w.like, kSlave | kMakeShared) : nullptr;
        work.push_back({s->peers_.get(), made != nullptr ? made : w.like, first});
      }
    }
  }
  for (Copy& c : copies) {
    SetNamespace(*c.tree, c.parent->ns_);
    if (parent.ns_ != nullptr && c.parent->ns_->owner_ != parent.ns_->owner_) LockTree(*c.tree);
    c.tree->locked_ = false;
    // A copy lies under what is mounted there already.
    Mount* covering = FindChild(*c.parent, *at);
    Mount* top = c.tree.get();
    Attach(std::move(c.tree), *c.parent, at);
    if (covering != nullptr) {
      RefPtr<Mount> moved = Detach(*covering);
      Attach(std::move(moved), *top, top->root());
    }
    c.parent->ns_->Changed();
  }
  SetNamespace(*source, parent.ns_);
  Attach(std::move(source), parent, std::move(at));
  if (parent.ns_ != nullptr) parent.ns_->Changed();
  return {};
}

std::vector<Mount*> MountTree::Receivers(const Mount& parent) {
  std::vector<Mount*> result;
  if (parent.peers_ == nullptr) return result;
  std::set<PeerGroup*> seen{parent.peers_.get()};
  std::vector<PeerGroup*> work{parent.peers_.get()};
  while (!work.empty()) {
    PeerGroup* g = work.back();
    work.pop_back();
    for (Mount* m : g->members)
      if (m != &parent) result.push_back(m);
    for (Mount* s : g->slaves) {
      if (s->peers_ == nullptr) {
        result.push_back(s);
      } else if (seen.insert(s->peers_.get()).second) {
        work.push_back(s->peers_.get());
      }
    }
  }
  return result;
}

bool MountTree::PropagatedCopiesBusy(const Mount& mount) {
  if (mount.parent_ == nullptr) return false;
  for (Mount* receiver : Receivers(*mount.parent_)) {
    const Mount* copy = FindChild(*receiver, *mount.mountpoint_);
    if (copy != nullptr && copy->root() == mount.root() && copy->children_.empty() &&
        copy->ref_count() > 1)
      return true;
  }
  return false;
}

void MountTree::UnmountTree(Mount& top, bool propagate, Garbage* garbage) {
  std::vector<Mount*> victims = Preorder(top);
  std::set<Mount*> doomed(victims.begin(), victims.end());
  if (propagate) {
    std::set<Mount*> copies;
    // Whoever receives from one member of a group receives from all: a place is looked at once.
    std::set<std::tuple<PeerGroup*, Dentry*, Dentry*>> seen;
    for (Mount* m : victims) {
      if (m->parent_ == nullptr || m->parent_->peers_ == nullptr) continue;
      if (!seen.emplace(m->parent_->peers_.get(), m->mountpoint_.get(), m->root().get()).second) continue;
      for (Mount* receiver : Receivers(*m->parent_)) {
        Mount* copy = FindChild(*receiver, *m->mountpoint_);
        if (copy != nullptr && copy->root() == m->root() && doomed.insert(copy).second)
          copies.insert(copy);
      }
    }
    // A copy with something mounted on it that stays, stays too, and so what it is mounted on.
    std::vector<Mount*> check(copies.begin(), copies.end());
    while (!check.empty()) {
      Mount* copy = check.back();
      check.pop_back();
      if (copies.count(copy) == 0) continue;
      const ChildMounts::Map& children = copy->children_.in_order();
      if (std::all_of(children.begin(), children.end(),
                      [&](const auto& c) { return doomed.count(c.second.get()) != 0; }))
        continue;
      doomed.erase(copy);
      copies.erase(copy);
      if (copy->parent_ != nullptr) check.push_back(copy->parent_);
    }
    victims.insert(victims.end(), copies.begin(), copies.end());
  }
  std::set<MountNamespace*> changed;
  for (Mount* m : victims) {
    garbage->push_back(Detach(*m));
    MakePrivate(*m);
    if (m->ns_ != nullptr) {
      changed.insert(m->ns_);
      --m->ns_->mount_count_;
      m->ns_ = nullptr;
    }
  }
  for (MountNamespace* ns : changed) ns->Changed();
}

void MountTree::LockTree(Mount& top) {
  constexpr uint64_t kAtime = kMountNoatime | kMountNodiratime | kMountRelatime | kMountStrictatime;
  constexpr uint64_t kOthers = kMountReadOnly | kMountNosuid | kMountNodev | kMountNoexec;
  for (Mount* m : Preorder(top)) {
    m->locked_flags_ |= kAtime | (m->flags() & kOthers);
    if (m != &top) m->locked_ = true;
  }
}

bool MountTree::HasLockedChildren(const Mount& mount, const Dentry& below) {
  for (const auto& [order, child] : mount.children_.in_order())
    if (child->locked_ && below.IsAncestorOf(*child->mountpoint_)) return true;
  return false;
}

void MountTree::MakeShared(MountNamespace::Shared& shared, Mount& mount) {
  if (mount.peers_ != nullptr) return;
  mount.unbindable_ = false;
  mount.peers_ = MakeRef<PeerGroup>(shared.next_group++);
  mount.peers_->members.insert(&mount);
}

void MountTree::MakeSlave(Mount& mount) {
  RefPtr<PeerGroup> group = std::move(mount.peers_);
  if (group == nullptr) return;
  group->members.erase(&mount);
  RefPtr<PeerGroup> master = group;
  if (group->members.empty()) {
    // The last peer: its slaves go to its master, and it keeps that.
    master = mount.master_;
    for (Mount* s : std::exchange(group->slaves, {})) {
      s->master_ = master;
      if (master != nullptr) master->slaves.insert(s);
    }
  }
  if (master == mount.master_) return;
  if (mount.master_ != nullptr) mount.master_->slaves.erase(&mount);
  mount.master_ = std::move(master);
  if (mount.master_ != nullptr) mount.master_->slaves.insert(&mount);
}

void MountTree::MakePrivate(Mount& mount) {
  MakeSlave(mount);
  if (RefPtr<PeerGroup> master = std::move(mount.master_)) master->slaves.erase(&mount);
}

bool MountTree::HasUnbindable(Mount& top) {
  for (Mount* m : Preorder(top))
    if (m->unbindable_) return true;
  return false;
}

}  // namespace caisson::vfs
