#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"
#include "runsc/cmd/profile.h"
#include "runsc/container/control.h"

namespace caisson::cmd {
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
  if (!args.timing.empty()) debug->set_set_timing(args.timing != "off");
  any = any || !args.strace.empty() || !args.timing.empty();
  if (!any && args.profile.empty()) {
    return absl::InvalidArgumentError(
        "debug: give --stacks, --ps, --unsupported, --counters, --strace, --histograms or --profile");
  }
  if (!args.profile.empty()) RETURN_IF_ERROR(Profile(container.dir.control_socket(), args));
  if (!any) return 0;
  ASSIGN_OR_RETURN(protocol::Reply reply,
                   runsc::CallSentry(container.dir.control_socket(), request));
  std::string text = Printable(reply.text());
  if (!text.empty() && text.back() != '\n') text += '\n';
  RETURN_IF_ERROR(Print(text));
  return 0;
}

}  // namespace caisson::cmd
