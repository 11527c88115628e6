#include "runsc/cgroup/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cgroup/file.h"

namespace caisson::cgroup {
namespace {

constexpr const char* kControllers[] = {"cpuset", "cpu",     "memory",  "pids",
                                        "blkio",  "hugetlb", "net_cls", "net_prio"};

void SleepMs(int ms) {
  timespec t{ms / 1000, (ms % 1000) * 1'000'000L};
  nanosleep(&t, nullptr);
}

// Polls `done` for at most `limit_ms`, more slowly as time passes.
template <typename F>
bool WaitFor(int limit_ms, F done) {
  int delay = 1;
  for (int waited = 0;; waited += delay, delay = std::min(delay * 2, 50)) {
    if (done()) return true;
    if (waited >= limit_ms) return false;
    SleepMs(delay);
  }
}

// A new v1 cpuset is empty, and no process can enter it before it has CPUs and nodes.
void InheritCpuset(const std::string& parent, const std::string& dir) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    absl::StatusOr<std::string> now = ReadText(dir + file);
    if (!now.ok() || !absl::StripAsciiWhitespace(*now).empty()) continue;
    absl::StatusOr<std::string> inherited = ReadText(parent + file);
    if (inherited.ok()) (void)WriteText(dir + file, absl::StripAsciiWhitespace(*inherited));
  }
}

// Hands every controller of a v2 group on to its children. A controller that cannot be is one that
// the limits will miss, and say so.
void EnableControllers(const std::string& dir) {
  absl::StatusOr<std::string> controllers = ReadText(dir + "/cgroup.controllers");
  if (!controllers.ok()) return;
  for (absl::string_view name :
       absl::StrSplit(absl::StripAsciiWhitespace(*controllers), ' ', absl::SkipEmpty())) {
    (void)WriteText(dir + "/cgroup.subtree_control", absl::StrCat("+", name));
  }
}

bool IsCgroupDir(const std::string& dir) { return Exists(dir + "/cgroup.procs"); }

// Makes `path`, whose first part is a mount, and prepares each level on the way.
absl::Status MakeGroup(const std::string& controller, const std::string& path, bool& made) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string dir = path.substr(0, slash);
    bool last = slash == std::string::npos;
    if (mkdir(dir.c_str(), 0755) == 0) {
      made = last;
    } else if (errno != EEXIST) {
      // Above the mount point there may be read-only file systems: they exist, which is enough.
      if (last || !Exists(dir)) return HostErrnoStatus(errno, absl::StrCat("mkdir ", dir));
    }
    if (controller == "cpuset") InheritCpuset(dir.substr(0, dir.rfind('/')), dir);
    if (controller.empty() && !last && IsCgroupDir(dir)) EnableControllers(dir);
    if (last) return absl::OkStatus();
  }
}

std::vector<pid_t> ProcessesIn(const std::string& dir) {
  std::vector<pid_t> out;
  absl::StatusOr<std::string> text = ReadText(dir + "/cgroup.procs");
  if (!text.ok()) return out;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    pid_t pid = 0;
    // 0 is a process that this pid namespace does not see.
    if (absl::SimpleAtoi(line, &pid) && pid > 0) out.push_back(pid);
  }
  return out;
}

// Children first: a guest cannot make any, `exec --cgroup` and engines can.
void RemoveTree(const std::string& dir) {
  if (DIR* stream = opendir(dir.c_str())) {
    while (dirent* entry = readdir(stream)) {
      std::string name = entry->d_name;
      if (entry->d_type == DT_DIR && name != "." && name != "..") {
        RemoveTree(absl::StrCat(dir, "/", name));
      }
    }
    closedir(stream);
  }
  rmdir(dir.c_str());
}

}  // namespace

absl::Status Cgroup::Create() {
  std::vector<std::string> made_dirs;
  absl::Cleanup undo = [&] {
    for (const std::string& dir : made_dirs) rmdir(dir.c_str());
  };
  Paths kept;
  bool hybrid = paths_.size() > 1 && paths_.contains("");
  for (const auto& [controller, path] : paths_) {
    bool made = false;
    absl::Status status = MakeGroup(controller, path, made);
    if (made) made_dirs.push_back(path);
    if (!status.ok()) {
      // Beside v1 trees, the v2 tree and the nameless ones have no limits of ours.
      if ((controller.empty() && hybrid) || absl::StartsWith(controller, "name=")) {
        LOG_INFO("cgroup: left out: ", status.message());
        continue;
      }
      return Annotate(status, "cgroup");
    }
    if (!made && !ProcessesIn(path).empty()) {
      return absl::FailedPreconditionError(absl::StrCat("cgroup ", path, " has processes in it"));
    }
    kept[controller] = path;
  }
  paths_ = std::move(kept);
  std::move(undo).Cancel();
  return absl::OkStatus();
}

std::string Cgroup::DirOf(const std::string& controller, bool& is_v2) const {
  is_v2 = false;
  if (auto it = paths_.find(controller); it != paths_.end()) return it->second;
  auto v2 = paths_.find("");
  if (v2 == paths_.end()) return "";
  std::string name = controller == "blkio" ? "io" : controller;
  absl::StatusOr<std::string> controllers = ReadText(v2->second + "/cgroup.controllers");
  if (!controllers.ok()) return "";
  for (absl::string_view have :
       absl::StrSplit(absl::StripAsciiWhitespace(*controllers), ' ', absl::SkipEmpty())) {
    if (have != name) continue;
    is_v2 = true;
    return v2->second;
  }
  return "";
}

absl::Status Cgroup::Apply(const oci::Resources& resources) const {
  for (const char* controller : kControllers) {
    bool is_v2 = false;
    std::string dir = DirOf(controller, is_v2);
    absl::Status status =
        is_v2 ? ApplyV2(controller, dir, resources) : ApplyV1(controller, dir, resources);
    if (!status.ok()) return Annotate(status, absl::StrCat("cgroup ", controller));
  }
  if (resources.unified.empty()) return absl::OkStatus();
  auto v2 = paths_.find("");
  if (v2 == paths_.end() || paths_.size() > 1) {
    return absl::InvalidArgumentError("linux.resources.unified: this host has cgroup v1");
  }
  for (const auto& [file, value] : resources.unified) {
    if (absl::StrContains(file, '/') || !absl::StrContains(file, '.') ||
        absl::StartsWith(file, ".")) {
      return absl::InvalidArgumentError(
          absl::StrCat("linux.resources.unified: bad file name \"", file, "\""));
    }
    for (absl::string_view line : absl::StrSplit(value, '\n', absl::SkipEmpty())) {
      RETURN_IF_ERROR(WriteText(absl::StrCat(v2->second, "/", file), line));
    }
  }
  return absl::OkStatus();
}

std::array<UniqueFd, 3> Cgroup::OpenMemoryFiles() const {
  bool is_v2 = false;
  const std::string dir = DirOf("memory", is_v2);
  std::array<UniqueFd, 3> files;
  if (dir.empty()) return files;
  const char* const names[] = {is_v2 ? "memory.current" : "memory.usage_in_bytes",
                               is_v2 ? "memory.max" : "memory.limit_in_bytes", "memory.stat"};
  for (size_t i = 0; i < files.size(); ++i) {
    files[i].reset(open(absl::StrCat(dir, "/", names[i]).c_str(), O_RDONLY | O_CLOEXEC));
    if (!files[i]) return {};
  }
  return files;
}

UniqueFd Cgroup::OpenV2() const {
  auto v2 = paths_.find("");
  if (v2 == paths_.end()) return UniqueFd();
  return UniqueFd(open(v2->second.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

absl::Status Cgroup::Join(bool in_v2) const {
  for (const auto& [controller, path] : paths_) {
    if (in_v2 && controller.empty()) continue;
    // A thread that moves itself, which only v1 allows, waits for nobody; a process waits for an RCU
    // grace period (Linux kernel/cgroup/cgroup.c, cgroup_procs_write_start()).
    if (!controller.empty() && WriteText(path + "/tasks", "0").ok()) continue;
    absl::Status status = WriteText(path + "/cgroup.procs", "0");
    if (!status.ok()) return Annotate(status, "joining the cgroup");
  }
  return absl::OkStatus();
}

std::vector<pid_t> Cgroup::Processes() const {
  std::set<pid_t> out;
  for (const auto& [controller, path] : paths_) {
    for (pid_t pid : ProcessesIn(path)) out.insert(pid);
  }
  return std::vector<pid_t>(out.begin(), out.end());
}

absl::Status Cgroup::KillAndRemove() const {
  bool empty = true;
  for (const auto& [controller, path] : paths_) empty &= rmdir(path.c_str()) == 0 || errno == ENOENT;
  if (empty) return absl::OkStatus();
  if (can_freeze() && IsFrozen()) (void)SetFrozen(false);
  // Ten seconds: a process in an uninterruptible wait may take its time.
  bool gone = WaitFor(10'000, [&] {
    for (pid_t pid : Processes()) kill(pid, SIGKILL);
    bool any = false;
    for (const auto& [controller, path] : paths_) {
      RemoveTree(path);
      any |= Exists(path);
    }
    return !any;
  });
  if (gone) return absl::OkStatus();
  std::string left;
  for (const auto& [controller, path] : paths_) {
    if (Exists(path)) absl::StrAppend(&left, " ", path);
  }
  return absl::InternalError(absl::StrCat("cannot remove cgroup", left));
}

std::string Cgroup::HostPidsLimit(int64_t limit) {
  constexpr int64_t kPidMaxLimit = 4'194'304;  // Linux include/linux/threads.h.
  if (limit < 0 || limit > (kPidMaxLimit - 64) / 4) return "max";
  return absl::StrCat(limit * 4 + 64);
}

bool Cgroup::can_freeze() const {
  if (paths_.contains("freezer")) return true;
  auto v2 = paths_.find("");
  return v2 != paths_.end() && Exists(v2->second + "/cgroup.freeze");
}

bool Cgroup::IsFrozen() const {
  if (auto v1 = paths_.find("freezer"); v1 != paths_.end()) {
    absl::StatusOr<std::string> state = ReadText(v1->second + "/freezer.state");
    return state.ok() && absl::StripAsciiWhitespace(*state) != "THAWED";
  }
  auto v2 = paths_.find("");
  return v2 != paths_.end() && ReadNumber(v2->second + "/cgroup.freeze").value_or(0) == 1;
}

absl::Status Cgroup::SetFrozen(bool frozen) const {
  absl::Status last;
  if (auto v1 = paths_.find("freezer"); v1 != paths_.end()) {
    std::string file = v1->second + "/freezer.state";
    const char* wanted = frozen ? "FROZEN" : "THAWED";
    // A process that is just being made can keep it at FREEZING until it is asked again.
    bool done = WaitFor(2'000, [&] {
      last = WriteText(file, wanted);
      absl::StatusOr<std::string> state = ReadText(file);
      return last.ok() && state.ok() && absl::StripAsciiWhitespace(*state) == wanted;
    });
    if (done) return absl::OkStatus();
    if (frozen) (void)WriteText(file, "THAWED");
    return last.ok() ? absl::DeadlineExceededError(absl::StrCat(file, ": not ", wanted)) : last;
  }
  auto v2 = paths_.find("");
  if (v2 == paths_.end()) return absl::FailedPreconditionError("the container has no freezer");
  RETURN_IF_ERROR(WriteText(v2->second + "/cgroup.freeze", frozen ? "1" : "0"));
  bool done = WaitFor(2'000, [&] {
    for (const auto& [key, value] : ReadKeyed(v2->second + "/cgroup.events")) {
      if (key == "frozen") return (value == 1) == frozen;
    }
    return true;
  });
  if (done) return absl::OkStatus();
  if (frozen) (void)WriteText(v2->second + "/cgroup.freeze", "0");
  return absl::DeadlineExceededError("the freezer does not answer");
}

}  // namespace caisson::cgroup
