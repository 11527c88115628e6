#include "sentry/boot/filter.h"

#include "confine/filter_test_util.h"
#include "gtest/gtest.h"

namespace caisson::boot {
namespace {

TEST(SentryFilterTest, ProgramMatchesTheTable) {
  confine::ExpectProgramMatchesTable(SentryFilterTable(), SentryFilterProgram());
}

// This number only goes down. A call that must be added goes in with a sentence in the table.
TEST(SentryFilterTest, AllowsNoMoreCallsThanBefore) {
#ifndef CAISSON_SANITIZED
  EXPECT_LE(confine::AllowedCalls(SentryFilterTable()), 71u);
#endif
}

}  // namespace
}  // namespace caisson::boot
