#include "absl/cleanup/cleanup.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/foreground.h"

namespace caisson::cmd {
namespace {

void DeleteQuietly(const runsc::Options& options, const std::string& id) {
  absl::Status deleted = runsc::DeleteContainer(options, id, /*force=*/true);
  if (!deleted.ok()) LOG_WARNING("deleting container \"", id, "\": ", deleted.message());
}

}  // namespace

absl::StatusOr<int> RunInForeground(const runsc::Options& options, runsc::Created created,
                                    bool keep) {
  std::string id = created.state.id;
  pid_t monitor = created.state.processes.monitor_pid;
  absl::Status started = runsc::StartContainer(options, created.dir, created.state);
  // Others may stop or look at it from here on.
  { runsc::ContainerDir unlock = std::move(created.dir); }
  if (!started.ok()) {
    DeleteQuietly(options, id);
    return started;
  }
  absl::StatusOr<int> status = runsc::WaitInForeground(monitor, std::move(created.master));
  if (!keep) DeleteQuietly(options, id);
  return status;
}

absl::StatusOr<int> Run(const Args& args) {
  ASSIGN_OR_RETURN(runsc::CreateRequest request, ReadBundle(args));
  bool detach = request.attachment.detach;
  if (!detach) runsc::BecomeSubreaper();
  ASSIGN_OR_RETURN(runsc::Created created, runsc::CreateContainer(args.options, request));
  if (!detach) return RunInForeground(args.options, std::move(created), args.keep);
  absl::Status started = runsc::StartContainer(args.options, created.dir, created.state);
  if (started.ok()) return 0;
  { runsc::ContainerDir unlock = std::move(created.dir); }
  DeleteQuietly(args.options, request.id);
  return started;
}

}  // namespace caisson::cmd
