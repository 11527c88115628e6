#include "platform/ptrace/ptrace_platform.h"

#include <linux/seccomp.h>
#include <signal.h>

#include <utility>

#include "base/log.h"
#include "platform/ptrace/ptrace_context.h"
#include "platform/stub/address_space.h"
#include "platform/stub/blob.h"
#include "platform/stub/layout.h"
#include "platform/stub/pool.h"
#include "platform/stub/xstate.h"
#include "platform/stub/zygote.h"

namespace caisson::platform::ptrace {
namespace {

class PtracePlatform final : public Platform {
 public:
  PtracePlatform(const Config& config, const stub::Blob& blob, stub::Zygote zygote)
      : vdso_(zygote.vdso), proc_(stub::ProcView::StartIf(config.proc_view)),
        pool_(std::move(zygote.process), config.ready_stubs) {
    shared_.exit_thread = blob.exit_thread;
    shared_.park = blob.park;
    shared_.proc = proc_.get();
    if (!config.hold_pairs) shared_.placement.Disable();
  }

  absl::string_view name() const override { return "ptrace"; }
  AddrRange guest_range() const override { return stub::kGuestRange; }
  void OnConfined() override { pool_.Fill(); }
  void OnIdle() override { pool_.Fill(); }
  Result<std::unique_ptr<AddressSpace>> NewAddressSpace() override {
    std::unique_ptr<stub::StubProcess> stub = TRY(pool_.Take());
    return std::unique_ptr<AddressSpace>(
        std::make_unique<stub::StubAddressSpace>(std::move(stub), shared_.proc));
  }
  std::unique_ptr<Context> NewContext() override {
    return std::make_unique<PtraceContext>(shared_);
  }
  size_t fp_state_size() const override { return stub::HostXstate().size; }
  uint64_t fp_features() const override { return stub::HostXstate().features; }
  uint64_t min_signal_stack() const override { return stub::MinSignalStack(); }
  AddrRange vdso_range() const override { return vdso_; }

 private:
  const AddrRange vdso_;
  const std::unique_ptr<stub::ProcView> proc_;
  Shared shared_;
  stub::StubPool pool_;
};

}  // namespace

Result<std::unique_ptr<Platform>> Open(const Config& config) {
  const uint64_t xfeatures = stub::HostXstate().features;
  if (xfeatures == 0) {
    LOG_ERROR("this CPU or kernel has no XSAVE");
    return Errno::kENOSYS;
  }
  // Ignored explicitly, children would be reaped behind our back. Stops are fetched by wait4(2).
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  action.sa_flags = SA_NOCLDSTOP;
  sigaction(SIGCHLD, &action, nullptr);
  // Blocked, or every end of a guest thread or stub would wake the main thread for nothing.
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  const stub::Blob blob = stub::GenerateBlob(xfeatures);
  stub::ZygoteConfig zygote_config;
  zygote_config.oom_score_adj = config.stub_oom_score_adj;
  zygote_config.filter_otherwise = SECCOMP_RET_TRAP;
  stub::Zygote zygote = TRY(stub::StartZygote(blob, zygote_config));
  return std::unique_ptr<Platform>(
      std::make_unique<PtracePlatform>(config, blob, std::move(zygote)));
}

}  // namespace caisson::platform::ptrace
