#include "runsc/container/sources.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/status.h"

namespace caisson::runsc {
namespace {

int OpenInRoot(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how)));
}

bool MakeTarget(int root, const std::string& destination, bool is_file) {
  std::vector<std::string> parts = absl::StrSplit(destination, '/', absl::SkipEmpty());
  std::string prefix = "/";
  UniqueFd parent(OpenInRoot(root, prefix));
  for (size_t i = 0; i < parts.size() && parent; ++i) {
    absl::StrAppend(&prefix, i == 0 ? "" : "/", parts[i]);
    UniqueFd next(OpenInRoot(root, prefix));
    if (!next && errno == ENOENT) {
      bool file = is_file && i + 1 == parts.size();
      if (file) {
        UniqueFd made(openat(parent.get(), parts[i].c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
        if (!made) return false;
      } else if (mkdirat(parent.get(), parts[i].c_str(), 0755) != 0) {
        return false;
      }
      next.reset(OpenInRoot(root, prefix));
    }
    parent = std::move(next);
  }
  return parent.valid();
}

// Whether `path` is below `directory`.
bool IsBelow(const std::string& path, const std::string& directory) {
  return absl::StartsWith(path, directory) && path.size() > directory.size() &&
         (directory.back() == '/' || path[directory.size()] == '/');
}

}  // namespace

absl::StatusOr<std::vector<GoferSource>> OpenSources(oci::Converted& converted) {
  std::vector<GoferSource> out;
  for (protocol::Mount& mount : *converted.container.mutable_mounts()) {
    if (mount.kind() != protocol::Mount::GOFER) continue;
    const oci::BindSource& source = converted.sources[mount.gofer_index()];
    bool is_root = mount.gofer_index() == 0;
    std::string what =
        is_root ? absl::StrCat("root.path ", source.path)
                : absl::StrCat("mount of ", mount.destination(), ": bind source ", source.path);
    GoferSource opened;
    opened.path_fd.reset(open(source.path.c_str(), O_PATH | O_CLOEXEC));
    struct stat st {};
    if (!opened.path_fd || fstat(opened.path_fd.get(), &st) != 0) {
      return HostErrnoStatus(errno, what);
    }
    if (is_root && !S_ISDIR(st.st_mode)) return HostErrnoStatus(ENOTDIR, what);
    opened.read_only = source.read_only;
    opened.is_file = !S_ISDIR(st.st_mode);
    mount.set_is_file(opened.is_file);
    out.push_back(std::move(opened));
  }
  return out;
}

void MakeTargetsInReadOnlyRoot(const oci::Converted& converted, const GoferSource& root) {
  if (!root.read_only || converted.container.mounts(0).overlay() != protocol::Mount::NO_OVERLAY) {
    return;
  }
  const auto& mounts = converted.container.mounts();
  for (int i = 1; i < mounts.size(); ++i) {
    bool covered = false;
    for (int k = 1; k < i; ++k)
      covered |= IsBelow(mounts[i].destination(), mounts[k].destination());
    if (covered || MakeTarget(root.path_fd.get(), mounts[i].destination(), mounts[i].is_file())) {
      continue;
    }
    LOG_INFO("cannot make mount target ", mounts[i].destination());
  }
}

}  // namespace caisson::runsc
