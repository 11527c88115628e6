#include "runsc/container/attach.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"
#include "runsc/container/console.h"
#include "runsc/container/process.h"

namespace caisson::runsc {
namespace {

constexpr int kMaxPreserved = 1000;

absl::StatusOr<UniqueFd> Duplicate(int fd) {
  UniqueFd out(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!out) return HostErrnoStatus(errno, absl::StrCat("descriptor ", fd));
  return out;
}

absl::Status Preserve(int count, protocol::Process& process, std::vector<UniqueFd>& out) {
  int listen = 0;
  const char* variable = getenv("LISTEN_FDS");
  if (variable != nullptr && absl::SimpleAtoi(variable, &listen) && listen > 0) {
    process.add_env(absl::StrCat("LISTEN_FDS=", listen));
    process.add_env("LISTEN_PID=1");
  } else {
    listen = 0;
  }
  if (count < 0 || count > kMaxPreserved || listen > kMaxPreserved) {
    return absl::InvalidArgumentError("--preserve-fds: out of range");
  }
  int total = listen + count;
  for (int fd = 3; fd < 3 + total; ++fd) {
    // What we opened ourselves is close-on-exec; what was handed to us is not.
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--preserve-fds: descriptor ", fd, " (of ", total, ") is not open"));
    }
    ASSIGN_OR_RETURN(UniqueFd copy, Duplicate(fd));
    out.push_back(std::move(copy));
  }
  process.set_preserved_fds(static_cast<uint32_t>(total));
  return absl::OkStatus();
}

absl::Status WritePidFile(const std::string& path, pid_t pid) {
  std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  std::string text = absl::StrCat(pid);
  bool written =
      fd && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (!written || rename(temporary.c_str(), path.c_str()) != 0) {
    int error = errno;
    if (fd) unlink(temporary.c_str());
    return HostErrnoStatus(error, absl::StrCat("writing the pid file ", path));
  }
  return absl::OkStatus();
}

absl::Status CheckTerminal(const Attachment& attachment, bool terminal) {
  bool has_socket = !attachment.console_socket.empty();
  if (terminal && attachment.detach && !has_socket) {
    return absl::InvalidArgumentError(
        "cannot allocate tty if runsc will detach without setting console socket");
  }
  if (has_socket && (!terminal || !attachment.detach)) {
    return absl::InvalidArgumentError(
        "cannot use console socket if runsc will not detach or allocate tty");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Attached> Attach(const Attachment& attachment, protocol::Process& process) {
  RETURN_IF_ERROR(CheckTerminal(attachment, process.terminal()));
  Attached out;
  if (process.terminal()) {
    ASSIGN_OR_RETURN(Pty pty, OpenPty(process.console_rows(), process.console_columns()));
    if (!attachment.detach && process.console_rows() == 0) {
      CopyWindowSize(STDIN_FILENO, pty.master.get());
    }
    out.master = std::move(pty.master);
    out.stdio.terminal = std::move(pty.slave);
  } else {
    for (int fd = 0; fd < 3; ++fd) {
      ASSIGN_OR_RETURN(out.stdio.fds[fd], Duplicate(fd));
    }
  }
  RETURN_IF_ERROR(Preserve(attachment.preserve_fds, process, out.stdio.preserved));
  return out;
}

absl::Status Announce(const Attachment& attachment, pid_t monitor, UniqueFd& master) {
  if (master && !attachment.console_socket.empty()) {
    RETURN_IF_ERROR(SendDescriptor(attachment.console_socket, master.get(), "/dev/ptmx"));
    master.reset();
  }
  if (!attachment.pidfd_socket.empty()) {
    UniqueFd pidfd = OpenPidfd(monitor);
    if (!pidfd) return HostErrnoStatus(errno, "pidfd_open");
    RETURN_IF_ERROR(SendDescriptor(attachment.pidfd_socket, pidfd.get(), "pidfd"));
  }
  if (attachment.pid_file.empty()) return absl::OkStatus();
  return WritePidFile(attachment.pid_file, monitor);
}

absl::StatusOr<UniqueFd> OpenDebugLog(const Options& options, const std::string& command,
                                      const std::string& id) {
  if (options.debug_log.empty()) {
    if (!options.strace) return UniqueFd();
    return Duplicate(options.log_fd >= 0 ? options.log_fd : STDERR_FILENO);
  }
  std::string path = options.debug_log;
  if (absl::EndsWith(path, "/")) {
    mkdir(path.c_str(), 0755);
    absl::StrAppend(&path, "runsc.log.%TIMESTAMP%.%ID%.%COMMAND%.txt");
  }
  std::string stamp =
      absl::StrReplaceAll(NowRfc3339(), {{":", ""}, {"-", ""}, {"T", "-"}, {"Z", ""}});
  path = absl::StrReplaceAll(path, {{"%TIMESTAMP%", stamp}, {"%COMMAND%", command}, {"%ID%", id}});
  UniqueFd out(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644));
  if (!out) return HostErrnoStatus(errno, absl::StrCat("opening the debug log ", path));
  return out;
}

}  // namespace caisson::runsc
