// The kernel of a sandbox behind the control server: containers and processes by name.
#ifndef CAISSON_SENTRY_BOOT_SANDBOX_KERNEL_H_
#define CAISSON_SENTRY_BOOT_SANDBOX_KERNEL_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "sentry/boot/container_mounts.h"
#include "sentry/boot/kernel_control.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel.h"
#include "syscalls/dispatch.h"
#include "vfs/host/host_file.h"
#include "vfs/host/host_poller.h"
#include "vfs/tty/host_terminal.h"

namespace caisson::boot {

// The reply to a call for a container that is not there.
protocol::Reply NoContainer(const std::string& id);

// Thread-safe: mu_ guards the tables, and is not held while a process is made or waited for.
class SandboxKernel final : public KernelControl {
 public:
  SandboxKernel(const protocol::SandboxConfig& config, const kernel::KernelConfig& kernel_config,
                std::unique_ptr<platform::Platform> platform);
  ~SandboxKernel() override;

  protocol::Reply CreateContainer(protocol::Container container, std::vector<UniqueFd> gofer_sockets,
                                  ProcessFds fds) override;
  protocol::Reply StartContainer(const std::string& id) override;
  protocol::Reply Exec(const std::string& id, protocol::Process process, ProcessFds fds) override;
  void Wait(const std::string& id, int32_t pid, std::function<void(protocol::Reply)> done) override;
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
  // A process that control calls can name: a container's first, or one that Exec() started.
  struct Process {
    RefPtr<kernel::ThreadGroup> group;
    std::shared_ptr<vfs::tty::HostTerminal> terminal;
    bool ended = false;
    int32_t wait_status = 0;
    std::vector<std::function<void(protocol::Reply)>> waiters;
  };
  struct ContainerState {
    RefPtr<kernel::Container> container;
    MountedContainer mounts;
    RefPtr<kernel::NamespaceSet> namespaces;
    RefPtr<kernel::PidNamespace> pid_ns;
    RefPtr<kernel::Task> init;  // Until started.
    bool started = false;
    std::map<int32_t, Process> processes;  // By pid inside; the first is 0.
  };

  // Makes a process that does not run yet; fills `out`. A failure is a reply. As with runc, a missing
  // working directory is made for a container's first process and is an error for others.
  protocol::Reply NewProcess(ContainerState& state, const protocol::Process& spec, bool first, ProcessFds fds,
                             Process* out, RefPtr<kernel::Task>* task);
  // Tells waiters when `key`'s process has ended, once all that it wrote is with the host.
  void WatchEnd(const std::string& id, int32_t key);
  void OnEnd(const std::string& id, int32_t key, int32_t status);
  std::shared_ptr<ContainerState> Find(const std::string& id);
  RefPtr<kernel::ThreadGroup> GroupOf(const std::string& id, int32_t pid);

  syscalls::Dispatcher dispatcher_;
  kernel::Kernel kernel_;
  vfs::HostPoller poller_;
  vfs::HostFiles host_files_;
  vfs::GoferDevices devices_;
  vfs::GoferWatcher watcher_;
  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<ContainerState>> containers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_SANDBOX_KERNEL_H_
