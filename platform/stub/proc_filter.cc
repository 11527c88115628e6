#include "platform/stub/proc_filter.h"

#include <fcntl.h>
#include <sys/syscall.h>

namespace caisson::platform::stub {
namespace {

using confine::Equals;
using confine::FilterRule;

constexpr FilterRule kRules[] = {
    {SYS_recvfrom, {Equals(0, kProcSocket)}, "what the sentry wants to see"},
    {SYS_sendmsg, {Equals(0, kProcSocket)}, "the descriptor of it"},
    {SYS_openat, {Equals(0, kProcDirectory), Equals(2, O_RDONLY | O_CLOEXEC)},
     "a file below the procfs of the sandbox, whose root is all that this process can see"},
    {SYS_close, {}, "the descriptor, once it is sent"},
    {SYS_exit_group, {}, "the end, when the sentry is gone"},
};

}  // namespace

const confine::FilterTable& ProcFilterTable() {
  static constexpr confine::FilterTable kTable{"procfs", kRules};
  return kTable;
}

}  // namespace caisson::platform::stub
