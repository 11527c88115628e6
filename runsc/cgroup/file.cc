#include "runsc/cgroup/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace caisson::cgroup {

absl::StatusOr<std::string> ReadText(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return HostErrnoStatus(errno, path);
  std::string out;
  char buffer[8192];
  while (true) {
    ssize_t n = read(fd.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return HostErrnoStatus(errno, path);
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
  }
}

absl::Status WriteText(const std::string& path, absl::string_view value) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  ssize_t n = -1;
  if (fd) {
    do {
      n = write(fd.get(), value.data(), value.size());
    } while (n < 0 && errno == EINTR);
  }
  if (n < 0) return HostErrnoStatus(errno, absl::StrCat("writing \"", value, "\" to ", path));
  return absl::OkStatus();
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::optional<uint64_t> ReadNumber(const std::string& path) {
  absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return std::nullopt;
  absl::string_view number = absl::StripAsciiWhitespace(*text);
  if (number == "max") return std::numeric_limits<uint64_t>::max();
  uint64_t out = 0;
  if (!absl::SimpleAtoi(number, &out)) return std::nullopt;
  return out;
}

std::vector<std::pair<std::string, uint64_t>> ReadKeyed(const std::string& path) {
  std::vector<std::pair<std::string, uint64_t>> out;
  absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return out;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    std::pair<absl::string_view, absl::string_view> entry =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    uint64_t value = 0;
    if (absl::SimpleAtoi(entry.second, &value)) out.emplace_back(std::string(entry.first), value);
  }
  return out;
}

}  // namespace caisson::cgroup
