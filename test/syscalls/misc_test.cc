// uname(2), sysinfo(2), getrandom(2), sched(7), prctl(2), personality(2), unknown calls, memfd.
#include <fcntl.h>
#include <linux/memfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

TEST(UnknownCallTest, IsEnosys) {
  EXPECT_THAT(syscall(10000), SyscallFailsWithErrno(ENOSYS));
  EXPECT_THAT(syscall(-1), SyscallFailsWithErrno(ENOSYS));
  EXPECT_THAT(syscall(400), SyscallFailsWithErrno(ENOSYS));
}

TEST(UnknownCallTest, OnlyTheResultAndTwoRegistersChange) {
  long result = 100000, rdi = 1, rsi = 2, rdx = 3;
  register long r10 asm("r10") = 4;
  register long r8 asm("r8") = 5;
  register long r9 asm("r9") = 6;
  asm volatile("syscall"
               : "+a"(result), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r10), "+r"(r8), "+r"(r9)
               :
               : "rcx", "r11", "memory");
  // Before any call, which may use these registers.
  const long digits = rdi * 100000 + rsi * 10000 + rdx * 1000 + r10 * 100 + r8 * 10 + r9;
  EXPECT_EQ(result, -ENOSYS);
  EXPECT_EQ(digits, 123456);
}

TEST(UnameTest, IsLinuxOnX86) {
  utsname name;
  ASSERT_THAT(uname(&name), SyscallSucceeds());
  EXPECT_STREQ(name.sysname, "Linux");
  EXPECT_STREQ(name.machine, "x86_64");
  EXPECT_THAT(name.release, testing::MatchesRegex("[0-9]+\\.[0-9]+.*"));
  EXPECT_EQ(ReadFile("/proc/sys/kernel/osrelease"), std::string(name.release) + "\n");
}

TEST(HostnameTest, CanBeSetInAnOwnNamespace) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(unshare(CLONE_NEWUTS), SyscallSucceeds());
                ASSERT_THAT(sethostname("renamed", 7), SyscallSucceeds());
                utsname name;
                uname(&name);
                EXPECT_STREQ(name.nodename, "renamed");
                EXPECT_THAT(sethostname(std::string(65, 'x').c_str(), 65),
                            SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST(SysinfoTest, IsPlausible) {
  struct sysinfo info;
  ASSERT_THAT(sysinfo(&info), SyscallSucceeds());
  EXPECT_GT(info.totalram, 0u);
  EXPECT_LE(info.freeram, info.totalram);
  EXPECT_GE(info.procs, 1);
  EXPECT_GT(info.mem_unit, 0u);
}

TEST(GetrandomTest, FillsDifferently) {
  char a[32] = {}, b[32] = {};
  EXPECT_THAT(getrandom(a, 32, 0), SyscallSucceedsWithValue(32));
  EXPECT_THAT(getrandom(b, 32, GRND_NONBLOCK), SyscallSucceedsWithValue(32));
  EXPECT_NE(memcmp(a, b, 32), 0);
  EXPECT_THAT(getrandom(a, 32, 0x100), SyscallFailsWithErrno(EINVAL));
}

TEST(GetcpuTest, NamesAnAllowedCpu) {
  cpu_set_t set;
  ASSERT_THAT(sched_getaffinity(0, sizeof(set), &set), SyscallSucceeds());
  unsigned cpu = ~0u, node = ~0u;
  ASSERT_THAT(syscall(SYS_getcpu, &cpu, &node, nullptr), SyscallSucceeds());
  EXPECT_TRUE(CPU_ISSET(cpu, &set));
}

TEST(SchedTest, AffinityIsReadBackAndChecked) {
  EXPECT_THAT(InChild([] {
                cpu_set_t set, one;
                ASSERT_THAT(sched_getaffinity(0, sizeof(set), &set), SyscallSucceeds());
                int cpu = 0;
                while (!CPU_ISSET(cpu, &set)) cpu++;
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                ASSERT_THAT(sched_setaffinity(0, sizeof(one), &one), SyscallSucceeds());
                ASSERT_THAT(sched_getaffinity(0, sizeof(set), &set), SyscallSucceeds());
                EXPECT_EQ(CPU_COUNT(&set), 1);
                CPU_ZERO(&one);
                EXPECT_THAT(sched_setaffinity(0, sizeof(one), &one), SyscallFailsWithErrno(EINVAL));
                EXPECT_THAT(sched_getaffinity(0, 3, &set), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST(SchedTest, PoliciesAndTheirRanges) {
  EXPECT_THAT(sched_getscheduler(0), SyscallSucceedsWithValue(SCHED_OTHER));
  EXPECT_THAT(sched_get_priority_max(SCHED_FIFO), SyscallSucceedsWithValue(99));
  EXPECT_THAT(sched_get_priority_max(77), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(sched_yield(), SyscallSucceeds());
  sched_param param = {1};
  EXPECT_THAT(sched_setscheduler(0, SCHED_OTHER, &param), SyscallFailsWithErrno(EINVAL));
}

TEST(PrctlTest, NameIsCutTo15BytesAndInProc) {
  EXPECT_THAT(InChild([] {
                char name[16];
                ASSERT_THAT(prctl(PR_SET_NAME, "0123456789abcdefgh"), SyscallSucceeds());
                ASSERT_THAT(prctl(PR_GET_NAME, name), SyscallSucceeds());
                EXPECT_STREQ(name, "0123456789abcde");
                EXPECT_EQ(ReadFile("/proc/self/comm"), "0123456789abcde\n");
              }),
              ExitsWith(0));
}

TEST(PrctlTest, UndumpableAndDeathSignalAreReadBack) {
  EXPECT_THAT(InChild([] {
                int signal = 0;
                ASSERT_THAT(prctl(PR_SET_PDEATHSIG, SIGUSR2), SyscallSucceeds());
                ASSERT_THAT(prctl(PR_GET_PDEATHSIG, &signal), SyscallSucceeds());
                EXPECT_EQ(signal, SIGUSR2);
                EXPECT_THAT(prctl(PR_GET_DUMPABLE), SyscallSucceedsWithValue(1));
                ASSERT_THAT(prctl(PR_SET_DUMPABLE, 0), SyscallSucceeds());
                EXPECT_THAT(prctl(PR_GET_DUMPABLE), SyscallSucceedsWithValue(0));
                EXPECT_THAT(prctl(PR_SET_DUMPABLE, 7), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST(PrctlTest, UnknownOptionIsInvalid) {
  EXPECT_THAT(prctl(9999, 0, 0, 0, 0), SyscallFailsWithErrno(EINVAL));
}

TEST(PersonalityTest, IsReadBack) {
  EXPECT_THAT(InChild([] {
                const int old = personality(0xffffffff);
                EXPECT_THAT(personality(old | ADDR_NO_RANDOMIZE), SyscallSucceedsWithValue(old));
                EXPECT_THAT(personality(0xffffffff),
                            SyscallSucceedsWithValue(old | ADDR_NO_RANDOMIZE));
              }),
              ExitsWith(0));
}

TEST(AuxvTest, HasWhatLibcNeeds) {
  EXPECT_EQ(getauxval(AT_PAGESZ), kPage);
  EXPECT_EQ(getauxval(AT_UID), getuid());
  EXPECT_EQ(getauxval(AT_CLKTCK), 100u);
  EXPECT_NE(getauxval(AT_RANDOM), 0u);
  EXPECT_NE(getauxval(AT_PHDR), 0u);
  EXPECT_NE(getauxval(AT_SYSINFO_EHDR), 0u);
  EXPECT_STREQ(reinterpret_cast<char*>(getauxval(AT_PLATFORM)), "x86_64");
}

TEST(ArchPrctlTest, FsAndGsBases) {
  EXPECT_THAT(InChild([] {
                unsigned long base = 0;
                EXPECT_THAT(syscall(SYS_arch_prctl, 0x1003, &base), SyscallSucceeds());
                EXPECT_NE(base, 0u);
                EXPECT_THAT(syscall(SYS_arch_prctl, 0x1001, 0x12345000), SyscallSucceeds());
                EXPECT_THAT(syscall(SYS_arch_prctl, 0x1004, &base), SyscallSucceeds());
                EXPECT_EQ(base, 0x12345000u);
                EXPECT_THAT(syscall(SYS_arch_prctl, 0x1001, kKernelAddress),
                            SyscallFailsWithErrno(EPERM));
                EXPECT_THAT(syscall(SYS_arch_prctl, 0x9999, 0), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

class MemfdTest : public testing::Test {
 protected:
  FdCloser fd_{memfd_create("name", MFD_ALLOW_SEALING | MFD_CLOEXEC)};
};

TEST_F(MemfdTest, IsAnEmptyUnlinkedFile) {
  ASSERT_TRUE(WriteAll(fd_, "content"));
  char link[64] = {};
  const std::string path = "/proc/self/fd/" + std::to_string(fd_);
  ASSERT_THAT(readlink(path.c_str(), link, 63), SyscallSucceeds());
  EXPECT_STREQ(link, "/memfd:name (deleted)");
  EXPECT_EQ(ReadFile(path), "content");
}

TEST_F(MemfdTest, SealsAreEnforced) {
  ASSERT_THAT(ftruncate(fd_, 10), SyscallSucceeds());
  ASSERT_THAT(fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
              SyscallSucceeds());
  EXPECT_THAT(ftruncate(fd_, 5), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(ftruncate(fd_, 20), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(write(fd_, "x", 1), SyscallFailsWithErrno(EPERM));
  EXPECT_EQ(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0), MAP_FAILED);
  EXPECT_EQ(errno, EPERM);
  EXPECT_THAT(fcntl(fd_, F_GET_SEALS),
              SyscallSucceedsWithValue(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
}

TEST_F(MemfdTest, WriteSealWaitsForWritableMappings) {
  ASSERT_THAT(ftruncate(fd_, kPage), SyscallSucceeds());
  {
    Mapping map(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd_);
    EXPECT_THAT(fcntl(fd_, F_ADD_SEALS, F_SEAL_WRITE), SyscallFailsWithErrno(EBUSY));
  }
  EXPECT_THAT(fcntl(fd_, F_ADD_SEALS, F_SEAL_WRITE), SyscallSucceeds());
}

TEST_F(MemfdTest, SealedSealsCannotChangeAndFlagsAreChecked) {
  ASSERT_THAT(fcntl(fd_, F_ADD_SEALS, F_SEAL_SEAL), SyscallSucceeds());
  EXPECT_THAT(fcntl(fd_, F_ADD_SEALS, F_SEAL_GROW), SyscallFailsWithErrno(EPERM));
  FdCloser plain(memfd_create("x", 0));
  EXPECT_THAT(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(memfd_create("x", 0x8000), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(memfd_create(std::string(250, 'n').c_str(), 0), SyscallFailsWithErrno(EINVAL));
}

}  // namespace
}  // namespace caisson::test
