#include <limits.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/cmd/version.h"
#include "runsc/container/foreground.h"
#include "runsc/oci/names.h"

namespace caisson::cmd {
namespace {

using oci::Json;

absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) == nullptr) return HostErrnoStatus(errno, path);
  return std::string(resolved);
}

absl::StatusOr<Json> ProcessOf(const Args& args, const std::vector<std::string>& command) {
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) env.emplace_back(*entry);
  for (const std::string& entry : args.env) env.push_back(entry);
  std::string cwd = args.cwd;
  if (cwd.empty()) {
    char here[PATH_MAX];
    // The same place inside, where inside is a view of the host.
    cwd = args.rootfs.empty() && getcwd(here, sizeof(here)) != nullptr ? here : "/";
  }
  oci::User user;
  if (!args.user.empty()) {
    ASSIGN_OR_RETURN(user, ParseUser(args.user, user));
  }
  Json capabilities = Json::Object();
  for (const char* set : {"bounding", "effective", "permitted"}) {
    capabilities.Set(set, Json::Strings(oci::CapabilityNames()));
  }
  Json out = Json::Object();
  out.Set("terminal", args.tty || (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1))
      .Set("user", Json::Object().Set("uid", user.uid).Set("gid", user.gid))
      .Set("args", Json::Strings(command))
      .Set("env", Json::Strings(env))
      .Set("cwd", Json(cwd))
      .Set("capabilities", std::move(capabilities));
  return out;
}

int ExitStatusOf(const absl::Status& status) {
  absl::string_view text = status.message();
  if (absl::StrContains(text, "executable file not found in $PATH")) return 127;
  if (absl::IsPermissionDenied(status)) return 126;
  return 1;
}

}  // namespace

// A container of one command on a view of the host's root that keeps no change.
absl::StatusOr<int> Do(const Args& args) {
  std::vector<std::string> command = args.positional;
  if (!command.empty() && command[0] == "--") command.erase(command.begin());
  if (command.empty()) return absl::InvalidArgumentError("do: there is no command");
  ASSIGN_OR_RETURN(std::string root, AbsolutePath(args.rootfs.empty() ? "/" : args.rootfs));
  Json config = SpecTemplate(/*rootless=*/false);
  ASSIGN_OR_RETURN(Json process, ProcessOf(args, command));
  config.Set("process", std::move(process));
  config.Set("root", Json::Object().Set("path", Json(root)).Set("readonly", false));
  // No masked paths: nothing of the host is behind /proc and /sys.
  Json namespaces = Json::Array();
  for (const char* type : {"pid", "network", "ipc", "uts", "mount"}) {
    namespaces.Append(Json::Object().Set("type", type));
  }
  config.Set("linux", Json::Object().Set("namespaces", std::move(namespaces)));

  runsc::Options options = args.options;
  if (options.overlay == oci::Overlay::kNone) options.overlay = oci::Overlay::kRoot;
  runsc::CreateRequest request;
  request.id = absl::StrCat("do-", getpid());
  request.bundle = root;
  request.config = config.ToText();
  runsc::BecomeSubreaper();
  absl::StatusOr<runsc::Created> created = runsc::CreateContainer(options, request);
  if (!created.ok()) {
    int status = ExitStatusOf(created.status());
    if (status == 1) return created.status();
    LOG_ERROR(created.status().message());
    return status;
  }
  return RunInForeground(options, *std::move(created), /*keep=*/false);
}

}  // namespace caisson::cmd
