#include "platform/stub/vdso.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace caisson::platform::stub {

std::vector<VdsoArea> FindVdsoAreas() {
  UniqueFd fd(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return {};
  std::string text;
  char buffer[4096];
  ssize_t n;
  while ((n = read(fd.get(), buffer, sizeof(buffer))) > 0) text.append(buffer, n);
  std::vector<VdsoArea> areas;
  bool have_code = false;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const bool is_code = absl::EndsWith(line, "[vdso]");
    if (!is_code && line.find("[vvar") == absl::string_view::npos) continue;
    std::vector<absl::string_view> range =
        absl::StrSplit(line.substr(0, line.find(' ')), '-');
    VdsoArea area{0, 0, is_code};
    if (range.size() != 2 || !absl::SimpleHexAtoi(range[0], &area.start) ||
        !absl::SimpleHexAtoi(range[1], &area.end))
      return {};
    if (!areas.empty() && areas.back().end != area.start) return {};
    have_code = have_code || is_code;
    areas.push_back(area);
  }
  if (!have_code) areas.clear();
  return areas;
}

}  // namespace caisson::platform::stub
