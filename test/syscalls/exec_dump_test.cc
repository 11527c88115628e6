// Who may look into a program that could be executed but not read (Linux fs/exec.c, would_dump()), and
// who into a process that has moved to another user namespace.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// Writes what PR_GET_DUMPABLE says to stdout, a byte, and waits.
constexpr unsigned char kCode[] = {
    0xb8, 0x9d, 0, 0, 0,  // mov eax, SYS_prctl
    0xbf, 3, 0, 0, 0,     // mov edi, PR_GET_DUMPABLE
    0x0f, 0x05,           // syscall
    0x50,                 // push rax
    0xbf, 1, 0, 0, 0,     // mov edi, 1
    0x48, 0x89, 0xe6,     // mov rsi, rsp
    0xba, 1, 0, 0, 0,     // mov edx, 1
    0xb8, 1, 0, 0, 0,     // mov eax, SYS_write
    0x0f, 0x05,           // syscall
    0xb8, 0x22, 0, 0, 0,  // mov eax, SYS_pause
    0x0f, 0x05,           // syscall
    0xeb, 0xf7,           // jmp to the last mov
};

// A program, or an interpreter, that does so.
std::string MakeElf(uint64_t base, const std::string& interpreter = "") {
  constexpr size_t kCodeAt = 0x200, kNameAt = 0x300;
  std::string file(0x1000, '\0');
  Elf64_Ehdr header{};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = base == 0 ? ET_DYN : ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_entry = base + kCodeAt;
  header.e_phoff = sizeof(header);
  header.e_ehsize = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = interpreter.empty() ? 1 : 2;
  Elf64_Phdr segments[2] = {};
  segments[0] = {PT_LOAD, PF_R | PF_X, 0, base, base, file.size(), file.size(), 0x1000};
  segments[1] = {PT_INTERP, PF_R, kNameAt, base + kNameAt, base + kNameAt, interpreter.size() + 1,
                 interpreter.size() + 1, 1};
  // PT_INTERP comes before what is loaded.
  if (!interpreter.empty()) std::swap(segments[0], segments[1]);
  memcpy(&file[0], &header, sizeof(header));
  memcpy(&file[sizeof(header)], segments, sizeof(segments));
  memcpy(&file[kCodeAt], kCode, sizeof(kCode));
  memcpy(&file[kNameAt], interpreter.c_str(), interpreter.size() + 1);
  return file;
}

void BeNobodySpecial() {
  ASSERT_THAT(setresgid(1000, 1000, 1000), SyscallSucceeds());
  ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
}

class ExecDumpTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBase = 0x400000;

  void SetUp() override {
    ASSERT_EQ(geteuid(), 0u);
    ASSERT_THAT(chmod(dir_.path().c_str(), 0755), SyscallSucceeds());
  }
  std::string File(const std::string& name, const std::string& text, mode_t mode) {
    const std::string path = dir_ / name;
    EXPECT_TRUE(WriteFile(path, text, 0600));
    EXPECT_THAT(chmod(path.c_str(), mode), SyscallSucceeds());
    return path;
  }
  // Runs `path` as `before` leaves it, and looks at it as somebody with the same ids.
  void Expect(const std::string& path, bool dumpable, const std::function<void()>& before = BeNobodySpecial) {
    SCOPED_TRACE(path);
    Pipe pipe;
    Child child([&] {
      before();
      dup2(pipe.writer, STDOUT_FILENO);
      char* argv[] = {const_cast<char*>(path.c_str()), nullptr};
      execve(path.c_str(), argv, environ);
      _exit(127);
    });
    pipe.writer.Close();
    EXPECT_EQ(ReadOnce(pipe.reader, 1), std::string(1, dumpable ? 1 : 0));
    if (!looks_) return;
    struct stat st;
    ASSERT_THAT(stat(("/proc/" + std::to_string(child.pid()) + "/stat").c_str(), &st), SyscallSucceeds());
    EXPECT_EQ(st.st_uid, dumpable ? 1000u : 0u);
    EXPECT_EQ(InChild([&] {
                BeNobodySpecial();
                const std::string maps = "/proc/" + std::to_string(child.pid()) + "/maps";
                EXPECT_EQ(open(maps.c_str(), O_RDONLY) >= 0, dumpable);
                const long seized = ptrace(PTRACE_SEIZE, child.pid(), nullptr, nullptr);
                EXPECT_EQ(seized == 0 ? 0 : errno, dumpable ? 0 : EPERM);
              }),
              0);
  }

  TempDir dir_;
  bool looks_ = true;
};

TEST_F(ExecDumpTest, Program) {
  Expect(File("readable", MakeElf(kBase), 0755), true);
  Expect(File("unreadable", MakeElf(kBase), 0711), false);
}

TEST_F(ExecDumpTest, Interpreter) {
  const std::string readable = File("readable", MakeElf(0), 0755);
  const std::string unreadable = File("unreadable", MakeElf(0), 0711);
  Expect(File("program", MakeElf(kBase, readable), 0755), true);
  Expect(File("of_unreadable", MakeElf(kBase, unreadable), 0755), false);
}

TEST_F(ExecDumpTest, InterpreterOfAScript) {
  const std::string unreadable = File("unreadable", MakeElf(kBase), 0711);
  const std::string library = File("library", MakeElf(0), 0711);
  const std::string program = File("program", MakeElf(kBase, library), 0755);
  Expect(File("script", "#!" + unreadable + "\n", 0755), false);
  Expect(File("other_script", "#!" + program + "\n", 0755), false);
}

// Who executes it decides, not who looks.
TEST_F(ExecDumpTest, RootMayReadEverything) {
  looks_ = false;
  Expect(File("unreadable", MakeElf(kBase), 0711), true, [] {});
}

TEST_F(ExecDumpTest, WhoGainsCapabilitiesIsNotDumpable) {
  looks_ = false;
  Expect(File("program", MakeElf(kBase), 0755), false, [] {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2];
    ASSERT_THAT(syscall(SYS_capget, &header, data), SyscallSucceeds());
    for (auto* set : {&data[0].permitted, &data[0].effective}) *set &= ~(1u << CAP_SETPCAP);
    ASSERT_THAT(syscall(SYS_capset, &header, data), SyscallSucceeds());
  });
}

// The next program is dumpable again.
TEST_F(ExecDumpTest, EndsWithTheProgram) {
  const std::string next = File("next", MakeElf(kBase), 0755);
  Expect(next, true, [] {
    BeNobodySpecial();
    ASSERT_THAT(prctl(PR_SET_DUMPABLE, 0), SyscallSucceeds());
  });
}

// --- User namespaces: mm->user_ns ---

// A process in a user namespace of its own where ids 0 and 1 are 1000 and 1001 outside, with all capabilities there.
class UserNamespaceOf1000 {
 public:
  explicit UserNamespaceOf1000(const std::function<void()>& body) : child_([this, body] {
    BeNobodySpecial();
    prctl(PR_SET_DUMPABLE, 1);  // Or its files in /proc would be root's.
    const char good = unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
    (void)!write(ready_.writer, &good, 1);
    EXPECT_EQ(ReadOnce(mapped_.reader, 1), "y");
    body();
  }) {
    EXPECT_EQ(ReadOnce(ready_.reader, 1), "y");
    const std::string dir = "/proc/" + std::to_string(child_.pid());
    const bool good = WriteFile(dir + "/uid_map", "0 1000 2") && WriteFile(dir + "/gid_map", "0 1000 2");
    (void)!write(mapped_.writer, good ? "y" : "n", 1);
  }
  int Wait() { return child_.Wait(); }
  pid_t pid() const { return child_.pid(); }

 private:
  Pipe ready_, mapped_;
  Child child_;
};

// A child that has executed `path`, after `before`; it may trace itself first.
class Running {
 public:
  explicit Running(const std::string& path, const std::function<void()>& before = [] {}) : child_([&] {
    before();
    dup2(pipe_.writer, STDOUT_FILENO);
    char* argv[] = {const_cast<char*>(path.c_str()), nullptr};
    execve(path.c_str(), argv, environ);
    _exit(127);
  }) {}
  // PR_GET_DUMPABLE, as it says itself.
  int Dumpable() {
    const std::string said = ReadOnce(pipe_.reader, 1);
    return said.empty() ? -1 : said[0];
  }
  pid_t pid() const { return child_.pid(); }
  bool MapsAreOpen() const {
    return FdCloser(open(("/proc/" + std::to_string(pid()) + "/maps").c_str(), O_RDONLY)) >= 0;
  }
  bool CanBeTraced() const { return ptrace(PTRACE_SEIZE, pid(), nullptr, nullptr) == 0; }
  // As we see them.
  uid_t OwnerOfStat() const {
    struct stat st{};
    EXPECT_THAT(stat(("/proc/" + std::to_string(pid()) + "/stat").c_str(), &st), SyscallSucceeds());
    return st.st_uid;
  }

 private:
  Pipe pipe_;
  Child child_;
};

// would_dump(): being root in a namespace that does not have the file's owner is not enough.
TEST_F(ExecDumpTest, AFileOfAnotherNamespacesOwnerIsClosedToRootInside) {
  const std::string unreadable = File("unreadable", MakeElf(kBase), 0711);
  const std::string readable = File("readable", MakeElf(kBase), 0755);
  UserNamespaceOf1000 inside([&] {
    EXPECT_EQ(getuid(), 0u);
    Running hidden(unreadable);
    EXPECT_EQ(hidden.Dumpable(), 0);
    EXPECT_FALSE(hidden.MapsAreOpen());
    EXPECT_FALSE(hidden.CanBeTraced());
    EXPECT_EQ(hidden.OwnerOfStat(), 65534u);  // Root of the outermost, who has no name here.
    Running open(readable);
    EXPECT_EQ(open.Dumpable(), 1);
    EXPECT_TRUE(open.MapsAreOpen());
    EXPECT_TRUE(open.CanBeTraced());
    EXPECT_EQ(open.OwnerOfStat(), 0u);
  });
  EXPECT_THAT(inside.Wait(), ExitsWith(0));
}

TEST_F(ExecDumpTest, AnInterpretersOwnerCountsToo) {
  const std::string library = File("library", MakeElf(0), 0711);
  const std::string program = File("program", MakeElf(kBase, library), 0755);
  UserNamespaceOf1000 inside([&] {
    Running hidden(program);
    EXPECT_EQ(hidden.Dumpable(), 0);
    EXPECT_FALSE(hidden.MapsAreOpen());
    EXPECT_FALSE(hidden.CanBeTraced());
  });
  EXPECT_THAT(inside.Wait(), ExitsWith(0));
}

TEST_F(ExecDumpTest, AFileOfAnOwnerInsideIsOpenToRootInside) {
  const std::string unreadable = File("unreadable", MakeElf(kBase), 0711);
  ASSERT_THAT(chown(unreadable.c_str(), 1000, 1000), SyscallSucceeds());
  UserNamespaceOf1000 inside([&] {
    Running hidden(unreadable, [] {
      ASSERT_THAT(setresgid(1, 1, 1), SyscallSucceeds());
      ASSERT_THAT(setresuid(1, 1, 1), SyscallSucceeds());
    });
    EXPECT_EQ(hidden.Dumpable(), 0);
    EXPECT_EQ(hidden.OwnerOfStat(), 0u);  // Root of that namespace.
    EXPECT_TRUE(hidden.MapsAreOpen());
    EXPECT_TRUE(hidden.CanBeTraced());
  });
  EXPECT_THAT(inside.Wait(), ExitsWith(0));
}

// The memory is as closed as before where its process has moved to a namespace of its own, and so is a child's copy.
TEST_F(ExecDumpTest, ANewNamespaceDoesNotOpenTheMemory) {
  EXPECT_THAT(InChild([] {
    BeNobodySpecial();
    ASSERT_THAT(prctl(PR_SET_DUMPABLE, 0), SyscallSucceeds());
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
    Child other([] { pause(); });
    EXPECT_THAT(ptrace(PTRACE_SEIZE, other.pid(), nullptr, nullptr), SyscallFailsWithErrno(EPERM));
    EXPECT_THAT(ptrace(PTRACE_SEIZE, getppid(), nullptr, nullptr), SyscallFailsWithErrno(EPERM));
    const pid_t self = getpid();
    EXPECT_EQ(InChild([self] {
      EXPECT_THAT(ptrace(PTRACE_SEIZE, self, nullptr, nullptr), SyscallFailsWithErrno(EPERM));
      EXPECT_THAT(open(("/proc/" + std::to_string(self) + "/maps").c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
    }), 0);
  }), ExitsWith(0));
}

// commit_creds(): what one can do in a namespace of one's own is no gain, what another made is.
TEST_F(ExecDumpTest, WhoEntersAnothersNamespaceIsNotDumpable) {
  UserNamespaceOf1000 inside([] { pause(); });
  EXPECT_THAT(InChild([&] {
    const int ns = open(("/proc/" + std::to_string(inside.pid()) + "/ns/user").c_str(), O_RDONLY);
    ASSERT_THAT(ns, SyscallSucceeds());
    EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
    ASSERT_THAT(setns(ns, CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
  }), ExitsWith(0));
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
    EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
  }), ExitsWith(0));
}

// ptrace_access_vm(): who traced the old program sees the new one's stops, but not its memory.
TEST_F(ExecDumpTest, ItsTracerDoesNotSeeTheMemory) {
  for (const bool readable : {true, false}) {
    const std::string path = File(readable ? "readable" : "unreadable", MakeElf(kBase), readable ? 0755 : 0711);
    EXPECT_EQ(InChild([&] {
      BeNobodySpecial();
      Running traced(path, [] { ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); });
      int status = 0;
      ASSERT_THAT(waitpid(traced.pid(), &status, 0), SyscallSucceedsWithValue(traced.pid()));
      ASSERT_TRUE(WIFSTOPPED(status));
      user_regs_struct regs{};
      EXPECT_THAT(ptrace(PTRACE_GETREGS, traced.pid(), nullptr, &regs), SyscallSucceeds());
      EXPECT_EQ(regs.rip, kBase + 0x200);
      auto* at = reinterpret_cast<void*>(regs.rip);
      long word = 0;
      EXPECT_EQ(syscall(SYS_ptrace, PTRACE_PEEKTEXT, traced.pid(), at, &word), readable ? 0 : -1);
      if (!readable) {
        EXPECT_EQ(errno, EIO);
        EXPECT_THAT(ptrace(PTRACE_POKETEXT, traced.pid(), at, nullptr), SyscallFailsWithErrno(EIO));
      }
    }), 0);
  }
}

}  // namespace
}  // namespace caisson::test
