#include "platform/trap/trampoline.h"

#include <initializer_list>

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "platform/trap/call_rules.h"
#include "platform/trap/copies.h"
#include "platform/trap/copy_string.h"
#include "platform/trap/saved_registers.h"
#include "platform/trap/slot.h"

namespace caisson::platform::trap {
namespace {

constexpr size_t kRegs = offsetof(Slot, registers);
constexpr int kXstateHeader = 512;
constexpr uint32_t kPrivateWake = 129;  // FUTEX_WAKE | FUTEX_PRIVATE_FLAG.

class Emitter {
 public:
  Emitter(Xbyak::CodeGenerator& g, uint64_t address, const TrampolineHooks& hooks)
      : g_(g), address_(address), hooks_(hooks) {}

  Trampoline Emit() {
    g_.align(64);
    out_.begin = Here();
    Any();
    g_.align(64);
    out_.entries[0] = Here();
    General();
    Wait();
    out_.end = Here();
    for (size_t i = 0; i < kAnsweredCalls.size(); ++i) Answer(i);
    AnswerTail();
    g_.align(16);
    g_.L(rules_);
    for (uint32_t number = 0; number < kCopyRules.size(); ++number) g_.dd(CallRule(number));
    return out_;
  }

 private:
  using Address = Xbyak::Address;

  uint64_t Here() const { return address_ + g_.getSize(); }
  void Raw(std::initializer_list<uint8_t> bytes) {
    for (uint8_t byte : bytes) g_.db(byte);
  }
  void ReadGsBase() { Raw({0xf3, 0x48, 0x0f, 0xae, 0xc8}); }  // rdgsbase rax

  // rax: the slot, or jumps to `bad`. No flag is changed: jrcxz looks at none.
  void CheckSlot(Xbyak::Label& ok) {
    ReadGsBase();
    g_.putSeg(g_.gs);
    g_.mov(g_.rcx, g_.qword[Xbyak::RegExp(offsetof(Slot, minus_self))]);
    g_.lea(g_.rcx, g_.ptr[g_.rcx + g_.rax]);
    g_.jrcxz(ok);
  }

  // Sites with a hop, as SiteRecord says.
  void Any() {
    Xbyak::Label escape;
    const auto reg = [this](size_t offset) { return g_.qword[g_.r11 + kRegs + offset]; };
    out_.any = out_.entries[kHopEntry] = Here();
    g_.mov(reg(offsetof(CallRegisters, rsp)), g_.rsp);
    g_.lea(g_.rsp, g_.ptr[g_.r11 + kRegs + offsetof(CallRegisters, rflags) + 8]);
    out_.any_swapped = Here();
    g_.pushfq();
    g_.mov(g_.eax, g_.eax);
    g_.mov(reg(offsetof(CallRegisters, rax)), g_.rax);
    for (const Saved& s : SavedRegisters()) g_.mov(reg(s.offset), s.reg);
    g_.movsxd(g_.rax, g_.dword[g_.rcx + offsetof(SiteRecord, return_offset)]);
    out_.any_rax = Here();
    g_.lea(g_.rax, g_.ptr[g_.rax + g_.rcx]);
    g_.mov(reg(offsetof(CallRegisters, rip)), g_.rax);
    out_.any_saved = Here();
    g_.mov(g_.rbp, g_.rcx);
    g_.mov(g_.rax, g_.r11);
    g_.mov(g_.ecx, g_.dword[g_.rax + kRegs + offsetof(CallRegisters, rax)]);
    g_.cmp(g_.ecx, static_cast<uint32_t>(kCopyRules.size()));
    g_.jae(escape);
    g_.lea(g_.rdx, g_.ptr[g_.rip + rules_]);
    g_.mov(g_.edx, g_.dword[g_.rdx + g_.rcx * 4]);
    g_.test(g_.edx, kRuleAnswer | kRuleEscape);
    g_.jz(rule_, Xbyak::CodeGenerator::T_NEAR);
    g_.test(g_.edx, kRuleEscape);
    g_.jz(answer_, Xbyak::CodeGenerator::T_NEAR);
    // Not for us: the stub makes it. All registers are loaded as after a call, with this for rip.
    g_.L(escape);
    g_.lea(g_.rcx, g_.ptr[g_.rbp - static_cast<int>(kRecordToEscape)]);
    g_.mov(g_.edi, static_cast<uint32_t>(offsetof(CallRegisters, rip)));
    g_.jmp(finish_, Xbyak::CodeGenerator::T_NEAR);
    out_.any_end = Here();
  }

  // rax: the slot; edx: the call's rule. The last instruction makes the call's outcome known.
  void Finish() {
    g_.L(answer_);
    out_.finish = Here();
    g_.mov(g_.r12, g_.qword[g_.rax + offsetof(Slot, thread_page)]);
    g_.mov(g_.ecx, g_.dword[g_.r12 + offsetof(ThreadPage, answers)]);
    g_.test(g_.ecx, g_.ecx);
    g_.jz(commit_, Xbyak::CodeGenerator::T_NEAR);
    g_.shr(g_.edx, 16);
    g_.movzx(g_.edx, g_.dl);
    g_.mov(g_.ecx, g_.dword[g_.r12 + g_.rdx * 4 + offsetof(ThreadPage, pid)]);
    g_.mov(g_.edi, static_cast<uint32_t>(offsetof(CallRegisters, rax)));
    g_.inc(g_.qword[g_.rax + offsetof(Slot, answered)]);
    out_.finish_counted = Here();
    g_.L(finish_);
    g_.mov(g_.rbx, g_.rax);
    g_.mov(g_.qword[g_.rbx + g_.rdi + kRegs], g_.rcx);
  }

  void General() {
    Xbyak::Label ok;
    g_.L(general_);
    CheckSlot(ok);
    g_.L(bad_);
    // A gs base of the guest's own: the call is made where it stands.
    g_.movsxd(g_.rcx, g_.dword[g_.r11 + offsetof(SiteRecord, return_offset)]);
    g_.lea(g_.rcx, g_.ptr[g_.rcx + g_.r11 - 2]);
    g_.mov(g_.eax, g_.dword[g_.r11 + offsetof(SiteRecord, number)]);
    g_.jmp(g_.rcx);
    g_.align(16);
    g_.L(ok);
    g_.mov(g_.qword[g_.rax + kRegs + offsetof(CallRegisters, rsp)], g_.rsp);
    g_.lea(g_.rsp, g_.ptr[g_.rax + kRegs + offsetof(CallRegisters, rflags) + 8]);
    out_.call_swapped = Here();
    g_.pushfq();  // Into CallRegisters::rflags.
    g_.movsxd(g_.rcx, g_.dword[g_.r11 + offsetof(SiteRecord, return_offset)]);
    g_.lea(g_.rcx, g_.ptr[g_.rcx + g_.r11]);
    g_.mov(g_.qword[g_.rax + kRegs + offsetof(CallRegisters, rip)], g_.rcx);
    g_.mov(g_.ecx, g_.dword[g_.r11 + offsetof(SiteRecord, number)]);
    g_.mov(g_.qword[g_.rax + kRegs + offsetof(CallRegisters, rax)], g_.rcx);
    for (const Saved& s : SavedRegisters()) g_.mov(g_.qword[g_.rax + kRegs + s.offset], s.reg);
    CopyIn();
    g_.mov(g_.ecx, kCall);
    g_.xchg(g_.dword[g_.rax + offsetof(Slot, state)], g_.ecx);
    out_.committed = Here();
  }

  // What CopyRules say of call ecx goes to the slot's last page. The slot has all registers but rax, rsp and
  // rcx's number; `cld` because guests may have set the flag. A fault goes on at copy_in_failed.
  void CopyIn() {
    Xbyak::Label sized, failed, copied, string, none;
    const auto reg = [this](const Xbyak::Reg64& offset) {
      return g_.qword[g_.rax + offset + kRegs];
    };
    out_.copy_in = Here();
    g_.cmp(g_.ecx, static_cast<uint32_t>(kCopyRules.size()));
    g_.jae(commit_, Xbyak::CodeGenerator::T_NEAR);
    g_.lea(g_.rdx, g_.ptr[g_.rip + rules_]);
    g_.mov(g_.edx, g_.dword[g_.rdx + g_.rcx * 4]);
    g_.L(rule_);
    g_.movzx(g_.ecx, g_.dl);
    g_.test(g_.ecx, g_.ecx);
    g_.jz(none, Xbyak::CodeGenerator::T_NEAR);
    g_.mov(g_.rsi, reg(g_.rcx));
    g_.lea(g_.rdi, g_.ptr[g_.rax + static_cast<uint32_t>(kCopyOffset)]);
    g_.test(g_.edx, g_.edx);
    g_.js(string);
    g_.mov(g_.r8d, g_.edx);
    g_.shr(g_.r8d, 16);
    g_.movzx(g_.ecx, g_.dh);
    g_.test(g_.ecx, g_.ecx);
    g_.jz(sized);
    g_.mov(g_.r8, reg(g_.rcx));
    g_.cmp(g_.r8, static_cast<uint32_t>(kMaxCopyIn));
    g_.ja(failed);
    g_.L(sized);
    g_.test(g_.rsi, g_.rsi);
    g_.jz(failed);
    g_.mov(g_.rcx, g_.r8);
    g_.cld();
    g_.rep();
    g_.movsb();
    g_.jmp(copied);

    g_.L(string);
    EmitCopyString(g_, copied, failed);

    g_.L(failed);
    out_.copy_in_failed = Here();
    g_.xor_(g_.r8d, g_.r8d);
    g_.L(copied);
    g_.mov(g_.qword[g_.rax + offsetof(Slot, copied_in)], g_.r8);
    g_.jmp(commit_, Xbyak::CodeGenerator::T_NEAR);
    g_.L(none);
    Wake();
    if (hooks_.xfeatures != 0) {
      g_.test(g_.edx, kRuleSave);
      g_.jz(commit_);
      g_.mov(g_.rbx, g_.rax);
      Save();
      g_.mov(g_.rax, g_.rbx);
    }
    g_.L(commit_);
  }

  // A wake-up where nobody waits, which is most of them: the answer is 0. All registers are in the slot;
  // rax: the slot, edx: the call's rule, edi and esi: the guest's.
  void Wake() {
    Xbyak::Label no;
    g_.test(g_.edx, kRuleWake);
    g_.jz(no);
    g_.mov(g_.r12, g_.qword[g_.rax + offsetof(Slot, thread_page)]);
    g_.mov(g_.r8, g_.qword[g_.r12 + offsetof(ThreadPage, waiters)]);
    g_.test(g_.r8, g_.r8);
    g_.jz(commit_, Xbyak::CodeGenerator::T_NEAR);
    g_.cmp(g_.esi, kPrivateWake);
    g_.jne(commit_, Xbyak::CodeGenerator::T_NEAR);
    // What the guest has stored is seen before the count is read.
    g_.xchg(g_.qword[g_.rax + offsetof(Slot, copied_in)], g_.rcx);
    // The address is a multiple of 4 and the guest's.
    g_.mov(g_.rcx, g_.rdi);
    g_.ror(g_.rcx, 2);
    g_.mov(g_.r9, g_.rcx);
    g_.shr(g_.r9, 45);
    g_.jnz(commit_, Xbyak::CodeGenerator::T_NEAR);
    g_.and_(g_.ecx, static_cast<uint32_t>(kWaiterCells - 1));
    g_.mov(g_.ecx, g_.dword[g_.r8 + g_.rcx * 4]);
    g_.test(g_.ecx, g_.ecx);
    g_.jnz(commit_, Xbyak::CodeGenerator::T_NEAR);
    g_.jmp(answer_, Xbyak::CodeGenerator::T_NEAR);
    g_.L(no);
  }

  // To the last page of slot rbx. What has its initial state costs nothing, where the CPU tells.
  void Save() {
    g_.xor_(g_.edx, g_.edx);
    g_.mov(g_.qword[g_.rbx + kCopyOffset + kXstateHeader], g_.rdx);
    if (hooks_.knows_in_use) {
      g_.mov(g_.ecx, 1);
      Raw({0x0f, 0x01, 0xd0});  // xgetbv
      g_.or_(g_.eax, 3);        // MXCSR is never in its initial state for certain.
      // By a register: the code's size does not depend on the features.
      g_.mov(g_.ecx, static_cast<uint32_t>(hooks_.xfeatures));
      g_.and_(g_.eax, g_.ecx);
      g_.mov(g_.ecx, static_cast<uint32_t>(hooks_.xfeatures >> 32));
      g_.and_(g_.edx, g_.ecx);
    } else {
      g_.mov(g_.eax, static_cast<uint32_t>(hooks_.xfeatures));
      g_.mov(g_.edx, static_cast<uint32_t>(hooks_.xfeatures >> 32));
    }
    Raw({0x48, 0x0f, 0xae, 0xa3});  // xsave64 [rbx + kCopyOffset]
    g_.dd(static_cast<uint32_t>(kCopyOffset));
  }

  // rbx: the slot, ecx: Slot::copies. Nothing of ours uses extended state, so it is the guest's.
  void ExtendedState() {
    Xbyak::Label none, save;
    g_.test(g_.ecx, kLoadFp | kSaveFp);
    g_.jz(none);
    g_.test(g_.ecx, kSaveFp);
    g_.jnz(save);
    g_.mov(g_.eax, static_cast<uint32_t>(hooks_.xfeatures));
    g_.mov(g_.edx, static_cast<uint32_t>(hooks_.xfeatures >> 32));
    Raw({0x48, 0x0f, 0xae, 0xab});  // xrstor64 [rbx + kCopyOffset]
    g_.dd(static_cast<uint32_t>(kCopyOffset));
    out_.fp_loaded = Here();
    g_.test(g_.ecx, kAllRegisters);
    g_.jnz(all_, Xbyak::CodeGenerator::T_NEAR);
    g_.jmp(restore_, Xbyak::CodeGenerator::T_NEAR);
    out_.fp_loaded_end = Here();
    g_.L(save);
    Save();
    HandOverAgain();
    g_.L(none);
  }

  // As restore_, where no register is left to jump by: gs is still the slot's, or the guest's thread would
  // not be here.
  void AllRegisters() {
    g_.L(all_);
    g_.lea(g_.rsp, g_.ptr[g_.rbx + kRegs + offsetof(CallRegisters, rflags)]);
    g_.popfq();
    for (const Saved& s : SavedRegisters()) {
      if (s.reg.getIdx() != g_.rbx.getIdx()) g_.mov(s.reg, g_.qword[g_.rbx + kRegs + s.offset]);
    }
    g_.mov(g_.rax, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rax)]);
    g_.mov(g_.rcx, g_.qword[g_.rbx + offsetof(Slot, rcx)]);
    g_.mov(g_.r11, g_.qword[g_.rbx + offsetof(Slot, r11)]);
    g_.mov(g_.rsp, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rsp)]);
    g_.mov(g_.rbx, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rbx)]);
    g_.putSeg(g_.gs);
    g_.jmp(g_.qword[Xbyak::RegExp(kRegs + offsetof(CallRegisters, rip))]);
  }

  // rbx: the slot. The call is handed over once more.
  void BulkCopy() {
    g_.mov(g_.rdi, g_.qword[g_.rbx + offsetof(Slot, bulk_to)]);
    g_.mov(g_.rsi, g_.qword[g_.rbx + offsetof(Slot, bulk_from)]);
    g_.mov(g_.rcx, g_.qword[g_.rbx + offsetof(Slot, bulk_length)]);
    g_.cld();
    out_.bulk_move = Here();
    g_.rep();
    g_.movsb();
    HandOverAgain();
  }

  void HandOverAgain() {
    g_.mov(g_.rax, g_.rbx);
    g_.mov(g_.ecx, kCall);
    g_.xchg(g_.dword[g_.rbx + offsetof(Slot, state)], g_.ecx);
    g_.jmp(wait_, Xbyak::CodeGenerator::T_NEAR);
  }

  // rbx: the slot, ecx: how many records. Registers and instructions as Trampoline says.
  void CopyOut() {
    Xbyak::Label next;
    out_.copy_out = Here();
    g_.mov(g_.r9d, g_.ecx);
    g_.lea(g_.r8, g_.ptr[g_.rbx + offsetof(Slot, copy_out)]);
    g_.cld();
    g_.L(next);
    out_.copy_out_next = Here();
    g_.mov(g_.rdi, g_.qword[g_.r8 + offsetof(CopyOutRecord, to)]);
    g_.mov(g_.ecx, g_.dword[g_.r8 + offsetof(CopyOutRecord, length)]);
    g_.mov(g_.esi, g_.dword[g_.r8 + offsetof(CopyOutRecord, offset)]);
    g_.add(g_.rsi, g_.rbx);
    out_.copy_out_store = Here();
    g_.rep();
    g_.movsb();
    out_.copy_out_stored = Here();
    g_.add(g_.r8, static_cast<uint32_t>(sizeof(CopyOutRecord)));
    g_.dec(g_.r9d);
    out_.copy_out_counted = Here();
    g_.jnz(next);
    g_.jmp(restore_, Xbyak::CodeGenerator::T_NEAR);
    out_.copy_out_end = Here();
  }

  // From here registers are free: the slot has them all.
  void Wait() {
    Xbyak::Label ring, look, spin, sleep, changed, done, more, records, host;
    const Address turn = g_.byte[g_.rbx + offsetof(Slot, state)];
    const Address state = g_.dword[g_.rbx + offsetof(Slot, state)];
    g_.L(wait_);
    g_.mov(g_.rbx, g_.rax);
    g_.mov(g_.r12, g_.qword[g_.rbx + offsetof(Slot, thread_page)]);
    g_.test(g_.ecx, kParked);
    g_.jnz(ring, Xbyak::CodeGenerator::T_NEAR);
    g_.L(look);
    g_.mov(g_.r14d, g_.dword[g_.r12 + offsetof(ThreadPage, spin_cycles)]);
    g_.test(g_.r14d, g_.r14d);
    g_.jz(sleep, Xbyak::CodeGenerator::T_NEAR);
    g_.rdtsc();
    g_.mov(g_.r15d, g_.eax);
    // Without `pause`, which takes longer than a quick answer on some CPUs; rdtsc is the rest.
    g_.L(spin);
    g_.cmp(turn, kCall);
    g_.jne(changed);
    g_.rdtsc();
    g_.sub(g_.eax, g_.r15d);
    g_.cmp(turn, kCall);
    g_.jne(changed);
    g_.cmp(g_.eax, g_.r14d);
    g_.jb(spin);
    g_.jmp(sleep, Xbyak::CodeGenerator::T_NEAR);
    g_.align(16);
    g_.L(changed);
    g_.cmp(turn, kGuest);
    g_.jne(host, Xbyak::CodeGenerator::T_NEAR);

    // popfq, because the sentry may have changed any flag.
    g_.L(done);
    g_.mov(g_.ecx, g_.dword[g_.rbx + offsetof(Slot, copies)]);
    g_.test(g_.ecx, g_.ecx);
    g_.jz(restore_);
    g_.jmp(more, Xbyak::CodeGenerator::T_NEAR);
    Finish();
    g_.L(restore_);
    out_.restore = Here();
    g_.lea(g_.rsp, g_.ptr[g_.rbx + kRegs + offsetof(CallRegisters, rflags)]);
    g_.popfq();
    g_.mov(g_.r11, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rflags)]);
    for (const Saved& s : SavedRegisters()) {
      if (s.reg.getIdx() != g_.rbx.getIdx()) g_.mov(s.reg, g_.qword[g_.rbx + kRegs + s.offset]);
    }
    g_.mov(g_.rax, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rax)]);
    g_.mov(g_.rcx, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rip)]);
    g_.mov(g_.rsp, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rsp)]);
    g_.mov(g_.rbx, g_.qword[g_.rbx + kRegs + offsetof(CallRegisters, rbx)]);
    g_.jmp(g_.rcx);
    AllRegisters();
    out_.restore_end = Here();

    g_.L(more);
    if (hooks_.xfeatures != 0) ExtendedState();
    g_.test(g_.ecx, kAllRegisters);
    g_.jnz(all_, Xbyak::CodeGenerator::T_NEAR);
    g_.test(g_.ecx, kBulkCopy);
    g_.jz(records);
    BulkCopy();
    g_.L(records);
    CopyOut();

    g_.L(ring);
    hooks_.ring();
    g_.cmp(turn, kCall);
    g_.jne(changed, Xbyak::CodeGenerator::T_NEAR);
    g_.jmp(look, Xbyak::CodeGenerator::T_NEAR);

    g_.L(host);
    if (hooks_.host != nullptr) {
      g_.cmp(turn, kHost);
      g_.jne(sleep, Xbyak::CodeGenerator::T_NEAR);
      hooks_.host();
      g_.cmp(turn, kCall);
      g_.jne(changed, Xbyak::CodeGenerator::T_NEAR);
      g_.jmp(look, Xbyak::CodeGenerator::T_NEAR);
    }

    g_.L(sleep);
    g_.mov(g_.eax, kCall);
    g_.mov(g_.ecx, kCall | kSleeping);
    g_.lock();
    g_.cmpxchg(state, g_.ecx);
    // Also if it was there already: a wait that a signal cut short.
    LookAsleep(turn, host, done);
    hooks_.sleep();
    LookAsleep(turn, host, done);
    g_.jmp(sleep);
  }

  void LookAsleep(const Address& turn, Xbyak::Label& host, Xbyak::Label& done) {
    if (hooks_.host != nullptr) {
      g_.cmp(turn, kHost);
      g_.je(host, Xbyak::CodeGenerator::T_NEAR);
    }
    g_.cmp(turn, kGuest);
    g_.je(done, Xbyak::CodeGenerator::T_NEAR);
  }

  void Answer(size_t i) {
    Xbyak::Label ok, off;
    g_.align(16);
    out_.entries[1 + i] = Here();
    CheckSlot(ok);
    g_.jmp(bad_, Xbyak::CodeGenerator::T_NEAR);
    g_.L(ok);
    g_.mov(g_.rax, g_.qword[g_.rax + offsetof(Slot, thread_page)]);
    g_.mov(g_.ecx, g_.dword[g_.rax + offsetof(ThreadPage, answers)]);
    g_.jrcxz(off);
    g_.mov(g_.eax, g_.dword[g_.rax + offsetof(ThreadPage, pid) + 4 * i]);
    g_.movsxd(g_.rcx, g_.dword[g_.r11 + offsetof(SiteRecord, return_offset)]);
    g_.lea(g_.rcx, g_.ptr[g_.rcx + g_.r11]);
    g_.jmp(answered_, Xbyak::CodeGenerator::T_NEAR);
    g_.L(off);
    g_.jmp(general_, Xbyak::CodeGenerator::T_NEAR);
  }

  // r11 gets the flags, as `syscall` leaves it.
  void AnswerTail() {
    g_.align(16);
    g_.L(answered_);
    out_.answered = Here();
    Raw({0xf3, 0x49, 0x0f, 0xae, 0xcb});  // rdgsbase r11
    g_.mov(g_.qword[g_.r11 + kRegs + offsetof(CallRegisters, rsp)], g_.rsp);
    g_.lea(g_.rsp, g_.ptr[g_.r11 + kRegs + offsetof(CallRegisters, rflags) + 8]);
    out_.answered_swapped = Here();
    g_.pushfq();
    g_.pop(g_.r11);
    // Counted with rsp, the only register that is free, and without a flag.
    const Address count = g_.qword[Xbyak::RegExp(offsetof(Slot, answered))];
    g_.putSeg(g_.gs);
    g_.mov(g_.rsp, count);
    g_.lea(g_.rsp, g_.ptr[g_.rsp + 1]);
    g_.putSeg(g_.gs);
    g_.mov(count, g_.rsp);
    out_.answered_counted = Here();
    g_.putSeg(g_.gs);
    g_.mov(g_.rsp, g_.qword[Xbyak::RegExp(kRegs + offsetof(CallRegisters, rsp))]);
    g_.jmp(g_.rcx);  // rsp is the guest's again here, and the same as the saved one.
    out_.answered_end = Here();
  }

  Xbyak::CodeGenerator& g_;
  const uint64_t address_;
  const TrampolineHooks& hooks_;
  Trampoline out_;
  Xbyak::Label general_, bad_, answered_, restore_, rules_, rule_, commit_, answer_, finish_, wait_, all_;
};

}  // namespace

Trampoline EmitTrampoline(Xbyak::CodeGenerator& g, uint64_t address, const TrampolineHooks& hooks) {
  return Emitter(g, address, hooks).Emit();
}

}  // namespace caisson::platform::trap
