#include "platform/trap/trap_address_space.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <utility>

#include "platform/trap/trap_context.h"

namespace caisson::platform::trap {

TrapAddressSpace::TrapAddressSpace(std::unique_ptr<stub::StubProcess> stub, stub::ProcView* proc,
                                   const ThreadEnvironment& environment)
    : StubAddressSpace(std::move(stub), proc), environment_(environment),
      patches_(*environment.patches,
               [this](absl::Span<const stub::Request> requests, absl::Span<const int> fds,
                      stub::StubProcess::Outcome* outcome) {
                 return this->stub().Run(requests, fds, outcome);
               }) {
  // At once, since its listener must leave the stub before a vector brings other descriptors.
  std::unique_ptr<HostThread> ready = HostThread::TakeReady(this->stub(), environment_);
  MutexLock lock(mu_);
  if (ready != nullptr) parked_.push_back(std::move(ready));
}

// Before the listeners of its threads are closed, at which they would go on.
TrapAddressSpace::~TrapAddressSpace() { stub().Kill(); }

std::unique_ptr<AddressSpace> TrapAddressSpace::Wrap(
    std::unique_ptr<stub::StubProcess> stub) const {
  return std::make_unique<TrapAddressSpace>(std::move(stub), proc(), environment_);
}

Result<void> TrapAddressSpace::Apply(absl::Span<const MapOp> ops, size_t* done) {
  size_t carried_out = 0;
  MutexLock lock(patches_.mu());
  patches_.BeforeLocked(ops);
  PatchSet::Plan plan = patches_.PlanLocked(ops);
  // All of it in one vector, or the old way.
  const bool fits = ops.size() + plan.requests.size() <= stub::kMaxRequests &&
                    ops.size() + plan.fds.size() <= stub::kMaxDescriptors;
  if (fits && !plan.items.empty()) plan_ = &plan;
  Result<void> applied = StubAddressSpace::Apply(ops, &carried_out);
  plan_ = nullptr;
  patches_.AfterLocked(ops, carried_out, plan);
  if (done != nullptr) *done = carried_out;
  return applied;
}

Result<void> TrapAddressSpace::Run(absl::Span<const stub::Request> requests,
                                   absl::Span<const int> fds, stub::StubProcess::Outcome* outcome) {
  if (plan_ != nullptr) return RunWithPlan(requests, fds, outcome);
  HostThread* thread =
      fds.size() > 1 ? nullptr : TrapContext::ThreadForHostCalls(*this, requests);
  if (thread == nullptr) return StubAddressSpace::Run(requests, fds, outcome);
  const HostThread::HostOutcome done =
      TRY(thread->RunHostCalls(requests, fds.empty() ? -1 : fds[0]));
  outcome->executed = done.executed;
  outcome->host_errno = done.host_errno;
  // All of them are at fixed addresses.
  for (size_t i = 0; i < done.executed; ++i) {
    const stub::Request& r = requests[i];
    const bool moves = r.number == SYS_mremap && (r.args[3] & MREMAP_FIXED) != 0;
    const bool maps = r.number == SYS_mmap || r.number == SYS_mremap;
    outcome->results[i] = static_cast<int64_t>(moves ? r.args[4] : maps ? r.args[0] : 0);
  }
  return OkResult();
}

// What is planned comes last, so that its failure is none of the requests'.
Result<void> TrapAddressSpace::RunWithPlan(absl::Span<const stub::Request> requests,
                                           absl::Span<const int> fds,
                                           stub::StubProcess::Outcome* outcome) {
  std::vector<stub::Request> all(requests.begin(), requests.end());
  std::vector<int> all_fds(fds.begin(), fds.end());
  for (stub::Request request : plan_->requests) {
    request.args[4] += stub::kStubSocket + 1 + fds.size();
    all.push_back(request);
  }
  all_fds.insert(all_fds.end(), plan_->fds.begin(), plan_->fds.end());
  TRY(StubAddressSpace::Run(all, all_fds, outcome));
  for (size_t i = requests.size(); i < outcome->executed; ++i) {
    if (static_cast<uint64_t>(outcome->results[i]) == all[i].args[0]) continue;
    this->stub().Kill();  // The guest has changed it.
    return Errno::kEIO;
  }
  if (outcome->executed >= requests.size()) {
    plan_->executed = outcome->executed - requests.size();
    outcome->executed = requests.size();
    outcome->host_errno = 0;
  }
  return OkResult();
}

Result<std::unique_ptr<AddressSpace>> TrapAddressSpace::Fork() {
  MutexLock lock(patches_.mu());
  std::unique_ptr<AddressSpace> child = TRY(StubAddressSpace::Fork());
  static_cast<TrapAddressSpace&>(*child).patches_.CopyFrom(patches_);
  return child;
}

bool TrapAddressSpace::HadOneThread() {
  MutexLock lock(mu_);
  return next_slot_ == 1;
}

bool TrapAddressSpace::BeginProgram() {
  if (!HadOneThread()) return false;
  if (!StubAddressSpace::BeginProgram()) return false;
  MutexLock lock(patches_.mu());
  patches_.ResetLocked();
  return true;
}

size_t TrapAddressSpace::CopyIn(GuestAddr from, absl::Span<char> to) {
  size_t n = CopyInBulk(from, to);
  if (n < to.size()) n += StubAddressSpace::CopyIn(from + n, to.subspan(n));
  patches_.Overlay(from.value, to.first(n));
  return n;
}

size_t TrapAddressSpace::CopyOutForced(GuestAddr to, absl::Span<const char> from) {
  MutexLock lock(patches_.mu());
  patches_.ForgetLocked(to.value, to.value + from.size());
  return StubAddressSpace::CopyOutForced(to, from);
}

// Sequentially consistent: it is counted before its word is read, and a waker has changed the word before it
// reads the count.
void TrapAddressSpace::CountWaiter(GuestAddr addr, int delta) {
  uint32_t* cells = static_cast<uint32_t*>(stub().slots().waiters());
  __atomic_fetch_add(&cells[WaiterCell(addr.value)], static_cast<uint32_t>(delta), __ATOMIC_SEQ_CST);
}

Result<std::unique_ptr<HostThread>> TrapAddressSpace::TakeThread() {
  size_t slot;
  {
    MutexLock lock(mu_);
    if (!parked_.empty()) {
      std::unique_ptr<HostThread> thread = std::move(parked_.back());
      parked_.pop_back();
      return thread;
    }
    if (next_slot_ == stub::kSlotCount) return Errno::kEAGAIN;
    slot = next_slot_++;
  }
  return HostThread::Start(stub(), slot, environment_);
}

void TrapAddressSpace::ParkThread(std::unique_ptr<HostThread> thread) {
  MutexLock lock(mu_);
  parked_.push_back(std::move(thread));
}

}  // namespace caisson::platform::trap
