// What runsc remembers of a container between commands: ROOT/ID/.
#ifndef CAISSON_RUNSC_CONTAINER_STATE_H_
#define CAISSON_RUNSC_CONTAINER_STATE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/cgroup/hierarchy.h"
#include "runsc/oci/json.h"
#include "runsc/sandbox/sandbox.h"

namespace caisson::runsc {

enum class Status { kCreating, kCreated, kRunning, kPaused, kStopped };
absl::string_view StatusName(Status status);

struct State {
  enum class Phase { kCreating, kCreated, kStarted };  // How far the commands have brought it.

  std::string id;
  std::string bundle;  // Absolute.
  std::string rootfs;  // Absolute.
  std::string oci_version;
  std::string created;  // RFC 3339, UTC.
  uint32_t owner_uid = 0;
  Phase phase = Phase::kCreating;
  SandboxProcesses processes;
  cgroup::Paths cgroup_paths;
  bool systemd_cgroup = false;
  std::string platform;
  std::map<std::string, std::string> annotations;
};

oci::Json StateToJson(const State& state);
absl::StatusOr<State> StateFromJson(const oci::Json& json);

// One container's directory:
//   state.json   State, replaced by rename(2)
//   config.json  as it was at create: hooks, and what `exec` inherits
//   seccomp.bpf  the compiled filter, for `exec`
//   control      the sentry's socket
//   lock         see Lock()
//   exit-status  its wait status in decimal, written by the monitor at the end
class ContainerDir {
 public:
  // Makes ROOT (and its parents) and ROOT/ID. Errors: AlreadyExists.
  static absl::StatusOr<ContainerDir> Make(const std::string& root, const std::string& id);
  // Errors: NotFound, `container "ID" does not exist`; InvalidArgument for a bad id.
  static absl::StatusOr<ContainerDir> Open(const std::string& root, const std::string& id);
  // The ids in ROOT, sorted; none if there is no such directory.
  static absl::StatusOr<std::vector<std::string>> List(const std::string& root);

  // Waits for the right to change this container: a POSIX record lock, which ends with this
  // process and is not inherited by what it starts. Readers need none, since every file is
  // replaced whole. Errors: NotFound if the container was deleted meanwhile; DeadlineExceeded.
  absl::Status Lock(int timeout_ms);

  // Whether another process has the lock.
  bool IsLocked() const;

  absl::StatusOr<State> LoadState() const;  // NotFound if create got no further than mkdir.
  absl::Status SaveState(const State& state) const;
  absl::Status WriteFile(const std::string& name, absl::string_view content) const;
  absl::StatusOr<std::string> ReadFile(const std::string& name) const;
  // The empty file "exit-status", open for writing.
  absl::StatusOr<UniqueFd> MakeExitStatus() const;
  // What it says. Errors: NotFound if the monitor did not get to write it.
  absl::StatusOr<int> ExitStatus() const;
  absl::Status Remove();

  const std::string& id() const { return id_; }
  const std::string& path() const { return path_; }
  std::string control_socket() const { return path_ + "/control"; }

 private:
  ContainerDir(std::string id, std::string path, UniqueFd dir)
      : id_(std::move(id)), path_(std::move(path)), dir_(std::move(dir)) {}

  std::string id_;
  std::string path_;
  UniqueFd dir_;
  UniqueFd lock_;
};

// From what the file says and whether the monitor lives; a created one that may have been started
// since is asked of the sentry.
Status StatusOf(const ContainerDir& dir, const State& state);

// "2026-01-02T03:04:05.678901234Z".
std::string NowRfc3339();

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_STATE_H_
