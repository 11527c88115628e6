// What a system call costs inside the sentry: the real kernel and handlers on the fake platform, without
// a way in. Guest memory is reached by process_vm_readv(2) of the benchmark itself, as a stub's is.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <memory>

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

namespace caisson {
namespace {

constexpr uint64_t kCode = 0x400000, kData = 0x401000, kPages = 64;

// A program that is never run, with a writable segment for arguments.
std::string Program() {
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

// One kernel with one task over a tmpfs root. Lives to the end of the process.
class World {
 public:
  World() : kernel_(std::make_unique<platform::fake::FakePlatform>(), dispatcher_, {}) {
    procfs::RegisterProcAndSys(kernel_);
    CHECK(admin_.WriteFile("/program", Program(), 0755).ok());
    for (const char* path : {"/a", "/a/b", "/a/b/c"}) CHECK(admin_.Mkdir(path).ok());
    CHECK(admin_.WriteFile("/a/b/c/file", std::string(1 << 20, 'x'), 0644).ok());
    auto creds = MakeRef<auth::Credentials>(kernel_.root_user_ns());
    creds->permitted = creds->effective = auth::kAllCapabilities;
    auto namespaces = MakeRef<kernel::NamespaceSet>();
    namespaces->mount = world_.ns();
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

 private:
  syscalls::Dispatcher dispatcher_;
  vfs::testing::TestWorld world_;
  vfs::testing::TestContext admin_{world_};
  kernel::Kernel kernel_;
  RefPtr<kernel::Task> task_;
};

World& W() {
  static World* world = new World;
  return *world;
}

constexpr uint64_t kPath = kData, kBuffer = kData + kPageSize, kBuffer2 = kData + 40 * kPageSize;

int OpenFile() {
  return static_cast<int>(W().Call(SYS_open, W().Put(kPath, "/a/b/c/file"), O_RDWR));
}

void Getppid(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(W().Call(SYS_getppid));
}
BENCHMARK(Getppid);

void OpenClose(benchmark::State& state) {
  W().Put(kPath, "/a/b/c/file");
  for (auto _ : state) {
    CHECK(W().Call(SYS_open, kPath, O_RDONLY) == 0);
    W().Call(SYS_close, 0);
  }
}
BENCHMARK(OpenClose);

void Stat(benchmark::State& state) {
  W().Put(kPath, "/a/b/c/file");
  for (auto _ : state) CHECK(W().Call(SYS_stat, kPath, kBuffer) == 0);
}
BENCHMARK(Stat);

void Fstat(benchmark::State& state) {
  int fd = OpenFile();
  for (auto _ : state) CHECK(W().Call(SYS_fstat, fd, kBuffer) == 0);
  W().Call(SYS_close, fd);
}
BENCHMARK(Fstat);

void StatMissing(benchmark::State& state) {
  W().Put(kPath, "/a/b/c/nothing");
  for (auto _ : state) CHECK(W().Call(SYS_stat, kPath, kBuffer) == -ENOENT);
}
BENCHMARK(StatMissing);

void Pread(benchmark::State& state) {
  int fd = OpenFile();
  for (auto _ : state) CHECK(W().Call(SYS_pread64, fd, kBuffer, state.range(0), 0) == state.range(0));
  W().Call(SYS_close, fd);
}
BENCHMARK(Pread)->Arg(1)->Arg(4096)->Arg(65536);

void Pwrite(benchmark::State& state) {
  int fd = OpenFile();
  for (auto _ : state) CHECK(W().Call(SYS_pwrite64, fd, kBuffer, state.range(0), 0) == state.range(0));
  W().Call(SYS_close, fd);
}
BENCHMARK(Pwrite)->Arg(1)->Arg(4096)->Arg(65536);

void CreateWriteUnlink(benchmark::State& state) {
  W().Put(kPath, "/a/b/new");
  for (auto _ : state) {
    int fd = static_cast<int>(W().Call(SYS_open, kPath, O_CREAT | O_RDWR, 0644));
    CHECK(W().Call(SYS_write, fd, kBuffer, 100) == 100);
    W().Call(SYS_close, fd);
    CHECK(W().Call(SYS_unlink, kPath) == 0);
  }
}
BENCHMARK(CreateWriteUnlink);

void PipeWriteRead(benchmark::State& state) {
  CHECK(W().Call(SYS_pipe, kBuffer2) == 0);
  for (auto _ : state) {
    CHECK(W().Call(SYS_write, 1, kBuffer, 1) == 1);
    CHECK(W().Call(SYS_read, 0, kBuffer, 1) == 1);
  }
  W().Call(SYS_close, 0), W().Call(SYS_close, 1);
}
BENCHMARK(PipeWriteRead);

void SocketPairWriteRead(benchmark::State& state) {
  CHECK(W().Call(SYS_socketpair, 1, 1, 0, kBuffer2) == 0);
  for (auto _ : state) {
    CHECK(W().Call(SYS_write, 1, kBuffer, 1) == 1);
    CHECK(W().Call(SYS_read, 0, kBuffer, 1) == 1);
  }
  W().Call(SYS_close, 0), W().Call(SYS_close, 1);
}
BENCHMARK(SocketPairWriteRead);

void EventfdEpoll(benchmark::State& state) {
  CHECK(W().Call(SYS_eventfd2, 0, 0) == 0);
  CHECK(W().Call(SYS_epoll_create1, 0) == 1);
  uint32_t event[3] = {1, 0, 0};
  W().Put(kBuffer2, absl::string_view(reinterpret_cast<char*>(event), sizeof(event) - 1));
  CHECK(W().Call(SYS_epoll_ctl, 1, 1, 0, kBuffer2) == 0);
  uint64_t one = 1;
  W().Put(kBuffer, absl::string_view(reinterpret_cast<char*>(&one), 7));
  for (auto _ : state) {
    CHECK(W().Call(SYS_write, 0, kBuffer, 8) == 8);
    CHECK(W().Call(SYS_epoll_wait, 1, kBuffer2, 1, 0) == 1);
    CHECK(W().Call(SYS_read, 0, kBuffer, 8) == 8);
  }
  W().Call(SYS_close, 0), W().Call(SYS_close, 1);
}
BENCHMARK(EventfdEpoll);

void FutexWakeNobody(benchmark::State& state) {
  for (auto _ : state) CHECK(W().Call(SYS_futex, kBuffer, 1 | 128, 1) == 0);
}
BENCHMARK(FutexWakeNobody);

void MmapMunmap(benchmark::State& state) {
  for (auto _ : state) {
    int64_t at = W().Call(SYS_mmap, 0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(W().Call(SYS_munmap, at, 1 << 20) == 0);
  }
}
BENCHMARK(MmapMunmap);

void SigprocmaskBoth(benchmark::State& state) {
  for (auto _ : state) CHECK(W().Call(SYS_rt_sigprocmask, 0, 0, kBuffer, 8) == 0);
}
BENCHMARK(SigprocmaskBoth);

}  // namespace
}  // namespace caisson

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  _exit(0);  // The kernel has a task that never ran.
}
