// A KernelControl that pretends: "programs" are named by args[0] and end as args[1] says. For tests
// of the monitor, the control server and confinement.
#ifndef CAISSON_SENTRY_BOOT_FAKE_KERNEL_H_
#define CAISSON_SENTRY_BOOT_FAKE_KERNEL_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/kernel_control.h"

namespace caisson::boot {

// args[0] of a pretended program:
//   exit N         ends with status N as soon as it is started
//   signal N       ends by signal N
//   sleep          runs until a signal ends it (0 and SIGCONT do not; SIGUSR1 makes it exit 7)
//   winsize        runs until a window size is set and exits with its columns
//   echo TEXT      writes TEXT to stdio[1] (or the terminal) and exits 0
//   gofer          sends a byte to its first gofer socket and exits with the byte it gets back
//   leave-gofer    closes its gofer sockets and goes on as sleep
//   notfound       is refused at creation: EXECUTABLE_NOT_FOUND
//   hang           creation takes forever
//   call N         the sentry makes the host system call N when it starts
//   abort          the sentry aborts when it starts
//   run ...        what FakeKernel::Runner returns is the exit status
class FakeKernel : public KernelControl {
 public:
  // Runs on a thread of its own with the program's args and the sockets to its gofer.
  using Runner =
      std::function<int(const std::vector<std::string>&, std::vector<UniqueFd>& gofers)>;
  explicit FakeKernel(Runner runner = {}) : runner_(std::move(runner)) {}

  protocol::Reply CreateContainer(protocol::Container container,
                                  std::vector<UniqueFd> gofer_sockets, ProcessFds fds) override;
  protocol::Reply StartContainer(const std::string& id) override;
  protocol::Reply Exec(const std::string& id, protocol::Process process, ProcessFds fds) override;
  void Wait(const std::string& id, int32_t pid,
            std::function<void(protocol::Reply)> done) override;
  protocol::Reply Signal(const protocol::SignalRequest& request) override;
  protocol::Reply Ps(const std::string& id) override;
  protocol::Reply SetWindowSize(const protocol::WindowSize& request) override;
  protocol::Reply Pause(const protocol::PauseRequest& request) override;
  protocol::Reply Resume(const std::string& id) override;
  protocol::Reply Events(const std::string& id) override;
  protocol::Reply Debug(const protocol::DebugRequest& request) override;
  protocol::Reply Update(const protocol::UpdateRequest& request) override;
  protocol::Reply State(const std::string& id) override;
  protocol::Reply Destroy(const std::string& id) override;

 private:
  struct Program {
    std::vector<std::string> args;
    ProcessFds fds;
    std::vector<UniqueFd> gofers;
    bool started = false;
    bool ended = false;
    int wait_status = 0;
    std::vector<std::function<void(protocol::Reply)>> waiters;
  };
  using Key = std::pair<std::string, int32_t>;

  void RunLocked(Program& program) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndLocked(Program& program, int wait_status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Program* FindLocked(const std::string& id, int32_t pid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Runner runner_;
  Mutex mu_;
  int32_t last_pid_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<Key, Program> programs_ ABSL_GUARDED_BY(mu_);
};

// Parts of a sentry with this kernel and no platform.
SentryParts FakeParts();

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_FAKE_KERNEL_H_
