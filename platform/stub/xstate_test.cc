#include "platform/stub/xstate.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace caisson::platform::stub {
namespace {

TEST(XstateTest, TheInitialStateIsValid) {
  std::vector<char> state(HostXstate().size, 'x');
  InitialXstate(absl::MakeSpan(state));
  EXPECT_TRUE(XstateIsValid(state));
  EXPECT_EQ(state[0], 0x7f);
}

TEST(XstateTest, OnlyWhatIsInUseIsCopied) {
  const size_t size = HostXstate().size;
  std::vector<char> from(size, 'x'), to(size, '-');
  std::memset(&from[512], 0, 64);
  from[512] = 3;
  CopyXstate(absl::MakeSpan(to), from);
  EXPECT_EQ(std::memcmp(to.data(), from.data(), 576), 0);
  EXPECT_EQ(std::string(&to[576], size - 576), std::string(size - 576, '-'));
  std::memset(&from[512], -1, 8);  // Also components that there are not.
  CopyXstate(absl::MakeSpan(to), from);
  EXPECT_EQ(to[size - 1], 'x');
  EXPECT_EQ(to[576], size > 576 ? 'x' : to[576]);
}

TEST(XstateTest, AmxIsNotOffered) {
  EXPECT_EQ(HostXstate().features & (uint64_t{3} << 17), 0u);
  EXPECT_EQ(HostXstate().features & 3, 3u);
  EXPECT_GE(HostXstate().size, 576u);
  EXPECT_GE(HostXstate().host_size, HostXstate().size);
  EXPECT_GT(MinSignalStack(), HostXstate().size + 400);
}

TEST(XstateTest, EveryHeaderByteIsChecked) {
  std::vector<char> good(HostXstate().size);
  InitialXstate(absl::MakeSpan(good));
  for (size_t i = 520; i < 576; ++i) {
    std::vector<char> bad = good;
    bad[i] = 1;
    EXPECT_FALSE(XstateIsValid(bad)) << i;
  }
  for (int bit = 0; bit < 64; ++bit) {
    std::vector<char> state = good;
    uint64_t present = uint64_t{1} << bit;
    std::memcpy(&state[512], &present, sizeof(present));
    EXPECT_EQ(XstateIsValid(state), (HostXstate().features >> bit & 1) != 0) << bit;
  }
}

TEST(XstateTest, TheHostsOwnBytesAreCleared) {
  std::vector<char> state(HostXstate().size, '\xff');
  SanitizeXstate(absl::MakeSpan(state));
  EXPECT_EQ(state[464], 0);
  EXPECT_EQ(state[511], 0);
  uint64_t present;
  std::memcpy(&present, &state[512], sizeof(present));
  EXPECT_EQ(present, HostXstate().features);
}

}  // namespace
}  // namespace caisson::platform::stub
