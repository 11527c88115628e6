// Stubs for new address spaces, kept ready.
#ifndef CAISSON_PLATFORM_STUB_POOL_H_
#define CAISSON_PLATFORM_STUB_POOL_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "platform/stub/stub_process.h"

namespace caisson::platform::stub {

// Thread-safe. There is no thread of its own: who has nothing urgent to do asks the zygote for the next
// clone (Fill()) and does not wait for it; whoever comes next collects it. Take() does not ask, since
// the zygote would run before its caller does: on the same CPU, while a program is waited for. Only
// who finds nothing there asks for one more as well.
//
// Empty until Fill() or Take(), which come after the sentry has confined itself: a clone that is
// under way while the sentry changes its root would keep the old one.
class StubPool {
 public:
  StubPool(std::unique_ptr<StubProcess> zygote, size_t target);
  // Asks for a stub if there is none.
  void Fill() ABSL_LOCKS_EXCLUDED(mu_);
  // A stub with no guest mappings. Errors: EAGAIN, ENOMEM, EMFILE, EIO.
  Result<std::unique_ptr<StubProcess>> Take() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Result<void> StartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> FinishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t target_;
  Mutex mu_;  // Before StubProcess::mu_ of the zygote.
  std::unique_ptr<StubProcess> zygote_ ABSL_GUARDED_BY(mu_);
  std::optional<Slots> pending_ ABSL_GUARDED_BY(mu_);  // Of the clone that is being made.
  std::vector<std::unique_ptr<StubProcess>> ready_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_POOL_H_
