#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/container/control.h"

namespace caisson::cmd {
namespace {

// A hostile sentry's text must not reach the terminal's escape sequences.
std::string Printable(absl::string_view text) {
  std::string out;
  for (char c : text) {
    auto u = static_cast<unsigned char>(c);
    bool control = (u < 0x20 && c != '\n' && c != '\t') || u == 0x7f;
    out += control ? '?' : c;
  }
  return out;
}

}  // namespace

absl::StatusOr<int> Debug(const Args& args) {
  ASSIGN_OR_RETURN(Opened container, OpenContainer(args, /*lock=*/false));
  protocol::Request request;
  protocol::DebugRequest* debug = request.mutable_debug();
  debug->set_stacks(args.stacks);
  debug->set_ps(args.processes);
  debug->set_unsupported(args.unsupported);
  debug->set_counters(args.counters);
  if (!args.strace.empty()) debug->set_set_strace(args.strace != "off");
  bool any = args.stacks || args.processes || args.unsupported || args.counters;
  if (!any && args.strace.empty()) {
    return absl::InvalidArgumentError(
        "debug: give --stacks, --ps, --unsupported, --counters or --strace");
  }
  ASSIGN_OR_RETURN(protocol::Reply reply,
                   runsc::CallSentry(container.dir.control_socket(), request));
  std::string text = Printable(reply.text());
  if (!text.empty() && text.back() != '\n') text += '\n';
  RETURN_IF_ERROR(Print(text));
  return 0;
}

}  // namespace caisson::cmd
