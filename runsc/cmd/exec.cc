#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/foreground.h"

namespace caisson::cmd {
namespace {

// The container's own process with the options of the command line.
absl::StatusOr<oci::Process> ProcessFromArgs(const Args& args, const runsc::ContainerDir& dir) {
  ASSIGN_OR_RETURN(oci::Spec spec, runsc::LoadSpec(dir));
  oci::Process process = *spec.process;
  process.args.assign(args.positional.begin() + 1, args.positional.end());
  if (!process.args.empty() && process.args[0] == "--") process.args.erase(process.args.begin());
  if (process.args.empty()) return absl::InvalidArgumentError("process args cannot be empty");
  process.terminal = args.tty;
  process.console_rows = process.console_columns = 0;
  if (!args.cwd.empty()) process.cwd = args.cwd;
  if (process.cwd[0] != '/') return absl::InvalidArgumentError("Cwd must be an absolute path");
  if (!args.user.empty()) {
    ASSIGN_OR_RETURN(process.user, ParseUser(args.user, process.user));
  }
  for (const std::string& entry : args.env) process.env.push_back(entry);
  for (uint32_t gid : args.additional_gids) process.user.additional_gids.push_back(gid);
  for (const std::string& name : args.capabilities) {
    if (!process.capabilities.has_value()) process.capabilities.emplace();
    for (auto* set : {&process.capabilities->bounding, &process.capabilities->effective,
                      &process.capabilities->permitted, &process.capabilities->ambient}) {
      set->push_back(name);
    }
  }
  process.no_new_privileges |= args.no_new_privileges;
  return process;
}

absl::Status CheckRunning(const Opened& container, bool ignore_paused) {
  switch (runsc::StatusOf(container.dir, container.state)) {
    case runsc::Status::kStopped:
      return absl::FailedPreconditionError(
          "cannot exec in a stopped container: container not running");
    case runsc::Status::kCreating:
      return absl::FailedPreconditionError("cannot exec in a container that is being created");
    case runsc::Status::kPaused:
      // A frozen sentry starts nothing; the process would begin when it is resumed.
      return ignore_paused
                 ? absl::UnimplementedError("--ignore-paused: a paused sandbox starts no process")
                 : absl::FailedPreconditionError("cannot exec in a paused container");
    default:
      return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<int> Exec(const Args& args) {
  if (!args.sub_cgroup.empty()) {
    return absl::UnimplementedError("--cgroup: sub-cgroups are not supported");
  }
  if (!args.label.empty()) {
    LOG_INFO("exec: ", args.label, ": ignored: the guest reaches no host file system for it to guard");
  }
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  RETURN_IF_ERROR(CheckRunning(container, args.ignore_paused));
  runsc::ExecRequest request;
  request.attachment = args.attachment;
  if (!args.process_file.empty()) {
    ASSIGN_OR_RETURN(oci::Json json, oci::LoadJson(args.process_file));
    absl::StatusOr<oci::Process> process = oci::ReadProcess(json);
    if (!process.ok()) return Annotate(process.status(), args.process_file);
    request.process = *std::move(process);
    if (args.tty) request.process.terminal = true;
  } else {
    ASSIGN_OR_RETURN(request.process, ProcessFromArgs(args, container.dir));
  }
  ASSIGN_OR_RETURN(runsc::ExecStarted started,
                   runsc::ExecInContainer(args.options, container.dir, container.state, request));
  if (request.attachment.detach) return 0;
  return runsc::WaitInForeground(started.monitor, std::move(started.master));
}

}  // namespace caisson::cmd
