// Who may look into a program that could be executed but not read (Linux fs/exec.c, would_dump()).
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

}  // namespace
}  // namespace caisson::test
