#include "runsc/oci/names.h"

#include <sys/resource.h>

#include <csignal>

#include "gtest/gtest.h"

namespace caisson::oci {
namespace {

TEST(SignalNumberTest, NumbersAndNames) {
  for (const char* name : {"9", "KILL", "SIGKILL", "sigkill", "Kill"}) {
    EXPECT_EQ(SignalNumber(name).value_or(-1), SIGKILL) << name;
  }
  EXPECT_EQ(SignalNumber("WINCH").value_or(-1), SIGWINCH);
  EXPECT_EQ(SignalNumber("64").value_or(-1), 64);
}

TEST(SignalNumberTest, RealTimeNames) {
  EXPECT_EQ(SignalNumber("RTMIN").value_or(-1), 34);
  EXPECT_EQ(SignalNumber("SIGRTMIN+3").value_or(-1), 37);
  EXPECT_EQ(SignalNumber("RTMAX").value_or(-1), 64);
  EXPECT_EQ(SignalNumber("SIGRTMAX-1").value_or(-1), 63);
}

TEST(SignalNumberTest, OthersAreErrors) {
  for (const char* name : {"", "0", "65", "-9", "9x", "SIG", "NOPE", "RTMIN+", "RTMIN+31",
                           "RTMIN-1", "RTMAX+1", "RTMIN+-1", "RTMIN+ 1", "99999999999999999999"}) {
    EXPECT_FALSE(SignalNumber(name).ok()) << name;
  }
}

TEST(CapabilityTest, NumbersAreTheKernels) {
  EXPECT_EQ(CapabilityNumber("CAP_CHOWN"), 0);
  EXPECT_EQ(CapabilityNumber("cap_sys_admin"), 21);
  EXPECT_EQ(CapabilityNumber("CHECKPOINT_RESTORE"), 40);
  EXPECT_EQ(CapabilityNumber("CAP_NOPE"), std::nullopt);
  EXPECT_EQ(CapabilityNames().size(), 41u);
}

TEST(CapabilityTest, UnknownNamesAreLeftOutOfASet) {
  EXPECT_EQ(CapabilitySet({"CAP_KILL", "CAP_FROM_THE_FUTURE"}), uint64_t{1} << 5);
}

TEST(RlimitTest, NamesHaveThePrefix) {
  EXPECT_EQ(RlimitNumber("RLIMIT_NOFILE"), static_cast<uint32_t>(RLIMIT_NOFILE));
  EXPECT_EQ(RlimitNumber("NOFILE"), std::nullopt);
}

}  // namespace
}  // namespace caisson::oci
