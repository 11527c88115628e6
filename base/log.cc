#include "base/log.h"

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "base/check.h"

namespace caisson {
namespace {

// Set once before threads start and only read after; relaxed is enough.
std::atomic<int> g_fd{2};
std::atomic<LogFormat> g_format{LogFormat::kText};
std::atomic<LogLevel> g_min_level{LogLevel::kWarning};

absl::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarning: return "warning";
    case LogLevel::kError: return "error";
  }
  return "?";
}

// JSON string escapes; control characters are escaped in text lines too.
void AppendEscaped(std::string& out, absl::string_view in, bool json) {
  for (char c : in) {
    auto u = static_cast<unsigned char>(c);
    if (json && (c == '"' || c == '\\')) {
      out += '\\';
      out += c;
    } else if (u < 0x20 || u == 0x7f) {
      char buf[8];
      snprintf(buf, sizeof(buf), json ? "\\u%04x" : "\\x%02x", u);
      out += buf;
    } else {
      out += c;
    }
  }
}

}  // namespace

void SetLogTarget(int host_fd, LogFormat format, LogLevel min_level) {
  g_fd.store(host_fd, std::memory_order_relaxed);
  g_format.store(format, std::memory_order_relaxed);
  g_min_level.store(min_level, std::memory_order_relaxed);
}

bool LogEnabled(LogLevel level) {
  return level >= g_min_level.load(std::memory_order_relaxed) &&
         g_fd.load(std::memory_order_relaxed) >= 0;
}

void LogLine(LogLevel level, absl::string_view message) {
  int fd = g_fd.load(std::memory_order_relaxed);
  if (fd < 0) return;
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  char stamp[64];
  size_t n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(stamp + n, sizeof(stamp) - n, ".%06ldZ", now.tv_nsec / 1000);
  std::string line;
  if (g_format.load(std::memory_order_relaxed) == LogFormat::kJson) {
    line = absl::StrCat("{\"level\":\"", LevelName(level), "\",\"msg\":\"");
    AppendEscaped(line, message, true);
    absl::StrAppend(&line, "\",\"time\":\"", stamp, "\"}\n");
  } else {
    line = absl::StrCat(stamp, " ", LevelName(level), " ");
    AppendEscaped(line, message, false);
    line += '\n';
  }
  // A log line that cannot be written is lost: there is nowhere to say so.
  [[maybe_unused]] ssize_t written = write(fd, line.data(), line.size());
}

namespace internal {
void CheckFailed(const char* file, int line, const char* condition) {
  LogLine(LogLevel::kError, absl::StrCat("CHECK failed at ", file, ":", line, ": ", condition));
  abort();
}
}  // namespace internal

}  // namespace caisson
