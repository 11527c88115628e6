#include "runsc/cgroup/hierarchy.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "runsc/cgroup/file.h"

namespace caisson::cgroup {
namespace {

// proc(5): mountinfo writes blank, tab, newline and backslash in octal.
std::string Unescape(absl::string_view in) {
  std::string out;
  for (size_t i = 0; i < in.size(); ++i) {
    auto octal = [&](size_t at) { return in[at] >= '0' && in[at] <= '7'; };
    if (in[i] == '\\' && i + 3 < in.size() && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out += static_cast<char>((in[i + 1] - '0') * 64 + (in[i + 2] - '0') * 8 + (in[i + 3] - '0'));
      i += 3;
    } else {
      out += in[i];
    }
  }
  return out;
}

// The runtime's cgroup as a path below the mount, whose own root in the tree is `root`.
std::string BelowMount(const std::string& own, const std::string& root) {
  if (root == "/") return own;
  if (own == root) return "/";
  absl::string_view rest = own;
  if (absl::ConsumePrefix(&rest, root) && absl::StartsWith(rest, "/")) return std::string(rest);
  return "/";
}

std::string Parent(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

}  // namespace

std::string CleanPath(absl::string_view path) {
  std::vector<absl::string_view> out;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      if (!out.empty()) out.pop_back();
    } else {
      out.push_back(part);
    }
  }
  return absl::StrCat("/", absl::StrJoin(out, "/"));
}

Hierarchy Hierarchy::Parse(absl::string_view mountinfo, absl::string_view own_cgroups) {
  // "4:memory:/user" for v1 (several controllers with commas), "0::/user" for v2.
  std::map<std::string, std::string> own;
  for (absl::string_view line : absl::StrSplit(own_cgroups, '\n', absl::SkipEmpty())) {
    std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    if (parts[1].empty()) {
      own[""] = std::string(parts[2]);
      continue;
    }
    for (absl::string_view name : absl::StrSplit(parts[1], ','))
      own[std::string(name)] = std::string(parts[2]);
  }
  Hierarchy out;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n', absl::SkipEmpty())) {
    // id parent major:minor root mount-point options ... - type source super-options
    size_t dash = line.find(" - ");
    if (dash == absl::string_view::npos) continue;
    std::vector<absl::string_view> left = absl::StrSplit(line.substr(0, dash), ' ');
    std::vector<absl::string_view> right = absl::StrSplit(line.substr(dash + 3), ' ');
    if (left.size() < 6 || right.size() < 3) continue;
    std::string root = Unescape(left[3]);
    std::string point = Unescape(left[4]);
    if (right[0] == "cgroup2") {
      // The first one is the system's; a later one is someone's own.
      if (!out.v2_.has_value()) {
        out.v2_ = Tree{point, BelowMount(own.contains("") ? own[""] : "/", root)};
      }
    } else if (right[0] == "cgroup") {
      for (absl::string_view option : absl::StrSplit(right[2], ',')) {
        std::string name(option);
        if (!own.contains(name) || out.v1_.contains(name)) continue;
        out.v1_[name] = Tree{point, BelowMount(own[name], root)};
      }
    }
  }
  return out;
}

absl::StatusOr<Hierarchy> Hierarchy::OfThisProcess() {
  ASSIGN_OR_RETURN(std::string mountinfo, ReadText("/proc/self/mountinfo"));
  ASSIGN_OR_RETURN(std::string own, ReadText("/proc/self/cgroup"));
  return Parse(mountinfo, own);
}

Paths Hierarchy::PathsFor(absl::string_view cgroups_path, absl::string_view id) const {
  bool absolute = absl::StartsWith(cgroups_path, "/");
  std::string inner = CleanPath(cgroups_path.empty() ? id : cgroups_path);
  auto join = [&](const Tree& tree, const std::string& start) {
    std::string base = absolute ? "/" : start;
    return absl::StrCat(tree.mount_point, CleanPath(absl::StrCat(base, "/", inner)));
  };
  Paths out;
  for (const auto& [name, tree] : v1_) out[name] = join(tree, tree.own);
  if (v2_.has_value()) out[""] = join(*v2_, has_v1() ? v2_->own : Parent(v2_->own));
  return out;
}

}  // namespace caisson::cgroup
