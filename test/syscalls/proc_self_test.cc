// /proc/[pid]: what ps, top, gdb, libc and shells read.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

std::string Link(const std::string& path) {
  char buffer[4096];
  ssize_t n = readlink(path.c_str(), buffer, sizeof(buffer));
  return std::string(buffer, n < 0 ? 0 : n);
}

// The line of /proc/self/maps that covers the address.
std::string MapsLine(const void* address) {
  std::istringstream maps(ReadFile("/proc/self/maps"));
  for (std::string line; std::getline(maps, line);) {
    unsigned long start, end;
    if (sscanf(line.c_str(), "%lx-%lx", &start, &end) == 2 &&
        start <= reinterpret_cast<unsigned long>(address) &&
        reinterpret_cast<unsigned long>(address) < end) {
      return line;
    }
  }
  return "";
}

TEST(ProcSelfTest, LinksToThePid) {
  EXPECT_EQ(Link("/proc/self"), std::to_string(getpid()));
  EXPECT_EQ(Link("/proc/thread-self"),
            std::to_string(getpid()) + "/task/" + std::to_string(gettid()));
}

TEST(ProcSelfTest, GoneProcessHasNoDirectory) {
  Child child([] {});
  const std::string path = "/proc/" + std::to_string(child.pid());
  EXPECT_TRUE(Exists(path));
  child.Wait();
  EXPECT_FALSE(Exists(path));
}

TEST(ProcSelfTest, MapsShowRangeProtectionAndSharing) {
  Mapping memory(3 * kPage, PROT_READ);
  char range[64];
  snprintf(range, sizeof(range), "-%lx r--p 00000000 00:00 0",
           reinterpret_cast<unsigned long>(memory.get() + 3 * kPage));
  EXPECT_THAT(MapsLine(memory.get()), testing::HasSubstr("r--p"));
  ASSERT_THAT(mprotect(memory.get(), kPage, PROT_NONE), SyscallSucceeds());
  EXPECT_THAT(MapsLine(memory.get()), testing::HasSubstr("---p"));
  EXPECT_THAT(MapsLine(memory.get() + kPage), testing::HasSubstr("r--p"));
}

TEST(ProcSelfTest, MapsNameFilesWithOffsetAndInode) {
  TempFile file(std::string(2 * kPage, 'x'));
  FdCloser fd = file.Open(O_RDONLY);
  Mapping map(kPage, PROT_READ, MAP_SHARED, fd, kPage);
  struct stat st;
  fstat(fd, &st);
  EXPECT_THAT(MapsLine(map.get()), testing::HasSubstr("r--s 00001000"));
  EXPECT_THAT(MapsLine(map.get()), testing::HasSubstr(" " + std::to_string(st.st_ino) + " "));
  EXPECT_THAT(MapsLine(map.get()), testing::EndsWith(file.path()));
  unlink(file.c_str());
  EXPECT_THAT(MapsLine(map.get()), testing::EndsWith(file.path() + " (deleted)"));
}

TEST(ProcSelfTest, MapsNameStackHeapAndVdso) {
  int on_stack = 0;
  EXPECT_THAT(MapsLine(&on_stack), testing::EndsWith("[stack]"));
  const std::string maps = ReadFile("/proc/self/maps");
  EXPECT_THAT(maps, testing::HasSubstr("[heap]"));
  EXPECT_THAT(maps, testing::HasSubstr("[vdso]"));
  EXPECT_THAT(maps, testing::HasSubstr(SelfPath()));
}

TEST(ProcSelfTest, StatHasTheRightFields) {
  std::istringstream stat(ReadFile("/proc/self/stat"));
  int pid, parent, group, session;
  std::string name, state;
  stat >> pid >> name >> state >> parent >> group >> session;
  EXPECT_EQ(pid, getpid());
  EXPECT_EQ(state, "R");
  EXPECT_EQ(parent, getppid());
  EXPECT_EQ(group, getpgrp());
  EXPECT_EQ(session, getsid(0));
  std::vector<std::string> rest;
  for (std::string field; stat >> field;) rest.push_back(field);
  EXPECT_EQ(rest.size(), 46u);  // 52 in all.
}

TEST(ProcSelfTest, StatusNamesTheProcess) {
  EXPECT_EQ(StatusField("self", "Pid"), std::to_string(getpid()));
  EXPECT_EQ(StatusField("self", "PPid"), std::to_string(getppid()));
  EXPECT_EQ(StatusField("self", "Tgid"), std::to_string(getpid()));
  EXPECT_EQ(StatusField("self", "Threads"), "1");
  EXPECT_EQ(StatusField("self", "TracerPid"), "0");
  EXPECT_THAT(StatusField("self", "VmRSS"), testing::EndsWith(" kB"));
  EXPECT_THAT(StatusField("self", "State"), testing::StartsWith("R"));
}

TEST(ProcSelfTest, StatusShowsSignalSets) {
  EXPECT_THAT(InChild([] {
                signal(SIGUSR1, SIG_IGN);
                signal(SIGUSR2, CountDelivery);
                Block({SIGHUP});
                kill(getpid(), SIGHUP);
                EXPECT_EQ(StatusField("self", "SigBlk"), "0000000000000001");
                EXPECT_EQ(StatusField("self", "ShdPnd"), "0000000000000001");
                // Whoever started the test may ignore real-time signals of its own.
                EXPECT_EQ(std::stoull(StatusField("self", "SigIgn"), nullptr, 16) & 0x7fffffff, 0x200u);
                EXPECT_EQ(std::stoull(StatusField("self", "SigCgt"), nullptr, 16) & 0x7fffffff, 0x800u);
              }),
              ExitsWith(0));
}

GUEST_PROGRAM(print_cmdline) {
  printf("%s", ReadFile("/proc/self/cmdline").c_str() + 0);
  fwrite("|", 1, 1, stdout);
  const std::string environment = ReadFile("/proc/self/environ");
  fwrite(environment.data(), 1, environment.size(), stdout);
  return 0;
}
TEST(ProcSelfTest, CmdlineAndEnvironAreTheExecsOwn) {
  Pipe pipe;
  Child child([&] {
    dup2(pipe.writer, 1);
    const char* argv[] = {"arg zero", "--program=print_cmdline", nullptr};
    const char* envp[] = {"KEY=value", "B=2", nullptr};
    execve(SelfPath().c_str(), const_cast<char**>(argv), const_cast<char**>(envp));
  });
  pipe.writer.Close();
  EXPECT_EQ(ReadAll(pipe.reader), std::string("arg zero|KEY=value\0B=2\0", 23));
}

TEST(ProcSelfTest, FdLinksNameWhatIsOpen) {
  TempFile file;
  FdCloser fd = file.Open(O_RDONLY);
  Pipe pipe;
  EXPECT_EQ(Link("/proc/self/fd/" + std::to_string(fd)), file.path());
  EXPECT_THAT(Link("/proc/self/fd/" + std::to_string(pipe.reader)),
              testing::MatchesRegex("pipe:\\[[0-9]+\\]"));
  unlink(file.c_str());
  EXPECT_EQ(Link("/proc/self/fd/" + std::to_string(fd)), file.path() + " (deleted)");
}

TEST(ProcSelfTest, OpeningAnFdLinkMakesANewDescription) {
  TempFile file("abcdef");
  FdCloser fd = file.Open(O_RDONLY);
  EXPECT_EQ(ReadOnce(fd, 3), "abc");
  EXPECT_EQ(ReadFile("/proc/self/fd/" + std::to_string(fd)), "abcdef");
}

TEST(ProcSelfTest, FdinfoShowsOffsetAndFlags) {
  TempFile file("abcdef");
  FdCloser fd = file.Open(O_RDWR | O_APPEND);
  ReadOnce(fd, 4);
  const std::string info = ReadFile("/proc/self/fdinfo/" + std::to_string(fd));
  EXPECT_THAT(info, testing::HasSubstr("pos:\t4\n"));
  EXPECT_THAT(info, testing::ContainsRegex("flags:\t0[0-7]*2002\n"));
}

TEST(ProcSelfTest, RootAndExe) {
  EXPECT_EQ(Link("/proc/self/root"), "/");
  EXPECT_EQ(Link("/proc/self/exe"), SelfPath());
}

TEST(ProcSelfTest, TaskListsThreads) {
  Pipe pipe;
  ScopedThread thread([&] { ReadOnce(pipe.reader, 1); });
  EXPECT_THAT(
      ListDir("/proc/self/task"),
      testing::UnorderedElementsAre(std::to_string(getpid()), std::to_string(thread.tid())));
  EXPECT_EQ(StatusField("self", "Threads"), "2");
  WriteAll(pipe.writer, "x");
}

TEST(ProcSelfTest, CommCanBeWritten) {
  EXPECT_THAT(InChild([] {
                ASSERT_TRUE(WriteFile("/proc/self/comm", "renamed"));
                EXPECT_EQ(ReadFile("/proc/self/comm"), "renamed\n");
                EXPECT_EQ(StatusField("self", "Name"), "renamed");
              }),
              ExitsWith(0));
}

TEST(ProcSelfTest, MountinfoAndMountsAgreeOnProc) {
  EXPECT_THAT(ReadFile("/proc/self/mounts"), testing::HasSubstr(" /proc proc "));
  EXPECT_THAT(ReadFile("/proc/self/mountinfo"), testing::ContainsRegex(" / /proc .* - proc "));
}

TEST(ProcSelfTest, AuxvEndsWithNull) {
  const std::string auxv = ReadFile("/proc/self/auxv");
  ASSERT_GE(auxv.size(), 32u);
  EXPECT_EQ(auxv.size() % 16, 0u);
  EXPECT_EQ(auxv.substr(auxv.size() - 16), std::string(16, '\0'));
}

TEST(ProcSelfTest, MemReadsAndWritesTheOwnMemory) {
  char text[] = "memory";
  FdCloser fd(open("/proc/self/mem", O_RDWR));
  char copy[6];
  ASSERT_THAT(pread(fd, copy, 6, reinterpret_cast<off_t>(text)), SyscallSucceedsWithValue(6));
  EXPECT_EQ(std::string(copy, 6), "memory");
  ASSERT_THAT(pwrite(fd, "M", 1, reinterpret_cast<off_t>(text)), SyscallSucceedsWithValue(1));
  EXPECT_EQ(text[0], 'M');
  EXPECT_THAT(pread(fd, copy, 6, 0), SyscallFailsWithErrno(EIO));
}

TEST(ProcSelfTest, StatmCountsPages) {
  unsigned long before = 0, after = 0;
  sscanf(ReadFile("/proc/self/statm").c_str(), "%lu", &before);
  Mapping memory(100 * kPage);
  sscanf(ReadFile("/proc/self/statm").c_str(), "%lu", &after);
  EXPECT_GE(after, before + 100);
}

TEST(ProcSelfTest, NamespaceLinksTellThemApart) {
  EXPECT_THAT(Link("/proc/self/ns/pid"), testing::MatchesRegex("pid:\\[[0-9]+\\]"));
  EXPECT_THAT(Link("/proc/self/ns/mnt"), testing::MatchesRegex("mnt:\\[[0-9]+\\]"));
}

TEST(ProcSelfTest, OthersSecretsNeedPrivilege) {
  Child victim([] { pause(); });
  EXPECT_THAT(
      InChild([&] {
        setresuid(1000, 1000, 1000);
        const std::string base = "/proc/" + std::to_string(victim.pid());
        EXPECT_THAT(open((base + "/environ").c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
        EXPECT_THAT(open((base + "/fd").c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
        char buffer[8];
        EXPECT_THAT(readlink((base + "/exe").c_str(), buffer, 8), SyscallFailsWithErrno(EACCES));
        EXPECT_THAT(open((base + "/stat").c_str(), O_RDONLY), SyscallSucceeds());
      }),
      ExitsWith(0));
}

TEST(ProcSelfTest, EntriesCannotBeRemovedOrMade) {
  EXPECT_THAT(open("/proc/new", O_CREAT | O_RDWR, 0644), SyscallFailsWithEither(ENOENT, EACCES));
  EXPECT_THAT(mkdir("/proc/self/new", 0755), SyscallFailsWithEither(ENOENT, EACCES));
  EXPECT_THAT(unlink("/proc/self/stat"), SyscallFailsWithEither(EPERM, EACCES));
}

}  // namespace
}  // namespace caisson::test
