#include "auth/user_namespace.h"

#include <gtest/gtest.h>

#include "auth/credentials.h"

namespace caisson::auth {
namespace {

class UserNamespaceTest : public ::testing::Test {
 protected:
  RefPtr<UserNamespace> Under(const RefPtr<UserNamespace>& parent, uint32_t owner) {
    return MakeRef<UserNamespace>(parent, owner, owner, false);
  }
  Credentials In(const RefPtr<UserNamespace>& ns, uint32_t uid, CapSet caps = 0) {
    Credentials c(ns);
    c.ruid = c.euid = c.suid = c.fsuid = uid;
    c.permitted = c.effective = caps;
    return c;
  }
  const RefPtr<UserNamespace> root_ = MakeRef<UserNamespace>();
};

TEST_F(UserNamespaceTest, IdsWithoutANameAreTheOverflowIdToReaders) {
  RefPtr<UserNamespace> ns = Under(root_, 1000);
  EXPECT_FALSE(ns->MapsUid(1000));
  ASSERT_TRUE(ns->SetMap(IdKind::kUid, {{0, 1000, 2}, {5, 2000, 1}}));
  EXPECT_FALSE(ns->SetMap(IdKind::kUid, {{0, 1, 1}}));
  EXPECT_EQ(ns->ToKernelUid(1), 1001u);
  EXPECT_EQ(ns->ToKernelUid(2), std::nullopt);
  EXPECT_EQ(ns->FromKernel(IdKind::kUid, 2000), 5u);
  EXPECT_EQ(ns->FromKernel(IdKind::kUid, 1002), std::nullopt);
  EXPECT_EQ(ns->FromKernelUid(1002), kOverflowId);
  EXPECT_FALSE(ns->MapsGid(1000));
  EXPECT_FALSE(ns->maps_are_set());
  EXPECT_EQ(root_->ToKernel(IdKind::kProject, 7), 7u);
}

TEST_F(UserNamespaceTest, SetgroupsNeedsAMapAndCanBeDeniedBefore) {
  RefPtr<UserNamespace> open = Under(root_, 1000), closed = Under(root_, 1000);
  EXPECT_TRUE(root_->MaySetgroups());
  EXPECT_FALSE(open->MaySetgroups());
  ASSERT_TRUE(open->SetMap(IdKind::kGid, {{0, 1000, 1}}));
  EXPECT_TRUE(open->MaySetgroups());
  EXPECT_FALSE(open->DenySetgroups());
  ASSERT_TRUE(closed->DenySetgroups());
  ASSERT_TRUE(closed->SetMap(IdKind::kGid, {{0, 1000, 1}}));
  EXPECT_FALSE(closed->MaySetgroups());
  EXPECT_TRUE(Under(closed, 1000)->setgroups_denied());
}

TEST_F(UserNamespaceTest, CapabilitiesReachDownAndAnOwnersOneLevel) {
  RefPtr<UserNamespace> ns = Under(root_, 1000), below = Under(ns, 1001), other = Under(root_, 2000);
  constexpr Capability kCap = Capability::kSysPtrace;
  EXPECT_TRUE(In(root_, 0, CapBit(kCap)).HasCapability(kCap, *below));
  EXPECT_TRUE(In(root_, 1000).HasCapability(kCap, *ns));
  EXPECT_TRUE(In(root_, 1000).HasCapability(kCap, *below));
  EXPECT_FALSE(In(root_, 1001).HasCapability(kCap, *below));
  EXPECT_TRUE(In(ns, 1001).HasCapability(kCap, *below));
  EXPECT_FALSE(In(ns, 1000, kAllCapabilities).HasCapability(kCap, *root_));
  EXPECT_FALSE(In(ns, 1000, kAllCapabilities).HasCapability(kCap, *other));
}

TEST_F(UserNamespaceTest, AGainEndsDumpability) {
  RefPtr<UserNamespace> own = Under(root_, 1000), below = Under(own, 1000), other = Under(root_, 2000);
  const Credentials user = In(root_, 1000);
  EXPECT_FALSE(EndsDumpability(user, user));
  EXPECT_TRUE(EndsDumpability(user, In(root_, 1001)));
  EXPECT_TRUE(EndsDumpability(user, In(root_, 1000, CapBit(Capability::kKill))));
  EXPECT_FALSE(EndsDumpability(In(root_, 1000, kAllCapabilities), user));
  EXPECT_FALSE(EndsDumpability(user, In(own, 1000, kAllCapabilities)));
  EXPECT_FALSE(EndsDumpability(user, In(below, 1000, kAllCapabilities)));
  EXPECT_TRUE(EndsDumpability(user, In(other, 1000, kAllCapabilities)));
  EXPECT_TRUE(EndsDumpability(In(own, 1000), user));  // Upwards.
}

}  // namespace
}  // namespace caisson::auth
