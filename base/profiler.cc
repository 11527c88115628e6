#include "base/profiler.h"

#include <signal.h>
#include <sys/time.h>
#include <unwind.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"

extern "C" const char __ehdr_start[];  // The linker's: where the image begins.

namespace caisson::profiler {
namespace {

struct Sample {
  std::atomic<int> depth{0};  // Release when the frames are there; 0: not yet.
  uintptr_t frames[kMaxDepth];
};

struct Store {
  std::atomic<int> next{0};
  Sample samples[kMaxSamples];
};

Mutex mu;
std::unique_ptr<Store> store ABSL_GUARDED_BY(mu);
bool running ABSL_GUARDED_BY(mu) = false;
// What the handler writes to: set while running, and to a store that lives on afterwards. Handlers
// in flight when it is cleared are waited for.
std::atomic<Store*> target{nullptr};
std::atomic<int> in_handler{0};

struct Walk {
  Sample* sample;
  int depth;
  int skip;  // The handler's own frames and the kernel's signal frame.
};

_Unwind_Reason_Code Visit(_Unwind_Context* context, void* argument) {
  auto* walk = static_cast<Walk*>(argument);
  if (walk->skip > 0) {
    --walk->skip;
    return _URC_NO_REASON;
  }
  if (walk->depth == kMaxDepth) return _URC_END_OF_STACK;
  const uintptr_t at = _Unwind_GetIP(context);
  if (at == 0) return _URC_END_OF_STACK;
  walk->sample->frames[walk->depth++] = at;
  return _URC_NO_REASON;
}

// Async-signal-safe but for _Unwind_Backtrace(), whose look-up of unwind tables in a static
// executable takes no lock that this process ever holds: nothing is loaded or thrown here.
void OnSignal(int) {
  const int saved_errno = errno;
  in_handler.fetch_add(1, std::memory_order_seq_cst);
  if (Store* s = target.load(std::memory_order_seq_cst)) {
    const int index = s->next.fetch_add(1, std::memory_order_relaxed);
    if (index < kMaxSamples) {
      Walk walk{&s->samples[index], 0, 2};
      _Unwind_Backtrace(&Visit, &walk);
      walk.sample->depth.store(walk.depth, std::memory_order_release);
    }
  }
  in_handler.fetch_sub(1, std::memory_order_seq_cst);
  errno = saved_errno;
}

Result<void> SetTimer(int hz) {
  itimerval timer = {};
  constexpr int kSecond = 1000000;
  if (hz == 1) timer.it_interval.tv_sec = 1;
  if (hz > 1) timer.it_interval.tv_usec = kSecond / hz;
  timer.it_value = timer.it_interval;
  if (setitimer(ITIMER_PROF, &timer, nullptr) != 0) return FromHostErrno(errno);
  return {};
}

}  // namespace

Result<void> Start(int hz) {
  if (hz < 1 || hz > 10000) return Errno::kEINVAL;
  MutexLock lock(mu);
  if (running) return Errno::kEBUSY;
  store.reset(new (std::nothrow) Store);
  if (!store) return Errno::kENOMEM;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  if (sigaction(SIGPROF, &action, nullptr) != 0) return FromHostErrno(errno);
  target.store(store.get(), std::memory_order_seq_cst);
  if (Result<void> timer = SetTimer(hz); !timer.ok()) {
    target.store(nullptr, std::memory_order_seq_cst);
    return timer;
  }
  running = true;
  return {};
}

void Stop() {
  MutexLock lock(mu);
  if (!running) return;
  (void)SetTimer(0);  // The handler stays: a signal that is on its way finds no target.
  target.store(nullptr, std::memory_order_seq_cst);
  while (in_handler.load(std::memory_order_seq_cst) != 0) {
  }
  running = false;
}

std::string Take() {
  MutexLock lock(mu);
  if (!store) return "";
  const auto base = reinterpret_cast<uintptr_t>(__ehdr_start);
  std::map<std::vector<uintptr_t>, int> stacks;
  const int taken = store->next.load(std::memory_order_relaxed);
  for (int i = 0; i < std::min(taken, kMaxSamples); ++i) {
    const Sample& sample = store->samples[i];
    const int depth = sample.depth.load(std::memory_order_acquire);
    if (depth == 0) continue;
    std::vector<uintptr_t> stack(sample.frames, sample.frames + depth);
    std::reverse(stack.begin(), stack.end());
    ++stacks[stack];
  }
  std::string out;
  for (const auto& [stack, count] : stacks) {
    for (size_t i = 0; i < stack.size(); ++i)
      absl::StrAppend(&out, i == 0 ? "" : ";", absl::Hex(stack[i] - base));
    absl::StrAppend(&out, " ", count, "\n");
  }
  if (taken > kMaxSamples) absl::StrAppend(&out, "lost ", taken - kMaxSamples, "\n");
  return out;
}

}  // namespace caisson::profiler
