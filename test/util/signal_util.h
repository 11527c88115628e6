// Signal dispositions and masks that are put back, and a handler that records.
#ifndef CAISSON_TEST_UTIL_SIGNAL_UTIL_H_
#define CAISSON_TEST_UTIL_SIGNAL_UTIL_H_

#include <signal.h>

#include <initializer_list>

namespace caisson::test {

inline sigset_t SignalSet(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : signals) sigaddset(&set, signal);
  return set;
}

// Installs an action until the object goes.
class ScopedAction {
 public:
  ScopedAction(int signal, const struct sigaction& action) : signal_(signal) {
    sigaction(signal, &action, &old_);
  }
  ScopedAction(int signal, void (*handler)(int), int flags = 0) : signal_(signal) {
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(signal, &action, &old_);
  }
  ScopedAction(int signal, void (*handler)(int, siginfo_t*, void*), int flags = 0)
      : signal_(signal) {
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = flags | SA_SIGINFO;
    sigaction(signal, &action, &old_);
  }
  ~ScopedAction() { sigaction(signal_, &old_, nullptr); }
  ScopedAction(const ScopedAction&) = delete;
  ScopedAction& operator=(const ScopedAction&) = delete;

 private:
  int signal_;
  struct sigaction old_;
};

// Changes this thread's mask until the object goes.
class ScopedMask {
 public:
  ScopedMask(int how, std::initializer_list<int> signals) {
    sigset_t set = SignalSet(signals);
    pthread_sigmask(how, &set, &old_);
  }
  ~ScopedMask() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  ScopedMask(const ScopedMask&) = delete;
  ScopedMask& operator=(const ScopedMask&) = delete;

 private:
  sigset_t old_;
};

// For children that end with the signal still pending, which ScopedMask would let in.
inline void Block(std::initializer_list<int> signals) {
  sigset_t set = SignalSet(signals);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

// Counts deliveries. Only one test runs at a time, so one counter is enough.
inline volatile sig_atomic_t g_deliveries = 0;
inline void CountDelivery(int) { g_deliveries = g_deliveries + 1; }

// The last siginfo that RecordInfo saw.
inline siginfo_t g_last_info;
inline void RecordInfo(int, siginfo_t* info, void*) {
  g_last_info = *info;
  g_deliveries = g_deliveries + 1;
}

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_SIGNAL_UTIL_H_
