#include "platform/stub/proc_filter.h"

#include "confine/filter_test_util.h"
#include "gtest/gtest.h"

namespace caisson::platform::stub {
namespace {

TEST(ProcFilterTest, ProgramMatchesTheTable) {
  confine::ExpectProgramMatchesTable(ProcFilterTable(), ProcFilterProgram());
}

TEST(ProcFilterTest, DeniedCallsKill) {
  confine::ExpectDeniedCallsKill(ProcFilterTable(), ProcFilterProgram());
}

TEST(ProcFilterTest, AllowsNoMoreCallsThanBefore) {
  EXPECT_LE(confine::AllowedCalls(ProcFilterTable()), 5u);
}

}  // namespace
}  // namespace caisson::platform::stub
