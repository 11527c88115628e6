#include "gofer/process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "confine/confine.h"
#include "confine/role.h"
#include "gofer/filter.h"

namespace caisson::gofer {
namespace {

// Over the ids of its own user namespace only, which is the container's.
constexpr uint64_t kCapabilities = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE |
                                   1ull << CAP_DAC_READ_SEARCH | 1ull << CAP_FOWNER |
                                   1ull << CAP_FSETID | 1ull << CAP_SETFCAP;

// /proc/self/fd as a mount of its own, attached nowhere: from it one reaches this process's
// descriptors and nothing else.
absl::StatusOr<UniqueFd> DetachedProcSelfFd() {
  UniqueFd tree(open_tree(AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!tree) return HostErrnoStatus(errno, "cloning /proc/self/fd");
  return tree;
}

absl::StatusOr<std::vector<Connection>> TakeConnections(confine::RoleArgs& args) {
  std::vector<Connection> connections;
  const int count = args.IntOption("mounts");
  for (int i = 0; i < count; ++i) {
    const std::string name = absl::StrCat("mount-", i);
    const std::string kind = args.Option(name);
    Connection connection;
    connection.root = args.TakeFd(name);
    connection.socket = args.TakeFd(absl::StrCat("socket-", i));
    connection.read_only = kind.substr(0, 2) != "rw";
    connection.is_file = kind.size() > 5 && kind.substr(3) == "file";
    if (!connection.root || !connection.socket) return absl::InvalidArgumentError("descriptors");
    connections.push_back(std::move(connection));
  }
  return connections;
}

// All but the filter, which Serve() installs when its threads exist.
absl::Status Confine() {
  RETURN_IF_ERROR(confine::EnterEmptyRoot());
  RETURN_IF_ERROR(confine::LimitCapabilities(kCapabilities));
  return confine::SetNoNewPrivileges();
}

int Fail(const absl::Status& status) {
  LOG_ERROR("gofer: ", status.message());
  return 125;
}

}  // namespace

int RunGofer(int argc, char** argv,
             const std::function<int(std::vector<Connection>, ServeOptions)>& serve) {
  absl::StatusOr<confine::RoleArgs> args = confine::RoleArgs::Parse(argc, argv);
  if (!args.ok()) return 125;
  UniqueFd life = args->TakeFd("life");
  UniqueFd log = args->TakeFd("log");
  // What it writes to standard error the monitor logs.
  SetLogTarget(log ? log.get() : STDERR_FILENO, log ? LogFormat::kText : LogFormat::kRelayed,
               LogLevel::kWarning);
  if (!life || !confine::DieWithParent(life.get()).ok()) return 125;
  signal(SIGPIPE, SIG_IGN);
  mallopt(M_ARENA_MAX, 1);
  confine::SetResourceLimits();
  absl::StatusOr<std::vector<Connection>> connections = TakeConnections(*args);
  if (!connections.ok()) return Fail(connections.status());
  // Without a network interface and, by its filter, without a socket call.
  if (unshare(CLONE_NEWNET) != 0) return Fail(HostErrnoStatus(errno, "new network namespace"));
  absl::StatusOr<UniqueFd> proc_self_fd = DetachedProcSelfFd();
  if (!proc_self_fd.ok()) return Fail(proc_self_fd.status());
  if (absl::Status confined = Confine(); !confined.ok()) return Fail(confined);

  ServeOptions options;
  const confine::FilterConstant directory{kProcSelfFd,
                                          static_cast<uint32_t>(proc_self_fd->get())};
  options.proc_self_fd = std::move(proc_self_fd).value();
  const auto on_violation = args->IntOption("debug") != 0 ? confine::OnViolation::kReport
                                                          : confine::OnViolation::kKill;
  options.confine = [directory, on_violation] {
    absl::Status installed =
        confine::InstallFilter(GoferFilterProgram(), on_violation, {&directory, 1});
    if (!installed.ok()) Fail(installed);
    return installed.ok();
  };
  const int error = serve(std::move(connections).value(), std::move(options));
  if (error != 0) return Fail(HostErrnoStatus(error, "serving"));
  return 0;
}

}  // namespace caisson::gofer
