// Interrupts in every phase; threads and address spaces that come and go; ends of all kinds.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "platform/testing/testing.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;

// The races stop then: on a busy machine each round takes a time slice.
constexpr int kSeconds = 10;

size_t CountEntries(const std::string& path) {
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) return 0;
  size_t n = 0;
  while (readdir(dir) != nullptr) ++n;
  closedir(dir);
  return n;
}

size_t OpenDescriptors() { return CountEntries("/proc/self/fd"); }
size_t ThreadsOf(AddressSpace& space) {
  return CountEntries("/proc/" + std::to_string(space.host_pid()) + "/task");
}

// Polls until `done` holds; false after ten seconds.
template <typename F>
bool Eventually(F&& done) {
  for (int i = 0; i < 10000; ++i) {
    if (done()) return true;
    usleep(1000);
  }
  return false;
}

void Spin(Code& c) {
  Xbyak::Label loop;
  c.L(loop);
  c.jmp(loop);
}

void CallInALoop(Code& c) {
  Xbyak::Label loop;
  c.L(loop);
  c.inc(c.rdi);
  c.mov(c.eax, 39);
  c.syscall();
  c.jmp(loop);
}

TEST(InterruptTest, BeforeTheThreadExists) {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, [](Code& c) { c.syscall(); });
  context->Interrupt();
  EXPECT_EQ(context->Switch(*space, regs).kind, Kind::kInterrupted);
  EXPECT_EQ(regs.rip, kCode.value);
  EXPECT_EQ(context->Switch(*space, regs).kind, Kind::kSyscall);
}

TEST(InterruptTest, BetweenSwitches) {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, CallInALoop);
  ASSERT_EQ(RunGuest(*context, *space, regs).kind, Kind::kSyscall);
  context->Interrupt();
  context->Interrupt();
  EXPECT_EQ(context->Switch(*space, regs).kind, Kind::kInterrupted);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(context->Switch(*space, regs).kind, Kind::kSyscall);
  EXPECT_EQ(regs.rdi, 101u);
}

TEST(InterruptTest, OfASpinningGuest) {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, Spin);
  for (int i = 0; i < 100; ++i) {
    std::thread interrupter([&] {
      if (i % 2 != 0) usleep(500);
      context->Interrupt();
    });
    EXPECT_EQ(context->Switch(*space, regs).kind, Kind::kInterrupted);
    EXPECT_EQ(regs.rip, kCode.value);
    interrupter.join();
  }
}

// Every Interrupt() is seen; none makes a call happen twice or get lost.
TEST(InterruptTest, RacesWithSystemCalls) {
  constexpr int kInterrupts = 10000;
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, CallInALoop);
  std::atomic<int> asked{0}, seen{0};
  std::atomic<bool> stop{false};
  const time_t deadline = time(nullptr) + kSeconds;
  std::thread interrupter([&] {
    for (int i = 0; i < kInterrupts; ++i) {
      while (seen.load() < i && !stop.load()) sched_yield();
      if (stop.load()) return;
      asked.fetch_add(1);
      context->Interrupt();
    }
  });
  uint64_t calls = 0;
  while (seen.load() < kInterrupts && time(nullptr) < deadline) {
    const Event event = context->Switch(*space, regs);
    if (event.kind == Kind::kInterrupted) {
      if (asked.load() > seen.load()) seen.fetch_add(1);
      continue;
    }
    ASSERT_EQ(event.kind, Kind::kSyscall);
    ASSERT_EQ(regs.rdi, ++calls);
  }
  stop.store(true);
  interrupter.join();
}

// A guest that never calls is stopped every time.
TEST(InterruptTest, RacesWithTheStartOfASwitch) {
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Load(*space, Spin);
  std::atomic<int> round{0};
  constexpr int kRounds = 10000, kStop = kRounds + 1;
  const time_t deadline = time(nullptr) + kSeconds;
  std::thread interrupter([&] {
    for (int i = 1; i <= kRounds; ++i) {
      while (round.load() < i) round.wait(i - 1);
      if (round.load() == kStop) return;
      for (int spin = 0; spin < i % 64 * 16; ++spin) asm volatile("");
      context->Interrupt();
    }
  });
  for (int i = 1; i <= kRounds && time(nullptr) < deadline; ++i) {
    round.store(i);
    round.notify_one();
    ASSERT_EQ(context->Switch(*space, regs).kind, Kind::kInterrupted);
  }
  round.store(kStop);
  round.notify_one();
  interrupter.join();
}

TEST(LifetimeTest, AThousandThreadsLeaveNothing) {
  auto space = NewSpace();
  const Registers start = Load(*space, [](Code& c) { c.syscall(); });
  const size_t descriptors = OpenDescriptors();
  for (int i = 0; i < 1000; ++i) {
    auto context = TestPlatform().NewContext();
    Registers regs = start;
    ASSERT_EQ(RunGuest(*context, *space, regs).kind, Kind::kSyscall);
  }
  EXPECT_EQ(OpenDescriptors(), descriptors);
  // ".", "..", the worker, and one that is kept for the next.
  EXPECT_TRUE(Eventually([&] { return ThreadsOf(*space) <= 4; }));
}

TEST(LifetimeTest, AThousandAddressSpacesLeaveNothing) {
  auto run = [](AddressSpace& space, Registers regs) {
    auto context = TestPlatform().NewContext();
    ASSERT_EQ(RunGuest(*context, space, regs).kind, Kind::kSyscall);
  };
  auto first = NewSpace();
  const Registers start = Load(*first, [](Code& c) { c.syscall(); });
  // With nothing in the pool: who finds something there asks for no more.
  auto count = [] {
    TestPlatform().OnIdle();
    NewSpace();
    return OpenDescriptors();
  };
  std::vector<int> pids;
  size_t descriptors = 0;
  for (int i = 0; i < 1000; ++i) {
    if (i == 10) descriptors = count();
    if (i % 2 == 0) {
      Result<std::unique_ptr<AddressSpace>> forked = first->Fork();
      ASSERT_TRUE(forked.ok());
      run(**forked, start);
      pids.push_back((*forked)->host_pid());
    } else {
      auto space = NewSpace();
      run(*space, Load(*space, [](Code& c) { c.syscall(); }));
      pids.push_back(space->host_pid());
    }
  }
  EXPECT_EQ(count(), descriptors);
  for (int pid : pids) EXPECT_EQ(kill(pid, 0), -1) << pid;
}

TEST(LifetimeTest, TasksInManyThreadsAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> done{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        auto space = NewSpace();
        auto context = TestPlatform().NewContext();
        Registers regs = Load(*space, CallInALoop);
        for (int n = 0; n < 20; ++n) RunGuest(*context, *space, regs);
        Result<std::unique_ptr<AddressSpace>> forked = space->Fork();
        if (!forked.ok()) continue;
        auto child = TestPlatform().NewContext();
        Registers child_regs = regs;
        RunGuest(*child, **forked, child_regs);
        child->Detach();
        if (regs.rdi == 20 && child_regs.rdi == 21) done.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done.load(), 200);
}

// A stub killed while its guest runs, as by the host's out-of-memory killer.
TEST(LifetimeTest, AStubKilledWhileItRuns) {
  const int rounds = TestPlatformName() == "trap-notify-off" ? 8 : 50;  // It looks every 250 ms.
  for (int i = 0; i < rounds; ++i) {
    auto space = NewSpace();
    auto context = TestPlatform().NewContext();
    Registers regs = Load(*space, i % 2 == 0 ? Spin : CallInALoop);
    std::thread killer([&] {
      usleep(i * 20);
      kill(space->host_pid(), SIGKILL);
    });
    Kind kind;
    do kind = context->Switch(*space, regs).kind;
    while (kind == Kind::kSyscall || kind == Kind::kInterrupted);
    EXPECT_EQ(kind, Kind::kKilled);
    killer.join();
  }
}

// When the sentry dies, so do all stubs: those that run, those that wait, and the zygote.
TEST(LifetimeTest, StubsEndWithTheirSentry) {
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  UniqueFd reader(pipe_fds[0]), writer(pipe_fds[1]);
  const pid_t sentry = fork();
  if (sentry == 0) {
    Result<std::unique_ptr<Platform>> platform = OpenTestPlatform();
    if (!platform.ok()) _exit(1);
    auto idle = (*platform)->NewAddressSpace();
    auto busy = (*platform)->NewAddressSpace();
    const int pids[2] = {(*idle)->host_pid(), (*busy)->host_pid()};
    if (write(writer.get(), pids, sizeof(pids)) != sizeof(pids)) _exit(1);
    auto context = (*platform)->NewContext();
    Registers regs = Load(**busy, Spin);
    for (;;) context->Switch(**busy, regs);
  }
  int pids[2];
  ASSERT_EQ(read(reader.get(), pids, sizeof(pids)), static_cast<ssize_t>(sizeof(pids)));
  auto session_is_gone = [&](int pid) { return kill(pid, 0) != 0 && errno == ESRCH; };
  EXPECT_FALSE(session_is_gone(pids[0]));
  usleep(20000);
  kill(sentry, SIGKILL);
  waitpid(sentry, nullptr, 0);
  // Orphans; whoever is their reaper now sees them end. A zombie counts as ended.
  auto ended = [&](int pid) {
    if (session_is_gone(pid)) return true;
    UniqueFd stat(open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY));
    char text[256] = {};
    if (!stat.valid() || read(stat.get(), text, sizeof(text) - 1) <= 0) return true;
    const std::string all(text);
    return all[all.rfind(')') + 2] == 'Z';
  };
  for (int pid : pids) EXPECT_TRUE(Eventually([&] { return ended(pid); })) << pid;
}

TEST(LifetimeTest, WhatAStubIsAllowed) {
  auto space = NewSpace();
  ASSERT_TRUE(space->Apply({MapAnonymous(kData, kDataSize, kReadWrite)}).ok());
  UniqueFd status(open(("/proc/" + std::to_string(space->host_pid()) + "/status").c_str(), O_RDONLY));
  std::string text(8192, '\0');
  text.resize(read(status.get(), &text[0], text.size()));
  for (const char* line : {"CapEff:\t0000000000000000\n", "CapPrm:\t0000000000000000\n",
                           "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Name:\tstub\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line;
  const std::string fds = "/proc/" + std::to_string(space->host_pid()) + "/fd";
  EXPECT_EQ(CountEntries(fds), 3u);  // ".", "..", the socket.
  space->SetName("a name that is too long");
  EXPECT_EQ(pread(status.get(), &text[0], 30, 0), 30);
  EXPECT_EQ(text.substr(0, 22), "Name:\ta name that is \n");
}

// Children of the calling process's first thread.
size_t CountChildren() {
  UniqueFd fd(open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t n = read(fd.get(), text, sizeof(text));
  return static_cast<size_t>(std::count(text, text + std::max<ssize_t>(n, 0), ' '));
}

// A stub that is being cloned while the sentry changes its root would keep the old one.
TEST(LifetimeTest, NoStubButTheZygoteIsMadeBeforeConfinement) {
  const pid_t child = fork();
  if (child == 0) {
    Result<std::unique_ptr<Platform>> platform = OpenTestPlatform(/*proc_view=*/false);
    if (!platform.ok()) _exit(1);
    usleep(20'000);  // For a clone that should not have been asked for.
    const size_t before = CountChildren();
    (*platform)->OnConfined();
    auto space = (*platform)->NewAddressSpace();
    if (!space.ok() || CountChildren() <= before) _exit(2);
    _exit(before == 1 ? 0 : 3);
  }
  int wait_status = 0;
  ASSERT_EQ(waitpid(child, &wait_status, 0), child);
  EXPECT_EQ(WEXITSTATUS(wait_status), 0);
}

TEST(LifetimeTest, UsageAndTimesComeFromProc) {
  const pid_t child = fork();  // A sentry of its own: one platform is opened with one thread.
  if (child == 0) {
    Result<std::unique_ptr<Platform>> platform = OpenTestPlatform();
    if (!platform.ok()) _exit(1);
    auto space = (*platform)->NewAddressSpace();
    auto context = (*platform)->NewContext();
    Registers regs = Load(**space, [](Code& c) {
      Xbyak::Label loop;
      c.L(loop);
      c.dec(c.ecx);
      c.jnz(loop);
      c.syscall();
    });
    MapOp map = MapAnonymous(GuestAddr(0x10000000), 8 << 20, kReadWrite);
    MapOp populate = map;
    populate.kind = MapOp::Kind::kPopulate;
    if (!(*space)->Apply({map, populate}).ok()) _exit(2);
    const AddressSpace::Usage usage = (*space)->GetUsage();
    if (usage.resident < (8 << 20) || usage.resident > (16 << 20)) _exit(3);
    if (usage.peak < usage.resident || usage.shared > usage.resident) _exit(4);
    regs.rcx = 100'000'000;
    RunGuest(*context, **space, regs);
    const uint64_t ns = context->GuestCpuTime();
    if (ns < 10'000'000) _exit(5);
    context->Detach();
    if (context->GuestCpuTime() < ns) _exit(6);
    MapOp unmap = Simple(MapOp::Kind::kUnmap, map.addr, map.length);
    if (!(*space)->Apply({&unmap, 1}).ok()) _exit(7);
    const AddressSpace::Usage after = (*space)->GetUsage();
    if (after.resident + (7 << 20) > usage.resident || after.peak + (1 << 20) < usage.resident) _exit(8);
    if (after.minor_faults < 100) _exit(9);
    _exit(0);
  }
  int wait_status = 0;
  ASSERT_EQ(waitpid(child, &wait_status, 0), child);
  EXPECT_EQ(WEXITSTATUS(wait_status), 0);
}

}  // namespace
}  // namespace caisson::platform
