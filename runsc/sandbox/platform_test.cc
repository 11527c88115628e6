// Guest code on the real platform in a real, confined sentry, under a kernel that only pretends:
// the filter lets the platform do its work, and stubs are confined as the sentry is.
#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "confine/role.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/sandbox/test_sandbox.h"
#include "sentry/boot/fake_kernel.h"
#include "sentry/boot/open_platform.h"

namespace caisson::runsc {
namespace {

using platform::AddressSpace;
using platform::Context;
using platform::Event;
using platform::MapOp;
using platform::Platform;
using platform::Registers;

std::unique_ptr<Platform> g_platform;  // Of the sentry.

constexpr GuestAddr kCode(0x400000);
// mov eax, 39; syscall; mov edi, eax; mov eax, 231; syscall; then a store to address 0.
constexpr unsigned char kProgram[] = {0xb8, 39,   0,    0, 0,    0x0f, 0x05, 0x89, 0xc7, 0xb8,
                                      231,  0,    0,    0, 0x0f, 0x05, 0x31, 0xc0, 0x89, 0x00};

Event Run(Context& context, AddressSpace& space, Registers& regs) {
  while (true) {
    Event event = context.Switch(space, regs);
    if (event.kind != Event::Kind::kInterrupted) return event;
  }
}

// One guest process: 0 if it did what it should, else the step.
int RunGuest(AddressSpace& space) {
  std::unique_ptr<Context> context = g_platform->NewContext();
  Registers regs{};
  regs.rip = kCode.value;
  regs.cs = 0x33;
  regs.ss = 0x2b;
  regs.eflags = 0x202;
  Event event = Run(*context, space, regs);
  if (event.kind != Event::Kind::kSyscall || regs.orig_rax != 39) return 1;
  regs.rax = 77;
  event = Run(*context, space, regs);
  if (event.kind != Event::Kind::kSyscall || regs.orig_rax != 231 || regs.rdi != 77) return 2;
  regs.rax = 0;
  event = Run(*context, space, regs);
  if (event.kind != Event::Kind::kFault || event.address != 0) return 3;
  context->Detach();
  return 0;
}

int RunGuests() {
  int results[4] = {-1, -1, -1, -1};
  std::vector<std::thread> threads;
  for (int& result : results) {
    threads.emplace_back([&result] {
      Result<std::unique_ptr<AddressSpace>> space = g_platform->NewAddressSpace();
      if (!space.ok()) {
        result = 10;
        return;
      }
      MapOp map{MapOp::Kind::kMapAnonymous};
      map.addr = kCode;
      map.length = 0x1000;
      map.protection = platform::kProtRead | platform::kProtWrite | platform::kProtExec;
      const auto* program = reinterpret_cast<const char*>(kProgram);
      if (!(*space)->Apply({&map, 1}).ok() ||
          (*space)->CopyOut(kCode, {program, sizeof(kProgram)}) != sizeof(kProgram)) {
        result = 11;
        return;
      }
      result = RunGuest(**space);
      Result<std::unique_ptr<AddressSpace>> child = (*space)->Fork();
      if (result == 0) result = child.ok() ? RunGuest(**child) : 12;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int result : results) {
    if (result != 0) return result;
  }
  return 0;
}

// Of kernel.cc to be: what opens the platform.
boot::SentryParts Parts() {
  boot::SentryParts parts;
  parts.open_platform = [](const protocol::SandboxConfig& config,
                           const boot::HostFacts& facts) -> absl::Status {
    ASSIGN_OR_RETURN(g_platform, boot::OpenPlatform(config, facts));
    return absl::OkStatus();
  };
  parts.make_kernel = [](const protocol::SandboxConfig&) {
    g_platform->OnConfined();
    return std::make_unique<boot::FakeKernel>(
        [](const std::vector<std::string>&, std::vector<UniqueFd>&) { return RunGuests(); });
  };
  return parts;
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  DIR* proc = opendir("/proc");
  while (dirent* entry = readdir(proc)) {
    const int pid = atoi(entry->d_name);
    if (pid > 0 && StatusField(pid, "PPid") == absl::StrCat(parent)) children.push_back(pid);
  }
  closedir(proc);
  return children;
}

int Entries(const std::string& path) {
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return -1;
  int count = -2;  // "." and "..".
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

std::string Link(const std::string& path) {
  char buffer[4096];
  const ssize_t n = readlink(path.c_str(), buffer, sizeof(buffer));
  return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : "";
}

TEST(PlatformTest, GuestCodeRunsInAConfinedSentry) {
  TestSandbox box({"run"});
  SandboxStart start = box.Config();
  start.config.set_debug(true);  // Says which call was denied, should one be.
  absl::Status started = box.Start(std::move(start));
  ASSERT_TRUE(started.ok()) << started;
  box.StartContainer();
  const int status = box.AwaitMonitor();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
}

TEST(PlatformTest, AnUnknownPlatformIsAnError) {
  TestSandbox box({"run"});
  SandboxStart start = box.Config();
  start.config.set_platform("pdp11");
  EXPECT_THAT(std::string(box.Start(std::move(start)).message()),
              testing::HasSubstr("platform \"pdp11\" is not built in"));
}

TEST(PlatformTest, StubsAreConfinedAsTheSentryIs) {
  TestSandbox box({"sleep"});
  ASSERT_TRUE(box.Start().ok());
  const pid_t sentry = box.processes.sentry_pid;
  // The zygote, the first that is kept ready, and the one with procfs, which nobody waits for.
  std::vector<pid_t> stubs;
  for (int i = 0; i < 500; ++i) {
    stubs = ChildrenOf(sentry);
    size_t filtered = 0;
    for (pid_t stub : stubs) filtered += StatusField(stub, "Seccomp") == "2" ? 1 : 0;
    if (filtered >= 3 && filtered == stubs.size()) break;
    usleep(10'000);
  }
  ASSERT_GE(stubs.size(), 3u);
  for (pid_t stub : stubs) {
    EXPECT_EQ(Entries(absl::StrCat("/proc/", stub, "/root/")), 0);
    EXPECT_EQ(Entries(absl::StrCat("/proc/", stub, "/cwd/")), 0);
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
      EXPECT_EQ(StatusField(stub, set), "0000000000000000") << set;
    }
    EXPECT_EQ(StatusField(stub, "NoNewPrivs"), "1");
    EXPECT_EQ(StatusField(stub, "Seccomp"), "2");
    EXPECT_EQ(StatusField(stub, "Uid"), StatusField(sentry, "Uid"));
    for (const char* name : {"mnt", "pid", "net", "ipc", "uts", "cgroup"}) {
      EXPECT_EQ(Link(absl::StrCat("/proc/", stub, "/ns/", name)),
                Link(absl::StrCat("/proc/", sentry, "/ns/", name)));
    }
    if (StatusField(stub, "Name") == "procfs") {
      EXPECT_EQ(Entries(absl::StrCat("/proc/", stub, "/fd")), 2);  // Its socket, its procfs.
      continue;  // Opens files of procfs for the sentry; no guest code.
    }
    EXPECT_NE(Link(absl::StrCat("/proc/", stub, "/ns/user")),
              Link(absl::StrCat("/proc/", sentry, "/ns/user")));
    EXPECT_GT(atoi(ReadFile(absl::StrCat("/proc/", stub, "/oom_score_adj")).c_str()),
              atoi(ReadFile(absl::StrCat("/proc/", sentry, "/oom_score_adj")).c_str()));
  }
  ASSERT_EQ(KillOne(sentry, SIGKILL), 0);
  for (pid_t stub : stubs) EXPECT_TRUE(AwaitGone(stub));
}

TEST(PlatformTest, SandboxesOwnProcessesStaySmall) {
#ifndef CAISSON_SANITIZED
  TestSandbox box({"sleep"});
  ASSERT_TRUE(box.Start().ok());
  box.StartContainer();
  usleep(100'000);
  std::vector<pid_t> pids = ChildrenOf(box.processes.sentry_pid);
  pids.insert(pids.end(), {box.processes.monitor_pid, box.processes.sentry_pid,
                           box.processes.gofer_pid});
  int total = 0;
  for (pid_t pid : pids) {
    const std::string rollup = ReadFile(absl::StrCat("/proc/", pid, "/smaps_rollup"));
    const size_t at = rollup.find("\nPss:");
    const int kib = at == std::string::npos ? 0 : atoi(rollup.c_str() + at + 5);
    printf("%s: PSS %d KiB\n", StatusField(pid, "Name").c_str(), kib);
    total += kib;
  }
  printf("together: %d KiB\n", total);
  EXPECT_LT(total, 15 << 10);
#endif
}

}  // namespace
}  // namespace caisson::runsc

int main(int argc, char** argv) {
  if (std::string(argv[0]) == caisson::confine::kSentryRole) {
    return caisson::boot::RunSentry(argc, argv, caisson::runsc::Parts());
  }
  return caisson::runsc::TestMain(argc, argv);
}
