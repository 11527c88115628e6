#include "runsc/container/foreground.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>

#include "base/status.h"
#include "runsc/container/console.h"
#include "runsc/container/process.h"

namespace caisson::runsc {
namespace {

constexpr size_t kBuffer = 32768;

// One direction of a copy. Writes may block: a reader that stops reading stops the guest's
// terminal, as a real one would.
class Pump {
 public:
  Pump(int from, int to) : from_(from), to_(to) {}
  bool open() const { return open_; }
  int from() const { return from_; }

  // False when there is nothing more to come.
  bool Step() {
    char buffer[kBuffer];
    ssize_t n = read(from_, buffer, sizeof(buffer));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n <= 0) return open_ = false;  // A pty master whose other end is closed says EIO.
    for (ssize_t done = 0; done < n;) {
      ssize_t w = write(to_, buffer + done, static_cast<size_t>(n - done));
      if (w < 0 && errno == EINTR) continue;
      if (w < 0 && errno == EAGAIN) {
        pollfd p{to_, POLLOUT, 0};
        poll(&p, 1, -1);
        continue;
      }
      if (w < 0) return open_ = false;
      done += w;
    }
    return true;
  }

 private:
  int from_;
  int to_;
  bool open_ = true;
};

bool Readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, 0) > 0 && (p.revents & (POLLIN | POLLHUP)) != 0;
}

// What is for us and not for the container.
bool IsOurs(int signal) {
  return signal == SIGCHLD || signal == SIGWINCH || signal == SIGURG || signal == SIGPIPE ||
         signal == SIGTTOU || signal == SIGTTIN;
}

UniqueFd BlockAllSignals() {
  sigset_t all;
  sigfillset(&all);
  // A fault of our own must not loop.
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS}) {
    sigdelset(&all, signal);
  }
  sigprocmask(SIG_SETMASK, &all, nullptr);
  return UniqueFd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
}

void TakeSignals(int signal_fd, pid_t monitor, int master) {
  signalfd_siginfo info{};
  while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
    auto signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGWINCH && master >= 0) CopyWindowSize(STDIN_FILENO, master);
    if (!IsOurs(signal)) kill(monitor, signal);
  }
}

// Readers of our standard output must see its end, and writers to our standard input a broken
// pipe, when the container is done with them.
void LetGoOfStdio() {
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  dup2(null.get(), STDIN_FILENO);
  dup2(null.get(), STDOUT_FILENO);
}

absl::StatusOr<int> Reap(pid_t monitor) {
  // A monitor that is a grandchild is ours to wait for once its parent has gone.
  for (int tries = 0;; ++tries) {
    int status = 0;
    pid_t pid = waitpid(monitor, &status, 0);
    if (pid == monitor) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (errno == EINTR) continue;
    if (errno != ECHILD || tries > 500) return HostErrnoStatus(errno, "waiting for the container");
    timespec delay{0, 1'000'000};
    nanosleep(&delay, nullptr);
  }
}

}  // namespace

void BecomeSubreaper() { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

absl::StatusOr<int> WaitInForeground(pid_t monitor, UniqueFd master) {
  UniqueFd signals = BlockAllSignals();
  UniqueFd pidfd = OpenPidfd(monitor);
  if (!signals || !pidfd) return Reap(monitor);
  std::optional<RawMode> raw;
  if (master) {
    CopyWindowSize(STDIN_FILENO, master.get());
    raw.emplace(STDIN_FILENO);
  } else {
    LetGoOfStdio();
  }
  const bool terminal = isatty(STDIN_FILENO) != 0;
  Pump in(STDIN_FILENO, master.get());
  Pump out(master.get(), STDOUT_FILENO);
  while (true) {
    pollfd fds[] = {{pidfd.get(), POLLIN, 0},
                    {signals.get(), POLLIN, 0},
                    {master && out.open() ? master.get() : -1, POLLIN, 0},
                    {master && in.open() ? STDIN_FILENO : -1, POLLIN, 0}};
    if (poll(fds, 4, -1) < 0 && errno != EINTR) return HostErrnoStatus(errno, "poll");
    if (fds[1].revents != 0) TakeSignals(signals.get(), monitor, master ? master.get() : -1);
    if (fds[2].revents != 0) out.Step();
    // A terminal in raw mode ends when it is hung up: then the container's is too. The signal alone
    // would be lost on whoever handles it just before reading on.
    if (fds[3].revents != 0 && !in.Step() && terminal) master.reset();
    if (fds[0].revents != 0) break;
  }
  while (master && Readable(master.get()) && out.Step()) {
  }
  return Reap(monitor);
}

}  // namespace caisson::runsc
