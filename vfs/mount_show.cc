// /proc/PID/mounts, mountinfo and mountstats (Linux fs/proc_namespace.c).
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "vfs/mount.h"
#include "vfs/mount_tree.h"

namespace caisson::vfs {
namespace {

// Octal escapes of what would end a field.
std::string Mangle(absl::string_view text, absl::string_view special) {
  std::string out;
  for (char c : text) {
    if (special.find(c) == absl::string_view::npos) {
      out += c;
      continue;
    }
    auto u = static_cast<unsigned char>(c);
    out += '\\';
    out += static_cast<char>('0' + (u >> 6));
    out += static_cast<char>('0' + ((u >> 3) & 7));
    out += static_cast<char>('0' + (u & 7));
  }
  return out;
}
constexpr absl::string_view kPathSpecial = " \t\n\\";
constexpr absl::string_view kSourceSpecial = " \t\n\\#";

std::string MountFlags(uint64_t flags) {
  static constexpr struct {
    uint64_t flag;
    absl::string_view name;
  } kNames[] = {{kMountNosuid, ",nosuid"},         {kMountNodev, ",nodev"},
                {kMountNoexec, ",noexec"},         {kMountNoatime, ",noatime"},
                {kMountNodiratime, ",nodiratime"}, {kMountRelatime, ",relatime"},
                {kMountNosymfollow, ",nosymfollow"}};
  std::string out;
  for (const auto& n : kNames)
    if ((flags & n.flag) != 0) absl::StrAppend(&out, n.name);
  return out;
}

}  // namespace

std::string MountNamespace::Show(CallContext& ctx, Format format, const VfsPath& root) const {
  std::string out;
  for (const RefPtr<Mount>& m : Mounts()) {
    int parent_id = m->id(), peer_group = 0, master_group = 0;
    bool unbindable = false;
    {
      ReaderLock lock(MountTree::lock());
      if (m->parent_ != nullptr) parent_id = m->parent_->id();
      if (m->peers_ != nullptr) peer_group = m->peers_->id;
      if (m->master_ != nullptr) master_group = m->master_->id;
      unbindable = m->unbindable_;
    }
    bool reached = false;
    std::string place = MountTree::Name(VfsPath(m, m->root()), root, &reached);
    if (!reached) continue;
    place = place.empty() ? "/" : Mangle(place, kPathSpecial);
    const std::string source = Mangle(m->source().empty() ? "none" : m->source(), kSourceSpecial);
    std::string fs_options = m->fs().MountOptions();
    if (!fs_options.empty()) fs_options.insert(0, ",");
    const std::string flags = MountFlags(m->flags());
    switch (format) {
      case Format::kMounts:
        absl::StrAppend(&out, source, " ", place, " ", m->fs().type_name(), " ",
                        m->read_only() ? "ro" : "rw", flags, fs_options, " 0 0\n");
        break;
      case Format::kMountstats:
        absl::StrAppend(&out, "device ", source, " mounted on ", place, " with fstype ",
                        m->fs().type_name(), "\n");
        break;
      case Format::kMountinfo:
        absl::StrAppend(&out, m->id(), " ", parent_id, " ", m->fs().device().major, ":",
                        m->fs().device().minor, " ");
        absl::StrAppend(&out, Mangle(m->root()->NameInFileSystem(), kPathSpecial), " ", place, " ",
                        (m->flags() & kMountReadOnly) != 0 ? "ro" : "rw", flags);
        if (peer_group != 0) absl::StrAppend(&out, " shared:", peer_group);
        if (master_group != 0) absl::StrAppend(&out, " master:", master_group);
        if (unbindable) absl::StrAppend(&out, " unbindable");
        absl::StrAppend(&out, " - ", m->fs().type_name(), " ", source, " ",
                        m->fs().read_only() ? "ro" : "rw", fs_options, "\n");
        break;
    }
  }
  return out;
}

}  // namespace caisson::vfs
