// rename(2) (Linux fs/overlayfs/dir.c, ovl_rename()).
#include "vfs/overlay/node.h"

namespace caisson::vfs::overlay {

// Directories that have a lower part cannot be moved (EXDEV, as in Linux without redirect_dir):
// programs copy them. Everything else is copied up and moved in the upper layer, with a whiteout
// left where a lower name would show.
Result<void> Node::Rename(CallContext& ctx, absl::string_view old_name, Inode& source,
                          Inode& new_dir, absl::string_view new_name, Inode* victim,
                          uint32_t flags) {
  auto& from = static_cast<Node&>(source);
  auto& to_dir = static_cast<Node&>(new_dir);
  auto* over = static_cast<Node*>(victim);
  const bool exchange = (flags & kRenameExchange) != 0;
  if ((flags & ~(kRenameExchange | kRenameNoReplace)) != 0) return Errno::kEINVAL;
  if (exchange && over == nullptr) return Errno::kENOENT;
  if (from.is_directory() && from.is_merged()) return Errno::kEXDEV;
  if (exchange && over->is_directory() && over->is_merged()) return Errno::kEXDEV;
  if (!from.is_directory()) TRY(from.CopyUp(ctx));
  if (exchange && !over->is_directory()) TRY(over->CopyUp(ctx));

  WriterLock change(ofs_.change_mu());
  TRY(PrepareChangeLocked(ctx));
  TRY(to_dir.PrepareChangeLocked(ctx));
  Inode& old_upper_dir = *upper();
  Inode& new_upper_dir = *to_dir.upper();
  const bool over_directory = over != nullptr && over->is_directory();
  if (!exchange && over_directory) TRY(over->CheckEmptyLocked(ctx));
  // A directory that comes to a merged one must not merge with what is below there.
  auto hide_below = [&](Node& moved, Node& into) -> Result<void> {
    if (!moved.is_directory() || !into.is_merged()) return {};
    return moved.upper()->SetXattr(ctx, kOpaqueXattr, "y", 0);
  };
  TRY(hide_below(from, to_dir));
  if (exchange) TRY(hide_below(*over, *this));

  RefPtr<Inode> above = TRY(to_dir.UpperAt(ctx, new_name));
  RefPtr<Inode> below_old = TRY(LowerAt(ctx, old_name));
  if (exchange) {
    if (above == nullptr) return Errno::kENOENT;
    TRY(old_upper_dir.Rename(ctx, old_name, *from.upper(), new_upper_dir, new_name, above.get(),
                             kRenameExchange));
    ofs_.Register(from, to_dir, new_name);
    ofs_.Register(*over, *this, old_name);
    return {};
  }
  // What must be hidden at the old name, made first: afterwards it could fail.
  std::string temp;
  RefPtr<Inode> whiteout;
  if (below_old != nullptr) whiteout = TRY(MakeWhiteoutInWork(ctx, &temp));
  auto move = [&]() -> Result<void> {
    if (above != nullptr && above->is_directory() != from.is_directory()) {
      // A whiteout in the way of a directory: they change places, then it goes.
      TRY(old_upper_dir.Rename(ctx, old_name, *from.upper(), new_upper_dir, new_name, above.get(),
                               kRenameExchange));
      (void)old_upper_dir.Unlink(ctx, old_name, *above).ok();
      return {};
    }
    if (over_directory) over->ClearWhiteoutsLocked(ctx);
    return old_upper_dir.Rename(ctx, old_name, *from.upper(), new_upper_dir, new_name, above.get(),
                                0);
  };
  if (Result<void> moved = move(); !moved.ok()) {
    if (whiteout != nullptr) RemoveFromWork(ctx, temp, *whiteout);
    return moved;
  }
  if (whiteout != nullptr) {
    // The name is free in the upper directory: this takes no new inode and cannot run out of space.
    Result<void> hidden =
        ofs_.work().Rename(ctx, temp, *whiteout, old_upper_dir, old_name, nullptr, 0);
    if (!hidden.ok()) return hidden;
  }
  if (over != nullptr) {
    ofs_.Unregister(*over, to_dir, new_name);
    if (over->is_directory() || over->upper() == nullptr) over->MarkRemoved();
  }
  ofs_.Unregister(from, *this, old_name);
  ofs_.Register(from, to_dir, new_name);
  return {};
}

}  // namespace caisson::vfs::overlay
