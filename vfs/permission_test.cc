#include "vfs/permission.h"

#include <gtest/gtest.h>

#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using auth::CapBit;
using auth::Capability;

auth::Credentials User(uint32_t uid, uint32_t gid, auth::CapSet caps = 0) {
  auth::Credentials c(MakeRef<auth::UserNamespace>());
  c.fsuid = c.euid = c.ruid = uid;
  c.fsgid = c.egid = c.rgid = gid;
  c.effective = c.permitted = caps;
  return c;
}

Attributes File(FileMode mode, uint32_t uid = 1, uint32_t gid = 2) {
  Attributes a;
  a.mode = mode;
  a.uid = uid;
  a.gid = gid;
  return a;
}

TEST(CheckAccessTest, EveryModeAgainstEveryClass) {
  // The class is chosen by owner, then group, then others; no other class's bits count.
  for (FileMode mode = 0; mode < 01000; ++mode) {
    for (AccessMask want = 1; want <= 7; ++want) {
      Attributes a = File(kModeRegular | mode);
      EXPECT_EQ(CheckAccess(User(1, 9), a, want).ok(), ((mode >> 6) & want) == want);
      EXPECT_EQ(CheckAccess(User(5, 2), a, want).ok(), ((mode >> 3) & want) == want);
      EXPECT_EQ(CheckAccess(User(5, 9), a, want).ok(), (mode & want) == want);
    }
  }
}

TEST(CheckAccessTest, CapabilitiesOverride) {
  auto dac = User(5, 9, CapBit(Capability::kDacOverride));
  auto read = User(5, 9, CapBit(Capability::kDacReadSearch));
  EXPECT_TRUE(CheckAccess(dac, File(kModeRegular), kMayRead | kMayWrite).ok());
  EXPECT_FALSE(CheckAccess(dac, File(kModeRegular), kMayExec).ok());
  EXPECT_TRUE(CheckAccess(dac, File(kModeRegular | 0100), kMayExec).ok());
  EXPECT_TRUE(CheckAccess(dac, File(kModeDirectory), kMayExec | kMayWrite).ok());
  EXPECT_TRUE(CheckAccess(read, File(kModeRegular), kMayRead).ok());
  EXPECT_FALSE(CheckAccess(read, File(kModeRegular), kMayWrite).ok());
  EXPECT_FALSE(CheckAccess(read, File(kModeRegular | 0100), kMayExec).ok());
  EXPECT_TRUE(CheckAccess(read, File(kModeDirectory), kMayRead | kMayExec).ok());
  EXPECT_FALSE(CheckAccess(read, File(kModeDirectory), kMayWrite).ok());
}

TEST(CheckAccessTest, CapabilitiesOfANamespaceReachOnlyItsIds) {
  auto root = MakeRef<auth::UserNamespace>();
  auto ns = MakeRef<auth::UserNamespace>(root, 1000u, 1000u, false);
  ns->SetMap(auth::IdKind::kUid, {{0, 1000, 1}});
  ns->SetMap(auth::IdKind::kGid, {{0, 1000, 1}});
  auth::Credentials c(ns);
  c.fsuid = 1000;
  c.fsgid = 1000;
  c.effective = auth::kAllCapabilities;
  EXPECT_TRUE(CheckAccess(c, File(kModeRegular, 1000, 1000), kMayWrite).ok());
  EXPECT_FALSE(CheckAccess(c, File(kModeRegular, 0, 0), kMayWrite).ok());
  EXPECT_FALSE(CheckAccess(c, File(kModeRegular, 1000, 0), kMayWrite).ok());
}

TEST(PrepareSetAttributesTest, WhoMayChangeOwnerAndMode) {
  Attributes a = File(kModeRegular | 06755, 1, 2);
  SetAttributes change;
  change.uid = 9;
  EXPECT_ERRNO(PrepareSetAttributes(User(1, 2), a, change), kEPERM);
  change = {};
  change.gid = 3;
  EXPECT_ERRNO(PrepareSetAttributes(User(1, 2), a, change), kEPERM);
  auth::Credentials member = User(1, 2);
  member.groups = {3};
  ASSERT_OK(PrepareSetAttributes(member, a, change));
  EXPECT_EQ(change.mode, 0755u);
  change = {};
  change.mode = 0777;
  EXPECT_ERRNO(PrepareSetAttributes(User(5, 2), a, change), kEPERM);
  ASSERT_OK(PrepareSetAttributes(User(5, 9, CapBit(Capability::kFowner)), a, change));
  change = {};
  change.mode = 02711;
  ASSERT_OK(PrepareSetAttributes(User(1, 9), a, change));
  EXPECT_EQ(change.mode, 0711u);
}

}  // namespace
}  // namespace caisson::vfs
