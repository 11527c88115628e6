#include "runsc/cmd/args.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace caisson::cmd {
namespace {

using testing::ElementsAre;

struct Parsed {
  Args args;
  std::string error;
  std::optional<int> status;
};

Parsed Parse(std::vector<std::string> words) {
  words.insert(words.begin(), "runsc");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  Parsed out;
  out.status = ParseArgs(static_cast<int>(words.size()), argv.data(), out.args, out.error);
  return out;
}

TEST(ParseArgsTest, GoRuncsCreate) {
  Parsed p = Parse({"--root", "/r", "--log", "/l", "--log-format", "json", "--systemd-cgroup",
                    "create", "--bundle", "/b", "--pid-file", "/p", "--console-socket", "/c",
                    "--no-pivot", "--no-new-keyring", "--preserve-fds", "2", "id"});
  ASSERT_EQ(p.status, std::nullopt) << p.error;
  EXPECT_EQ(p.args.command, "create");
  EXPECT_EQ(p.args.options.root, "/r");
  EXPECT_TRUE(p.args.options.systemd_cgroup);
  EXPECT_TRUE(p.args.log_json);
  EXPECT_EQ(p.args.bundle, "/b");
  EXPECT_EQ(p.args.attachment.preserve_fds, 2);
  EXPECT_THAT(p.args.positional, ElementsAre("id"));
}

TEST(ParseArgsTest, GoRuncsOthers) {
  EXPECT_THAT(Parse({"kill", "--all", "id", "9"}).args.positional, ElementsAre("id", "9"));
  EXPECT_TRUE(Parse({"kill", "-a", "id", "SIGTERM"}).args.all);
  EXPECT_TRUE(Parse({"delete", "--force", "id"}).args.force);
  EXPECT_EQ(Parse({"ps", "--format", "json", "id"}).args.format, "json");
  EXPECT_EQ(Parse({"update", "--resources=-", "id"}).args.resources_file, "-");
  EXPECT_EQ(Parse({"update", "--resources", "-", "id"}).args.resources_file, "-");
  EXPECT_EQ(Parse({"update", "--memory-swap", "-1", "id"}).args.memory_swap, -1);
  EXPECT_TRUE(Parse({"events", "--stats", "id"}).args.stats);
}

TEST(ParseArgsTest, ExecsCommandIsLeftAlone) {
  Parsed p = Parse({"--root=/x", "exec", "-e", "A=1", "--env=B=2", "-t", "-u", "1:2", "id", "list",
                    "-e", "--cwd", "--", "ps"});
  ASSERT_EQ(p.status, std::nullopt) << p.error;
  EXPECT_THAT(p.args.env, ElementsAre("A=1", "B=2"));
  EXPECT_TRUE(p.args.tty);
  EXPECT_EQ(p.args.user, "1:2");
  EXPECT_THAT(p.args.positional, ElementsAre("id", "list", "-e", "--cwd", "--", "ps"));
}

TEST(ParseArgsTest, ValueThatIsACommandsName) {
  Parsed p = Parse({"--root", "exec", "--log", "ps", "list", "-q"});
  ASSERT_EQ(p.status, std::nullopt) << p.error;
  EXPECT_EQ(p.args.command, "list");
  EXPECT_EQ(p.args.options.root, "exec");
}

TEST(ParseArgsTest, DoTakesTheRest) {
  EXPECT_THAT(Parse({"do", "ls", "-l", "--root"}).args.positional,
              ElementsAre("ls", "-l", "--root"));
  EXPECT_THAT(Parse({"do", "--rootfs", "/r", "--", "-x"}).args.positional, ElementsAre("-x"));
}

TEST(ParseArgsTest, RootlessTakesAValueOrNone) {
  EXPECT_TRUE(Parse({"--rootless", "true", "list"}).args.options.rootless);
  EXPECT_TRUE(Parse({"--rootless=true", "list"}).args.options.rootless);
  EXPECT_FALSE(Parse({"--rootless=false", "list"}).args.options.rootless);
}

TEST(ParseArgsTest, MistakesAreErrors) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"nope"},
                                             {"create"},
                                             {"create", "a", "b"},
                                             {"create", "--nope", "a"},
                                             {"state"},
                                             {"--platform", "x", "list"},
                                             {"list", "--format", "xml"},
                                             {"--overlay2=dir=/x", "list"},
                                             {"create", "--preserve-fds", "x", "a"},
                                             {"update", "--memory", "1x", "a"},
                                             {"update", "--memory", "-2", "a"},
                                             {"update", "--memory", "1gg", "a"},
                                             {"update", "--memory", "99999999p", "a"},
                                             {"update", "--l3-cache-schema", "x", "a"},
                                             {"exec"},
                                             {"ps"}}) {
    Parsed p = Parse(words);
    EXPECT_EQ(p.status, 1) << words[0];
    EXPECT_NE(p.error, "") << words[0];
  }
}

TEST(ParseArgsTest, SizesHaveUnits) {
  constexpr int64_t kMiB = 1 << 20;
  const std::pair<const char*, int64_t> sizes[] = {{"300", 300},        {"300b", 300},       {"-1", -1},         {"0", 0},
                                                   {"200M", 200 * kMiB}, {"200mb", 200 * kMiB}, {"1.5MiB", kMiB * 3 / 2}, {"2g", 2048 * kMiB}};
  for (const auto& [text, bytes] : sizes) {
    Parsed p = Parse({"update", "--memory", text, "a"});
    ASSERT_FALSE(p.status.has_value()) << text << ": " << p.error;
    EXPECT_EQ(p.args.memory, bytes) << text;
  }
}

TEST(ParseArgsTest, TheLastOfTwoCounts) {
  Parsed p = Parse({"--root", "/a", "--root=/b", "list"});
  ASSERT_FALSE(p.status.has_value()) << p.error;
  EXPECT_EQ(p.args.options.root, "/b");
}

TEST(FindGlobalTest, StopsAtTheCommand) {
  auto find = [](std::vector<std::string> words) {
    words.insert(words.begin(), "runsc");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    return FindGlobal(static_cast<int>(words.size()), argv.data(), "--log");
  };
  EXPECT_EQ(find({"--log", "/x", "list"}), "/x");
  EXPECT_EQ(find({"--debug", "--log=/x", "list"}), "/x");
  EXPECT_EQ(find({"-log=/x", "list"}), "/x");
  EXPECT_EQ(find({"--root", "list", "--log", "/x", "list"}), "/x");
  EXPECT_EQ(find({"exec", "id", "x", "--log", "/x"}), "");
  EXPECT_EQ(find({"--log"}), "");
}

TEST(ParseDurationTest, GoDurations) {
  EXPECT_EQ(ParseDuration("5s"), 5000);
  EXPECT_EQ(ParseDuration("1m30s"), 90000);
  EXPECT_EQ(ParseDuration("1.5s"), 1500);
  EXPECT_EQ(ParseDuration("250ms"), 250);
  for (const char* bad : {"", "5", "s", "5x", "-5s"})
    EXPECT_EQ(ParseDuration(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace caisson::cmd
