// What the trampoline knows of calls, by their numbers.
#ifndef CAISSON_PLATFORM_TRAP_CALL_RULES_H_
#define CAISSON_PLATFORM_TRAP_CALL_RULES_H_

#include <array>
#include <cstdint>

namespace caisson::platform::trap {

// Calls that a thread answers itself from its thread page, in the order of the page's fields.
inline constexpr std::array<uint32_t, 6> kAnsweredCalls = {39, 186, 102, 107, 104, 108};

// Calls that often end with a handler, which begins with the caller's extended state saved: it is in the
// slot's last page when they come.
bool SavesExtendedState(uint32_t number);

// A rule: address and length of the call's CopyRule in the lower bytes; then its size, or the index of the
// answer in the thread page; then these.
inline constexpr uint32_t kRuleString = 0x80000000;  // CopyRule::string.
inline constexpr uint32_t kRuleAnswer = 0x40000000;  // One of kAnsweredCalls.
inline constexpr uint32_t kRuleEscape = 0x20000000;  // It cannot be patched.
inline constexpr uint32_t kRuleSave = 0x10000000;    // SavesExtendedState().
inline constexpr uint32_t kRuleWake = 0x08000000;    // futex(2): may be answered where nobody waits.
// `number`: below kCopyRules.size().
uint32_t CallRule(uint32_t number);

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_CALL_RULES_H_
