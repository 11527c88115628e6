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

// RFC 3339. Not gmtime_r(), which looks for time zone files: a confined process has none and is
// killed for asking. The date is Howard Hinnant's civil_from_days (years from March).
void FormatUtc(const timespec& time, char* out, size_t size) {
  const int64_t days = time.tv_sec / 86400;
  const auto second = static_cast<int>(time.tv_sec % 86400);
  const int64_t z = days + 719468;
  const int64_t era = z / 146097;
  const int64_t day_of_era = z - era * 146097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted_month = (5 * day_of_year + 2) / 153;
  const auto day = static_cast<int>(day_of_year - (153 * shifted_month + 2) / 5 + 1);
  const auto month = static_cast<int>(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
  const auto year = static_cast<int>(year_of_era + era * 400 + (month <= 2 ? 1 : 0));
  snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", year, month, day, second / 3600,
           second / 60 % 60, second % 60, time.tv_nsec / 1000);
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
  char stamp[64];
  FormatUtc(now, stamp, sizeof(stamp));
  std::string line;
  if (g_format.load(std::memory_order_relaxed) == LogFormat::kJson) {
    line = absl::StrCat("{\"level\":\"", LevelName(level), "\",\"msg\":\"");
    AppendEscaped(line, message, true);
    absl::StrAppend(&line, "\",\"time\":\"", stamp, "\"}\n");
  } else {
    if (g_format.load(std::memory_order_relaxed) == LogFormat::kText) line = absl::StrCat(stamp, " ");
    absl::StrAppend(&line, LevelName(level), " ");
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
