#include "runsc/oci/json.h"

#include "gtest/gtest.h"

namespace caisson::oci {
namespace {

Json Parsed(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << json.status();
  return json.ok() ? *std::move(json) : Json();
}

TEST(JsonTest, ValuesComeBackAsTheyWere) {
  const char* text =
      R"({"a":[1,-2,18446744073709551615,0.5,true,false,null,"\"\\\n\u0001é"],"b":{},"c":[]})";
  EXPECT_EQ(Parsed(text).ToText(), text);
}

TEST(JsonTest, LastOfSeveralEqualKeysCounts) {
  EXPECT_EQ(*Parsed(R"({"a":1,"a":2})").Find("a")->AsUnsigned(), 2u);
}

TEST(JsonTest, WhatIsNotJsonIsAnError) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":}", "nul", "1 2", "\"\xff\"", "'a'", "{a:1}",
                           "[1e999]", "\xef\xbb\xbf{", "// c\n1"}) {
    EXPECT_FALSE(ParseJson(text).ok()) << text;
  }
}

TEST(JsonTest, DepthIsBounded) {
  EXPECT_TRUE(ParseJson(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')).ok());
  EXPECT_FALSE(
      ParseJson(std::string(kMaxJsonDepth + 1, '[') + std::string(kMaxJsonDepth + 1, ']')).ok());
  EXPECT_FALSE(ParseJson(std::string(1'000'000, '[')).ok());
}

TEST(JsonTest, SizeIsBounded) {
  EXPECT_FALSE(ParseJson("\"" + std::string(kMaxJsonBytes, 'x') + "\"").ok());
}

TEST(JsonTest, BytesThatAreNotUtf8AreReplacedOnOutput) {
  EXPECT_EQ(Json(std::string("a\xff\xc0\xaf\xed\xa0\x80z")).ToText(),
            "\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
  EXPECT_EQ(Json(std::string("\xf0\x9f\x98\x80")).ToText(), "\"\xf0\x9f\x98\x80\"");
}

TEST(JsonTest, EmptyIsWhatAGoProgramWritesForNotSet) {
  for (const char* text : {"null", "false", "0", "\"\"", "[]", "{}", R"({"a":{"b":0}})"}) {
    EXPECT_TRUE(Parsed(text).is_empty()) << text;
  }
  for (const char* text : {"true", "-1", "\"x\"", "[0]", R"({"a":1})"}) {
    EXPECT_FALSE(Parsed(text).is_empty()) << text;
  }
}

TEST(JsonTest, IndentedTextHasAMemberALine) {
  EXPECT_EQ(Parsed(R"({"a":[1],"b":{}})").ToText("\t"),
            "{\n\t\"a\": [\n\t\t1\n\t],\n\t\"b\": {}\n}");
}

}  // namespace
}  // namespace caisson::oci
