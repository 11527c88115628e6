// A guest address space that is a stub's. What ptrace and trap share.
#ifndef CAISSON_PLATFORM_STUB_ADDRESS_SPACE_H_
#define CAISSON_PLATFORM_STUB_ADDRESS_SPACE_H_

#include <atomic>
#include <memory>
#include <vector>

#include "platform/platform.h"
#include "platform/stub/proc_view.h"
#include "platform/stub/stub_process.h"

namespace caisson::platform::stub {

// Thread-safe: StubProcess serializes what its worker does, and process_vm_readv(2) and its like
// need no lock.
class StubAddressSpace : public AddressSpace {
 public:
  // `proc` is borrowed for the life of this object and may be null.
  StubAddressSpace(std::unique_ptr<StubProcess> stub, ProcView* proc);
  ~StubAddressSpace() override;

  Result<void> Apply(absl::Span<const MapOp> ops, size_t* done) override;
  Result<std::unique_ptr<AddressSpace>> Fork() override;
  size_t CopyIn(GuestAddr from, absl::Span<char> to) override;
  size_t CopyOut(GuestAddr to, absl::Span<const char> from) override;
  size_t CopyOutForced(GuestAddr to, absl::Span<const char> from) override;
  Result<uint32_t> Load32(GuestAddr addr) override;
  Result<uint32_t> CompareExchange32(GuestAddr addr, uint32_t expected,
                                     uint32_t desired) override;
  Result<uint64_t> Load64(GuestAddr addr) override;
  Result<void> Residency(GuestAddr addr, uint64_t length, absl::Span<uint8_t> out) override;
  Result<void> PageStates(GuestAddr addr, absl::Span<uint8_t> out) override;
  Usage GetUsage() override;
  bool BeginProgram() override { return !stub_->dead(); }
  int host_pid() const override { return stub_->pid(); }
  void SetName(absl::string_view name) override;

  StubProcess& stub() { return *stub_; }

 protected:
  // What Fork() makes of a clone of the stub.
  virtual std::unique_ptr<AddressSpace> Wrap(std::unique_ptr<StubProcess> stub) const;
  // Runs a vector of Apply()'s, as StubProcess::Run().
  virtual Result<void> Run(absl::Span<const Request> requests, absl::Span<const int> fds,
                           StubProcess::Outcome* outcome);
  ProcView* proc() const { return proc_; }

 private:
  // Requests and the descriptors that they use, up to what one vector takes.
  struct Vector {
    std::vector<Request> requests;
    std::vector<uint64_t> expected;  // The result of each when it succeeds.
    std::vector<int> fds;
  };
  static Result<void> Translate(const MapOp& op, Vector* vector);
  Result<void> RunVector(const Vector& vector, size_t* done);
  Result<uint64_t> LoadWord(GuestAddr addr);

  const std::unique_ptr<StubProcess> stub_;
  ProcView* const proc_;
};

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_ADDRESS_SPACE_H_
