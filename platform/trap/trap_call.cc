// Calls of patched sites: what goes along with them and what their threads do meanwhile, and a trap in the middle of one.
#include "base/log.h"
#include "platform/stub/xstate.h"
#include "platform/trap/trap_context.h"

namespace caisson::platform::trap {

// If the trap came in the code of a patched site: as if it had come in the guest's own code, before
// or after the call. True for a place where the call has not been made; then `escape` as for
// PatchSet::Locate().
bool TrapContext::LeaveTrampoline(Registers& regs, uint64_t* escape) {
  const uint64_t fs_base = regs.fs_base, gs_base = regs.gs_base;
  thread_->ReloadCall();
  const Registers call = thread_->call_registers();
  const Trampoline& trampoline = shared_.environment.patches->trampoline();
  const Registers here = regs;
  const PatchSet::Place place = space_->patches().Locate(regs, thread_->call(), escape);
  switch (place) {
    case PatchSet::Place::kAnswered:
      if (here.rip >= trampoline.answered && here.rip < trampoline.answered_counted)
        thread_->CorrectAnswered(1);
      return false;
    case PatchSet::Place::kElsewhere:
      return false;
    case PatchSet::Place::kBefore:
      return true;
    case PatchSet::Place::kSaved:
      // It is made again. (Who makes the call itself is there too, and was not counted.)
      if (here.rip >= trampoline.finish_counted && here.rip < trampoline.restore &&
          here.rdi == offsetof(CallRegisters, rax))
        thread_->CorrectAnswered(-1);
      break;
    case PatchSet::Place::kCommitted:
      break;
  }
  regs = call;
  regs.orig_rax = ~uint64_t{0};
  regs.fs_base = fs_base;
  regs.gs_base = gs_base;
  // Handed over and not seen by us: it is made again, at the `syscall` instruction of its site. Else
  // it has been answered, and this is what we wrote there.
  if (place == PatchSet::Place::kSaved || thread_->interrupted_state() == kCall) {
    regs.rip -= 2;
  } else {
    regs.rax = thread_->call_result();
    thread_->AddAnswered(regs);
    const bool loaded = (here.rip >= trampoline.fp_loaded && here.rip < trampoline.fp_loaded_end) ||
                        (here.rip >= trampoline.restore && here.rip < trampoline.restore_end);
    if (!fp_handed_.empty() && !loaded && !thread_->WriteFpState(fp_handed_))
      LOG_INFO("stub ", thread_->pid(), ": a frame has no place for extended state");
    if (!copies_.Finish(thread_->slot(), *space_, trampoline, here)) regs.rax = kCopyFailed;
    // On its way to a stub that makes the call itself.
    return space_->patches().Locate(regs, thread_->call(), escape) == PatchSet::Place::kBefore;
  }
  return false;
}

// Whether a stop may end without the caller's hearing of it: honest guests have one or two of them between events.
// A guest that jumps into our code with registers of its own, or forges frames, could have them without an end.
bool TrapContext::GoesOn() {
  constexpr int kMaxUnseen = 64;
  if (unseen_ == kMaxUnseen) return false;
  ++unseen_;
  return true;
}

// A fault of the trampoline's at guest memory, which is no event. What was to come along with a call
// is left to the sentry; what the guest's memory did not take, it gets as copies of the sentry's do.
bool TrapContext::HandleCopyFault() {
  const Trampoline& trampoline = shared_.environment.patches->trampoline();
  Registers here = thread_->ReadRegisters();
  const bool in = here.rip >= trampoline.copy_in && here.rip < trampoline.copy_in_failed;
  const bool out = here.rip >= trampoline.copy_out && here.rip < trampoline.copy_out_end &&
                   thread_->interrupted_state() != kCall;
  // Registers that a guest has brought along itself fault again, there or where the slot leads.
  if ((!in && !out) || !GoesOn()) return false;
  if (in) {
    here.rip = trampoline.copy_in_failed;
  } else {
    uint64_t escape;
    LeaveTrampoline(here, &escape);
    copies_.Forget();
  }
  thread_->WriteRegisters(here);
  thread_->Resume();
  return true;
}

bool TrapContext::CopyOutLater(GuestAddr to, absl::Span<const char> from) {
  if (thread_ == nullptr || thread_->at() != HostThread::Stop::kCall) return false;
  // What came with the call is where the copy goes.
  if (thread_->fp_saved()) {
    fp_.resize(stub::HostXstate().size);
    if (!thread_->SaveFpState(absl::MakeSpan(fp_))) fp_.clear();
  }
  return copies_.Later(thread_->slot(), to, from);
}

void TrapContext::FlushCopies(AddressSpace& space) {
  if (thread_ != nullptr && !copies_.Flush(thread_->slot(), space)) copy_failed_ = true;
}

HostThread* TrapContext::ThreadForHostCalls(const TrapAddressSpace& space,
                                            absl::Span<const stub::Request> requests) {
  TrapContext* context = stopped();
  bool quiet = false;
  if (context == nullptr || context->space_ != &space || context->thread_ == nullptr ||
      !context->thread_->CanRunHostCalls(requests, &quiet))
    return nullptr;
  // Notifications between two CPUs are slow.
  if (!quiet) context->spinner_.Avoid();
  ++context->counts_.host_calls;
  return context->thread_.get();
}

void TrapContext::SetAnswers(const Answers& answers) {
  MutexLock lock(mu_);
  answers_ = answers;
  if (signal_thread_ != nullptr) signal_thread_->SetAnswers(&answers);
}

void TrapContext::ClearAnswers() {
  MutexLock lock(mu_);
  answers_.reset();
  if (signal_thread_ != nullptr) signal_thread_->SetAnswers(nullptr);
}

}  // namespace caisson::platform::trap
