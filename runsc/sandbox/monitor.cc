#include "runsc/sandbox/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <deque>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status.h"
#include "confine/confine.h"
#include "confine/role.h"
#include "runsc/sandbox/monitor_filter.h"
#include "runsc/sandbox/sandbox.h"
#include "runsc/sandbox/sync.h"
#include "sentry/protocol/channel.h"

namespace caisson::runsc {
namespace {

using protocol::Reply;
using protocol::Request;

constexpr int kSandboxDied = 137;
constexpr int kBootTimeoutMs = 20'000;
constexpr int kCreateTimeoutMs = 55'000;
constexpr size_t kMaxQueuedSignals = 1024;
// Of what sentry and gofer write to stderr, this much is logged in the sandbox's life.
constexpr size_t kMaxErrorBytes = 64 << 10;
constexpr size_t kKeptErrorBytes = 512;

int64_t NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// Every signal is blocked, the C library's own two included, and read from a signalfd.
constexpr uint64_t kAllSignals = ~uint64_t{0};

void SetSignalMask(uint64_t mask) {
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof(mask));
}

// Ends this process as the guest's ended.
[[noreturn]] void EndAs(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signal = WTERMSIG(wait_status);
    // SIGKILL and SIGSTOP need no default set; a stop is no end and is never told as one.
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
    kill(getpid(), signal);
    SetSignalMask(kAllSignals & ~(uint64_t{1} << (signal - 1)));  // None but this is delivered.
    _exit(128 + signal);  // A signal that ends nobody.
  }
  _exit(WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : kSandboxDied);
}

constexpr char kExitedWell[] = "exited with status 0";

std::string DescribeEnd(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED && info.si_status == 0) return kExitedWell;
  if (info.si_code == CLD_EXITED) return absl::StrCat("exited with status ", info.si_status);
  return absl::StrCat("was ended by signal ", info.si_status,
                      info.si_status == SIGSYS ? " (a host call that its filter denies)" : "");
}

class Monitor {
 public:
  explicit Monitor(confine::RoleArgs args)
      : exec_(args.Option("mode") == "exec"),
        id_(args.Option("id")),
        sync_(args.TakeFd("sync")),
        owner_(args.TakeFd("owner")),
        control_(args.TakeFd("control")),
        sentry_(args.TakeFd("sentry")),
        gofer_(args.TakeFd("gofer")),
        gofer_life_(args.TakeFd("gofer-life")),
        errors_(args.TakeFd("errors")),
        terminal_(args.TakeFd("terminal")),
        root_(args.TakeFd("root")),
        mount_namespace_(args.TakeFd("mount-namespace")),
        exit_status_(args.TakeFd("exit-status")),
        log_(args.TakeFd("log")) {
    SetLogTarget(log_ ? log_.get() : -1,
                 args.Option("log-format") == "json" ? LogFormat::kJson : LogFormat::kText,
                 LogLevel::kWarning);
  }

  absl::Status Confine() {
    SetSignalMask(kAllSignals);
    signals_ = UniqueFd(static_cast<int>(
        syscall(SYS_signalfd4, -1, &kAllSignals, sizeof(kAllSignals), SFD_CLOEXEC)));
    if (!signals_) return HostErrnoStatus(errno, "signalfd");
    confine::SetResourceLimits();
    if (chdir("/") != 0) return HostErrnoStatus(errno, "chdir to /");
    RETURN_IF_ERROR(EnterContainerRoot());
    RETURN_IF_ERROR(confine::LimitCapabilities(0));
    RETURN_IF_ERROR(confine::SetNoNewPrivileges());
    const confine::FilterConstant own_pid{kOwnPid, static_cast<uint32_t>(getpid())};
    return confine::InstallFilter(MonitorFilterProgram(), confine::OnViolation::kKill,
                                  {&own_pid, 1});
  }

  // From the replies to Boot and CreateContainer (or to Exec) until the process runs or is ready
  // to. On failure the sandbox is gone.
  absl::Status Start() {
    if (!exec_) RETURN_IF_ERROR(AwaitReply(kBootTimeoutMs, nullptr));
    Reply reply;
    RETURN_IF_ERROR(AwaitReply(kCreateTimeoutMs, &reply));
    if (exec_) pid_ = reply.pid();
    Request wait;
    wait.mutable_wait()->set_container_id(id_);
    wait.mutable_wait()->set_pid(pid_);
    RETURN_IF_ERROR(protocol::SendMessage(owner_.get(), wait));
    SyncMessage done;
    done.kind = SyncMessage::kDone;
    RETURN_IF_ERROR(SendSync(sync_.get(), done));
    sync_.reset();
    return absl::OkStatus();
  }

  void ReportFailure(const absl::Status& status) {
    ReadErrors();
    std::string text(status.message());
    // What the sentry answered says it all; if it could not answer, its last words may.
    const bool answered = status.code() != absl::StatusCode::kUnavailable &&
                          status.code() != absl::StatusCode::kDeadlineExceeded;
    if (!answered && !last_errors_.empty()) absl::StrAppend(&text, ": ", last_errors_);
    SendSyncFailure(sync_.get(), StatusFromReply(ReplyCodeOf(status), text));
  }

  // Until the guest's process, or the sandbox, has ended. Returns a wait status.
  int Run() {
    while (true) {
      const int what = Poll({signals_.get(), owner_.get(), control_.get(), sentry_.get(),
                             gofer_.get(), errors_.get()},
                            -1);
      switch (what) {
        case 0: ReadSignals(); break;
        case 1: return ReadEnd();
        case 2: ReadControlReply(); break;
        case 3: LogSentryEnd(); return kSandboxDied << 8;
        case 4:
          if (GoferIsDone()) break;
          LOG_ERROR("gofer of sandbox ", id_, " ", gofer_end_, ": the sandbox ends");
          return kSandboxDied << 8;
        case 5: ReadErrors(); break;
        default: break;
      }
      SendQueued();
    }
  }

  // Kills sentry and gofer and waits until they are gone.
  void EndSandbox() {
    for (UniqueFd* child : {&sentry_, &gofer_}) {
      if (*child) syscall(SYS_pidfd_send_signal, child->get(), SIGKILL, nullptr, 0);
    }
    for (UniqueFd* child : {&sentry_, &gofer_}) {
      siginfo_t info{};
      while (*child && waitid(P_PIDFD, static_cast<id_t>(child->get()), &info, WEXITED) != 0 &&
             errno == EINTR) {
      }
      child->reset();
    }
  }

  // For `wait`, when who started the container has taken our status. What cannot be written is
  // not known later.
  void RecordEnd(int wait_status) {
    const std::string text = absl::StrCat(wait_status);
    if (exit_status_) {
      [[maybe_unused]] ssize_t written = write(exit_status_.get(), text.data(), text.size());
    }
  }

 private:
  // Engines look for a container's files through its pid: `podman cp` joins the mount namespace of
  // the pid and writes below "/". So ours has the container's root, and nothing of the host.
  absl::Status EnterContainerRoot() {
    if (mount_namespace_ && setns(mount_namespace_.get(), CLONE_NEWNS) != 0) {
      return HostErrnoStatus(errno, "the mount namespace of the container's monitor");
    }
    mount_namespace_.reset();
    if (!root_) return absl::OkStatus();
    if (unshare(CLONE_NEWNS) != 0) return HostErrnoStatus(errno, "the monitor's mount namespace");
    RETURN_IF_ERROR(confine::EnterRoot(root_));
    root_.reset();
    return absl::OkStatus();
  }

  // The index of the first of `fds` that is ready; invalid ones are passed over. -1: timeout.
  int Poll(std::initializer_list<int> fds, int timeout_ms) {
    pollfd entries[8];
    nfds_t count = 0;
    for (int fd : fds) entries[count++] = {.fd = fd, .events = POLLIN, .revents = 0};
    const timespec timeout{.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1'000'000};
    const int n = ppoll(entries, count, timeout_ms < 0 ? nullptr : &timeout, nullptr);
    if (n <= 0) return -1;
    for (nfds_t i = 0; i < count; ++i) {
      if (entries[i].revents != 0) return static_cast<int>(i);
    }
    return -1;
  }

  // The next reply on the owner connection, or why there is none.
  absl::Status AwaitReply(int timeout_ms, Reply* out) {
    const int64_t deadline = NowMs() + timeout_ms;
    while (true) {
      const int64_t left = deadline - NowMs();
      if (left <= 0) return absl::DeadlineExceededError("the sentry does not answer");
      // The sentry's reply comes before its end.
      const int what = Poll({owner_.get(), sync_.get(), sentry_.get(), gofer_.get(),
                             errors_.get()},
                            static_cast<int>(left));
      switch (what) {
        case 0: {
          Reply reply;
          absl::Status received =
              protocol::ReceiveMessage(owner_.get(), &reply, nullptr, 0);
          if (received.code() == absl::StatusCode::kOutOfRange && sentry_) {
            return absl::UnavailableError(absl::StrCat("sentry ", EndOf(sentry_)));
          }
          RETURN_IF_ERROR(received);
          if (out != nullptr) *out = reply;
          return ReplyStatus(reply);
        }
        case 1: return absl::CancelledError("the command line has gone");
        case 2: return absl::UnavailableError(absl::StrCat("sentry ", EndOf(sentry_)));
        case 3:
          if (GoferIsDone()) break;
          return absl::UnavailableError(absl::StrCat("gofer ", gofer_end_));
        case 4: ReadErrors(); break;
        default: break;
      }
    }
  }

  // Reaps a child that ends about now.
  static std::string EndOf(UniqueFd& child) {
    siginfo_t info{};
    if (waitid(P_PIDFD, static_cast<id_t>(child.get()), &info, WEXITED) != 0) return "has gone";
    child.reset();
    return DescribeEnd(info);
  }

  // A gofer all of whose connections the sentry has closed exits with 0, and is not missed.
  bool GoferIsDone() {
    ReadErrors();
    gofer_end_ = EndOf(gofer_);
    return gofer_end_ == kExitedWell;
  }

  void LogSentryEnd() {
    ReadErrors();
    LOG_ERROR("sentry of sandbox ", id_, " ", EndOf(sentry_), ": the sandbox ends");
  }

  // The answer to our WaitRequest. What is not one means that the sandbox has failed.
  int ReadEnd() {
    Reply reply;
    absl::Status received = protocol::ReceiveMessage(owner_.get(), &reply, nullptr, 0);
    if (received.ok()) received = ReplyStatus(reply);
    if (received.ok()) return reply.wait_status();
    if (sentry_ && received.code() == absl::StatusCode::kOutOfRange) {
      LogSentryEnd();
    } else {
      LOG_ERROR("sandbox ", id_, ": ", received.message());
    }
    return kSandboxDied << 8;
  }

  void ReadSignals() {
    signalfd_siginfo info{};
    if (read(signals_.get(), &info, sizeof(info)) != sizeof(info)) return;
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD && info.ssi_code != SI_USER) return;
    // Of our own log, whose reader has gone.
    if (signal == SIGPIPE && info.ssi_pid == static_cast<uint32_t>(getpid())) return;
    Request request;
    if (signal == SIGWINCH && terminal_) {
      winsize size{};
      if (ioctl(terminal_.get(), TIOCGWINSZ, &size) != 0) return;
      protocol::WindowSize* window = request.mutable_window_size();
      window->set_container_id(id_);
      window->set_pid(pid_);
      window->set_rows(size.ws_row);
      window->set_columns(size.ws_col);
    } else {
      protocol::SignalRequest* forward = request.mutable_signal();
      forward->set_container_id(id_);
      forward->set_pid(pid_);
      forward->set_signal(signal);
      // The kernel's own SIGHUP: the terminal has hung up.
      if (signal == SIGHUP && terminal_ && info.ssi_code == SI_KERNEL) {
        forward->set_target(protocol::SignalRequest::FOREGROUND_GROUP);
      }
    }
    if (queue_.size() < kMaxQueuedSignals) queue_.push_back(std::move(request));
  }

  // One request at a time is outstanding on the control connection.
  void SendQueued() {
    if (control_busy_ || queue_.empty() || !control_) return;
    if (protocol::SendMessage(control_.get(), queue_.front(), {}, /*dont_wait=*/true).ok()) {
      control_busy_ = true;
    }
    queue_.pop_front();
  }

  void ReadControlReply() {
    Reply reply;
    absl::Status received = protocol::ReceiveMessage(control_.get(), &reply, nullptr, 0);
    control_busy_ = false;
    // Its end without that of the owner connection would be a sentry that misbehaves: signals are
    // no longer forwarded, and SIGKILL still works.
    if (!received.ok()) control_.reset();
  }

  // What sentry and gofer write to stderr: why they could not start, what a library complains
  // about. They are not trusted: it is bounded, and escaped by the log.
  void ReadErrors() {
    char buffer[4096];
    while (errors_) {
      const ssize_t n = read(errors_.get(), buffer, sizeof(buffer));
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0 || error_bytes_ > kMaxErrorBytes) {
        errors_.reset();
        return;
      }
      error_bytes_ += static_cast<size_t>(n);
      for (absl::string_view line :
           absl::StrSplit(absl::string_view(buffer, static_cast<size_t>(n)), '\n',
                          absl::SkipEmpty())) {
        const bool error = absl::ConsumePrefix(&line, "error ");
        if (!error) absl::ConsumePrefix(&line, "warning ");
        if (error) {
          LOG_ERROR("sandbox ", id_, ": ", line);
        } else {
          LOG_WARNING("sandbox ", id_, ": ", line);
        }
        last_errors_ = std::string(line.substr(0, kKeptErrorBytes));
      }
    }
  }

  const bool exec_;
  const std::string id_;
  UniqueFd sync_;
  UniqueFd owner_;
  UniqueFd control_;
  UniqueFd sentry_;
  UniqueFd gofer_;
  UniqueFd gofer_life_;  // The gofer ends when this closes.
  UniqueFd errors_;
  UniqueFd terminal_;
  UniqueFd root_;
  UniqueFd mount_namespace_;
  UniqueFd exit_status_;
  UniqueFd log_;
  UniqueFd signals_;
  int32_t pid_ = 0;
  bool control_busy_ = false;
  std::deque<Request> queue_;
  size_t error_bytes_ = 0;
  std::string last_errors_;
  std::string gofer_end_;
};

}  // namespace

int MonitorMain(int argc, char** argv) {
  absl::StatusOr<confine::RoleArgs> args = confine::RoleArgs::Parse(argc, argv);
  if (!args.ok()) return 125;
  Monitor monitor(std::move(args).value());
  absl::Status started = monitor.Confine();
  if (started.ok()) started = monitor.Start();
  if (!started.ok()) {
    monitor.EndSandbox();
    monitor.ReportFailure(started);
    _exit(125);
  }
  const int wait_status = monitor.Run();
  monitor.EndSandbox();
  monitor.RecordEnd(wait_status);
  EndAs(wait_status);
}

}  // namespace caisson::runsc
