// vdso(7): what the libc reads clocks with, and what time_namespaces(7) does to it.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

namespace caisson::test {
namespace {

constexpr int64_t kSecond = 1'000'000'000, kFar = 100'000;

int64_t Ns(const timespec& t) { return t.tv_sec * kSecond + t.tv_nsec; }
int64_t ByLibc(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return Ns(t);
}
int64_t ByCall(clockid_t clock) {
  timespec t{};
  syscall(SYS_clock_gettime, clock, &t);
  return Ns(t);
}

// The start of the mapping whose line in maps ends with `name`; 0 if there is none.
uintptr_t Mapping(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.size() > name.size() && line.compare(line.size() - name.size(), name.size(), name) == 0)
      return std::stoull(line, nullptr, 16);
  }
  return 0;
}

GUEST_PROGRAM(print_monotonic) {
  printf("%lld %lld", static_cast<long long>(ByLibc(CLOCK_MONOTONIC) / kSecond),
         static_cast<long long>(ByLibc(CLOCK_BOOTTIME) / kSecond));
  return 0;
}

TEST(VdsoTest, AuxiliaryVectorNamesAnElfImage) {
  const uintptr_t image = getauxval(AT_SYSINFO_EHDR);
  ASSERT_NE(image, 0u);
  EXPECT_EQ(image, Mapping("[vdso]"));
  EXPECT_EQ(memcmp(reinterpret_cast<const char*>(image), "\177ELF", 4), 0);
  const uintptr_t data = Mapping("[vvar]");
  EXPECT_NE(data, 0u);
  EXPECT_LT(data, image);
  // System calls read it as any memory, in the whole of its page.
  int ends[2];
  ASSERT_THAT(pipe(ends), SyscallSucceeds());
  EXPECT_THAT(write(ends[1], reinterpret_cast<const char*>(image), 4096), SyscallSucceedsWithValue(4096));
  close(ends[0]);
  close(ends[1]);
}

TEST(VdsoTest, ClocksAreThoseOfTheSystemCall) {
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI}) {
    for (int i = 0; i < 200; ++i) {
      const int64_t first = ByCall(clock), second = ByLibc(clock), third = ByCall(clock);
      // Wall time may be stepped by a few microseconds; raw time is another rate.
      const int64_t slack = clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ? 0 : 50'000'000;
      ASSERT_LE(first, second + slack) << clock;
      ASSERT_LE(second, third + slack) << clock;
    }
  }
  EXPECT_GE(ByLibc(CLOCK_PROCESS_CPUTIME_ID), 0);
  timespec t;
  EXPECT_THAT(clock_gettime(99, &t), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(clock_getres(CLOCK_MONOTONIC, &t), SyscallSucceeds());
}

TEST(VdsoTest, ABadPointerIsASignal) {
  const int status = InChild([] {
    signal(SIGSEGV, SIG_DFL);
    clock_gettime(CLOCK_MONOTONIC, reinterpret_cast<timespec*>(8));
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

TEST(VdsoTest, DataIsReadOnlyForGood) {
  auto* data = reinterpret_cast<void*>(Mapping("[vvar]"));
  ASSERT_NE(data, nullptr);
  EXPECT_THAT(mprotect(data, 4096, PROT_READ | PROT_WRITE), SyscallFailsWithErrno(EACCES));
}

TEST(VdsoTest, AnImageThatIsChangedIsOnesOwn) {
  const pid_t pid = fork();
  auto* byte = reinterpret_cast<volatile char*>(getauxval(AT_SYSINFO_EHDR) + 9);
  const char before = *byte;
  if (pid == 0) {
    if (mprotect(reinterpret_cast<void*>(getauxval(AT_SYSINFO_EHDR)), 4096,
                 PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
      _exit(0);  // Newer kernels refuse.
    *byte = static_cast<char>(before + 1);
    _exit(*byte == static_cast<char>(before + 1) ? 0 : 2);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(*byte, before);
}

void NewTimeNamespace() {
  ASSERT_THAT(unshare(CLONE_NEWTIME), SyscallSucceeds());
  std::ofstream("/proc/self/timens_offsets") << "monotonic " << kFar << " 999999999\nboottime " << 2 * kFar << " 0\n";
}

// Both ways to read them, in whole seconds after `monotonic` and `boottime`.
bool ClocksAreFarFrom(int64_t monotonic, int64_t boottime) {
  auto near = [](int64_t ns, int64_t want) { return ns / kSecond >= want && ns / kSecond < want + 100; };
  return near(ByLibc(CLOCK_MONOTONIC) - monotonic, kFar) && near(ByCall(CLOCK_MONOTONIC) - monotonic, kFar) &&
         near(ByLibc(CLOCK_MONOTONIC_COARSE) - monotonic, kFar) &&
         near(ByLibc(CLOCK_BOOTTIME) - boottime, 2 * kFar) && near(ByCall(CLOCK_BOOTTIME) - boottime, 2 * kFar);
}

TEST(VdsoTest, AForkedChildHasTheClocksOfItsTimeNamespace) {
  EXPECT_EQ(InChild([] {
    const int64_t monotonic = ByLibc(CLOCK_MONOTONIC), boottime = ByLibc(CLOCK_BOOTTIME);
    NewTimeNamespace();
    EXPECT_LT(ByLibc(CLOCK_MONOTONIC) - monotonic, 100 * kSecond);
    EXPECT_EQ(InChild([&] {
      EXPECT_TRUE(ClocksAreFarFrom(monotonic, boottime));
      EXPECT_EQ(InChild([&] { EXPECT_TRUE(ClocksAreFarFrom(monotonic, boottime)); }), 0);
    }), 0);
    EXPECT_LT(ByLibc(CLOCK_MONOTONIC) - monotonic, 100 * kSecond);
  }), 0);
}

TEST(VdsoTest, AnExecutedProgramHasTheClocksOfItsTimeNamespace) {
  EXPECT_EQ(InChild([] {
    const int64_t monotonic = ByLibc(CLOCK_MONOTONIC) / kSecond, boottime = ByLibc(CLOCK_BOOTTIME) / kSecond;
    // exec(2) enters the namespace for children too.
    const ProgramResult result = RunProgram("print_monotonic", {}, [] { NewTimeNamespace(); });
    int64_t m = 0, b = 0;
    std::istringstream(result.output) >> m >> b;
    EXPECT_GE(m, monotonic + kFar);
    EXPECT_LT(m, monotonic + kFar + 100);
    EXPECT_GE(b, boottime + 2 * kFar);
  }), 0);
}

TEST(VdsoTest, SetnsChangesTheClocks) {
  EXPECT_EQ(InChild([] {
    const int64_t monotonic = ByLibc(CLOCK_MONOTONIC), boottime = ByLibc(CLOCK_BOOTTIME);
    const int old = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
    NewTimeNamespace();
    const int fresh = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
    ASSERT_THAT(fresh, SyscallSucceeds());
    ASSERT_THAT(setns(fresh, CLONE_NEWTIME), SyscallSucceeds());
    EXPECT_TRUE(ClocksAreFarFrom(monotonic, boottime));
    ASSERT_THAT(setns(old, CLONE_NEWTIME), SyscallSucceeds());
    EXPECT_LT(ByLibc(CLOCK_MONOTONIC) - monotonic, 100 * kSecond);
    EXPECT_LT(ByCall(CLOCK_MONOTONIC) - monotonic, 100 * kSecond);
  }), 0);
}

}  // namespace
}  // namespace caisson::test
