// runsc debug --profile: the sentry's stacks, named by the symbols of this executable, which is the same.
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cmath>
#include <map>

#include "absl/debugging/symbolize.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/cmd/profile.h"
#include "runsc/container/control.h"

extern "C" const char __ehdr_start[];  // The linker's: where the image begins.

namespace caisson::cmd {
namespace {

std::string NameOf(uint64_t offset, bool is_caller) {
  constexpr uint64_t kMaxImage = uint64_t{1} << 32;
  char name[512];
  // A return address may be that of the next function.
  const char* address = __ehdr_start + (is_caller && offset != 0 ? offset - 1 : offset);
  if (offset >= kMaxImage || !absl::Symbolize(address, name, sizeof(name)))
    return absl::StrCat("0x", absl::Hex(offset));
  std::string out(name);
  for (char& c : out)
    if (c == ';' || c == ' ') c = '_';  // The two separators of the format.
  return out;
}

absl::Status Sleep(double seconds) {
  timespec left;
  left.tv_sec = static_cast<time_t>(std::floor(seconds));
  left.tv_nsec = static_cast<long>((seconds - std::floor(seconds)) * 1e9);
  while (nanosleep(&left, &left) != 0) {
    if (errno != EINTR) return HostErrnoStatus(errno, "nanosleep");
  }
  return absl::OkStatus();
}

}  // namespace

std::string SymbolizeProfile(absl::string_view folded) {
  std::map<std::string, uint64_t> stacks;
  for (absl::string_view line : absl::StrSplit(folded, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
    uint64_t count = 0;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &count)) continue;
    const std::vector<absl::string_view> frames = absl::StrSplit(parts[0], ';');
    std::string stack;
    for (size_t i = 0; i < frames.size(); ++i) {
      uint64_t offset = 0;
      const bool number = absl::SimpleHexAtoi(frames[i], &offset);
      absl::StrAppend(&stack, i == 0 ? "" : ";",
                      number ? NameOf(offset, i + 1 < frames.size()) : Printable(frames[i]));
    }
    stacks[stack] += count;
  }
  std::string out;
  for (const auto& [stack, count] : stacks) absl::StrAppend(&out, stack, " ", count, "\n");
  return out;
}

absl::Status Profile(const std::string& socket, const Args& args) {
  // Opened first: nothing is sampled for a file that cannot be written.
  UniqueFd file;
  if (args.profile != "-") {
    file = UniqueFd(open(args.profile.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) return HostErrnoStatus(errno, absl::StrCat("profile \"", args.profile, "\""));
  }
  protocol::Request start, take;
  start.mutable_debug()->set_profile_hz(static_cast<uint32_t>(args.profile_hz));
  take.mutable_debug()->set_take_profile(true);
  RETURN_IF_ERROR(runsc::CallSentry(socket, start).status());
  RETURN_IF_ERROR(Sleep(args.duration));
  ASSIGN_OR_RETURN(protocol::Reply reply, runsc::CallSentry(socket, take));
  absl::InitializeSymbolizer("/proc/self/exe");
  const std::string text = SymbolizeProfile(reply.text());
  if (!file) return Print(text);
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(file.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return HostErrnoStatus(errno, absl::StrCat("profile \"", args.profile, "\""));
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace caisson::cmd
