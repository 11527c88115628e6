#include "gofer/filter.h"

#include "confine/filter_test_util.h"
#include "gtest/gtest.h"

namespace caisson::gofer {
namespace {

TEST(GoferFilterTest, ProgramMatchesTheTable) {
  confine::ExpectProgramMatchesTable(GoferFilterTable(), GoferFilterProgram());
}

TEST(GoferFilterTest, DeniedCallsKill) {
  confine::ExpectDeniedCallsKill(GoferFilterTable(), GoferFilterProgram());
}

// This number only goes down. A call that must be added goes in with a sentence in the table.
TEST(GoferFilterTest, AllowsNoMoreCallsThanBefore) {
#ifndef CAISSON_SANITIZED
  EXPECT_LE(confine::AllowedCalls(GoferFilterTable()), 54u);
#endif
}

}  // namespace
}  // namespace caisson::gofer
