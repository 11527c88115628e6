#include "runsc/oci/spec.h"

#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/oci/convert.h"
#include "runsc/oci/fields.h"
#include "runsc/oci/seccomp_filter.h"

namespace caisson::oci {
namespace {

using testing::HasSubstr;

constexpr char kMinimal[] =
    R"({"ociVersion":"1.0.2","root":{"path":"r"},"process":{"args":["a"],"cwd":"/"}})";

absl::StatusOr<Spec> Read(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) return json.status();
  return ReadSpec(*json);
}

// kMinimal with more members in front.
absl::StatusOr<Spec> ReadWith(absl::string_view members) {
  return Read(absl::StrReplaceAll(
      kMinimal, {{"{\"ociVersion\"", absl::StrCat("{", members, ",\"ociVersion\"")}}));
}

std::string ErrorOf(const absl::StatusOr<Spec>& spec) {
  return spec.ok() ? "no error" : std::string(spec.status().message());
}

TEST(ReadSpecTest, MinimalDocument) {
  absl::StatusOr<Spec> spec = Read(kMinimal);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->root_path, "r");
  EXPECT_EQ(spec->process->args, std::vector<std::string>{"a"});
  EXPECT_FALSE(spec->process->capabilities.has_value());
}

TEST(ReadSpecTest, NullIsAbsent) {
  absl::StatusOr<Spec> spec = ReadWith(R"("hooks":null,"linux":null,"mounts":null)");
  EXPECT_TRUE(spec.ok()) << spec.status();
}

TEST(ReadSpecTest, ResourcesAreRead) {
  absl::StatusOr<Spec> spec = ReadWith(R"("linux":{"resources":{"memory":{"limit":-1,
      "swappiness":18446744073709551615},"cpu":{"quota":-1,"period":5},"pids":{"limit":7},
      "blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":1,"rate":9}]},
      "hugepageLimits":[{"pageSize":"2MB","limit":4}],"unified":{"a.b":"c"}}})");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const Resources& r = spec->linux_section.resources;
  EXPECT_EQ(r.memory_limit, -1);
  EXPECT_EQ(r.cpu_period, 5u);
  EXPECT_EQ(r.pids_limit, 7);
  ASSERT_EQ(r.read_bps.size(), 1u);
  EXPECT_EQ(r.read_bps[0].rate, 9u);
  EXPECT_EQ(r.hugepage_limits[0].first, "2MB");
  EXPECT_EQ(r.unified[0].second, "c");
}

TEST(ReadSpecTest, ErrorsNameTheField) {
  EXPECT_THAT(ErrorOf(ReadWith(R"("hostname":1)")), HasSubstr("hostname: expected a string"));
  EXPECT_THAT(ErrorOf(ReadWith(R"("mounts":[{"destination":"/a"},{"destination":[]}])")),
              HasSubstr("mounts[1].destination: expected a string, got an array"));
  EXPECT_THAT(ErrorOf(ReadWith(R"("mounts":{"a":1})")), HasSubstr("mounts: expected an array"));
  EXPECT_THAT(ErrorOf(ReadWith(R"("linux":{"resources":{"pids":{"limit":1.5}}})")),
              HasSubstr("linux.resources.pids.limit: expected a whole number"));
  EXPECT_THAT(ErrorOf(ReadWith(R"("linux":{"uidMappings":[{"size":4294967296}]})")),
              HasSubstr("linux.uidMappings[0].size: expected a whole number from 0 to 4294967295"));
  EXPECT_THAT(ErrorOf(ReadWith(R"("annotations":{"a":1})")), HasSubstr("annotations.a"));
}

TEST(ReadSpecTest, NulBytesAreRefused) {
  EXPECT_THAT(ErrorOf(ReadWith(R"("hostname":"a\u0000b")")), HasSubstr("NUL"));
}

TEST(ReadSpecTest, HostnameIsAtMost64Bytes) {
  EXPECT_TRUE(ReadWith(absl::StrCat("\"hostname\":\"", std::string(64, 'a'), "\"")).ok());
  EXPECT_FALSE(ReadWith(absl::StrCat("\"hostname\":\"", std::string(65, 'a'), "\"")).ok());
}

TEST(ReadSpecTest, HugeDocumentOfSmallThingsIsRead) {
  std::string env;
  for (int i = 0; i < 100'000; ++i) absl::StrAppend(&env, i == 0 ? "" : ",", "\"V", i, "=1\"");
  absl::StatusOr<Spec> spec = Read(absl::StrCat(
      R"({"ociVersion":"1.0.2","root":{"path":"r"},"process":{"args":["a"],"cwd":"/","env":[)", env,
      "]}}"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->process->env.size(), 100'000u);
}

TEST(ReadSpecTest, RefusedFieldsAreErrorsOnlyIfSet) {
  EXPECT_TRUE(ReadWith(R"("linux":{"timeOffsets":{},"netDevices":null},"windows":{})").ok());
  EXPECT_THAT(ErrorOf(ReadWith(R"("linux":{"timeOffsets":{"monotonic":{"secs":1}}})")),
              HasSubstr("linux.timeOffsets"));
  EXPECT_THAT(ErrorOf(ReadWith(R"("mounts":[{"destination":"/a","uidMappings":[{"size":1}]}])")),
              HasSubstr("mounts[0].uidMappings"));
}

TEST(ReadProcessTest, ReadsTheFileOfExec) {
  absl::StatusOr<Json> json =
      ParseJson(R"({"args":["a"],"cwd":"/","user":{"uid":1,"additionalGids":[2,3]},
                    "capabilities":{"bounding":["CAP_KILL"]}})");
  absl::StatusOr<Process> process = ReadProcess(*json);
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(process->user.additional_gids, (std::vector<uint32_t>{2, 3}));
  EXPECT_EQ(process->capabilities->bounding, std::vector<std::string>{"CAP_KILL"});
}

// Documents with random damage: whatever they become, the answer is a spec or an error.
TEST(ReadSpecTest, DamagedDocumentsAreSurvived) {
  const std::string good = R"({"ociVersion":"1.0.2","root":{"path":"r","readonly":true},"process":{
      "args":["a"],"cwd":"/","env":["A=b"],"user":{"uid":1,"additionalGids":[1]},"capabilities":{
      "bounding":["CAP_KILL"]},"rlimits":[{"type":"RLIMIT_CPU","soft":1,"hard":2}]},"mounts":[{
      "destination":"/p","type":"bind","source":"x","options":["ro","rbind"]}],"hooks":{"prestart":[
      {"path":"/h","args":["h"],"timeout":5}]},"linux":{"resources":{"memory":{"limit":1},"cpu":{
      "cpus":"0-1"}},"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
      "action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}}})";
  const std::string spice = "{}[]\",:0-9eE.\\truefalsenull\xff";
  SetLogTarget(-1, LogFormat::kText, LogLevel::kError);
  std::mt19937 random(1);
  int read = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good;
    for (int damage = 1 + static_cast<int>(random() % 3); damage > 0; --damage) {
      size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = spice[random() % spice.size()];
          break;
        case 1:
          text.erase(at, 1 + random() % 20);
          break;
        default:
          text.insert(at, 1, spice[random() % spice.size()]);
          break;
      }
      if (text.empty()) text = "x";
    }
    absl::StatusOr<Spec> spec = Read(text);
    if (!spec.ok()) continue;
    ++read;
    if (spec->linux_section.seccomp.has_value() && i % 20 == 0) {
      CompileSeccomp(*spec->linux_section.seccomp).status().IgnoreError();
    }
    ConvertSpec(*spec, {"id", "/b", Overlay::kNone}).status().IgnoreError();
  }
  SetLogTarget(2, LogFormat::kText, LogLevel::kWarning);
  EXPECT_GT(read, 100);
}

TEST(FieldsTest, RowsAreUniqueAndNoRowIsBelowAnother) {
  std::set<std::string> seen;
  for (const Field& field : Fields())
    EXPECT_TRUE(seen.insert(std::string(field.path)).second) << field.path;
  for (const std::string& a : seen) {
    for (const std::string& b : seen) {
      EXPECT_FALSE(b.rfind(a + ".", 0) == 0 || b.rfind(a + "[", 0) == 0) << b << " below " << a;
    }
  }
}

}  // namespace
}  // namespace caisson::oci
