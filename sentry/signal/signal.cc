#include "sentry/signal/signal.h"

#include <algorithm>

namespace caisson::signal {

// Whatever RLIMIT_SIGPENDING says: root of a container can raise it, and Take() walks the list.
constexpr uint64_t kMaxQueued = 65536;

DefaultAction DefaultOf(int signo) {
  switch (signo) {
    case kSIGCHLD:
    case kSIGURG:
    case kSIGWINCH:
      return DefaultAction::kIgnore;
    case kSIGCONT:
      return DefaultAction::kContinue;
    case kSIGSTOP:
    case kSIGTSTP:
    case kSIGTTIN:
    case kSIGTTOU:
      return DefaultAction::kStop;
    case kSIGQUIT:
    case kSIGILL:
    case kSIGTRAP:
    case kSIGABRT:
    case kSIGBUS:
    case kSIGFPE:
    case kSIGSEGV:
    case kSIGXCPU:
    case kSIGXFSZ:
    case kSIGSYS:
      return DefaultAction::kCore;
    default:
      return DefaultAction::kTerminate;
  }
}

const char* Name(int signo) {
  static constexpr const char* kNames[] = {
      "0",       "SIGHUP",  "SIGINT",  "SIGQUIT",   "SIGILL",  "SIGTRAP",  "SIGABRT", "SIGBUS",
      "SIGFPE",  "SIGKILL", "SIGUSR1", "SIGSEGV",   "SIGUSR2", "SIGPIPE",  "SIGALRM", "SIGTERM",
      "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN",  "SIGTTOU", "SIGURG",
      "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO",   "SIGPWR",  "SIGSYS"};
  if (signo >= 0 && signo < 32) return kNames[signo];
  return "SIGRT";
}

bool Queue::Add(const Info& info, uint64_t limit, bool* overflow) {
  if (overflow != nullptr) *overflow = false;
  if (!IsRealtime(info.signo)) {
    if (Contains(info.signo)) return false;
  } else if (queued_.size() >= std::min(limit, kMaxQueued)) {
    if (overflow != nullptr) *overflow = true;
    return false;
  }
  queued_.push_back(info);
  pending_ |= Bit(info.signo);
  return true;
}

bool Queue::Take(Set wanted, Info* out) {
  Set candidates = pending_ & wanted;
  if (candidates == 0) return false;
  if ((candidates & kSynchronous) != 0) candidates &= kSynchronous;
  int signo = __builtin_ctzll(candidates) + 1;
  bool taken = false;
  bool more = false;
  for (auto it = queued_.begin(); it != queued_.end();) {
    if (it->signo != signo) {
      ++it;
      continue;
    }
    if (taken) {
      more = true;
      break;
    }
    *out = *it;
    taken = true;
    it = queued_.erase(it);
  }
  if (!more) pending_ &= ~Bit(signo);
  return taken;
}

void Queue::Remove(Set signals) {
  queued_.remove_if([&](const Info& i) { return (Bit(i.signo) & signals) != 0; });
  pending_ &= ~signals;
}

}  // namespace caisson::signal
