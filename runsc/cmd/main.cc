#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"

namespace caisson::cmd {
namespace {

using Handler = absl::StatusOr<int> (*)(const Args&);

const std::map<std::string, Handler>& Handlers() {
  static const auto* handlers =
      new std::map<std::string, Handler>{{"create", Create},
                                         {"start", Start},
                                         {"run", Run},
                                         {"exec", Exec},
                                         {"kill", Kill},
                                         {"delete", Delete},
                                         {"state", State},
                                         {"ps", Ps},
                                         {"list", List},
                                         {"wait", Wait},
                                         {"spec", Spec},
                                         {"features", Features},
                                         {"do", Do},
                                         {"debug", Debug},
                                         {"metrics", Metrics},
                                         {"version", Version},
                                         {"pause", Pause},
                                         {"resume", Resume},
                                         {"update", Update},
                                         {"events", Events},
                                         {"checkpoint", Checkpoint},
                                         {"restore", Checkpoint},
                                         {"internal-oci-doc", OciDocument}};
  return *handlers;
}

// A closed standard descriptor would be taken by the next open.
void OpenStandardDescriptors() {
  int fd = -1;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

// In the log, where engines look, and on standard error, where people do.
void Fail(int log_fd, bool json, const std::string& message) {
  if (log_fd >= 0 || json) {
    LOG_ERROR(message);
  }
  if (log_fd >= 0 || !json) {
    std::string line = absl::StrCat("runsc: ", message, "\n");
    [[maybe_unused]] ssize_t n = write(STDERR_FILENO, line.data(), line.size());
  }
}

}  // namespace

absl::Status Print(absl::string_view text) {
  while (!text.empty()) {
    ssize_t n = write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return HostErrnoStatus(errno, "writing to standard output");
    text.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  OpenStandardDescriptors();
  signal(SIGPIPE, SIG_IGN);
  umask(022);
  std::string log = FindGlobal(argc, argv, "--log");
  bool json = FindGlobal(argc, argv, "--log-format") == "json";
  UniqueFd log_fd;
  if (!log.empty() && log != "/dev/stderr") {
    log_fd.reset(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!log_fd) {
      Fail(-1, json, absl::StrCat("opening the log ", log, ": ", strerrordesc_np(errno)));
      return 1;
    }
  }
  LogFormat format = json ? LogFormat::kJson : LogFormat::kText;
  SetLogTarget(log_fd ? log_fd.get() : STDERR_FILENO, format,
               log_fd ? LogLevel::kInfo : LogLevel::kWarning);
  Args args;
  std::string error;
  if (std::optional<int> status = ParseArgs(argc, argv, args, error)) {
    if (!error.empty()) Fail(log_fd.get(), json, error);
    return *status;
  }
  if (args.options.debug) {
    SetLogTarget(log_fd ? log_fd.get() : STDERR_FILENO, format, LogLevel::kDebug);
  }
  args.options.log_fd = log_fd.get();
  for (const std::string& option : args.ignored) LOG_INFO(option, ": ignored, without effect");
  absl::StatusOr<int> status = Handlers().at(args.command)(args);
  if (status.ok()) return *status;
  std::string message(status.status().message());
  if (args.command == "create" || args.command == "run") {
    message = absl::StrCat("runsc ", args.command, " failed: ", message);
  } else if (args.command == "exec") {
    message = absl::StrCat("exec failed: ", message);
  }
  Fail(log_fd.get(), json, message);
  // runc's exec fails with 255, so that it is not taken for the status of what ran.
  return args.command == "exec" ? 255 : 1;
}

}  // namespace caisson::cmd
