#include "gtest/gtest.h"
#include "sentry/signal/signal.h"

namespace caisson::signal {
namespace {

constexpr int kRt = 40;

class QueueTest : public testing::Test {
 protected:
  static Info Queued(int signo, uint64_t value) {
    Info info(signo, kSiQueue);
    info.rt.value = value;
    return info;
  }
  auth::UserTable users_;
  RefPtr<auth::UserCounts> user_ = users_.Get(1000);
  Queue queue_, other_;
};

TEST_F(QueueTest, RealtimeSignalsKeepTheirOrderAndStandardOnesMerge) {
  EXPECT_TRUE(queue_.Add(Queued(kRt, 1), user_, 10, nullptr));
  EXPECT_TRUE(queue_.Add(Queued(kRt, 2), user_, 10, nullptr));
  EXPECT_TRUE(queue_.Add(Info(kSIGUSR1), user_, 10, nullptr));
  EXPECT_FALSE(queue_.Add(Info(kSIGUSR1), user_, 10, nullptr));
  Info out;
  ASSERT_TRUE(queue_.Take(~Set{0}, &out));
  EXPECT_EQ(out.signo, kSIGUSR1);
  ASSERT_TRUE(queue_.Take(~Set{0}, &out));
  EXPECT_EQ(out.rt.value, 1u);
  EXPECT_TRUE(queue_.Contains(kRt));
  ASSERT_TRUE(queue_.Take(~Set{0}, &out));
  EXPECT_EQ(out.rt.value, 2u);
  EXPECT_FALSE(queue_.Take(~Set{0}, &out));
  EXPECT_EQ(user_->Get(auth::UserCounts::kPendingSignals), 0u);
}

TEST_F(QueueTest, TheLimitIsOfTheUserOverAllQueues) {
  bool overflow = false;
  EXPECT_TRUE(queue_.Add(Queued(kRt, 1), user_, 2, &overflow));
  EXPECT_TRUE(other_.Add(Queued(kRt, 1), user_, 2, &overflow));
  EXPECT_FALSE(queue_.Add(Queued(kRt, 2), user_, 2, &overflow));
  EXPECT_TRUE(overflow);
  RefPtr<auth::UserCounts> root = users_.Get(0);
  EXPECT_TRUE(queue_.Add(Queued(kRt, 2), root, 2, &overflow));
  other_.Remove(Bit(kRt));
  EXPECT_TRUE(queue_.Add(Queued(kRt, 3), user_, 2, &overflow));
}

TEST_F(QueueTest, PastTheLimitKillLosesItsInfoButNotTheSignal) {
  bool overflow = false;
  Info info(kRt, kSiUser);
  info.rt.pid = 5;
  EXPECT_TRUE(queue_.Add(info, user_, 0, &overflow));
  EXPECT_FALSE(overflow);
  Info out;
  ASSERT_TRUE(queue_.Take(~Set{0}, &out));
  EXPECT_EQ(out.signo, kRt);
  EXPECT_EQ(out.rt.pid, 0);
  EXPECT_FALSE(queue_.Contains(kRt));
}

TEST_F(QueueTest, StandardSignalsOfTheKernelPassTheLimit) {
  Info info(kSIGCHLD, kCldExited);
  info.child.pid = 9;
  EXPECT_TRUE(queue_.Add(info, user_, 0, nullptr));
  Info out;
  ASSERT_TRUE(queue_.Take(~Set{0}, &out));
  EXPECT_EQ(out.child.pid, 9);
}

TEST_F(QueueTest, ATimerIsQueuedOnce) {
  Info info(kRt, kSiTimer);
  info.timer.timer_id = 3;
  EXPECT_TRUE(queue_.Add(info, user_, 0, nullptr));
  EXPECT_FALSE(queue_.Add(info, user_, 0, nullptr));
  info.timer.timer_id = 4;
  EXPECT_TRUE(queue_.Add(info, user_, 0, nullptr));
  EXPECT_EQ(user_->Get(auth::UserCounts::kPendingSignals), 2u);
}

}  // namespace
}  // namespace caisson::signal
