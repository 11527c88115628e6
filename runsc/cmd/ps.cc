#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"

namespace caisson::cmd {
namespace {

// The host's ps with `options`. Guests have users of their own on the host, so `pids` are named:
// without, "-o pid" is about processes of the caller's user alone.
absl::StatusOr<std::string> HostPs(const std::vector<std::string>& options,
                                   const std::vector<pid_t>& pids) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return HostErrnoStatus(errno, "pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  std::vector<char*> argv = {const_cast<char*>("ps")};
  for (const std::string& option : options) argv.push_back(const_cast<char*>(option.c_str()));
  const std::string list = absl::StrJoin(pids, ",");
  argv.push_back(const_cast<char*>("-p"));
  argv.push_back(const_cast<char*>(list.c_str()));
  argv.push_back(nullptr);
  pid_t pid = fork();
  if (pid < 0) return HostErrnoStatus(errno, "fork");
  if (pid == 0) {
    dup2(writer.get(), STDOUT_FILENO);
    execvp("ps", argv.data());
    _exit(127);
  }
  writer.reset();
  std::string out;
  char buffer[65536];
  ssize_t n = 0;
  while ((n = read(reader.get(), buffer, sizeof(buffer))) > 0)
    out.append(buffer, static_cast<size_t>(n));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return absl::InternalError("the host's ps failed");
  }
  return out;
}

}  // namespace

absl::StatusOr<int> Ps(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  ASSIGN_OR_RETURN(std::vector<pid_t> pids, runsc::HostPids(container.dir, container.state));
  if (args.format == "json") {
    oci::Json json = oci::Json::Array();
    for (pid_t pid : pids) json.Append(static_cast<int64_t>(pid));
    RETURN_IF_ERROR(Print(json.ToText() + "\n"));
    return 0;
  }
  std::vector<std::string> options(args.positional.begin() + 1, args.positional.end());
  if (options.empty()) options = {"-ef"};
  ASSIGN_OR_RETURN(std::string text, HostPs(options, pids));
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.empty()) return absl::InternalError("the host's ps printed nothing");
  std::vector<absl::string_view> titles = absl::StrSplit(lines[0], ' ', absl::SkipEmpty());
  size_t column = 0;
  while (column < titles.size() && titles[column] != "PID") ++column;
  if (column == titles.size())
    return absl::InvalidArgumentError("couldn't find PID field in ps output");
  std::set<pid_t> wanted(pids.begin(), pids.end());
  RETURN_IF_ERROR(Print(absl::StrCat(lines[0], "\n")));
  for (size_t i = 1; i < lines.size(); ++i) {
    std::vector<absl::string_view> fields = absl::StrSplit(lines[i], ' ', absl::SkipEmpty());
    pid_t pid = 0;
    if (fields.size() > column && absl::SimpleAtoi(fields[column], &pid) && wanted.contains(pid)) {
      RETURN_IF_ERROR(Print(absl::StrCat(lines[i], "\n")));
    }
  }
  return 0;
}

}  // namespace caisson::cmd
