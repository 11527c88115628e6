// /proc outside the processes, /sys and /dev: what free, uptime, df, nproc and libc read.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;

unsigned long Meminfo(const std::string& key) {
  const std::string text = "\n" + ReadFile("/proc/meminfo");
  const size_t at = text.find("\n" + key + ":");
  unsigned long value = 0;
  if (at != std::string::npos) sscanf(text.c_str() + at + key.size() + 2, "%lu", &value);
  return value;
}

TEST(ProcTest, MeminfoIsConsistent) {
  EXPECT_GT(Meminfo("MemTotal"), 0u);
  EXPECT_LE(Meminfo("MemFree"), Meminfo("MemTotal"));
  EXPECT_LE(Meminfo("MemAvailable"), Meminfo("MemTotal"));
  EXPECT_THAT(ReadFile("/proc/meminfo"), ContainsRegex("Cached: +[0-9]+ kB"));
}

TEST(ProcTest, CpuinfoListsEveryCpu) {
  const std::string text = ReadFile("/proc/cpuinfo");
  int count = 0;
  for (size_t at = 0; (at = text.find("processor\t:", at)) != std::string::npos; at++) count++;
  EXPECT_EQ(count, get_nprocs());
  EXPECT_THAT(text, HasSubstr("model name\t:"));
  EXPECT_THAT(text, ContainsRegex("flags\t\t:.* sse2 "));
}

TEST(ProcTest, UptimeAdvances) {
  double first = 0, second = 0;
  sscanf(ReadFile("/proc/uptime").c_str(), "%lf", &first);
  EXPECT_TRUE(WaitUntil([&] {
    sscanf(ReadFile("/proc/uptime").c_str(), "%lf", &second);
    return second > first;
  }));
}

TEST(ProcTest, LoadavgHasItsForm) {
  EXPECT_THAT(ReadFile("/proc/loadavg"),
              MatchesRegex("[0-9.]+ [0-9.]+ [0-9.]+ [0-9]+/[0-9]+ [0-9]+\n"));
}

TEST(ProcTest, StatHasCpuAndBootTime) {
  const std::string text = ReadFile("/proc/stat");
  EXPECT_THAT(text, testing::StartsWith("cpu  "));
  EXPECT_THAT(text, HasSubstr("\ncpu0 "));
  unsigned long boot = 0;
  const size_t at = text.find("\nbtime ");
  ASSERT_NE(at, std::string::npos);
  sscanf(text.c_str() + at, "\nbtime %lu", &boot);
  EXPECT_GT(boot, 1000000000u);
  EXPECT_LE(boot, static_cast<unsigned long>(time(nullptr)) + 1);
  EXPECT_THAT(text, ContainsRegex("\nprocesses [0-9]+\n"));
}

TEST(ProcTest, VersionBeginsWithLinux) {
  EXPECT_THAT(ReadFile("/proc/version"), testing::StartsWith("Linux version "));
}

TEST(ProcTest, FilesystemsListWhatIsMounted) {
  const std::string text = ReadFile("/proc/filesystems");
  EXPECT_THAT(text, HasSubstr("nodev\tproc\n"));
  EXPECT_THAT(text, HasSubstr("nodev\ttmpfs\n"));
}

TEST(ProcTest, MountsLinksToSelf) {
  char buffer[32] = {};
  ASSERT_THAT(readlink("/proc/mounts", buffer, 31), SyscallSucceeds());
  EXPECT_STREQ(buffer, "self/mounts");
}

TEST(ProcTest, OnlyThreadLeadersAreListed) {
  Pipe pipe;
  ScopedThread thread([&] { ReadOnce(pipe.reader, 1); });
  EXPECT_THAT(ListDir("/proc"), testing::Contains(std::to_string(getpid())));
  EXPECT_THAT(ListDir("/proc"), testing::Not(testing::Contains(std::to_string(thread.tid()))));
  EXPECT_TRUE(Exists("/proc/" + std::to_string(thread.tid())));
  WriteAll(pipe.writer, "x");
}

TEST(ProcTest, ReadsInSmallPiecesGiveTheWhole) {
  FdCloser fd(open("/proc/filesystems", O_RDONLY));
  std::string text;
  for (std::string part; !(part = ReadOnce(fd, 7)).empty();) text += part;
  EXPECT_EQ(text, ReadFile("/proc/filesystems"));
}

TEST(SysctlTest, KernelValuesAreReadable) {
  EXPECT_EQ(ReadFile("/proc/sys/kernel/ostype"), "Linux\n");
  char name[65] = {};
  gethostname(name, 64);
  EXPECT_EQ(ReadFile("/proc/sys/kernel/hostname"), std::string(name) + "\n");
  EXPECT_THAT(ReadFile("/proc/sys/kernel/pid_max"), MatchesRegex("[0-9]+\n"));
  EXPECT_THAT(ReadFile("/proc/sys/kernel/random/boot_id"), MatchesRegex("[0-9a-f-]+\n"));
  EXPECT_EQ(ReadFile("/proc/sys/kernel/ngroups_max"), "65536\n");
  EXPECT_THAT(ReadFile("/proc/sys/kernel/cap_last_cap"), MatchesRegex("[0-9]+\n"));
}

TEST(SysctlTest, UuidIsNewAtEveryRead) {
  const std::string first = ReadFile("/proc/sys/kernel/random/uuid");
  EXPECT_EQ(first.size(), 37u);
  EXPECT_NE(ReadFile("/proc/sys/kernel/random/uuid"), first);
}

TEST(SysctlTest, FileAndMemoryValuesAreReadable) {
  EXPECT_THAT(ReadFile("/proc/sys/fs/file-max"), MatchesRegex("[0-9]+\n"));
  EXPECT_THAT(ReadFile("/proc/sys/fs/nr_open"), MatchesRegex("[0-9]+\n"));
  EXPECT_THAT(ReadFile("/proc/sys/fs/pipe-max-size"), MatchesRegex("[0-9]+\n"));
  EXPECT_THAT(ReadFile("/proc/sys/vm/overcommit_memory"), MatchesRegex("[012]\n"));
  EXPECT_THAT(ReadFile("/proc/sys/vm/max_map_count"), MatchesRegex("[0-9]+\n"));
}

TEST(SysctlTest, ReadOnlyOnesRefuseWrites) {
  EXPECT_THAT(open("/proc/sys/kernel/ostype", O_WRONLY),
              testing::AnyOf(SyscallFailsWithErrno(EACCES), SyscallFailsWithErrno(EROFS)));
}

TEST(SysfsTest, CpuListsAreThere) {
  EXPECT_THAT(ReadFile("/sys/devices/system/cpu/online"), MatchesRegex("[0-9,-]+\n"));
  EXPECT_THAT(ReadFile("/sys/devices/system/cpu/possible"), MatchesRegex("[0-9,-]+\n"));
  EXPECT_TRUE(Exists("/sys/devices/system/cpu/cpu0"));
  struct statfs fs;
  ASSERT_THAT(statfs("/sys", &fs), SyscallSucceeds());
  EXPECT_EQ(fs.f_type, 0x62656572);
}

TEST(DevTest, StandardNodesAndLinksExist) {
  struct stat st;
  for (const char* name : {"null", "zero", "full", "random", "urandom", "tty", "ptmx"}) {
    ASSERT_THAT(stat((std::string("/dev/") + name).c_str(), &st), SyscallSucceeds()) << name;
    EXPECT_TRUE(S_ISCHR(st.st_mode)) << name;
  }
  char target[32] = {};
  ASSERT_THAT(readlink("/dev/fd", target, 31), SyscallSucceeds());
  EXPECT_STREQ(target, "/proc/self/fd");
  ASSERT_THAT(readlink("/dev/stdin", target, 31), SyscallSucceeds());
}

TEST(DevTest, UrandomIsRandomAndFullIsFull) {
  FdCloser urandom(open("/dev/urandom", O_RDONLY)), full(open("/dev/full", O_RDWR));
  EXPECT_NE(ReadOnce(urandom, 32), ReadOnce(urandom, 32));
  EXPECT_EQ(ReadOnce(full, 4), std::string(4, '\0'));
}

}  // namespace
}  // namespace caisson::test
