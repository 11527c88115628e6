// What a system call costs inside the sentry: the real kernel and handlers on the fake platform, without
// a way in. Guest memory is reached by process_vm_readv(2) of the benchmark itself, as a stub's is.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "syscalls/testing/call_world.h"

namespace caisson {
namespace {

using syscalls::testing::CallWorld;
using syscalls::testing::kData;

// Lives to the end of the process.
CallWorld& W() {
  static auto* world = new CallWorld;
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
