// Making and removing names (Linux fs/overlayfs/dir.c).
#include "vfs/overlay/node.h"
#include "vfs/permission.h"

namespace caisson::vfs::overlay {

Result<RefPtr<Inode>> Node::MakeWhiteoutInWork(CallContext& ctx, std::string* temp) {
  *temp = ofs_.TempName();
  return ofs_.work().Mknod(ctx, *temp, kModeChar, DeviceNumber{});
}

void Node::RemoveFromWork(CallContext& ctx, const std::string& temp, Inode& inode) {
  Inode& work = ofs_.work();
  (void)(inode.is_directory() ? work.Rmdir(ctx, temp, inode) : work.Unlink(ctx, temp, inode)).ok();
}

void Node::MarkRemoved() { removed_.store(true, std::memory_order_release); }

Result<void> Node::PrepareChangeLocked(CallContext& ctx) {
  if (!ofs_.has_upper()) return Errno::kEROFS;
  if (removed()) return Errno::kENOENT;
  return CopyUpDirectoryLocked(ctx);
}

// `make(dir, name)` makes the new inode in a directory of the upper file system.
template <typename Make>
Result<RefPtr<Inode>> Node::AddNew(CallContext& ctx, absl::string_view name, FileMode mode,
                                   Make make) {
  WriterLock change(ofs_.change_mu());
  TRY(PrepareChangeLocked(ctx));
  if (Result<Layers> there = Find(ctx, name); there.ok()) return Errno::kEEXIST;
  Inode& dir = *upper();
  RefPtr<Inode> whiteout = TRY(UpperAt(ctx, name));
  const bool is_directory = (mode & kModeType) == kModeDirectory;
  // A new directory must not merge with what is, or will be, below it.
  auto set_opaque = [&](Inode& made) -> Result<void> {
    if (!is_directory || !is_merged()) return {};
    return made.SetXattr(ctx, kOpaqueXattr, "y", 0);
  };
  Layers layers;
  if (whiteout == nullptr) {
    layers.upper = TRY(make(dir, name));
    if (Result<void> set = set_opaque(*layers.upper); !set.ok()) {
      (void)dir.Rmdir(ctx, name, *layers.upper).ok();
      return set.error();
    }
    return RefPtr<Inode>(ofs_.GetNode(this, name, std::move(layers)));
  }
  // Made aside and moved over the whiteout, so that what this hides never shows.
  const std::string temp = ofs_.TempName();
  RefPtr<Inode> made = TRY(make(ofs_.work(), temp));
  auto install = [&]() -> Result<void> {
    TRY(set_opaque(*made));
    if (made->type() != kModeLink) {
      Attributes parent = TRY(dir.GetAttributes(ctx));
      NewOwner owner = OwnerFor(ctx.creds(), parent, mode);
      struct SetAttributes change_owner;
      change_owner.uid = owner.uid;
      change_owner.gid = owner.gid;
      TRY(made->SetAttributes(ctx, change_owner));
      change_owner = {};
      change_owner.mode = owner.mode & kModePermissions;
      TRY(made->SetAttributes(ctx, change_owner));
    }
    if (!is_directory)
      return ofs_.work().Rename(ctx, temp, *made, dir, name, whiteout.get(), 0);
    TRY(ofs_.work().Rename(ctx, temp, *made, dir, name, whiteout.get(), kRenameExchange));
    RemoveFromWork(ctx, temp, *whiteout);
    return {};
  };
  if (Result<void> installed = install(); !installed.ok()) {
    RemoveFromWork(ctx, temp, *made);
    return installed.error();
  }
  layers.upper = std::move(made);
  return RefPtr<Inode>(ofs_.GetNode(this, name, std::move(layers)));
}

Result<RefPtr<Inode>> Node::Create(CallContext& ctx, absl::string_view name, FileMode mode) {
  return AddNew(ctx, name, kModeRegular | mode, [&](Inode& dir, absl::string_view at) {
    return dir.Create(ctx, at, mode);
  });
}

Result<RefPtr<Inode>> Node::Mkdir(CallContext& ctx, absl::string_view name, FileMode mode) {
  return AddNew(ctx, name, kModeDirectory | mode, [&](Inode& dir, absl::string_view at) {
    return dir.Mkdir(ctx, at, mode);
  });
}

Result<RefPtr<Inode>> Node::Symlink(CallContext& ctx, absl::string_view name,
                                    absl::string_view target) {
  return AddNew(ctx, name, kModeLink | 0777, [&](Inode& dir, absl::string_view at) {
    return dir.Symlink(ctx, at, target);
  });
}

Result<RefPtr<Inode>> Node::Mknod(CallContext& ctx, absl::string_view name, FileMode mode,
                                  DeviceNumber rdev) {
  // Nobody but us makes whiteouts (ovl_mknod()).
  if ((mode & kModeType) == kModeChar && rdev == DeviceNumber{}) return Errno::kEPERM;
  return AddNew(ctx, name, mode, [&](Inode& dir, absl::string_view at) {
    return dir.Mknod(ctx, at, mode, rdev);
  });
}

Result<void> Node::Link(CallContext& ctx, absl::string_view name, Inode& target) {
  auto& node = static_cast<Node&>(target);
  TRY(node.CopyUp(ctx));
  WriterLock change(ofs_.change_mu());
  TRY(PrepareChangeLocked(ctx));
  if (Result<Layers> there = Find(ctx, name); there.ok()) return Errno::kEEXIST;
  RefPtr<Inode> whiteout = TRY(UpperAt(ctx, name));
  if (whiteout == nullptr) return upper()->Link(ctx, name, *node.upper());
  const std::string temp = ofs_.TempName();
  TRY(ofs_.work().Link(ctx, temp, *node.upper()));
  Result<void> moved =
      ofs_.work().Rename(ctx, temp, *node.upper(), *upper(), name, whiteout.get(), 0);
  if (!moved.ok()) RemoveFromWork(ctx, temp, *node.upper());
  return moved;
}

// A file without a name is of the upper layer alone.
Result<RefPtr<Inode>> Node::CreateUnlinked(CallContext& ctx, FileMode mode) {
  WriterLock change(ofs_.change_mu());
  TRY(PrepareChangeLocked(ctx));
  Layers layers;
  layers.upper = TRY(upper()->CreateUnlinked(ctx, mode));
  return RefPtr<Inode>(ofs_.GetNode(this, "", std::move(layers)));
}

Result<void> Node::Unlink(CallContext& ctx, absl::string_view name, Inode& victim) {
  auto& node = static_cast<Node&>(victim);
  WriterLock change(ofs_.change_mu());
  TRY(PrepareChangeLocked(ctx));
  Inode& dir = *upper();
  RefPtr<Inode> above = TRY(UpperAt(ctx, name));
  RefPtr<Inode> below = TRY(LowerAt(ctx, name));
  if (below == nullptr) {
    if (above == nullptr) return Errno::kENOENT;
    TRY(dir.Unlink(ctx, name, *above));
  } else if (above == nullptr) {
    TRY(dir.Mknod(ctx, name, kModeChar, DeviceNumber{}));
  } else {
    std::string temp;
    RefPtr<Inode> whiteout = TRY(MakeWhiteoutInWork(ctx, &temp));
    Result<void> moved = ofs_.work().Rename(ctx, temp, *whiteout, dir, name, above.get(), 0);
    if (!moved.ok()) {
      RemoveFromWork(ctx, temp, *whiteout);
      return moved;
    }
  }
  if (node.upper() == nullptr) node.MarkRemoved();
  ofs_.Unregister(node, *this, name);
  return {};
}

Result<void> Node::CheckEmptyLocked(CallContext& ctx) {
  std::vector<Entry> entries = TRY(ListLocked(ctx));
  if (!entries.empty()) return Errno::kENOTEMPTY;
  return {};
}

// What is left in the upper part of an empty directory is whiteouts.
void Node::ClearWhiteoutsLocked(CallContext& ctx) {
  if (upper() == nullptr || !is_merged()) return;
  Result<std::vector<Entry>> entries = ListLayer(ctx, *upper());
  if (!entries.ok()) return;  // Then removing it fails with ENOTEMPTY.
  for (const Entry& e : *entries) {
    Result<RefPtr<Inode>> at = UpperAt(ctx, e.name);
    if (at.ok() && *at != nullptr) (void)upper()->Unlink(ctx, e.name, **at).ok();
  }
}

Result<void> Node::Rmdir(CallContext& ctx, absl::string_view name, Inode& victim) {
  auto& node = static_cast<Node&>(victim);
  WriterLock change(ofs_.change_mu());
  TRY(PrepareChangeLocked(ctx));
  TRY(node.CheckEmptyLocked(ctx));
  Inode& dir = *upper();
  RefPtr<Inode> below = TRY(LowerAt(ctx, name));
  if (node.upper() == nullptr) {
    if (below == nullptr) return Errno::kENOENT;
    TRY(dir.Mknod(ctx, name, kModeChar, DeviceNumber{}));
  } else if (below == nullptr) {
    node.ClearWhiteoutsLocked(ctx);
    TRY(dir.Rmdir(ctx, name, *node.upper()));
  } else {
    // The whiteout changes places with the directory, which then goes from the work directory:
    // at no moment does the lower directory show.
    std::string temp;
    RefPtr<Inode> whiteout = TRY(MakeWhiteoutInWork(ctx, &temp));
    Result<void> swapped = ofs_.work().Rename(ctx, temp, *whiteout, dir, name, node.upper(),
                                              kRenameExchange);
    if (!swapped.ok()) {
      RemoveFromWork(ctx, temp, *whiteout);
      return swapped;
    }
    node.ClearWhiteoutsLocked(ctx);
    RemoveFromWork(ctx, temp, *node.upper());
  }
  node.MarkRemoved();
  ofs_.Unregister(node, *this, name);
  return {};
}

}  // namespace caisson::vfs::overlay
