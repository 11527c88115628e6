#include "base/log.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstring>

#include "gtest/gtest.h"

namespace caisson {
namespace {

std::string Logged(LogFormat format, absl::string_view message) {
  int fd = memfd_create("log", MFD_CLOEXEC);
  SetLogTarget(fd, format, LogLevel::kInfo);
  LOG_DEBUG("not shown");
  LOG_WARNING(message);
  char buffer[512];
  ssize_t n = pread(fd, buffer, sizeof(buffer), 0);
  SetLogTarget(2, LogFormat::kText, LogLevel::kWarning);
  close(fd);
  return std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0);
}

TEST(LogTest, StampsTheTimeInUtc) {
  setenv("TZ", "America/New_York", 1);
  const time_t before = time(nullptr);
  const std::string line = Logged(LogFormat::kText, "hello");
  const time_t after = time(nullptr);
  tm parts{};
  ASSERT_NE(strptime(line.c_str(), "%Y-%m-%dT%H:%M:%S", &parts), nullptr) << line;
  const time_t stamp = timegm(&parts);
  EXPECT_GE(stamp, before);
  EXPECT_LE(stamp, after);
  EXPECT_NE(line.find("Z warning hello\n"), std::string::npos) << line;
}

TEST(LogTest, EscapesControlCharacters) {
  EXPECT_NE(Logged(LogFormat::kText, "a\nb\x1b").find("a\\x0ab\\x1b\n"), std::string::npos);
  const std::string json = Logged(LogFormat::kJson, "say \"x\"\n");
  EXPECT_NE(json.find("{\"level\":\"warning\",\"msg\":\"say \\\"x\\\"\\u000a\",\"time\":\""),
            std::string::npos)
      << json;
}

}  // namespace
}  // namespace caisson
