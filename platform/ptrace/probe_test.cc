#include <gtest/gtest.h>

#include "platform/ptrace/ptrace_platform.h"

namespace caisson::platform::ptrace {
namespace {

TEST(ProbeTest, SaysThatItWorksHere) { EXPECT_TRUE(Probe().ok()) << Probe(); }

}  // namespace
}  // namespace caisson::platform::ptrace
