// seccomp(2): strict mode and filters, as Docker and systemd use them.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// The call that filters here are about: harmless and unused by libc.
constexpr int kTarget = SYS_getpgid;

constexpr int kSysSeccomp = 1;  // SYS_SECCOMP of the kernel's asm-generic/siginfo.h.

// `verdict` for the call `number`, everything else is allowed.
std::vector<sock_filter> VerdictFor(int number, uint32_t verdict) {
  return {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
          BPF_STMT(BPF_RET | BPF_K, verdict), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}
int Install(std::vector<sock_filter> filter, unsigned flags = 0) {
  sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
void Filter(uint32_t verdict) {
  ASSERT_THAT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), SyscallSucceeds());
  ASSERT_THAT(Install(VerdictFor(kTarget, verdict)), SyscallSucceeds());
}

TEST(SeccompTest, ErrnoIsReturned) {
  EXPECT_THAT(InChild([] {
                Filter(SECCOMP_RET_ERRNO | EDOM);
                EXPECT_THAT(getpgid(0), SyscallFailsWithErrno(EDOM));
                EXPECT_GT(getpid(), 0);
              }),
              ExitsWith(0));
}

TEST(SeccompTest, ErrnoZeroSkipsTheCall) {
  EXPECT_THAT(InChild([] {
                Filter(SECCOMP_RET_ERRNO);
                EXPECT_THAT(getpgid(0), SyscallSucceedsWithValue(0));
              }),
              ExitsWith(0));
}

TEST(SeccompTest, KillProcessIsSigsys) {
  EXPECT_THAT(InChild([] {
                Filter(SECCOMP_RET_KILL_PROCESS);
                getpgid(0);
              }),
              DiesOf(SIGSYS));
}

TEST(SeccompTest, KillThreadLeavesTheOthers) {
  EXPECT_THAT(InChild([] {
                ScopedThread thread([] {
                  Filter(SECCOMP_RET_KILL_THREAD);
                  getpgid(0);
                  _exit(1);
                });
                EXPECT_TRUE(WaitUntil([&] { return ThreadState(thread.tid()) == 0; }));
                _exit(5);
              }),
              ExitsWith(5));
}

TEST(SeccompTest, TrapTellsTheCall) {
  EXPECT_THAT(InChild([] {
                ScopedAction action(SIGSYS, RecordInfo);
                Filter(SECCOMP_RET_TRAP | 77);
                syscall(kTarget, 0);
                EXPECT_EQ(g_deliveries, 1);
                EXPECT_EQ(g_last_info.si_code, kSysSeccomp);
                EXPECT_EQ(g_last_info.si_syscall, kTarget);
                EXPECT_EQ(g_last_info.si_errno, 77);
                EXPECT_EQ(g_last_info.si_arch, static_cast<unsigned>(AUDIT_ARCH_X86_64));
              }),
              ExitsWith(0));
}

TEST(SeccompTest, TraceWithoutTracerIsEnosys) {
  EXPECT_THAT(InChild([] {
                Filter(SECCOMP_RET_TRACE);
                EXPECT_THAT(getpgid(0), SyscallFailsWithErrno(ENOSYS));
              }),
              ExitsWith(0));
}

TEST(SeccompTest, MostRestrictiveOfSeveralWins) {
  EXPECT_THAT(InChild([] {
                Filter(SECCOMP_RET_ERRNO | EDOM);
                Filter(SECCOMP_RET_ALLOW);
                EXPECT_THAT(getpgid(0), SyscallFailsWithErrno(EDOM));
                Filter(SECCOMP_RET_ERRNO | ENOTTY);  // Of equal ones, the newest.
                EXPECT_THAT(getpgid(0), SyscallFailsWithErrno(ENOTTY));
              }),
              ExitsWith(0));
}

TEST(SeccompTest, ArgumentsCanBeTested) {
  EXPECT_THAT(InChild([] {
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                ASSERT_THAT(
                    Install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                             BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kTarget, 0, 3),
                             BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
                             BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
                             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
                             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}),
                    SyscallSucceeds());
                EXPECT_THAT(getpgid(0), SyscallSucceeds());
                EXPECT_THAT(getpgid(getpid()), SyscallFailsWithErrno(EDOM));
              }),
              ExitsWith(0));
}

GUEST_PROGRAM(try_target) { return getpgid(0) < 0 ? errno : 0; }
TEST(SeccompTest, IsInheritedByForkAndExec) {
  ProgramResult result = RunProgram("try_target", {}, [] { Filter(SECCOMP_RET_ERRNO | EDOM); });
  EXPECT_THAT(result.status, ExitsWith(EDOM));
}

TEST(SeccompTest, NeedsNoNewPrivsOrPrivilege) {
  EXPECT_THAT(InChild([] {
                setresuid(1000, 1000, 1000);
                EXPECT_THAT(Install(VerdictFor(kTarget, SECCOMP_RET_ALLOW)),
                            SyscallFailsWithErrno(EACCES));
              }),
              ExitsWith(0));
}

TEST(SeccompTest, ModeShowsInProcAndPrctl) {
  EXPECT_THAT(InChild([] {
                Filter(SECCOMP_RET_ALLOW);
                EXPECT_THAT(prctl(PR_GET_SECCOMP), SyscallSucceedsWithValue(2));
                EXPECT_EQ(StatusField("self", "Seccomp"), "2");
              }),
              ExitsWith(0));
}

TEST(SeccompTest, BadProgramsAreInvalid) {
  EXPECT_THAT(InChild([] {
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
                EXPECT_THAT(Install({}), SyscallFailsWithErrno(EINVAL));
                EXPECT_THAT(Install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)}),  // No return.
                            SyscallFailsWithErrno(EINVAL));
                EXPECT_THAT(Install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), allow}),  // Misaligned.
                            SyscallFailsWithErrno(EINVAL));
                EXPECT_THAT(Install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), allow}),  // Outside.
                            SyscallFailsWithErrno(EINVAL));
                EXPECT_THAT(Install({BPF_JUMP(BPF_JMP | BPF_JA, 9, 0, 0), allow}),
                            SyscallFailsWithErrno(EINVAL));
                EXPECT_THAT(Install({BPF_STMT(0xffff, 0), allow}), SyscallFailsWithErrno(EINVAL));
                EXPECT_THAT(Install({allow}, 0x8000), SyscallFailsWithErrno(EINVAL));
              }),
              ExitsWith(0));
}

TEST(SeccompTest, TsyncReachesAllThreads) {
  EXPECT_THAT(InChild([] {
                Pipe go;
                long result = 0;
                ScopedThread thread([&] {
                  ReadOnce(go.reader, 1);
                  result = getpgid(0) < 0 ? errno : 0;
                });
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                ASSERT_THAT(Install(VerdictFor(kTarget, SECCOMP_RET_ERRNO | EDOM),
                                    SECCOMP_FILTER_FLAG_TSYNC),
                            SyscallSucceedsWithValue(0));
                WriteAll(go.writer, "x");
                thread.Join();
                EXPECT_EQ(result, EDOM);
              }),
              ExitsWith(0));
}

TEST(SeccompTest, ActionsAreAnnounced) {
  uint32_t action = SECCOMP_RET_TRAP, unknown = 0x12340000;
  EXPECT_THAT(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action), SyscallSucceeds());
  EXPECT_THAT(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &unknown),
              SyscallFailsWithErrno(EOPNOTSUPP));
}

TEST(SeccompStrictTest, ReadWriteAndExitAreLeft) {
  EXPECT_THAT(InChild([] {
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
                write(-1, "", 0);
                syscall(SYS_exit, 9);
              }),
              ExitsWith(9));
}

TEST(SeccompStrictTest, AnyOtherCallKills) {
  EXPECT_THAT(InChild([] {
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
                syscall(SYS_getpid);
              }),
              DiesOf(SIGKILL));
}

}  // namespace
}  // namespace caisson::test
