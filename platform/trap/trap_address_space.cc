#include "platform/trap/trap_address_space.h"

#include <utility>

namespace caisson::platform::trap {

TrapAddressSpace::TrapAddressSpace(std::unique_ptr<stub::StubProcess> stub, stub::ProcView* proc,
                                   const ThreadEnvironment& environment)
    : StubAddressSpace(std::move(stub), proc), environment_(environment) {
  // At once, since its listener must leave the stub before a vector brings other descriptors.
  std::unique_ptr<HostThread> ready = HostThread::TakeReady(this->stub(), environment_);
  MutexLock lock(mu_);
  if (ready != nullptr) parked_.push_back(std::move(ready));
}

TrapAddressSpace::~TrapAddressSpace() = default;

std::unique_ptr<AddressSpace> TrapAddressSpace::Wrap(
    std::unique_ptr<stub::StubProcess> stub) const {
  return std::make_unique<TrapAddressSpace>(std::move(stub), proc(), environment_);
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
