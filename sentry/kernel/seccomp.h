// Guest seccomp filters (seccomp(2)): chains of classic BPF programs that the sentry evaluates.
#ifndef CAISSON_SENTRY_KERNEL_SECCOMP_H_
#define CAISSON_SENTRY_KERNEL_SECCOMP_H_

#include <array>
#include <cstdint>
#include <vector>

#include "base/bpf.h"
#include "base/ref.h"
#include "base/result.h"
#include "platform/registers.h"

namespace caisson::kernel {

// One filter and those installed before it. Immutable.
class SeccompFilter : public RefCounted<SeccompFilter> {
 public:
  // Errors: EINVAL for a program that Linux's checker refuses; ENOMEM past 32768 instructions in
  // the chain.
  static Result<RefPtr<SeccompFilter>> New(std::vector<bpf::Instruction> program,
                                           RefPtr<SeccompFilter> previous, bool log);
  // The most restrictive answer of the chain (SECCOMP_RET_* with data).
  uint32_t Evaluate(int number, const platform::Registers& regs) const;
  const RefPtr<SeccompFilter>& previous() const { return previous_; }
  const std::vector<bpf::Instruction>& program() const { return program_; }
  int depth() const { return depth_; }
  // Ends a chain in a loop: thousands of filters are deeper than a task's host stack.
  void DecRef() const;

 private:
  SeccompFilter() = default;
  ~SeccompFilter() = default;
  std::vector<bpf::Instruction> program_;
  mutable RefPtr<SeccompFilter> previous_;  // Changes only where nobody holds us any more.
  int depth_ = 1;
  size_t total_ = 0;
  // Numbers for which the whole chain answers ALLOW whatever the arguments are: no evaluation.
  static constexpr int kBitmapSize = 512;
  std::array<uint64_t, kBitmapSize / 64> always_allowed_{};
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_SECCOMP_H_
