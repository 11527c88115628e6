#include "runsc/container/process.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runsc/cgroup/file.h"

namespace caisson::runsc {

std::optional<ProcessStat> ParseStat(absl::string_view text) {
  size_t close = text.rfind(')');
  if (close == absl::string_view::npos) return std::nullopt;
  std::vector<absl::string_view> fields =
      absl::StrSplit(text.substr(close + 1), ' ', absl::SkipEmpty());
  // proc(5) counts from 1: state is field 3, ppid 4, starttime 22.
  constexpr size_t kFirst = 3;
  if (fields.size() <= 22 - kFirst || fields[0].size() != 1) return std::nullopt;
  ProcessStat out;
  out.state = fields[0][0];
  if (!absl::SimpleAtoi(fields[4 - kFirst], &out.ppid)) return std::nullopt;
  if (!absl::SimpleAtoi(fields[22 - kFirst], &out.start_time)) return std::nullopt;
  return out;
}

std::optional<ProcessStat> StatOf(pid_t pid) {
  if (pid <= 0) return std::nullopt;
  absl::StatusOr<std::string> text = cgroup::ReadText(absl::StrCat("/proc/", pid, "/stat"));
  if (!text.ok()) return std::nullopt;
  return ParseStat(*text);
}

bool IsAlive(pid_t pid, uint64_t start_time) {
  std::optional<ProcessStat> stat = StatOf(pid);
  return stat.has_value() && stat->start_time == start_time && stat->state != 'Z' &&
         stat->state != 'X';
}

UniqueFd OpenPidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

std::vector<pid_t> NamespacePids(pid_t pid) {
  std::vector<pid_t> out;
  absl::StatusOr<std::string> text = cgroup::ReadText(absl::StrCat("/proc/", pid, "/status"));
  if (!text.ok()) return out;
  size_t at = text->find("\nNSpid:");
  if (at == std::string::npos) return out;
  size_t end = text->find('\n', at + 1);
  absl::string_view line = absl::string_view(*text).substr(at + 7, end - at - 7);
  for (absl::string_view field : absl::StrSplit(line, absl::ByAnyChar("\t "), absl::SkipEmpty())) {
    pid_t number = 0;
    if (absl::SimpleAtoi(field, &number)) out.push_back(number);
  }
  return out;
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> out;
  DIR* dir = opendir("/proc");
  if (dir == nullptr) return out;
  while (dirent* entry = readdir(dir)) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry->d_name, &pid)) out.push_back(pid);
  }
  closedir(dir);
  return out;
}

}  // namespace caisson::runsc
