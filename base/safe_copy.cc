#include "base/safe_copy.h"

#include <signal.h>
#include <ucontext.h>

#include "base/check.h"

// `rep movsb` can be gone on with wherever it faults: rcx has what is left. On CPUs that Caisson is for it is as fast as
// any other way (the flags erms and fsrm).
asm(R"(
  .pushsection .text
  .type caisson_safe_copy, @function
caisson_safe_copy:
  movq %rdx, %rcx
caisson_safe_copy_move:
  rep movsb
caisson_safe_copy_end:
  movq %rcx, %rax
  ret
  .size caisson_safe_copy, . - caisson_safe_copy
  .popsection
)");

extern "C" {
size_t CaissonSafeCopy(void* to, const void* from, size_t n) asm("caisson_safe_copy");  // Returns what is left.
extern const char kSafeCopyMove[] asm("caisson_safe_copy_move");
extern const char kSafeCopyEnd[] asm("caisson_safe_copy_end");
}

namespace caisson {
namespace {

void OnBusError(int signo, siginfo_t* info, void* context) {
  greg_t& rip = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  if (info->si_code > 0 && rip == reinterpret_cast<greg_t>(kSafeCopyMove)) {
    rip = reinterpret_cast<greg_t>(kSafeCopyEnd);
    return;
  }
  signal(signo, SIG_DFL);  // A fault comes again.
  if (info->si_code <= 0) raise(signo);
}

bool Install() {
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGBUS, &action, nullptr) == 0;
}

}  // namespace

size_t SafeCopy(void* to, const void* from, size_t n) {
  static const bool installed = Install();
  CHECK(installed);
  return n - CaissonSafeCopy(to, from, n);
}

}  // namespace caisson
