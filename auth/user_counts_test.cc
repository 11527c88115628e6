#include "auth/user_counts.h"

#include "gtest/gtest.h"

namespace caisson::auth {
namespace {

TEST(UserCountsTest, AddStopsAtTheLimit) {
  UserTable table;
  RefPtr<UserCounts> user = table.Get(7);
  EXPECT_TRUE(user->Add(UserCounts::kPendingSignals, 2, 3));
  EXPECT_FALSE(user->Add(UserCounts::kPendingSignals, 2, 3));
  EXPECT_TRUE(user->Add(UserCounts::kPendingSignals, 1, 3));
  EXPECT_FALSE(user->Add(UserCounts::kPendingSignals, 1, 3));
  EXPECT_FALSE(user->Add(UserCounts::kPendingSignals, ~uint64_t{0}, ~uint64_t{0} - 1));
  EXPECT_EQ(user->Get(UserCounts::kPendingSignals), 3u);
}

TEST(UserCountsTest, UsersAreSharedWhileTheyLiveAndForgottenAfter) {
  UserTable table;
  RefPtr<UserCounts> user = table.Get(7);
  EXPECT_TRUE(user->Add(UserCounts::kProcesses, 1, 1));
  EXPECT_EQ(table.Get(7).get(), user.get());
  EXPECT_NE(table.Get(8).get(), user.get());
  user.reset();
  EXPECT_EQ(table.Get(7)->Get(UserCounts::kProcesses), 0u);
}

TEST(UserCountsTest, ChargeGivesBackOnce) {
  UserTable table;
  RefPtr<UserCounts> user = table.Get(7);
  ASSERT_TRUE(user->Add(UserCounts::kNamespaces, 5, 5));
  UserCharge charge(user, UserCounts::kNamespaces, 5);
  UserCharge moved = std::move(charge);
  EXPECT_EQ(user->Get(UserCounts::kNamespaces), 5u);
  moved = UserCharge();
  EXPECT_EQ(user->Get(UserCounts::kNamespaces), 0u);
}

}  // namespace
}  // namespace caisson::auth
