#include "platform/trap/call_rules.h"

#include <sys/syscall.h>

#include "platform/trap/copies.h"
#include "platform/trap/patch_scan.h"
#include "platform/trap/slot.h"
#include "platform/trap/trampoline.h"

namespace caisson::platform::trap {

bool SavesExtendedState(uint32_t number) {
  switch (number) {
    case SYS_kill:
    case SYS_tkill:
    case SYS_tgkill:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_pause:
    case SYS_rt_sigsuspend:
      return true;
    default:
      return false;
  }
}

size_t EntryFor(uint32_t number) {
  for (size_t i = 0; i < kAnsweredCalls.size(); ++i) {
    if (kAnsweredCalls[i] == number) return 1 + i;
  }
  return 0;
}

uint32_t CallRule(uint32_t number) {
  const CopyRule& rule = kCopyRules[number];
  const auto entry = static_cast<uint32_t>(EntryFor(number));
  const bool wake = number == SYS_futex;
  const uint32_t third = wake ? kZeroAnswer : entry == 0 ? rule.size : entry - 1;
  return rule.address | uint32_t{rule.length} << 8 | third << 16 | (rule.string ? kRuleString : 0) |
         (entry == 0 ? 0 : kRuleAnswer) | (IsPatchableCall(number) ? 0 : kRuleEscape) |
         (SavesExtendedState(number) ? kRuleSave : 0) | (wake ? kRuleWake : 0);
}

}  // namespace caisson::platform::trap
