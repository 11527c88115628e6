// The base seccomp filter of all stubs.
#ifndef CAISSON_PLATFORM_STUB_FILTER_H_
#define CAISSON_PLATFORM_STUB_FILTER_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace caisson::platform::stub {

// One call that the blob may make, and why.
struct AllowedCall {
  uint32_t number;
  const char* name;
  const char* why;
  // If has_arg0: the first argument must be one of these (as 64 bits).
  bool has_arg0 = false;
  uint64_t arg0[2] = {0, 0};
};
// `threads_start`: with what guest threads of platform/trap need until they have their own filter.
std::vector<AllowedCall> AllowedCalls(bool threads_start = false);

// An instruction of classic BPF (struct sock_filter).
struct BpfInstruction {
  uint16_t code;
  uint8_t jump_true;
  uint8_t jump_false;
  uint32_t k;
};

// What a platform adds to the base filter: code that ends in returns, each at most 255 instructions. It is
// here so that the filter that each guest thread installs for itself is short.
struct FilterParts {
  std::vector<BpfInstruction> outside;  // For calls from outside the blob.
  // For calls of one instruction in the blob: the accumulator has nothing. `gate` is what seccomp(2)
  // shows as its instruction pointer; 0: none.
  uint64_t gate = 0;
  std::vector<BpfInstruction> at_gate;
};

// Calls of the table from the blob's instructions are allowed; all others, from the guest's code or
// in another ABI, get `otherwise` (a SECCOMP_RET_ value), where `parts` says nothing else.
std::vector<BpfInstruction> BaseFilter(uint32_t otherwise, bool threads_start = false,
                                       const FilterParts& parts = {});

// For filters written by hand.
class BpfBuilder {
 public:
  void Load(uint32_t offset);
  void Return(uint32_t value);
  // Jump over `skip` instructions if the condition (BPF_JEQ, BPF_JGE, BPF_JSET) does not hold, or holds.
  void UnlessSkip(uint16_t op, uint32_t k, uint8_t skip);
  void IfSkip(uint16_t op, uint32_t k, uint8_t skip);
  // Arithmetic: the accumulator to X, `k` to the accumulator, X subtracted from it; a jump over `skip`
  // instructions unless it is at least X.
  void ToX();
  void Set(uint32_t k);
  void SubtractX();
  void UnlessAtLeastXSkip(uint8_t skip);
  // Whatever is so.
  void Skip(uint8_t skip);
  void Append(const BpfBuilder& other);
  void Append(const std::vector<BpfInstruction>& code);
  size_t size() const { return code_.size(); }
  std::vector<BpfInstruction> Take() { return std::move(code_); }

 private:
  void Add(uint16_t code, uint32_t k) { code_.push_back({code, 0, 0, k}); }
  std::vector<BpfInstruction> code_;
};

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_FILTER_H_
