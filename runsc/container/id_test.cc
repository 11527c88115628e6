#include "runsc/container/id.h"

#include <string>

#include "gtest/gtest.h"

namespace caisson::runsc {
namespace {

TEST(ValidateIdTest, FileNamesOfPlainCharacters) {
  for (const char* id : {"a", "web-1", "A_b+c.d", "...", "-x", "0"}) {
    EXPECT_TRUE(ValidateId(id).ok()) << id;
  }
  EXPECT_TRUE(ValidateId(std::string(255, 'a')).ok());
}

TEST(ValidateIdTest, NothingThatLeavesTheDirectory) {
  for (const char* id : {"", ".", "..", "/", "a/b", "../a", "a b", "a\n", "\xc3\xa9", "a:b", "*"}) {
    EXPECT_FALSE(ValidateId(id).ok()) << id;
  }
  EXPECT_FALSE(ValidateId(std::string(256, 'a')).ok());
  EXPECT_FALSE(ValidateId(absl::string_view("a\0b", 3)).ok());
}

TEST(ValidateIdTest, ErrorEscapesTheId) {
  EXPECT_EQ(ValidateId("\x1b[31m").message().find('\x1b'), absl::string_view::npos);
}

}  // namespace
}  // namespace caisson::runsc
