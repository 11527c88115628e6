#include "sentry/signal/signal.h"

#include <algorithm>

namespace caisson::signal {

// Of one user, whatever RLIMIT_SIGPENDING says: root of a container can raise it, and this is the
// sentry's memory.
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

bool Queue::Add(const Info& info, const RefPtr<auth::UserCounts>& user, uint64_t limit,
                bool* overflow) {
  if (overflow != nullptr) *overflow = false;
  const bool timer = info.code == kSiTimer;
  auto it = queued_.find(info.signo);
  if (!IsRealtime(info.signo)) {
    if (Contains(info.signo)) return false;
  } else if (timer && it != queued_.end()) {
    for (const Entry& e : it->second)
      if (e.info.code == kSiTimer && e.info.timer.timer_id == info.timer.timer_id) return false;
  }
  // A timer's entry was paid for by timer_create(2); a standard signal is queued once at most.
  const bool always = timer || (!IsRealtime(info.signo) && info.code >= 0);
  if (user->Add(auth::UserCounts::kPendingSignals, 1, always ? ~uint64_t{0} : std::min(limit, kMaxQueued))) {
    queued_[info.signo].push_back(
        Entry{info, auth::UserCharge(user, auth::UserCounts::kPendingSignals, 1)});
  } else if (IsRealtime(info.signo) && info.code != kSiUser && info.code != kSiKernel) {
    if (overflow != nullptr) *overflow = true;
    return false;
  }
  pending_ |= Bit(info.signo);
  return true;
}

bool Queue::Take(Set wanted, Info* out) {
  Set candidates = pending_ & wanted;
  if (candidates == 0) return false;
  if ((candidates & kSynchronous) != 0) candidates &= kSynchronous;
  int signo = __builtin_ctzll(candidates) + 1;
  auto it = queued_.find(signo);
  if (it == queued_.end()) {
    *out = Info(signo, kSiUser);  // Its siginfo was lost (Linux collect_signal()).
    pending_ &= ~Bit(signo);
    return true;
  }
  *out = it->second.front().info;
  it->second.pop_front();
  if (it->second.empty()) {
    queued_.erase(it);
    pending_ &= ~Bit(signo);
  }
  return true;
}

std::vector<Info> Queue::Peek(uint64_t first, size_t count) const {
  std::vector<Info> found;
  for (const auto& [signo, entries] : queued_) {
    for (const Entry& entry : entries) {
      if (found.size() == count) return found;
      if (first != 0) --first;
      else found.push_back(entry.info);
    }
  }
  return found;
}

void Queue::Remove(Set signals) {
  for (Set left = signals & pending_; left != 0; left &= left - 1)
    queued_.erase(__builtin_ctzll(left) + 1);
  pending_ &= ~signals;
}

}  // namespace caisson::signal
