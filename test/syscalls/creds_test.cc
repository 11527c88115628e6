// Users, groups and capabilities: setresuid(2), setgroups(2), capset(2), capabilities(7).
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

struct Caps {
  uint64_t effective, permitted, inheritable;
};
Caps GetCaps() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  EXPECT_THAT(syscall(SYS_capget, &header, data), SyscallSucceeds());
  auto join = [](uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; };
  return {join(data[0].effective, data[1].effective), join(data[0].permitted, data[1].permitted),
          join(data[0].inheritable, data[1].inheritable)};
}
int SetCaps(Caps caps) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  for (int i = 0; i < 2; i++) {
    data[i] = {static_cast<uint32_t>(caps.effective >> 32 * i),
               static_cast<uint32_t>(caps.permitted >> 32 * i),
               static_cast<uint32_t>(caps.inheritable >> 32 * i)};
  }
  return syscall(SYS_capset, &header, data);
}
constexpr uint64_t Bit(int capability) { return 1ULL << capability; }

std::string Uids() {
  uid_t r, e, s;
  getresuid(&r, &e, &s);
  return std::to_string(r) + " " + std::to_string(e) + " " + std::to_string(s);
}

// Each test runs in a child, since there may be no way back. `file` is the parent's, who can still
// remove it: "x", root's, mode 0644.
#define CREDS_TEST(suite, name)                                           \
  static void suite##name##Body(const TempFile& file);                    \
  TEST(suite, name) {                                                     \
    TempFile file("x");                                                   \
    EXPECT_THAT(InChild([&] { suite##name##Body(file); }), ExitsWith(0)); \
  }                                                                       \
  static void suite##name##Body([[maybe_unused]] const TempFile& file)

CREDS_TEST(SetuidTest, RootSetsAllThree) {
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_EQ(Uids(), "1000 1000 1000");
  EXPECT_THAT(setuid(0), SyscallFailsWithErrno(EPERM));
}

CREDS_TEST(SetuidTest, UnprivilegedMayReturnToTheSavedId) {
  ASSERT_THAT(setresuid(1000, 1000, 2000), SyscallSucceeds());
  EXPECT_THAT(setuid(2000), SyscallSucceeds());
  EXPECT_EQ(Uids(), "1000 2000 2000");
}

CREDS_TEST(SetreuidTest, ChangingTheRealIdSetsTheSavedOne) {
  ASSERT_THAT(setreuid(1000, 2000), SyscallSucceeds());
  EXPECT_EQ(Uids(), "1000 2000 2000");
}

CREDS_TEST(SetresuidTest, MinusOneKeeps) {
  ASSERT_THAT(setresuid(1, 2, 3), SyscallSucceeds());
  ASSERT_THAT(setresuid(-1, 3, -1), SyscallSucceeds());
  EXPECT_EQ(Uids(), "1 3 3");
}

CREDS_TEST(SetresuidTest, UnprivilegedMayOnlyPermute) {
  ASSERT_THAT(setresuid(1, 2, 3), SyscallSucceeds());
  EXPECT_THAT(setresuid(3, 1, 2), SyscallSucceeds());
  EXPECT_THAT(setresuid(4, -1, -1), SyscallFailsWithErrno(EPERM));
}

CREDS_TEST(SetresgidTest, UnprivilegedMayOnlyPermute) {
  ASSERT_THAT(setresgid(1, 2, 3), SyscallSucceeds());
  ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
  EXPECT_THAT(setresgid(3, 1, 2), SyscallSucceeds());
  EXPECT_THAT(setgid(9), SyscallFailsWithErrno(EPERM));
}

CREDS_TEST(SetfsuidTest, ReturnsTheOldAndDecidesAboutFiles) {
  ASSERT_THAT(chmod(file.c_str(), 0600), SyscallSucceeds());
  EXPECT_EQ(setfsuid(1000), 0);
  EXPECT_EQ(setfsuid(-1), 1000);
  EXPECT_THAT(open(file.c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
  setfsuid(0);
}

CREDS_TEST(SetgroupsTest, ListIsReadBackAndNeedsPrivilege) {
  gid_t groups[] = {10, 20, 30}, read_back[8];
  ASSERT_THAT(setgroups(3, groups), SyscallSucceeds());
  EXPECT_THAT(getgroups(0, nullptr), SyscallSucceedsWithValue(3));
  EXPECT_THAT(getgroups(2, read_back), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(getgroups(8, read_back), SyscallSucceedsWithValue(3));
  EXPECT_EQ(read_back[1], 20u);
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_THAT(setgroups(0, nullptr), SyscallFailsWithErrno(EPERM));
}

CREDS_TEST(SetgroupsTest, SupplementaryGroupGrantsAccess) {
  ASSERT_THAT(chmod(file.c_str(), 0640), SyscallSucceeds());
  ASSERT_THAT(chown(file.c_str(), 0, 555), SyscallSucceeds());
  gid_t groups[] = {555};
  ASSERT_THAT(setgroups(1, groups), SyscallSucceeds());
  ASSERT_THAT(setgid(1000), SyscallSucceeds());
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_THAT(open(file.c_str(), O_RDONLY), SyscallSucceeds());
  EXPECT_THAT(open(file.c_str(), O_RDWR), SyscallFailsWithErrno(EACCES));
}

CREDS_TEST(GroupTest, OwnersBitsComeFirstEvenIfTheGroupMayMore) {
  ASSERT_THAT(chmod(file.c_str(), 0070), SyscallSucceeds());
  ASSERT_THAT(chown(file.c_str(), 1000, 1000), SyscallSucceeds());
  ASSERT_THAT(setgid(1000), SyscallSucceeds());
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_THAT(open(file.c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
}

CREDS_TEST(CapsTest, LeavingRootDropsThem) {
  EXPECT_NE(GetCaps().effective, 0u);
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_EQ(GetCaps().effective, 0u);
  EXPECT_EQ(GetCaps().permitted, 0u);
}

CREDS_TEST(CapsTest, KeepcapsKeepsThePermittedSet) {
  ASSERT_THAT(prctl(PR_SET_KEEPCAPS, 1), SyscallSucceeds());
  const uint64_t before = GetCaps().permitted;
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_EQ(GetCaps().effective, 0u);
  EXPECT_EQ(GetCaps().permitted, before);
}

CREDS_TEST(CapsTest, EffectiveIdBackToRootRestoresTheEffectiveSet) {
  const uint64_t before = GetCaps().effective;
  ASSERT_THAT(seteuid(1000), SyscallSucceeds());
  EXPECT_EQ(GetCaps().effective, 0u);
  ASSERT_THAT(seteuid(0), SyscallSucceeds());
  EXPECT_EQ(GetCaps().effective, before);
}

CREDS_TEST(CapsTest, DroppedPermittedOnesDoNotComeBack) {
  Caps caps = GetCaps();
  caps.effective &= ~Bit(CAP_CHOWN);
  caps.permitted &= ~Bit(CAP_CHOWN);
  ASSERT_THAT(SetCaps(caps), SyscallSucceeds());
  caps.permitted |= Bit(CAP_CHOWN);
  EXPECT_THAT(SetCaps(caps), SyscallFailsWithErrno(EPERM));
  EXPECT_THAT(chown(file.c_str(), 1, 1), SyscallFailsWithErrno(EPERM));
}

CREDS_TEST(CapsTest, DacOverrideIsWhatLetsRootIn) {
  ASSERT_THAT(chmod(file.c_str(), 0000), SyscallSucceeds());
  Caps caps = GetCaps();
  caps.effective &= ~(Bit(CAP_DAC_OVERRIDE) | Bit(CAP_DAC_READ_SEARCH));
  ASSERT_THAT(SetCaps(caps), SyscallSucceeds());
  EXPECT_THAT(open(file.c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
}

CREDS_TEST(CapsTest, UnknownVersionIsInvalidAndAnswered) {
  __user_cap_header_struct header = {0x12345678, 0};
  __user_cap_data_struct data[2];
  EXPECT_THAT(syscall(SYS_capget, &header, data), SyscallFailsWithErrno(EINVAL));
  EXPECT_EQ(header.version, static_cast<uint32_t>(_LINUX_CAPABILITY_VERSION_3));
}

CREDS_TEST(BoundingSetTest, DropNeedsSetpcapAndIsFinal) {
  EXPECT_THAT(prctl(PR_CAPBSET_READ, CAP_CHOWN), SyscallSucceedsWithValue(1));
  ASSERT_THAT(prctl(PR_CAPBSET_DROP, CAP_CHOWN), SyscallSucceeds());
  EXPECT_THAT(prctl(PR_CAPBSET_READ, CAP_CHOWN), SyscallSucceedsWithValue(0));
  EXPECT_THAT(prctl(PR_CAPBSET_READ, 64), SyscallFailsWithErrno(EINVAL));
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_THAT(prctl(PR_CAPBSET_DROP, CAP_KILL), SyscallFailsWithErrno(EPERM));
}

CREDS_TEST(AmbientTest, NeedsPermittedAndInheritableAndDiesWithThem) {
  EXPECT_THAT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0),
              SyscallFailsWithErrno(EPERM));
  Caps caps = GetCaps();
  caps.inheritable |= Bit(CAP_CHOWN);
  ASSERT_THAT(SetCaps(caps), SyscallSucceeds());
  EXPECT_THAT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), SyscallSucceeds());
  EXPECT_THAT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0),
              SyscallSucceedsWithValue(1));
  caps.inheritable = 0;
  ASSERT_THAT(SetCaps(caps), SyscallSucceeds());
  EXPECT_THAT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0),
              SyscallSucceedsWithValue(0));
}

CREDS_TEST(SecurebitsTest, NoSetuidFixupKeepsCapabilitiesAndLockHolds) {
  ASSERT_THAT(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED),
              SyscallSucceeds());
  const uint64_t before = GetCaps().effective;
  EXPECT_THAT(prctl(PR_SET_SECUREBITS, 0), SyscallFailsWithErrno(EPERM));
  ASSERT_THAT(setuid(1000), SyscallSucceeds());
  EXPECT_EQ(GetCaps().effective, before);
}

CREDS_TEST(NoNewPrivsTest, IsStickyAndInherited) {
  EXPECT_THAT(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), SyscallFailsWithErrno(EINVAL));
  ASSERT_THAT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), SyscallSucceeds());
  EXPECT_THAT(InChild([] {
                EXPECT_THAT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), SyscallSucceedsWithValue(1));
                EXPECT_EQ(StatusField("self", "NoNewPrivs"), "1");
              }),
              ExitsWith(0));
}

CREDS_TEST(StatusTest, ProcShowsIdsAndCapabilities) {
  ASSERT_THAT(setresgid(11, 22, 33), SyscallSucceeds());
  ASSERT_THAT(setresuid(1, 2, 3), SyscallSucceeds());
  EXPECT_EQ(StatusField("self", "Uid"), "1\t2\t3\t2");
  EXPECT_EQ(StatusField("self", "Gid"), "11\t22\t33\t22");
  EXPECT_EQ(StatusField("self", "CapEff"), "0000000000000000");
}

CREDS_TEST(ThreadCredsTest, RawCallChangesOneThreadOnly) {
  ScopedThread([] { syscall(SYS_setresuid, 1000, 1000, 1000); }).Join();
  EXPECT_EQ(getuid(), 0u);
}

}  // namespace
}  // namespace caisson::test
