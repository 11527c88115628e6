// Who am I: getpid(2), gettid(2), getuid(2) and their like from call sites that are used often, which
// a sandbox may answer without a look at the task.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

constexpr int kOften = 200;

struct Ids {
  long pid, tid, uid, euid, gid, egid;
  bool operator==(const Ids& o) const {
    return pid == o.pid && tid == o.tid && uid == o.uid && euid == o.euid && gid == o.gid && egid == o.egid;
  }
};
void PrintTo(const Ids& i, std::ostream* out) {
  *out << i.pid << " " << i.tid << " " << i.uid << " " << i.euid << " " << i.gid << " " << i.egid;
}

// The only sites: what is hot in one process is in all.
__attribute__((noinline)) Ids Now() {
  Ids i;
  asm volatile("mov $39, %%eax; syscall" : "=a"(i.pid) : : "rcx", "r11", "memory");
  asm volatile("mov $186, %%eax; syscall" : "=a"(i.tid) : : "rcx", "r11", "memory");
  asm volatile("mov $102, %%eax; syscall" : "=a"(i.uid) : : "rcx", "r11", "memory");
  asm volatile("mov $107, %%eax; syscall" : "=a"(i.euid) : : "rcx", "r11", "memory");
  asm volatile("mov $104, %%eax; syscall" : "=a"(i.gid) : : "rcx", "r11", "memory");
  asm volatile("mov $108, %%eax; syscall" : "=a"(i.egid) : : "rcx", "r11", "memory");
  return i;
}
void MakeHot() {
  const Ids first = Now();
  for (int i = 0; i < kOften; ++i) ASSERT_EQ(Now(), first);
}
long ParentNow() {
  long pid;
  asm volatile("mov $110, %%eax; syscall" : "=a"(pid) : : "rcx", "r11", "memory");
  return pid;
}

TEST(IdentityTest, IdsFollowSetuidAndItsLike) {
  EXPECT_THAT(InChild([] {
                MakeHot();
                Ids want = Now();
                ASSERT_THAT(syscall(SYS_setresgid, 7, 8, 9), SyscallSucceeds());
                want.gid = 7, want.egid = 8;
                ASSERT_EQ(Now(), want);
                ASSERT_THAT(syscall(SYS_setregid, 9, -1), SyscallSucceeds());
                want.gid = 9;
                ASSERT_EQ(Now(), want);
                ASSERT_THAT(syscall(SYS_setresuid, -1, 1001, -1), SyscallSucceeds());
                want.euid = 1001;
                ASSERT_EQ(Now(), want);
                ASSERT_THAT(syscall(SYS_setuid, 0), SyscallSucceeds());
                want.euid = 0;
                ASSERT_EQ(Now(), want);
                ASSERT_THAT(syscall(SYS_setuid, 1000), SyscallSucceeds());
                want.uid = want.euid = 1000;
                ASSERT_EQ(Now(), want);
                ASSERT_THAT(syscall(SYS_setuid, 0), SyscallFailsWithErrno(EPERM));
                ASSERT_EQ(Now(), want);
              }),
              ExitsWith(0));
}

TEST(IdentityTest, ForkedChildrenAreThemselves) {
  MakeHot();
  const Ids before = Now();
  for (int i = 0; i < 20; ++i) {
    int ends[2];
    ASSERT_THAT(pipe(ends), SyscallSucceeds());
    const pid_t child = fork();
    if (child == 0) {
      const Ids ids = Now();
      _exit(write(ends[1], &ids, sizeof(ids)) == sizeof(ids) && ParentNow() == before.pid ? 0 : 1);
    }
    Ids ids{};
    ASSERT_THAT(read(ends[0], &ids, sizeof(ids)), SyscallSucceedsWithValue(static_cast<int>(sizeof(ids))));
    Ids want = before;
    want.pid = want.tid = child;
    EXPECT_EQ(ids, want);
    int status = -1;
    ASSERT_THAT(waitpid(child, &status, 0), SyscallSucceedsWithValue(child));
    EXPECT_EQ(status, 0);
    close(ends[0]);
    close(ends[1]);
    ASSERT_EQ(Now(), before);
  }
}

Ids g_ids;
long g_parent;
int StoreIds(void*) {
  MakeHot();
  g_ids = Now();
  g_parent = ParentNow();
  return 0;
}

void SharesMemory(int flags) {
  MakeHot();
  const Ids before = Now();
  alignas(64) static char stack[65536];
  for (int i = 0; i < 10; ++i) {
    g_ids = {};
    const pid_t child = clone(StoreIds, stack + sizeof(stack), CLONE_VM | flags | SIGCHLD, nullptr);
    ASSERT_THAT(child, SyscallSucceeds());
    for (int j = 0; j < kOften; ++j) ASSERT_EQ(Now(), before);
    int status = -1;
    ASSERT_THAT(waitpid(child, &status, 0), SyscallSucceedsWithValue(child));
    EXPECT_EQ(status, 0);
    EXPECT_EQ(g_ids.pid, child);
    EXPECT_EQ(g_ids.tid, child);
    EXPECT_EQ(g_parent, before.pid);
    ASSERT_EQ(Now(), before);
  }
}

TEST(IdentityTest, VforkChildrenAreThemselves) { SharesMemory(CLONE_VFORK); }
TEST(IdentityTest, ProcessesThatShareMemoryAreThemselves) { SharesMemory(0); }

TEST(IdentityTest, ThreadsHaveTheirOwnIds) {
  EXPECT_THAT(InChild([] {
                MakeHot();
                const Ids before = Now();
                for (int i = 0; i < 10; ++i) {
                  Ids ids{};
                  pid_t tid = 0;
                  {
                    ScopedThread thread([&] {
                      MakeHot();
                      // Credentials are a thread's.
                      ASSERT_THAT(syscall(SYS_setresuid, 1234, 1234, -1), SyscallSucceeds());
                      ids = Now();
                      tid = static_cast<pid_t>(syscall(SYS_gettid));
                    });
                    for (int j = 0; j < kOften; ++j) ASSERT_EQ(Now(), before);
                  }
                  EXPECT_EQ(ids.pid, before.pid);
                  EXPECT_EQ(ids.tid, tid);
                  EXPECT_NE(ids.tid, before.tid);
                  EXPECT_EQ(ids.uid, 1234);
                  EXPECT_EQ(ids.euid, 1234);
                }
                EXPECT_EQ(Now(), before);
              }),
              ExitsWith(0));
}

TEST(IdentityTest, ANewUserNamespaceHasItsOwnView) {
  EXPECT_THAT(InChild([] {
                MakeHot();
                const Ids before = Now();
                const std::string uid = std::to_string(before.uid), gid = std::to_string(before.gid);
                ASSERT_THAT(unshare(CLONE_NEWUSER), SyscallSucceeds());
                Ids want = before;
                want.uid = want.euid = want.gid = want.egid = 65534;
                for (int i = 0; i < kOften; ++i) ASSERT_EQ(Now(), want);
                ASSERT_TRUE(WriteFile("/proc/self/uid_map", "42 " + uid + " 1"));
                want.uid = want.euid = 42;
                for (int i = 0; i < kOften; ++i) ASSERT_EQ(Now(), want);
                ASSERT_TRUE(WriteFile("/proc/self/setgroups", "deny"));
                ASSERT_TRUE(WriteFile("/proc/self/gid_map", "43 " + gid + " 1"));
                want.gid = want.egid = 43;
                for (int i = 0; i < kOften; ++i) ASSERT_EQ(Now(), want);
              }),
              ExitsWith(0));
}

TEST(IdentityTest, ANewPidNamespaceCountsFromOne) {
  EXPECT_THAT(InChild([] {
                MakeHot();
                const Ids before = Now();
                ASSERT_THAT(unshare(CLONE_NEWPID), SyscallSucceeds());
                ASSERT_EQ(Now(), before);
                const pid_t child = fork();
                if (child == 0) {
                  for (int i = 0; i < kOften; ++i)
                    if (Now().pid != 1 || Now().tid != 1 || ParentNow() != 0) _exit(2);
                  _exit(0);
                }
                int status = -1;
                ASSERT_THAT(waitpid(child, &status, 0), SyscallSucceedsWithValue(child));
                EXPECT_EQ(status, 0);
                ASSERT_EQ(Now(), before);
              }),
              ExitsWith(0));
}

TEST(IdentityTest, OrphansHaveANewParent) {
  EXPECT_THAT(InChild([] {
                ASSERT_THAT(prctl(PR_SET_CHILD_SUBREAPER, 1), SyscallSucceeds());
                const long reaper = Now().pid;
                const pid_t middle = fork();
                if (middle == 0) {
                  const long parent = Now().pid;
                  if (fork() == 0) {
                    for (int i = 0; i < kOften; ++i)
                      if (ParentNow() != parent && ParentNow() != reaper) _exit(1);
                    while (ParentNow() != reaper) usleep(1000);
                    _exit(0);
                  }
                  usleep(20'000);
                  _exit(0);
                }
                for (int i = 0; i < 2; ++i) {
                  int status = -1;
                  ASSERT_GT(wait(&status), 0);
                  EXPECT_EQ(status, 0);
                }
              }),
              ExitsWith(0));
}

int Deny(int number, unsigned flags) {
  sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program = {4, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

TEST(IdentityTest, AFilterDeniesHotCalls) {
  EXPECT_THAT(InChild([] {
                MakeHot();
                const Ids before = Now();
                ASSERT_THAT(Deny(SYS_getpid, 0), SyscallSucceeds());
                for (int i = 0; i < kOften; ++i) {
                  ASSERT_EQ(Now().pid, -EDOM);
                  ASSERT_EQ(Now().tid, before.tid);
                }
                const pid_t child = fork();
                if (child == 0) _exit(Now().pid == -EDOM ? 0 : 2);
                int status = -1;
                ASSERT_THAT(waitpid(child, &status, 0), SyscallSucceedsWithValue(child));
                EXPECT_EQ(status, 0);
                ASSERT_THAT(Deny(SYS_getuid, 0), SyscallSucceeds());
                ASSERT_EQ(Now().uid, -EDOM);
              }),
              ExitsWith(0));
}

TEST(IdentityTest, AFilterForAllThreadsDeniesTheirHotCalls) {
  EXPECT_THAT(InChild([] {
                MakeHot();
                std::atomic<bool> hot{false}, denied{false};
                std::atomic<int> answered_late{0};
                {
                  ScopedThread thread([&] {
                    MakeHot();
                    hot = true;
                    // It spins in calls that need no sentry while the filter comes.
                    for (;;) {
                      const bool late = denied.load();
                      if (Now().pid == -EDOM) break;
                      if (late) ++answered_late;
                      if (answered_late > 1000) break;
                    }
                  });
                  while (!hot) sched_yield();
                  usleep(2000);
                  ASSERT_THAT(Deny(SYS_getpid, SECCOMP_FILTER_FLAG_TSYNC), SyscallSucceedsWithValue(0));
                  denied = true;
                }
                EXPECT_EQ(answered_late.load(), 0);
              }),
              ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
