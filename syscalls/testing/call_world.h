// One kernel with one task that never runs: handlers can be called as the task's own.
#ifndef CAISSON_SYSCALLS_TESTING_CALL_WORLD_H_
#define CAISSON_SYSCALLS_TESTING_CALL_WORLD_H_

#include <cstring>
#include <memory>
#include <string>

#include "abi/elf.h"
#include "base/check.h"
#include "netstack/sockets/sockets.h"
#include "platform/fake/fake_platform.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel.h"
#include "sentry/procfs/register.h"
#include "syscalls/dispatch.h"
#include "vfs/testing/test_context.h"

namespace caisson::syscalls::testing {

inline constexpr uint64_t kCode = 0x400000;
inline constexpr uint64_t kData = 0x401000, kPages = 64;  // Writable memory of the task.

// A program that is never run, with a writable segment for arguments.
inline std::string Program() {
  std::string image(kPageSize, '\0');
  abi::Elf64Header h = {};
  memcpy(h.ident, "\177ELF\2\1\1", 7);
  h.type = abi::kElfTypeExec;
  h.machine = abi::kElfMachineX86_64;
  h.version = 1;
  h.entry = kCode + 0x100;
  h.phoff = sizeof(h);
  h.ehsize = sizeof(h);
  h.phentsize = sizeof(abi::Elf64ProgramHeader);
  h.phnum = 2;
  abi::Elf64ProgramHeader p[2] = {};
  p[0].type = p[1].type = 1;  // PT_LOAD
  p[0].flags = 5;
  p[0].vaddr = p[0].paddr = kCode;
  p[0].filesz = p[0].memsz = kPageSize;
  p[1].flags = 6;
  p[1].vaddr = p[1].paddr = kData;
  p[1].memsz = kPages * kPageSize;
  p[0].align = p[1].align = kPageSize;
  memcpy(image.data(), &h, sizeof(h));
  memcpy(image.data() + sizeof(h), p, sizeof(p));
  return image;
}

// Over a tmpfs root with the file /a/b/c/file of 1 MiB.
class CallWorld {
 public:
  CallWorld() : kernel_(std::make_unique<platform::fake::FakePlatform>(), dispatcher_, {}) {
    procfs::RegisterProcAndSys(kernel_);
    CHECK(admin_.WriteFile("/program", Program(), 0755).ok());
    for (const char* path : {"/a", "/a/b", "/a/b/c"}) CHECK(admin_.Mkdir(path).ok());
    CHECK(admin_.WriteFile("/a/b/c/file", std::string(1 << 20, 'x'), 0644).ok());
    auto creds = MakeRef<auth::Credentials>(kernel_.root_user_ns());
    creds->permitted = creds->effective = auth::kAllCapabilities;
    auto namespaces = MakeRef<kernel::NamespaceSet>();
    namespaces->mount = world_.ns();
    namespaces->time = namespaces->time_for_children =
        MakeRef<kernel::TimeNamespace>(kernel_.root_user_ns(), kernel::TimeOffsets{}, true);
    namespaces->uts = MakeRef<kernel::UtsNamespace>("host", "(none)", kernel_.root_user_ns(), true);
    namespaces->ipc = MakeRef<ipc::IpcNamespace>(kernel_.root_user_ns(), &kernel_.shared_memory(), uint64_t{0xEFFFFFFF});
    namespaces->net = MakeRef<netstack::NetNamespace>(MakeRef<netstack::UnixFlight>(),
                                                      MakeRef<netstack::SocketFileSystem>(), 77);
    kernel::Kernel::ProcessArgs args;
    args.container = MakeRef<kernel::Container>("bench", 0, uint64_t{1} << 30, "");
    args.creds = RefPtr<const auth::Credentials>(creds);
    args.fd_table = MakeRef<kernel::FdTable>();
    args.fs = MakeRef<kernel::FsContext>(world_.ns()->root(), world_.ns()->root(), 022);
    args.namespaces = namespaces;
    args.pid_ns = kernel_.root_pid_ns();
    args.path = "/program";
    args.argv = {"program"};
    auto task = kernel_.NewProcess(std::move(args));
    CHECK(task.ok());
    task_ = *task;
  }

  int64_t Call(int number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0,
               uint64_t f = 0) {
    platform::Registers& regs = task_->regs();
    regs.rax = regs.orig_rax = static_cast<uint64_t>(number);
    regs.rdi = a, regs.rsi = b, regs.rdx = c, regs.r10 = d, regs.r8 = e, regs.r9 = f;
    kernel::SyscallResult result = dispatcher_.Dispatch(*task_, number);
    return result.ok() ? result.value() : -static_cast<int64_t>(result.error());
  }
  uint64_t Put(uint64_t at, absl::string_view text) {
    CHECK(task_->mm().CopyOut(GuestAddr(at), absl::MakeConstSpan(text.data(), text.size() + 1)).ok());
    return at;
  }

  kernel::Task& task() { return *task_; }
  platform::fake::FakeContext& context() {
    return static_cast<platform::fake::FakeContext&>(task_->context());
  }
  // A task that never ran does not leave its group.
  ~CallWorld() {
    std::vector<RefPtr<kernel::Task>> members;
    {
      MutexLock lock(kernel_.tasks_mu());
      MutexLock signal_lock(task_->group().signal_mu);
      std::swap(members, task_->group().tasks);
      task_->group().process_group.reset();
    }
    members.clear();
    task_.reset();
  }

 private:
  syscalls::Dispatcher dispatcher_;
  vfs::testing::TestWorld world_;
  vfs::testing::TestContext admin_{world_};
  kernel::Kernel kernel_;
  RefPtr<kernel::Task> task_;
};

}  // namespace caisson::syscalls::testing

#endif  // CAISSON_SYSCALLS_TESTING_CALL_WORLD_H_
