// What a guest's system call, memory call, fork and exec cost on the platform that
// CAISSON_TEST_PLATFORM names, beside a bare
// PTRACE_SYSEMU + wait4 + GETREGSET + SETREGSET loop measured in turns with it. Medians.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "platform/ptrace/host_ptrace.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/testing/testing.h"

namespace caisson::platform {
namespace {

double NowNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <typename F>
double TimePer(int n, F&& f) {
  const double start = NowNs();
  for (int i = 0; i < n; ++i) f();
  return (NowNs() - start) / n;
}

using ptrace::GetRegisters;
using ptrace::Interrupt;
using ptrace::ResumeToSyscall;
using ptrace::Seize;
using ptrace::SetRegisters;
using ptrace::Wait;

pid_t StartRawTracee() {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) syscall(SYS_getpid);
  }
  CHECK(Seize(pid) && Interrupt(pid) && !Wait(pid).ended());
  return pid;
}

// Tracer and tracee on one CPU, as the platform holds its pairs: that is the fast way to wait for each other.
double MeasureBareLoop() {
  const pid_t raw = StartRawTracee();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  CHECK(sched_setaffinity(0, sizeof(one), &one) == 0 && sched_setaffinity(raw, sizeof(one), &one) == 0);
  Registers regs;
  const double time = TimePer(5000, [&] {
    CHECK(ResumeToSyscall(raw) && Wait(raw).is_syscall() && GetRegisters(raw, &regs));
    regs.rax = 42;
    CHECK(SetRegisters(raw, regs));
  });
  kill(raw, SIGKILL);
  while (!Wait(raw).ended()) {
  }
  return time;
}

void CompareGetpid() {
  Platform& platform = TestPlatform();
  auto space = NewSpace();
  auto context = platform.NewContext();
  Registers regs = Load(*space, [](Xbyak::CodeGenerator& c) {
    Xbyak::Label again;
    c.L(again);
    c.mov(c.eax, SYS_getpid);
    c.syscall();
    c.jmp(again);
  });
  std::vector<double> ours, bare;
  for (int round = 0; round < 21; ++round) {
    ours.push_back(TimePer(5000, [&] {
      CHECK(RunGuest(*context, *space, regs).kind == Event::Kind::kSyscall);
      regs.rax = 42;
    }));
    // By a thread that the platform knows nothing of: it would undo what is done to this one's affinity.
    std::thread([&] { bare.push_back(MeasureBareLoop()); }).join();
  }
  printf("getpid: %.0f ns, bare SYSEMU loop %.0f ns, ratio %.2f\n", Median(ours), Median(bare),
         Median(ours) / Median(bare));
}

// The same from a file, whose call sites platform trap patches.
void MeasureCallOfAFile() {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, [](Xbyak::CodeGenerator& c) { c.nop(); });
  std::string code = Assemble([](Xbyak::CodeGenerator& c) {
    Xbyak::Label again;
    c.L(again);
    c.mov(c.eax, SYS_sched_yield);
    c.syscall();
    c.jmp(again);
  });
  code.resize(4096, '\x90');
  char name[] = "/var/tmp/getpid_bench.XXXXXX";
  const int fd = mkostemp(name, O_CLOEXEC);
  unlink(name);
  CHECK(fd >= 0 && write(fd, code.data(), code.size()) == static_cast<ssize_t>(code.size()));
  CHECK(space->Apply({MapFile(kCode, 4096, kProtRead | kProtExec, fd, false)}).ok());
  std::vector<double> times;
  for (int round = 0; round < 41; ++round) {
    times.push_back(TimePer(5000, [&] {
      CHECK(RunGuest(*context, *space, regs).kind == Event::Kind::kSyscall);
      regs.rax = 42;
    }));
  }
  std::sort(times.begin(), times.end());
  printf("call of a site in a file: %.0f ns; least %.0f, most %.0f\n", Median(times), times.front(), times.back());
  close(fd);
}

// `tasks` guests at once that call, compute `work` rounds, and call again: calls a second in all.
double Throughput(Platform& platform, int tasks, uint32_t work) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> calls{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < tasks; ++i) {
    threads.emplace_back([&] {
      auto space = std::move(platform.NewAddressSpace()).value();
      auto context = platform.NewContext();
      Registers regs = Load(*space, [&](Xbyak::CodeGenerator& c) {
        Xbyak::Label again, loop;
        c.L(again);
        c.mov(c.ecx, work + 1);
        c.L(loop);
        c.dec(c.ecx);
        c.jnz(loop);
        c.mov(c.eax, SYS_getpid);
        c.syscall();
        c.jmp(again);
      });
      uint64_t n = 0;
      for (; !stop.load(std::memory_order_relaxed); ++n) RunGuest(*context, *space, regs);
      calls.fetch_add(n);
    });
  }
  const double start = NowNs();
  usleep(300000);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  return static_cast<double>(calls.load()) / (NowNs() - start) * 1e9;
}

void ComparePlacement(Platform& held, Platform& free) {
  for (uint32_t work : {0u, 20000u, 1000000u}) {
    for (int tasks : {1, 2, 4}) {
      std::vector<double> with, without;
      for (int round = 0; round < 3; ++round) {
        with.push_back(Throughput(held, tasks, work));
        without.push_back(Throughput(free, tasks, work));
      }
      printf("%d guests, %u rounds of work a call: %.0f calls/s held, %.0f free\n", tasks, work,
             Median(with), Median(without));
    }
  }
}

void MeasureMemoryCalls() {
  auto space = NewSpace();
  const MapOp map = MapAnonymous(kData, kDataSize, kReadWrite);
  const MapOp unmap = Simple(MapOp::Kind::kUnmap, kData, kDataSize);
  std::vector<double> pairs, cas, load;
  CHECK(space->Apply({map}).ok());
  for (int round = 0; round < 21; ++round) {
    pairs.push_back(TimePer(500, [&] { CHECK(space->Apply({unmap}).ok() && space->Apply({map}).ok()); }));
    cas.push_back(TimePer(500, [&] { CHECK(space->CompareExchange32(kData, 0, 0).ok()); }));
    load.push_back(TimePer(500, [&] { CHECK(space->Load32(kData).ok()); }));
  }
  printf("munmap + mmap by the worker: %.0f ns; compare-exchange %.0f ns; load %.0f ns\n",
         Median(pairs), Median(cas), Median(load));
}

void MeasureFault() {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers start = Load(*space, [](Xbyak::CodeGenerator& c) {
    c.mov(c.rax, 0x800000);
    c.mov(c.dword[c.rax], 1);
  });
  std::vector<double> faults;
  for (int round = 0; round < 21; ++round) {
    faults.push_back(TimePer(500, [&] {
      Registers regs = start;
      CHECK(RunGuest(*context, *space, regs).kind == Event::Kind::kFault);
    }));
  }
  printf("fault with its error code: %.0f ns\n", Median(faults));
}

// `run`: with a guest thread that makes one call.
void MeasureSpaces(bool fork, bool run) {
  auto parent = NewSpace();
  const Registers start = Load(*parent, [](Xbyak::CodeGenerator& c) { c.syscall(); });
  std::vector<double> times;
  for (int round = 0; round < 11; ++round) {
    times.push_back(TimePer(100, [&] {
      std::unique_ptr<AddressSpace> space;
      if (fork) {
        Result<std::unique_ptr<AddressSpace>> child = parent->Fork();
        CHECK(child.ok());
        space = std::move(child).value();
      } else {
        space = NewSpace();
      }
      if (!run) return;
      auto context = TestPlatform().NewContext();
      Registers regs = fork ? start : Load(*space, [](Xbyak::CodeGenerator& c) { c.syscall(); });
      CHECK(RunGuest(*context, *space, regs).kind == Event::Kind::kSyscall);
      context->Detach();
    }));
  }
  printf("%s%s, and end: %.1f us\n", fork ? "fork" : "new address space",
         run ? ", first call of a thread" : "", Median(times) / 1000);
}

void MeasureThreads() {
  auto space = NewSpace();
  const Registers start = Load(*space, [](Xbyak::CodeGenerator& c) { c.syscall(); });
  std::vector<double> times;
  for (int round = 0; round < 11; ++round) {
    times.push_back(TimePer(200, [&] {
      auto context = TestPlatform().NewContext();
      Registers regs = start;
      CHECK(RunGuest(*context, *space, regs).kind == Event::Kind::kSyscall);
    }));
  }
  printf("thread, its first call, and end: %.1f us\n", Median(times) / 1000);
}

}  // namespace
}  // namespace caisson::platform

int main(int argc, char** argv) {
  using namespace caisson::platform;
  TestPlatform();
  if (argc > 1 && strcmp(argv[1], "getpid") == 0) {
    CompareGetpid();
    MeasureCallOfAFile();
    return 0;
  }
  CompareGetpid();
  MeasureCallOfAFile();
  if (TestPlatformName() == "ptrace") {
    ptrace::Config config;
    config.hold_pairs = false;
    auto free = std::move(ptrace::Open(config)).value();
    ComparePlacement(TestPlatform(), *free);
  }
  MeasureMemoryCalls();
  MeasureFault();
  MeasureThreads();
  for (bool fork : {false, true}) {
    for (bool run : {false, true}) MeasureSpaces(fork, run);
  }
  return 0;
}
