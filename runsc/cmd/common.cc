#include "runsc/cmd/common.h"

#include <climits>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "runsc/container/id.h"
#include "runsc/oci/spec.h"

namespace caisson::cmd {

absl::StatusOr<Opened> OpenContainer(const Args& args, bool lock) {
  ASSIGN_OR_RETURN(runsc::ContainerDir dir,
                   runsc::ContainerDir::Open(args.options.root, args.positional[0]));
  if (lock) RETURN_IF_ERROR(dir.Lock(10'000));
  absl::StatusOr<runsc::State> state = dir.LoadState();
  if (!state.ok()) {
    // A directory in which nothing was written yet, or is no more.
    if (!absl::IsNotFound(state.status())) return state.status();
    return absl::NotFoundError(
        absl::StrCat("container \"", args.positional[0], "\" does not exist: it has no state"));
  }
  return Opened{std::move(dir), *std::move(state)};
}

absl::StatusOr<runsc::CreateRequest> ReadBundle(const Args& args) {
  runsc::CreateRequest request;
  request.id = args.positional[0];
  RETURN_IF_ERROR(runsc::ValidateId(request.id));
  std::string bundle = args.bundle.empty() ? "." : args.bundle;
  char resolved[PATH_MAX];
  if (realpath(bundle.c_str(), resolved) == nullptr) {
    return HostErrnoStatus(errno, absl::StrCat("bundle ", bundle));
  }
  request.bundle = resolved;
  ASSIGN_OR_RETURN(request.config, oci::ReadFile(request.bundle + "/config.json"));
  request.attachment = args.attachment;
  return request;
}

absl::StatusOr<oci::User> ParseUser(const std::string& text, oci::User user) {
  std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  bool good = absl::SimpleAtoi(parts.first, &user.uid);
  if (text.find(':') != std::string::npos) good &= absl::SimpleAtoi(parts.second, &user.gid);
  if (!good)
    return absl::InvalidArgumentError(absl::StrCat("--user ", text, ": expected UID[:GID]"));
  return user;
}

std::string Printable(absl::string_view text) {
  std::string out;
  for (char c : text) {
    auto u = static_cast<unsigned char>(c);
    bool control = (u < 0x20 && c != '\n' && c != '\t') || u == 0x7f;
    out += control ? '?' : c;
  }
  return out;
}

std::string UserName(uint32_t uid) {
  absl::StatusOr<std::string> text = oci::ReadFile("/etc/passwd");
  if (text.ok()) {
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
      uint32_t number = 0;
      if (fields.size() >= 3 && absl::SimpleAtoi(fields[2], &number) && number == uid) {
        return std::string(fields[0]);
      }
    }
  }
  return absl::StrCat("#", uid);
}

}  // namespace caisson::cmd
