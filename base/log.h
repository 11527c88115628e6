// Logging for sentry, gofer and monitor: one line an event, text or JSON, to one descriptor.
#ifndef CAISSON_BASE_LOG_H_
#define CAISSON_BASE_LOG_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace caisson {

enum class LogLevel { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };
// kRelayed: level and message alone, for a process that adds the rest.
enum class LogFormat { kText, kJson, kRelayed };

// Sends lines of `min_level` and above to `host_fd` (not owned, -1 for nowhere). Called before
// threads start; lines are single write(2)s, so processes may share an O_APPEND file.
void SetLogTarget(int host_fd, LogFormat format, LogLevel min_level);
bool LogEnabled(LogLevel level);

// Writes one line. Control characters in `message` are escaped: a guest's strings may be in it.
void LogLine(LogLevel level, absl::string_view message);

}  // namespace caisson

#define CAISSON_LOG(level, ...)                                            \
  do {                                                                     \
    if (::caisson::LogEnabled(level))                                      \
      ::caisson::LogLine(level, ::absl::StrCat(__VA_ARGS__));              \
  } while (false)
#define LOG_DEBUG(...) CAISSON_LOG(::caisson::LogLevel::kDebug, __VA_ARGS__)
#define LOG_INFO(...) CAISSON_LOG(::caisson::LogLevel::kInfo, __VA_ARGS__)
#define LOG_WARNING(...) CAISSON_LOG(::caisson::LogLevel::kWarning, __VA_ARGS__)
#define LOG_ERROR(...) CAISSON_LOG(::caisson::LogLevel::kError, __VA_ARGS__)

#endif  // CAISSON_BASE_LOG_H_
