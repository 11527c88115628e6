// TrapContext: extended state, and the CPU time of the threads that a task has had.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "platform/stub/xstate.h"
#include "platform/trap/trap_context.h"

namespace caisson::platform::trap {

Result<void> TrapContext::GetFpState(absl::Span<char> out) {
  if (out.size() < stub::HostXstate().size) return Errno::kEINVAL;
  if (thread_ == nullptr) {
    if (pending_fp_.empty()) {
      stub::InitialXstate(out);
    } else {
      std::copy(pending_fp_.begin(), pending_fp_.end(), out.begin());
    }
    return OkResult();
  }
  if (!fp_.empty()) {
    std::copy(fp_.begin(), fp_.end(), out.begin());
    return OkResult();
  }
  if (thread_->at() == HostThread::Stop::kCall) {
    // By the trampoline, so that no signal of the host's is needed.
    FlushCopies(*space_);
    if (thread_->SaveFpState(out)) {
      fp_.assign(out.begin(), out.begin() + static_cast<ptrdiff_t>(stub::HostXstate().size));
      return OkResult();
    }
  }
  if (!BringToTrap() || !thread_->ReadFpState(out)) return Errno::kEIO;
  return OkResult();
}

Result<void> TrapContext::SetFpState(absl::Span<const char> in) {
  if (!stub::XstateIsValid(in)) return Errno::kEINVAL;
  if (thread_ == nullptr) {
    pending_fp_.assign(in.begin(), in.end());
    return OkResult();
  }
  if (thread_->at() == HostThread::Stop::kCall && stub::HostXstate().features != 0 &&
      in.size() <= kCopySize && !stub::DeniesOwnMemory(in)) {
    fp_.assign(in.begin(), in.end());
    fp_changed_ = true;
    return OkResult();
  }
  if (!BringToTrap() || !thread_->WriteFpState(in)) return Errno::kEIO;
  fp_.clear();
  fp_changed_ = false;
  return OkResult();
}

void TrapContext::ResetFpState() {
  pending_fp_.clear();
  if (thread_ == nullptr) return;
  std::vector<char> state(stub::HostXstate().size);
  stub::InitialXstate(absl::MakeSpan(state));
  Result<void> set = SetFpState(state);
  if (!set.ok()) LOG_DEBUG("the extended state of a thread that is gone was not reset");
}

void TrapContext::TakeHostThread() {
  cpu_time_.Begin(thread_->pid(), thread_->tid());
  MutexLock lock(mu_);
  signal_thread_ = thread_.get();
  signal_thread_->SetAnswers(answers_ ? &*answers_ : nullptr);
}

void TrapContext::ForgetHostThread() {
  cpu_time_.End();
  MutexLock lock(mu_);
  if (signal_thread_ != nullptr) signal_thread_->SetAnswers(nullptr);
  signal_thread_ = nullptr;
}

}  // namespace caisson::platform::trap
