// Where cgroups are mounted, and which directory a container gets in each tree.
#ifndef CAISSON_RUNSC_CGROUP_HIERARCHY_H_
#define CAISSON_RUNSC_CGROUP_HIERARCHY_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace caisson::cgroup {

// Directory of each controller: "memory" to "/sys/fs/cgroup/memory/docker/ID". Key "" is the v2
// tree, "name=systemd" and its like are v1 trees without a controller.
using Paths = std::map<std::string, std::string>;

class Hierarchy {
 public:
  // From the text of /proc/self/mountinfo and /proc/self/cgroup.
  static Hierarchy Parse(absl::string_view mountinfo, absl::string_view own_cgroups);
  static absl::StatusOr<Hierarchy> OfThisProcess();

  bool has_v1() const { return !v1_.empty(); }
  bool has_v2() const { return v2_.has_value(); }
  bool v2_only() const { return has_v2() && !has_v1(); }

  // `cgroups_path` is config.json's: absolute ones start at the mount, relative ones at the
  // runtime's own cgroup; empty is "ID". It cannot climb above that. On v2 alone the start is the
  // parent of the runtime's own cgroup, which holds processes and so cannot have controllers.
  Paths PathsFor(absl::string_view cgroups_path, absl::string_view id) const;

 private:
  struct Tree {
    std::string mount_point;
    std::string own;  // The runtime's own cgroup, below the mount point; starts with "/".
  };
  std::map<std::string, Tree> v1_;
  std::optional<Tree> v2_;
};

// "/a/../../b//c" to "/b/c": lexically, never above "/".
std::string CleanPath(absl::string_view path);

}  // namespace caisson::cgroup

#endif  // CAISSON_RUNSC_CGROUP_HIERARCHY_H_
