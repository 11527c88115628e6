#include "confine/filter_compile.h"

#include <sys/syscall.h>

#include <cerrno>

#include "confine/filter_test_util.h"
#include "gtest/gtest.h"

namespace caisson::confine {
namespace {

TEST(CompileFilterTest, ProgramSaysWhatTheTableSays) {
  static constexpr FilterRule kRules[] = {
      {SYS_read, {}, "any"},
      {SYS_openat, {}, "denied quietly", bpf::kRetErrno | EPERM},
      {SYS_mmap, {Without(2, 4), Masked(3, 0xf, 2)}, "no code"},
      {SYS_clone, {Equals(0, 0x3d0f00)}, "threads"},
      {SYS_fcntl, {Equals(1, 1)}, "one"},
      {SYS_fcntl, {Equals(1, 0x100000002)}, "two, with high bits"},
      {SYS_fcntl, {Equals(1, 3), Only(2, 0x800)}, "three"},
  };
  const FilterTable table{"test", kRules};
  auto program = CompileFilter(table);
  ASSERT_TRUE(program.ok()) << program.status();
  ExpectProgramMatchesTable(table, *program);
  EXPECT_EQ(AllowedCalls(table), 4u);
}

TEST(CompileFilterTest, RefusesATableThatContradictsItself) {
  static constexpr FilterRule kTwoActions[] = {{SYS_read, {}, "a"},
                                               {SYS_read, {}, "b", bpf::kRetErrno | EPERM}};
  EXPECT_FALSE(CompileFilter({"test", kTwoActions}).ok());
  static constexpr FilterRule kTwice[] = {{SYS_read, {Equals(0, 1), Equals(0, 2)}, "a"}};
  EXPECT_FALSE(CompileFilter({"test", kTwice}).ok());
  static constexpr FilterRule kAgain[] = {{SYS_read, {}, "a"}, {SYS_read, {}, "b"}};
  EXPECT_FALSE(CompileFilter({"test", kAgain}).ok());
  static constexpr FilterRule kNever[] = {{SYS_read, {Masked(0, 1, 2)}, "a"}};
  EXPECT_FALSE(CompileFilter({"test", kNever}).ok());
}

}  // namespace
}  // namespace caisson::confine
