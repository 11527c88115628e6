#include "platform/trap/trap_platform.h"

#include <linux/seccomp.h>
#include <signal.h>

#include <utility>
#include <vector>

#include "base/log.h"
#include "platform/stub/blob.h"
#include "platform/stub/layout.h"
#include "platform/stub/pool.h"
#include "platform/stub/xstate.h"
#include "platform/stub/zygote.h"
#include "platform/trap/blob.h"
#include "platform/trap/guest_filter.h"
#include "platform/trap/trap_context.h"

namespace caisson::platform::trap {
namespace {

class TrapPlatform final : public Platform {
 public:
  TrapPlatform(const Config& config, const ThreadEnvironment& environment,
               const Trampoline& trampoline, stub::Zygote zygote)
      : vdso_(zygote.vdso), proc_(stub::ProcView::StartIf(config.proc_view)), patches_(trampoline),
        shared_(config.spin), pool_(std::move(zygote.process), config.ready_stubs) {
    shared_.environment = environment;
    shared_.environment.patches = &patches_;
    shared_.proc = proc_.get();
  }

  absl::string_view name() const override { return "trap"; }
  AddrRange guest_range() const override { return stub::kGuestRange; }
  void OnConfined() override { pool_.Fill(); }
  void OnIdle() override { pool_.Fill(); }
  Result<std::unique_ptr<AddressSpace>> NewAddressSpace() override {
    std::unique_ptr<stub::StubProcess> stub = TRY(pool_.Take());
    return std::unique_ptr<AddressSpace>(
        std::make_unique<TrapAddressSpace>(std::move(stub), proc_.get(), shared_.environment));
  }
  std::unique_ptr<Context> NewContext() override { return std::make_unique<TrapContext>(shared_); }
  size_t fp_state_size() const override { return stub::HostXstate().size; }
  uint64_t fp_features() const override { return stub::HostXstate().features; }
  uint64_t min_signal_stack() const override { return stub::MinSignalStack(); }
  AddrRange vdso_range() const override { return vdso_; }
  std::vector<Counter> Counters() const override {
    return {{"notifications", shared_.notifications.load(std::memory_order_relaxed)},
            {"traps", shared_.traps.load(std::memory_order_relaxed)},
            {"patched_spin", shared_.spins.load(std::memory_order_relaxed)},
            {"patched_bell", shared_.bells.load(std::memory_order_relaxed)},
            {"in_stub", shared_.in_stub.load(std::memory_order_relaxed)},
            {"host_calls", shared_.host_calls.load(std::memory_order_relaxed)},
            {"bulk_copies", shared_.bulk_copies.load(std::memory_order_relaxed)}};
  }

 private:
  const AddrRange vdso_;
  const std::unique_ptr<stub::ProcView> proc_;
  PatchCache patches_;
  Shared shared_;
  stub::StubPool pool_;
};

// Of every stub: the page of the thread that it starts with.
void PrepareSlots(const stub::Slots& slots) {
  InitSlot(static_cast<Slot*>(slots.thread_slot(0)), 0);
  InitThreadPage(slots, 0);
}

}  // namespace

Result<std::unique_ptr<Platform>> Open(const Config& config) {
  const uint64_t xfeatures = stub::HostXstate().features;
  // Two frames: a fault of ours in a handler is reported, not fatal (docs/platform.md 11).
  if (xfeatures == 0 || 2 * stub::MinSignalStack() > kStackSize) {
    LOG_ERROR("this CPU or kernel has no XSAVE, or too large a state");
    return Errno::kENOSYS;
  }
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  action.sa_flags = SA_NOCLDSTOP;
  sigaction(SIGCHLD, &action, nullptr);
  // Blocked, or every end of a guest thread or stub would wake the main thread for nothing.
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  const ThreadBlob threads = GenerateThreadBlob(config.notify, xfeatures);
  const stub::Blob blob = stub::GenerateBlob(xfeatures, threads.code);
  stub::ZygoteConfig zygote_config;
  zygote_config.oom_score_adj = config.stub_oom_score_adj;
  // A notification that nobody listens for fails with ENOSYS (docs/platform.md 5). It must not be
  // stronger than the guest filter's.
  zygote_config.filter_otherwise = config.notify ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_TRAP;
  zygote_config.threads_start = true;
  if (config.notify) zygote_config.filter_parts = GuestFilterParts(threads.gate);
  zygote_config.handled_signals = {SIGFPE, SIGILL, SIGTRAP, SIGSYS, kInterruptSignal};
  zygote_config.prepare = &PrepareSlots;
  stub::Zygote zygote = TRY(stub::StartZygote(blob, zygote_config));
  ThreadEnvironment environment;
  environment.notify = config.notify;
  environment.doorbells = threads.doorbells;
  environment.host_calls = threads.host_calls;
  environment.exit_thread = blob.exit_thread;
  return std::unique_ptr<Platform>(
      std::make_unique<TrapPlatform>(config, environment,
                                     config.patch ? threads.trampoline : Trampoline{},
                                     std::move(zygote)));
}

}  // namespace caisson::platform::trap
