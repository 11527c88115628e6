#include "vfs/dev/devtmpfs.h"

#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs::dev {
namespace {

// Makes `name` in `dir` by `make`, sets what umask-less creation leaves open, and returns its
// dentry; the existing one if there is one.
template <typename Make>
Result<RefPtr<Dentry>> MakeEntry(CallContext& ctx, Dentry& dir, absl::string_view name,
                                 const SetAttributes& change, Make make) {
  RefPtr<Inode> inode = dir.inode();
  WriterLock lock(inode->directory_lock());
  RefPtr<Dentry> child = TRY(dir.LookupChildLocked(ctx, name));
  if (!child->is_negative()) return child;
  RefPtr<Inode> made = TRY(make(*inode));
  TRY(made->SetAttributes(ctx, change));
  dir.AttachChild(name, std::move(made), &child);
  return child;
}

SetAttributes OwnerAndMode(uint32_t uid, uint32_t gid, FileMode mode) {
  SetAttributes change;
  change.uid = uid;
  change.gid = gid;
  change.mode = mode & kModePermissions;
  return change;
}

Result<RefPtr<Dentry>> MakeDirectory(CallContext& ctx, Dentry& dir, absl::string_view name,
                                     FileMode mode) {
  return MakeEntry(ctx, dir, name, OwnerAndMode(0, 0, mode), [&](Inode& in) {
    return in.Mkdir(ctx, name, kModeDirectory | mode);
  });
}

Result<void> MakeNode(CallContext& ctx, Dentry& dir, const DeviceNode& node) {
  RefPtr<Dentry> at(&dir);
  absl::string_view rest = node.name;
  for (size_t slash; (slash = rest.find('/')) != absl::string_view::npos;) {
    const absl::string_view part = rest.substr(0, slash);
    rest.remove_prefix(slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") return Errno::kEINVAL;
    at = TRY(MakeDirectory(ctx, *at, part, 0755));
    if (!at->inode_ptr()->is_directory()) return Errno::kENOTDIR;
  }
  if (rest.empty() || rest == "." || rest == ".." || rest.size() > kNameMax) return Errno::kEINVAL;
  TRY(MakeEntry(ctx, *at, rest, OwnerAndMode(node.uid, node.gid, node.mode), [&](Inode& in) {
    return in.Mknod(ctx, rest, node.mode, node.rdev);
  }));
  return {};
}

}  // namespace

Result<void> PopulateDev(CallContext& ctx, Dentry& directory,
                         const std::vector<DeviceNode>& extra) {
  // Those of the configuration first: they may differ from the standard ones in mode or owner.
  for (const DeviceNode& node : extra) TRY(MakeNode(ctx, directory, node));
  static constexpr struct {
    const char* name;
    DeviceNumber rdev;
  } kNodes[] = {{"null", {1, 3}},   {"zero", {1, 5}},    {"full", {1, 7}},
                {"random", {1, 8}}, {"urandom", {1, 9}}, {"tty", {5, 0}}};
  for (const auto& n : kNodes)
    TRY(MakeNode(ctx, directory, DeviceNode{n.name, kModeChar | 0666, n.rdev}));
  static constexpr struct {
    const char* name;
    FileMode mode;
  } kDirectories[] = {{"pts", 0755}, {"shm", 01777}};
  for (const auto& d : kDirectories) TRY(MakeDirectory(ctx, directory, d.name, d.mode));
  static constexpr struct {
    const char* name;
    const char* target;
  } kLinks[] = {{"fd", "/proc/self/fd"},
                {"stdin", "/proc/self/fd/0"},
                {"stdout", "/proc/self/fd/1"},
                {"stderr", "/proc/self/fd/2"},
                {"ptmx", "pts/ptmx"}};
  for (const auto& l : kLinks) {
    TRY(MakeEntry(ctx, directory, l.name, SetAttributes{},
                  [&](Inode& in) { return in.Symlink(ctx, l.name, l.target); }));
  }
  return {};
}

Result<RefPtr<FileSystem>> MakeDevtmpfs(CallContext& ctx, absl::string_view options,
                                        const std::vector<DeviceNode>& extra,
                                        RefPtr<tmpfs::MemoryAccount> account) {
  tmpfs::Options defaults;
  defaults.mode = 0755;
  RefPtr<FileSystem> fs = TRY(
      tmpfs::TmpfsFileSystem::New(options, defaults, uint64_t{4} << 30, "devtmpfs",
                                  std::move(account)));
  Result<void> filled = PopulateDev(ctx, *fs->RootDentry(), extra);
  if (filled.ok()) return fs;
  // As mounted and unmounted: lets it go.
  fs->AddUser();
  fs->RemoveUser();
  return filled.error();
}

}  // namespace caisson::vfs::dev
