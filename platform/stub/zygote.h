// The first stub, from which all others are cloned.
#ifndef CAISSON_PLATFORM_STUB_ZYGOTE_H_
#define CAISSON_PLATFORM_STUB_ZYGOTE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "base/guest_addr.h"
#include "base/result.h"
#include "platform/stub/blob.h"
#include "platform/stub/filter.h"
#include "platform/stub/stub_process.h"

namespace caisson::platform::stub {

struct ZygoteConfig {
  // oom_score_adj of the stubs, so that they go before the sentry; not set if /proc is not there
  // or refuses.
  int oom_score_adj = 500;
  // What the base filter answers to calls that are not the blob's (SECCOMP_RET_...).
  uint32_t filter_otherwise = 0;
  // Whether it allows what a guest thread calls at its start (AllowedCalls()).
  bool threads_start = false;
  FilterParts filter_parts;
  // Signals besides SIGSEGV and SIGBUS that Blob::handler takes, if there is one, from guest
  // threads; it runs with all signals blocked that it does not take for the CPU.
  std::vector<int> handled_signals;
  // Run on a new stub's pages before it starts, for a platform's thread pages.
  StubProcess::PrepareSlots prepare = nullptr;
};

struct Zygote {
  std::unique_ptr<StubProcess> process;
  bool own_user_namespace = false;  // Refused by the host if false.
  AddrRange vdso;                   // The host's [vdso] in every stub; empty without.
};

// Forks. The caller has one thread, and no filter yet that could forbid what the zygote does. What
// went wrong is logged with the step's name. Errors: ENOSYS, EPERM, EAGAIN, ENOMEM, EIO.
Result<Zygote> StartZygote(const Blob& blob, const ZygoteConfig& config);

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_ZYGOTE_H_
