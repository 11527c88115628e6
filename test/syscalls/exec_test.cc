// execve(2), execveat(2).
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

GUEST_PROGRAM(print_args) {
  for (int i = 0; i < argc; i++) printf("%s|", argv[i]);
  return 0;
}
GUEST_PROGRAM(print_env) {
  for (char** entry = environ; *entry != nullptr; entry++) printf("%s|", *entry);
  return 0;
}
GUEST_PROGRAM(exit_with) { return atoi(argv[1]); }
GUEST_PROGRAM(fd_is_open) { return FdIsOpen(atoi(argv[1])) ? 1 : 0; }
GUEST_PROGRAM(print_exe) {
  printf("%s", SelfPath().c_str());
  return 0;
}
GUEST_PROGRAM(signal_state) {
  struct sigaction ignored, handled;
  sigaction(SIGUSR1, nullptr, &ignored);
  sigaction(SIGUSR2, nullptr, &handled);
  sigset_t mask, pending;
  sigprocmask(SIG_BLOCK, nullptr, &mask);
  sigpending(&pending);
  printf("%d%d%d%d", ignored.sa_handler == SIG_IGN, handled.sa_handler == SIG_DFL,
         sigismember(&mask, SIGHUP), sigismember(&pending, SIGHUP));
  return 0;
}
GUEST_PROGRAM(print_ids) {
  printf("%d %d %d", getpid(), gettid(), static_cast<int>(ListDir("/proc/self/task").size()));
  return 0;
}
GUEST_PROGRAM(print_euid) {
  printf("%u %u %lu", getuid(), geteuid(), getauxval(AT_SECURE));
  return 0;
}
GUEST_PROGRAM(print_comm) {
  printf("%s", ReadFile("/proc/self/comm").c_str());
  return 0;
}

// A script in a directory of its own, executable.
class Script {
 public:
  explicit Script(const std::string& text) : file_(text, 0755) {}
  const std::string& path() const { return file_.path(); }

 private:
  TempFile file_;
};

// What `argv` of this path prints.
ProgramResult Exec(const std::string& path, std::vector<std::string> args,
                   std::vector<std::string> env = {}) {
  Pipe pipe;
  ProgramResult result;
  result.status = InChild([&] {
    dup2(pipe.writer, STDOUT_FILENO);
    std::vector<char*> argv, envp;
    for (std::string& arg : args) argv.push_back(arg.data());
    for (std::string& entry : env) envp.push_back(entry.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    execve(path.c_str(), argv.data(), envp.data());
    _exit(127);
  });
  pipe.writer.Close();
  result.output = ReadAll(pipe.reader);
  return result;
}
int ExecError(const std::string& path) {
  char name[] = "x";
  char* argv[] = {name, nullptr};
  return execve(path.c_str(), argv, environ);
}

TEST(ExecTest, PassesArguments) {
  EXPECT_EQ(Exec(SelfPath(), {"zero", "--program=print_args", "", "two words"}).output,
            "zero||two words|");
}

TEST(ExecTest, PassesEnvironment) {
  EXPECT_EQ(Exec(SelfPath(), {"x", "--program=print_env"}, {"A=1", "B="}).output, "A=1|B=|");
}

TEST(ExecTest, KeepsThePid) {
  pid_t pid = fork();
  if (pid == 0) {
    execl(SelfPath().c_str(), "x", "--program=exit_with", "12", nullptr);
    _exit(127);
  }
  int status = 0;
  EXPECT_THAT(waitpid(pid, &status, 0), SyscallSucceedsWithValue(pid));
  EXPECT_THAT(status, ExitsWith(12));
}

TEST(ExecTest, ClosesOnlyCloseOnExecDescriptors) {
  Pipe pipe;
  fcntl(pipe.writer, F_SETFD, FD_CLOEXEC);
  EXPECT_THAT(RunProgram("fd_is_open", {std::to_string(pipe.reader)}).status, ExitsWith(1));
  EXPECT_THAT(RunProgram("fd_is_open", {std::to_string(pipe.writer)}).status, ExitsWith(0));
}

TEST(ExecTest, ProcExeNamesTheFile) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "copy", ReadFile(SelfPath()), 0755));
  EXPECT_EQ(Exec(dir / "copy", {"anything", "--program=print_exe"}).output, dir / "copy");
}

TEST(ExecTest, ProcSelfExeCanBeExecuted) {
  EXPECT_THAT(Exec("/proc/self/exe", {"x", "--program=exit_with", "5"}).status, ExitsWith(5));
}

TEST(ExecTest, CommIsTheFilesNameCutTo15Bytes) {
  TempDir dir;
  const std::string path = dir / "a_name_longer_than_fifteen";
  ASSERT_TRUE(WriteFile(path, ReadFile(SelfPath()), 0755));
  EXPECT_EQ(Exec(path, {"x", "--program=print_comm"}).output, "a_name_longer_t\n");
}

TEST(ExecTest, SignalHandlersAreResetButIgnoredMaskAndPendingStay) {
  ProgramResult result = RunProgram("signal_state", {}, [] {
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, CountDelivery);
    Block({SIGHUP});
    kill(getpid(), SIGHUP);
  });
  EXPECT_EQ(result.output, "1111");
}

TEST(ExecTest, FromAThreadTheOthersEndAndTheLeadersIdStays) {
  Pipe pipe;
  pid_t expected = 0;
  Pipe output;
  Child child([&] {
    dup2(output.writer, STDOUT_FILENO);
    output.writer.Close();
    Pipe never;
    ScopedThread blocked([&] { ReadOnce(never.reader, 1); });
    ScopedThread executor([&] {
      execl(SelfPath().c_str(), "x", "--program=print_ids", nullptr);
      _exit(127);
    });
    executor.Join();
  });
  expected = child.pid();
  output.writer.Close();
  const std::string pid = std::to_string(expected);
  EXPECT_EQ(ReadAll(output.reader), pid + " " + pid + " 1");
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST(ExecTest, MissingFileIsEnoent) {
  EXPECT_THAT(ExecError("/tmp/no/such/program"), SyscallFailsWithErrno(ENOENT));
  EXPECT_THAT(ExecError(""), SyscallFailsWithErrno(ENOENT));
}

TEST(ExecTest, NonExecutableFileDirectoryAndDeviceAreEacces) {
  TempFile file("#!/x\n", 0644);
  EXPECT_THAT(ExecError(file.path()), SyscallFailsWithErrno(EACCES));
  EXPECT_THAT(ExecError("/tmp"), SyscallFailsWithErrno(EACCES));
  EXPECT_THAT(ExecError("/dev/null"), SyscallFailsWithErrno(EACCES));
}

TEST(ExecTest, UnknownFormatIsEnoexec) {
  TempFile text("just text\n", 0755), empty("", 0755);
  EXPECT_THAT(ExecError(text.path()), SyscallFailsWithErrno(ENOEXEC));
  EXPECT_THAT(ExecError(empty.path()), SyscallFailsWithErrno(ENOEXEC));
}

TEST(ExecTest, TruncatedElfIsRefused) {
  TempFile header(ReadFile(SelfPath()).substr(0, 40), 0755);
  EXPECT_THAT(ExecError(header.path()), SyscallFailsWithErrno(ENOEXEC));
}

TEST(ExecTest, ElfWithAForeignMachineIsEnoexec) {
  std::string elf = ReadFile(SelfPath());
  elf[18] = 40;  // e_machine: EM_ARM
  TempFile file(elf, 0755);
  EXPECT_THAT(ExecError(file.path()), SyscallFailsWithErrno(ENOEXEC));
}

TEST(ExecTest, FileOpenForWritingIsEtxtbsy) {
  TempFile file(ReadFile(SelfPath()), 0755);
  FdCloser writer = file.Open(O_WRONLY);
  EXPECT_THAT(ExecError(file.path()), SyscallFailsWithErrno(ETXTBSY));
}

TEST(ExecTest, ArgumentOver128KibIsE2big) {
  const std::string big(128 * 1024, 'a');
  const char* argv[] = {"x", big.c_str(), nullptr};
  EXPECT_THAT(execve(SelfPath().c_str(), const_cast<char**>(argv), environ),
              SyscallFailsWithErrno(E2BIG));
}

TEST(ExecTest, HundredKibOfArgumentsArrive) {
  std::vector<std::string> args = {"x", "--program=print_args"};
  for (int i = 0; i < 1000; i++) args.push_back(std::string(60, 'a' + i % 26));
  EXPECT_EQ(Exec(SelfPath(), args).output.size(), 2u + 1000 * 61);
}

TEST(ExecTest, SetuidBitGivesTheOwnersIdentity) {
  TempFile file(ReadFile(SelfPath()), 0755);
  ASSERT_THAT(chown(file.c_str(), 1234, 0), SyscallSucceeds());
  ASSERT_THAT(chmod(file.c_str(), 04755), SyscallSucceeds());
  Pipe pipe;
  InChild([&] {
    dup2(pipe.writer, STDOUT_FILENO);
    setresuid(1000, 1000, 1000);
    execl(file.c_str(), "x", "--program=print_euid", nullptr);
  });
  pipe.writer.Close();
  // /tmp may be mounted nosuid, as it is in a container; then the bit must have no effect.
  const std::string output = ReadAll(pipe.reader);
  const bool nosuid = ReadFile("/proc/mounts").find("/tmp tmpfs rw,nosuid") != std::string::npos;
  EXPECT_EQ(output, nosuid ? "1000 1000 0" : "1000 1234 1");
}

TEST(ScriptTest, InterpreterGetsOneArgumentAndThePath) {
  Script script("#! " + SelfPath() + " --program=print_args \nignored\n");
  EXPECT_EQ(Exec(script.path(), {"zero", "one"}).output,
            SelfPath() + "|" + script.path() + "|one|");
}

TEST(ScriptTest, RestOfTheLineIsOneArgument) {
  Script script("#!" + SelfPath() + " --program=exit_with 3\n");
  EXPECT_THAT(Exec(script.path(), {"x"}).status, ExitsWith(126));  // No program "exit_with 3".
}

TEST(ScriptTest, MissingInterpreterIsEnoent) {
  Script script("#!/no/such/interpreter\n");
  EXPECT_THAT(ExecError(script.path()), SyscallFailsWithErrno(ENOENT));
}

TEST(ScriptTest, FourLevelsRunAndEndlessOnesAreEloop) {
  Script first("#!" + SelfPath() + " --program=exit_with\n");
  Script second("#!" + first.path() + "\n");
  Script third("#!" + second.path() + "\n");
  EXPECT_THAT(Exec(third.path(), {"x"}).status, ExitsWith(0));
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "loop", "#!" + (dir / "loop") + "\n", 0755));
  EXPECT_THAT(ExecError(dir / "loop"), SyscallFailsWithErrno(ELOOP));
}

TEST(ExecveatTest, EmptyPathRunsTheDescriptor) {
  EXPECT_THAT(InChild([] {
                FdCloser fd(open(SelfPath().c_str(), O_PATH | O_CLOEXEC));
                const char* argv[] = {"x", "--program=exit_with", "31", nullptr};
                syscall(SYS_execveat, int{fd}, "", argv, environ, AT_EMPTY_PATH);
              }),
              ExitsWith(31));
}

TEST(ExecveatTest, NoFollowOfALinkIsEloop) {
  TempDir dir;
  ASSERT_THAT(symlink(SelfPath().c_str(), (dir / "l").c_str()), SyscallSucceeds());
  const char* argv[] = {"x", nullptr};
  EXPECT_THAT(
      syscall(SYS_execveat, AT_FDCWD, (dir / "l").c_str(), argv, environ, AT_SYMLINK_NOFOLLOW),
      SyscallFailsWithErrno(ELOOP));
}

TEST(ExecTest, BadPointersAreEfaultAndTheProcessGoesOn) {
  EXPECT_THAT(syscall(SYS_execve, kKernelAddress, nullptr, nullptr), SyscallFailsWithErrno(EFAULT));
  EXPECT_THAT(syscall(SYS_execve, SelfPath().c_str(), kKernelAddress, nullptr),
              SyscallFailsWithErrno(EFAULT));
  const void* argv[] = {"x", kKernelAddress, nullptr};
  EXPECT_THAT(syscall(SYS_execve, SelfPath().c_str(), argv, nullptr),
              SyscallFailsWithErrno(EFAULT));
}

}  // namespace
}  // namespace caisson::test
