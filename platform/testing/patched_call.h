// For tests of call sites that platform trap patches.
#ifndef CAISSON_PLATFORM_TESTING_PATCHED_CALL_H_
#define CAISSON_PLATFORM_TESTING_PATCHED_CALL_H_

#include <stdlib.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "base/unique_fd.h"
#include "platform/testing/testing.h"

namespace caisson::platform {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;

inline constexpr uint32_t kNumber = 444;  // Any that handlers need no more than arguments for.
inline constexpr int kOften = 200;        // Calls after which a site is patched.

class PatchedCallTest : public ::testing::Test {
 protected:
  // Guest code from a file at kCode: rdi counts calls.
  void Start(const std::function<void(Code&)>& body) {
    space_ = NewSpace();
    context_ = TestPlatform().NewContext();
    regs_ = Load(*space_, [](Code& c) { c.nop(); });
    code_ = Assemble(body);
    code_.resize(0x2000, '\x90');
    file_ = LoadFromFile(*space_, code_, 0x2000);
  }
  static void Loop(Code& c) { CallForEver(c, kNumber); }
  void CallsArrive(int n) {
    for (int i = 0; i < n; ++i) {
      ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
      ASSERT_EQ(regs_.orig_rax, kNumber);
      ASSERT_EQ(regs_.rdi, ++calls_);
      ASSERT_EQ(regs_.rip, kCode.value + 10);
      regs_.rax = calls_ * 3;
    }
  }
  // Of handoffs whose kind begins so.
  static uint64_t Count(absl::string_view kind) {
    uint64_t n = 0;
    for (const Platform::Counter& counter : TestPlatform().Counters())
      if (absl::StartsWith(counter.name, kind)) n += counter.value;
    return n;
  }

  uint64_t calls_ = 0;
  std::string code_;
  UniqueFd file_;
  std::unique_ptr<AddressSpace> space_;
  std::unique_ptr<Context> context_;
  Registers regs_{};
};

}  // namespace caisson::platform

#endif  // CAISSON_PLATFORM_TESTING_PATCHED_CALL_H_
