#include "runsc/container/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "runsc/container/process.h"

namespace caisson::runsc {
namespace {

// A memfd with `content`, at its start.
UniqueFd MemoryFile(const std::string& content) {
  UniqueFd fd(memfd_create("hook", MFD_CLOEXEC));
  if (fd &&
      pwrite(fd.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
    fd.reset();
  }
  return fd;
}

struct Child {
  std::vector<char*> args;
  std::vector<char*> env;
  const char* path;
  int in, out;
  std::vector<int> namespaces;
};

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

[[noreturn]] void Exec(Child& child) {
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  auto fail = [](const char* what) {
    dprintf(STDERR_FILENO, "%s: %s", what, strerrordesc_np(errno));
    _exit(127);
  };
  dup2(child.in, STDIN_FILENO);
  dup2(child.out, STDOUT_FILENO);
  dup2(child.out, STDERR_FILENO);
  for (int fd : child.namespaces) {
    if (setns(fd, 0) != 0) fail("setns");
  }
  close_range(3, ~0u, 0);
  execve(child.path, child.args.data(), child.env.data());
  fail("exec");
  _exit(127);
}

// Descriptors of the namespaces of `pid` that are not ours already.
absl::StatusOr<std::vector<UniqueFd>> NamespacesOf(pid_t pid) {
  std::vector<UniqueFd> out;
  for (const char* name : {"net", "ipc", "uts", "mnt"}) {
    std::string path = absl::StrCat("/proc/", pid, "/ns/", name);
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat theirs {};
    struct stat ours {};
    if (!fd || fstat(fd.get(), &theirs) != 0 ||
        stat(absl::StrCat("/proc/self/ns/", name).c_str(), &ours) != 0) {
      return HostErrnoStatus(errno, path);
    }
    if (theirs.st_ino != ours.st_ino) out.push_back(std::move(fd));
  }
  return out;
}

// The last bytes of what the hook printed, as one line.
std::string Output(int fd) {
  constexpr off_t kMax = 1000;
  struct stat st {};
  if (fstat(fd, &st) != 0 || st.st_size == 0) return "";
  off_t start = st.st_size > kMax ? st.st_size - kMax : 0;
  std::string text(static_cast<size_t>(st.st_size - start), '\0');
  ssize_t n = pread(fd, text.data(), text.size(), start);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return absl::StrCat(": ", absl::CHexEscape(absl::StripAsciiWhitespace(text)));
}

// The wait status of `pid`, or DeadlineExceeded after killing it and its group.
absl::StatusOr<int> WaitWithTimeout(pid_t pid, std::optional<int> seconds) {
  bool late = false;
  if (seconds.has_value()) {
    UniqueFd pidfd = OpenPidfd(pid);
    pollfd p{pidfd.get(), POLLIN, 0};
    int n = 0;
    do {
      n = poll(&p, 1, *seconds > 2'000'000 ? -1 : *seconds * 1000);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
      late = true;
      kill(-pid, SIGKILL);
      kill(pid, SIGKILL);
    }
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return HostErrnoStatus(errno, "waitpid");
  }
  if (late) {
    return absl::DeadlineExceededError(absl::StrCat("not done after ", *seconds, " seconds"));
  }
  return status;
}

absl::Status RunHook(const oci::Hook& hook, const std::string& state_json, pid_t enter) {
  UniqueFd in = MemoryFile(state_json);
  UniqueFd out(memfd_create("hook-output", MFD_CLOEXEC));
  if (!in || !out) return HostErrnoStatus(errno, "memfd_create");
  std::vector<UniqueFd> namespaces;
  if (enter > 0) {
    ASSIGN_OR_RETURN(namespaces, NamespacesOf(enter));
  }
  Child child;
  std::vector<std::string> only_name = {hook.path};
  child.args = Pointers(hook.args.empty() ? only_name : hook.args);
  if (hook.env.empty()) {
    for (char** entry = environ; *entry != nullptr; ++entry) child.env.push_back(*entry);
    child.env.push_back(nullptr);
  } else {
    child.env = Pointers(hook.env);
  }
  child.path = hook.path.c_str();
  child.in = in.get();
  child.out = out.get();
  for (const UniqueFd& fd : namespaces) child.namespaces.push_back(fd.get());
  pid_t pid = fork();
  if (pid < 0) return HostErrnoStatus(errno, "fork");
  if (pid == 0) Exec(child);
  ASSIGN_OR_RETURN(int status, WaitWithTimeout(pid, hook.timeout_seconds));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  std::string how = WIFEXITED(status) ? absl::StrCat("exit status ", WEXITSTATUS(status))
                                      : absl::StrCat("signal ", WTERMSIG(status));
  return absl::InternalError(absl::StrCat(how, Output(out.get())));
}

}  // namespace

absl::Status RunHooks(absl::string_view kind, const std::vector<oci::Hook>& hooks,
                      const std::string& state_json, pid_t enter) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    absl::Status status = RunHook(hooks[i], state_json, enter);
    if (!status.ok()) {
      return Annotate(status,
                      absl::StrCat("error running ", kind, " hook #", i, " (", hooks[i].path, ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace caisson::runsc
