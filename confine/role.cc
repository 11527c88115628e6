#include "confine/role.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace caisson::confine {
namespace {

constexpr int kFirstFd = 3;
constexpr absl::string_view kFdPrefix = "fd-";

// Moves every descriptor out of the way first, so that placing one never destroys another.
absl::StatusOr<int> MoveUp(int fd, int above) {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, above);
  if (moved < 0) return HostErrnoStatus(errno, "F_DUPFD_CLOEXEC");
  return moved;
}

absl::Status Place(int from, int to, int flags) {
  if (dup3(from, to, flags) < 0) return HostErrnoStatus(errno, "dup3");
  return absl::OkStatus();
}

}  // namespace

absl::Status ExecRole(int exe_fd, const RoleExec& role) {
  std::vector<std::string> args = {role.role};
  for (const auto& [key, value] : role.options) args.push_back(absl::StrCat("--", key, "=", value));
  std::vector<int> from;
  for (const auto& [name, fd] : role.fds) {
    if (fd < 0) continue;
    args.push_back(absl::StrCat("--", kFdPrefix, name, "=", kFirstFd + from.size()));
    from.push_back(fd);
  }
  const int count = static_cast<int>(from.size());
  const int above = kFirstFd + count + 1;
  const int stderr_fd = role.stderr_fd >= 0 ? role.stderr_fd : role.null_fd;
  for (int& fd : from) {
    ASSIGN_OR_RETURN(fd, MoveUp(fd, above));
  }
  ASSIGN_OR_RETURN(const int null_fd, MoveUp(role.null_fd, above));
  ASSIGN_OR_RETURN(const int error_fd, MoveUp(stderr_fd, above));
  ASSIGN_OR_RETURN(const int exe, MoveUp(exe_fd, above));
  for (int i = 0; i < count; ++i) RETURN_IF_ERROR(Place(from[i], kFirstFd + i, 0));
  RETURN_IF_ERROR(Place(null_fd, 0, 0));
  RETURN_IF_ERROR(Place(null_fd, 1, 0));
  RETURN_IF_ERROR(Place(error_fd, 2, 0));
  const int exe_at = kFirstFd + count;
  RETURN_IF_ERROR(Place(exe, exe_at, O_CLOEXEC));
  if (close_range(static_cast<unsigned>(exe_at) + 1, ~0u, 0) != 0) {
    return HostErrnoStatus(errno, "close_range");
  }

  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  std::vector<char*> envp;
  std::string sanitizer_options;
#ifdef CAISSON_SANITIZED
  for (const char* name : {"ASAN_OPTIONS", "TSAN_OPTIONS"}) {
    const char* value = getenv(name);
    if (value == nullptr) continue;
    sanitizer_options = absl::StrCat(name, "=", value);
    envp.push_back(sanitizer_options.data());
    break;
  }
#endif
  envp.push_back(nullptr);
  uint64_t no_signals = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, nullptr, sizeof(no_signals));
  syscall(SYS_execveat, exe_at, "", argv.data(), envp.data(), AT_EMPTY_PATH);
  return HostErrnoStatus(errno, absl::StrCat("executing ", role.role));
}

absl::StatusOr<RoleArgs> RoleArgs::Parse(int argc, char** argv) {
  RoleArgs result;
  if (argc < 1) return absl::InvalidArgumentError("no arguments");
  prctl(PR_SET_NAME, argv[0], 0, 0, 0);
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    const size_t equals = arg.find('=');
    if (arg.substr(0, 2) != "--" || equals == absl::string_view::npos) {
      return absl::InvalidArgumentError("unexpected argument");
    }
    const absl::string_view key = arg.substr(2, equals - 2);
    const absl::string_view value = arg.substr(equals + 1);
    if (key.substr(0, kFdPrefix.size()) != kFdPrefix) {
      result.options_[std::string(key)] = std::string(value);
      continue;
    }
    int fd = -1;
    if (!absl::SimpleAtoi(value, &fd) || fd < kFirstFd || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("bad descriptor ", value));
    }
    result.fds_[std::string(key.substr(kFdPrefix.size()))] = UniqueFd(fd);
  }
  return result;
}

UniqueFd RoleArgs::TakeFd(const std::string& name) {
  auto it = fds_.find(name);
  if (it == fds_.end()) return UniqueFd();
  UniqueFd fd = std::move(it->second);
  fds_.erase(it);
  return fd;
}

std::string RoleArgs::Option(const std::string& key) const {
  auto it = options_.find(key);
  return it == options_.end() ? std::string() : it->second;
}

int RoleArgs::IntOption(const std::string& key) const {
  int value = 0;
  return absl::SimpleAtoi(Option(key), &value) ? value : 0;
}

}  // namespace caisson::confine
