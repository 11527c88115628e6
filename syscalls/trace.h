// How --strace shows a call, in strace(1)'s spelling: names of flags, strings, structs, what was returned.
#ifndef CAISSON_SYSCALLS_TRACE_H_
#define CAISSON_SYSCALLS_TRACE_H_

#include <string>

#include "sentry/kernel/task.h"

namespace caisson::syscalls {

// A call's arguments, as they are before it. What the call fills in is shown as an address, and by its
// content if `result` is there: then the call has returned. False for a call that is not described
// here: the types of its line in table.inc print themselves.
bool FormatArguments(kernel::Task& task, int number, const kernel::SyscallResult* result, std::string* out);
// Whether there is more to show when the call has returned.
bool FillsIn(int number);

// "SIGUSR1 {si_code=SI_USER, si_pid=7, si_uid=0}".
std::string FormatSignal(const signal::Info& info);

// "3", "-1 ENOENT (No such file or directory)", "? ERESTARTSYS (...)".
std::string FormatResult(int number, const kernel::SyscallResult& result);

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_TRACE_H_
