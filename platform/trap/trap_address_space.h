// A stub with host threads that run guest code.
#ifndef CAISSON_PLATFORM_TRAP_TRAP_ADDRESS_SPACE_H_
#define CAISSON_PLATFORM_TRAP_TRAP_ADDRESS_SPACE_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "platform/stub/address_space.h"
#include "platform/trap/host_thread.h"
#include "platform/trap/patch_set.h"

namespace caisson::platform::trap {

// Thread-safe. Host threads are never ended before their stub: one that is not needed is parked,
// stopped as it is, and costs nothing until it is taken again.
class TrapAddressSpace final : public stub::StubAddressSpace {
 public:
  // `environment` outlives this.
  TrapAddressSpace(std::unique_ptr<stub::StubProcess> stub, stub::ProcView* proc,
                   const ThreadEnvironment& environment);
  ~TrapAddressSpace() override;

  Result<void> Apply(absl::Span<const MapOp> ops, size_t* done) override;
  Result<std::unique_ptr<AddressSpace>> Fork() override;
  // Not after the process has had other threads: one that did not really stop would run on in the
  // new program.
  bool BeginProgram() override ABSL_LOCKS_EXCLUDED(mu_);
  // Of the guest's own bytes, where patches are.
  size_t CopyIn(GuestAddr from, absl::Span<char> to) override;
  size_t CopyOut(GuestAddr to, absl::Span<const char> from) override;
  size_t CopyOutForced(GuestAddr to, absl::Span<const char> from) override;

  void KeepCode() override { patches_.Disable(); }
  void CountWaiter(GuestAddr addr, int delta) override;

  PatchSet& patches() { return patches_; }
  // No more than one at any time.
  bool HadOneThread() ABSL_LOCKS_EXCLUDED(mu_);

  // A thread that no context uses: a parked one, or a new one. Errors: EAGAIN, EIO.
  Result<std::unique_ptr<HostThread>> TakeThread() ABSL_LOCKS_EXCLUDED(mu_);
  // Takes back one that is stopped.
  void ParkThread(std::unique_ptr<HostThread> thread) ABSL_LOCKS_EXCLUDED(mu_);

 protected:
  std::unique_ptr<AddressSpace> Wrap(std::unique_ptr<stub::StubProcess> stub) const override;
  // By the guest thread of the task that asks, if it can, which needs to wake nobody; else by the worker.
  Result<void> Run(absl::Span<const stub::Request> requests, absl::Span<const int> fds,
                   stub::StubProcess::Outcome* outcome) override;

 private:
  Result<void> RunWithPlan(absl::Span<const stub::Request> requests, absl::Span<const int> fds,
                           stub::StubProcess::Outcome* outcome);

  class Bulk;
  // As much as is for the bulk pages (bulk_copy.cc); the rest is the host's to copy.
  size_t CopyInBulk(GuestAddr from, absl::Span<char> to);

  const ThreadEnvironment& environment_;
  PatchSet patches_;
  // Of the Apply() that is under way, under its lock: what its one vector runs besides.
  PatchSet::Plan* plan_ = nullptr;
  std::atomic<bool> bulk_busy_{false};  // Somebody has the bulk pages.
  Mutex mu_;  // Before StubProcess::mu_.
  std::vector<std::unique_ptr<HostThread>> parked_ ABSL_GUARDED_BY(mu_);
  size_t next_slot_ ABSL_GUARDED_BY(mu_) = 1;  // 0 is the ready thread's.
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_TRAP_ADDRESS_SPACE_H_
