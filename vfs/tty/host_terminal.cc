#include "vfs/tty/host_terminal.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "base/check.h"
#include "vfs/tty/pty.h"

namespace caisson::vfs::tty {

// What both threads share. The last of owner and threads ends it.
class HostTerminal::Core final : public RefCounted<HostTerminal::Core>, private WaitEntry {
 public:
  Core(RefPtr<DevptsFileSystem> devpts, RefPtr<Tty> tty, UniqueFd host)
      : devpts_(std::move(devpts)),
        tty_(std::move(tty)),
        host_(std::move(host)),
        wake_input_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    CHECK(wake_input_.valid());
    tty_->master_queue().Add(*this, kReadable | kWritable);
  }
  ~Core() override { tty_->master_queue().Remove(*this); }

  void Start() {
    std::thread(&Core::InputThread, RefPtr<Core>(this)).detach();
    std::thread(&Core::OutputThread, RefPtr<Core>(this)).detach();
  }

  void Stop() {
    {
      MutexLock lock(mu_);
      stopping_ = true;
      changed_.Broadcast();
    }
    uint64_t one = 1;
    CHECK(write(wake_input_.get(), &one, sizeof(one)) == sizeof(one));
    HangUp();
  }

  void UpdateWindow() {
    winsize w;
    if (ioctl(host_.get(), TIOCGWINSZ, &w) != 0) return;
    tty_->SetWindowSize({w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel});
  }

  bool Drain(int64_t deadline) {
    MutexLock lock(mu_);
    while (!output_gone_ && (output_busy_ || (tty_->MasterReadiness() & kReadable) != 0)) {
      if (!changed_.WaitUntil(mu_, deadline)) return false;
    }
    return true;
  }

  Tty& tty() { return *tty_; }
  DevptsFileSystem& devpts() { return *devpts_; }

 private:
  void OnEvent(EventMask) override {
    MutexLock lock(mu_);
    ++events_;
    changed_.Broadcast();
  }

  // The host's end is gone, or we are.
  void HangUp() {
    {
      MutexLock lock(mu_);
      if (std::exchange(hung_up_, true)) return;
    }
    devpts_->Remove(tty_->index());  // As pty_close(): gone for whoever hears of it.
    tty_->CloseMaster();
  }

  // Waits for an event of the terminal after the `seen`th. False when stopping.
  bool AwaitEvent(uint64_t seen) {
    MutexLock lock(mu_);
    while (!stopping_ && events_ == seen) changed_.Wait(mu_);
    return !stopping_;
  }
  uint64_t events() {
    MutexLock lock(mu_);
    return events_;
  }

  static void InputThread(RefPtr<Core> core) { core->MoveInput(); }
  static void OutputThread(RefPtr<Core> core) { core->MoveOutput(); }

  void MoveInput() {
    char buffer[4096];
    for (;;) {
      pollfd p[2] = {{host_.get(), POLLIN, 0}, {wake_input_.get(), POLLIN, 0}};
      if (ppoll(p, 2, nullptr, nullptr) < 0) {
        if (errno == EINTR) continue;
        return HangUp();
      }
      if (p[1].revents != 0) return;
      ssize_t n = read(host_.get(), buffer, sizeof(buffer));
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) return HangUp();
      UpdateWindow();
      absl::Span<const char> rest(buffer, static_cast<size_t>(n));
      while (!rest.empty()) {
        uint64_t seen = events();
        size_t taken = tty_->Input(rest);
        rest.remove_prefix(taken);
        if (taken == 0 && !AwaitEvent(seen)) return;
      }
    }
  }

  void MoveOutput() {
    char buffer[4096];
    for (;;) {
      uint64_t seen = events();
      SetBusy(true);
      size_t n = tty_->TakeOutput(absl::MakeSpan(buffer));
      bool sent = n == 0 || WriteAll({buffer, n});
      SetBusy(false);
      if (!sent) HangUp();  // Writers in the guest get EIO rather than wait for ever.
      if (!sent || (n == 0 && !AwaitEvent(seen))) break;
    }
    MutexLock lock(mu_);
    output_gone_ = true;
    changed_.Broadcast();
  }

  void SetBusy(bool busy) {
    MutexLock lock(mu_);
    output_busy_ = busy;
    if (!busy) changed_.Broadcast();
  }

  // False if the host's end is gone.
  bool WriteAll(absl::Span<const char> bytes) {
    while (!bytes.empty()) {
      ssize_t n = write(host_.get(), bytes.data(), bytes.size());
      if (n >= 0) {
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (errno == EAGAIN) {
        pollfd p = {host_.get(), POLLOUT, 0};
        ppoll(&p, 1, nullptr, nullptr);
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }

  const RefPtr<DevptsFileSystem> devpts_;
  const RefPtr<Tty> tty_;
  const UniqueFd host_;
  const UniqueFd wake_input_;
  Mutex mu_;  // Below wait queues.
  CondVar changed_;
  uint64_t events_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool hung_up_ ABSL_GUARDED_BY(mu_) = false;
  bool output_busy_ ABSL_GUARDED_BY(mu_) = false;
  bool output_gone_ ABSL_GUARDED_BY(mu_) = false;

  friend class RefCounted<HostTerminal::Core>;
};

HostTerminal::HostTerminal(RefPtr<Core> core) : core_(std::move(core)) {}

Result<std::unique_ptr<HostTerminal>> HostTerminal::Start(RefPtr<DevptsFileSystem> devpts,
                                                          UniqueFd host, uint32_t uid,
                                                          uint32_t gid) {
  RefPtr<Tty> tty = TRY(devpts->NewTerminal(uid, gid));
  tty->Unlock();
  auto core = MakeRef<Core>(std::move(devpts), std::move(tty), std::move(host));
  core->UpdateWindow();
  core->Start();
  return std::unique_ptr<HostTerminal>(new HostTerminal(std::move(core)));
}

HostTerminal::~HostTerminal() { core_->Stop(); }

Tty& HostTerminal::tty() const { return core_->tty(); }

Result<RefPtr<FileDescription>> HostTerminal::OpenSlave(CallContext& ctx, uint32_t flags) {
  RefPtr<Inode> inode = core_->devpts().SlaveInode(tty().index());
  if (!inode) return Errno::kEIO;
  constexpr uint32_t kKept = kOpenAccessMode | kOpenNonblock | kOpenAppend;
  return PtySlave::Open(ctx, RefPtr<Tty>(&core_->tty()), VfsPath(), std::move(inode),
                        flags & kKept, /*no_ctty=*/true);
}

void HostTerminal::OnHostResize() { core_->UpdateWindow(); }

bool HostTerminal::Drain(int64_t deadline) { return core_->Drain(deadline); }

}  // namespace caisson::vfs::tty
