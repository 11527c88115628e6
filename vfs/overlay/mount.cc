// Making overlays.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vfs/operations.h"
#include "vfs/overlay/filesystem.h"

namespace caisson::vfs::overlay {
namespace {

Result<Layer> WalkLayer(CallContext& ctx, const std::string& path) {
  WalkOptions options;
  options.must_be_directory = true;
  VfsPath at = TRY(Walk(ctx, ctx.cwd(), path, options));
  RefPtr<Inode> root = at.dentry->inode();
  return Layer{RefPtr<FileSystem>(&root->fs()), root};
}

// Splits at `separator`; a backslash takes the next character as it is.
std::vector<std::string> SplitEscaped(absl::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      parts.back() += text[++i];
    } else if (text[i] == separator) {
      parts.emplace_back();
    } else {
      parts.back() += text[i];
    }
  }
  return parts;
}

}  // namespace

Result<RefPtr<FileSystem>> MakeOverlay(CallContext& ctx, Config config) {
  if (config.lowers.empty() || config.lowers.size() > kMaxLowers) return Errno::kEINVAL;
  for (const Layer& l : config.lowers)
    if (!l.root->is_directory()) return Errno::kENOTDIR;
  if (config.upper.fs != nullptr) {
    if (config.work == nullptr || !config.upper.root->is_directory() ||
        !config.work->is_directory() || &config.work->fs() != config.upper.fs.get() ||
        config.work == config.upper.root)
      return Errno::kEINVAL;
  }
  // Each level is a level of recursion in every operation (Linux FILESYSTEM_MAX_STACK_DEPTH).
  constexpr int kMaxStackDepth = 2;
  if (StackDepth(config) > kMaxStackDepth) return Errno::kEINVAL;
  return RefPtr<FileSystem>(MakeRef<OverlayFileSystem>(std::move(config)));
}

Result<RefPtr<FileSystem>> MakeMemoryOverlay(CallContext& ctx, RefPtr<FileSystem> lower,
                                             RefPtr<FileSystem> memory) {
  auto make = [&]() -> Result<RefPtr<FileSystem>> {
    Config config;
    RefPtr<Inode> lower_root = lower->root();
    Attributes attr = TRY(lower_root->GetAttributes(ctx));
    RefPtr<Inode> top = memory->root();
    config.upper.fs = memory;
    config.upper.root = TRY(top->Mkdir(ctx, "upper", kModeDirectory | 0700));
    config.work = TRY(top->Mkdir(ctx, "work", kModeDirectory | 0700));
    // The root looks as it does below.
    SetAttributes change;
    change.uid = attr.uid;
    change.gid = attr.gid;
    change.mode = attr.mode & kModePermissions;
    change.atime = SetAttributes::Time{.now = false, .at = attr.atime};
    change.mtime = SetAttributes::Time{.now = false, .at = attr.mtime};
    TRY(config.upper.root->SetAttributes(ctx, change));
    config.lowers.push_back({lower, std::move(lower_root)});
    return MakeOverlay(ctx, std::move(config));
  };
  Result<RefPtr<FileSystem>> made = make();
  if (!made.ok()) {  // As mounted and unmounted: lets it go.
    memory->AddUser();
    memory->RemoveUser();
  }
  return made;
}

Result<RefPtr<FileSystem>> MountOverlay(CallContext& ctx, absl::string_view data) {
  Config config;
  std::string lower, upper, work;
  for (absl::string_view item : absl::StrSplit(data, ',', absl::SkipEmpty())) {
    const size_t equals = item.find('=');
    const absl::string_view key = item.substr(0, equals);
    const std::string value(equals == absl::string_view::npos ? "" : item.substr(equals + 1));
    if (key == "lowerdir") {
      lower = value;
    } else if (key == "upperdir") {
      upper = value;
    } else if (key == "workdir") {
      work = value;
    } else if (key == "redirect_dir" || key == "index" || key == "metacopy" || key == "xino" ||
               key == "nfs_export") {
      // Only their being off, which is how it is, can be had.
      if (value != "off" && value != "nofollow" && key != "xino") return Errno::kEINVAL;
    } else if (key != "volatile") {
      return Errno::kEINVAL;
    }
  }
  if (lower.empty() || upper.empty() != work.empty()) return Errno::kEINVAL;
  for (const std::string& path : SplitEscaped(lower, ':')) {
    if (path.empty()) return Errno::kEINVAL;
    Layer layer = TRY(WalkLayer(ctx, path));
    config.lowers.push_back(std::move(layer));
  }
  if (!upper.empty()) {
    auto unescape = [](const std::string& s) { return SplitEscaped(s, '\0')[0]; };
    config.upper = TRY(WalkLayer(ctx, unescape(upper)));
    if (config.upper.fs->read_only()) return Errno::kEROFS;
    Layer work_dir = TRY(WalkLayer(ctx, unescape(work)));
    // As Linux: our own directory in it, so that what the user keeps there is left alone.
    RefPtr<Inode> own;
    WriterLock lock(work_dir.root->directory_lock());
    Result<RefPtr<Inode>> there = work_dir.root->Lookup(ctx, "work");
    if (there.ok()) {
      own = *there;
    } else {
      own = TRY(work_dir.root->Mkdir(ctx, "work", kModeDirectory));
    }
    config.work = std::move(own);
  }
  config.options = absl::StrCat("lowerdir=", lower);
  if (!upper.empty()) absl::StrAppend(&config.options, ",upperdir=", upper, ",workdir=", work);
  return MakeOverlay(ctx, std::move(config));
}

}  // namespace caisson::vfs::overlay
