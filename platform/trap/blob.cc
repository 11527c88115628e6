#include "platform/trap/blob.h"

#include <signal.h>
#include <sys/syscall.h>

#include <cstddef>
#include <initializer_list>
#include <vector>

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "base/check.h"
#include "platform/stub/xstate.h"
#include "platform/trap/guest_filter.h"
#include "platform/trap/slot.h"

namespace caisson::platform::trap {
namespace {

constexpr int kSetModeFilter = 1, kNewListener = 8;  // seccomp(2).
constexpr int kFutexWait = 0, kFutexWake = 1;
constexpr int kInterruptSignal = SIGUSR1;  // As in host_thread.cc.
constexpr size_t kMaxSize = stub::kBlobSize - stub::kWorkerBlobSize;

class Generator : public Xbyak::CodeGenerator {
 public:
  Generator(bool notify, uint64_t xfeatures, uint64_t worker_fault)
      : CodeGenerator(kMaxSize), notify_(notify), xfeatures_(xfeatures),
        worker_fault_(worker_fault) {}

  ThreadBlob Generate() {
    ThreadBlob blob;
    if (notify_) {
      L(gate_);
      syscall();
      blob.gate = gate_address_ = Here();
      jmp(r14);
    }
    blob.code.start = Here();
    Start();
    blob.started = Here();
    ud2();
    align(64);
    blob.code.handler = Here();
    Handler();
    TrampolineHooks hooks;
    hooks.ring = [this] {
      if (notify_) Doorbell();
      else Futex(kFutexWake, 1);
    };
    hooks.sleep = [this] {
      if (notify_) Doorbell();
      else Futex(kFutexWait, kCall | kSleeping);
    };
    if (notify_) hooks.host = [this] { HostCalls(r12, kCall); };
    hooks.xfeatures = xfeatures_;
    hooks.knows_in_use = stub::HostXstate().knows_in_use;
    blob.trampoline = EmitTrampoline(*this, stub::kThreadBlobAddr, hooks);
    Filter();
    CHECK(getSize() <= kMaxSize);
    ready();
    CHECK(Xbyak::GetError() == 0);
    blob.code.code.assign(reinterpret_cast<const char*>(getCode()), getSize());
    blob.code.ready_r9 = SlotAddress(0);
    blob.code.ready_r8 = ThreadPageAddress(0);
    blob.doorbells = doorbells_;
    blob.host_calls = host_calls_;
    return blob;
  }

 private:
  uint64_t Here() const { return stub::kThreadBlobAddr + getSize(); }

  // A new thread, with all signals blocked, the worker's stack pointer and these registers:
  // r9 its slot, r8 its thread page. What it reads is the thread page; what it writes is a
  // result. From the filter on it is a guest thread.
  void Start() {
    Xbyak::Label failed;
    mov(rbx, r9);
    mov(r12, r8);
    mov(rdi, r12);
    xor_(esi, esi);
    mov(eax, SYS_sigaltstack);
    syscall();
    test(rax, rax);
    jnz(failed);
    mov(edi, 2);  // SIG_SETMASK
    lea(rsi, ptr[r12 + offsetof(ThreadPage, signal_mask)]);
    xor_(edx, edx);
    mov(r10d, 8);
    mov(eax, SYS_rt_sigprocmask);
    syscall();
    test(rax, rax);
    jnz(failed);
    mov(edi, kSetModeFilter);
    mov(esi, notify_ ? kNewListener : 0);
    lea(rdx, ptr[rip + program_]);
    mov(eax, SYS_seccomp);
    syscall();
    test(rax, rax);
    js(failed);
    inc(eax);  // The descriptor, or 0, plus one.
    L(failed);
    mov(dword[rbx + offsetof(Slot, listener)], eax);
    lea(rdi, ptr[rbx + offsetof(Slot, listener)]);
    mov(esi, kFutexWake);
    mov(edx, 1);
    mov(eax, SYS_futex);
    AllowedCall();
    // Into the handler, so that the sentry sets all registers.
  }

  // A call that guest threads may make from the gate. Changes r14.
  void AllowedCall() {
    if (!notify_) {
      syscall();
      return;
    }
    Xbyak::Label back;
    lea(r14, ptr[rip + back]);
    jmp(gate_);
    L(back);
  }

  // rdi signal, rsi siginfo, rdx ucontext, all of it on the slot's stack.
  void Handler() {
    Xbyak::Label worker, again, resume, leave, look, ring, sleep, host;
    // The worker's other registers are still in use if this is its fault.
    mov(rax, stub::kSlotAddr);
    cmp(rsp, rax);
    jb(worker, T_NEAR);
    cld();
    mov(rbx, rsp);
    and_(rbx, -static_cast<int>(stub::kSlotSize));
    mov(r12, rsp);
    Raw({0xf3, 0x48, 0x0f, 0xae, 0xc0});  // rdfsbase rax
    mov(qword[rbx + offsetof(Slot, fs_base)], rax);
    Raw({0xf3, 0x48, 0x0f, 0xae, 0xc8});  // rdgsbase rax
    mov(qword[rbx + offsetof(Slot, gs_base)], rax);
    mov(qword[rbx + offsetof(Slot, siginfo)], rsi);
    mov(qword[rbx + offsetof(Slot, ucontext)], rdx);
    // The thread page.
    mov(r13, rbx);
    mov(rax, stub::kSlotAddr);
    sub(r13, rax);
    shr(r13, 2);
    mov(rax, stub::kThreadPageAddr);
    add(r13, rax);
    const auto state = dword[rbx + offsetof(Slot, state)];
    const auto turn = byte[rbx + offsetof(Slot, state)];
    mov(ecx, kTrap);
    L(again);
    mov(eax, state);
    if (notify_) {
      // An interrupt that comes late and finds the trampoline with host calls to make.
      Xbyak::Label stop;
      cmp(al, kHost);
      jne(stop);
      cmp(edi, kInterruptSignal);
      je(leave, T_NEAR);
      L(stop);
    }
    mov(dword[rbx + offsetof(Slot, interrupted_state)], eax);
    lock();
    cmpxchg(state, ecx);
    jne(again);
    test(eax, kParked);
    jnz(ring, T_NEAR);
    Spin(state, look, sleep);
    L(ring);
    if (notify_) {
      Doorbell();
    } else {
      Futex(kFutexWake, 1);
      Spin(state, look, sleep);
    }
    L(look);
    cmp(turn, kGuest);
    je(resume, T_NEAR);
    if (notify_) {
      cmp(turn, kHost);
      je(host, T_NEAR);
    }
    L(sleep);
    mov(eax, kTrap);
    mov(ecx, kTrap | kSleeping);
    lock();
    cmpxchg(state, ecx);
    if (notify_) {
      // Also if it was there already: a wait that a stop signal cut short.
      cmp(turn, kGuest);
      je(resume, T_NEAR);
      cmp(turn, kHost);
      je(host, T_NEAR);
      Doorbell();
    } else {
      Futex(kFutexWait, kTrap | kSleeping);
    }
    jmp(look);
    if (notify_) {
      L(host);
      HostCalls(r13, kTrap);
      Spin(state, look, sleep);
    }
    L(resume);
    mov(rax, qword[rbx + offsetof(Slot, fs_base)]);
    Raw({0xf3, 0x48, 0x0f, 0xae, 0xd0});  // wrfsbase rax
    mov(rax, qword[rbx + offsetof(Slot, gs_base)]);
    Raw({0xf3, 0x48, 0x0f, 0xae, 0xd8});  // wrgsbase rax
    L(leave);
    lea(rsp, ptr[r12 + 8]);
    mov(eax, SYS_rt_sigreturn);
    AllowedCall();
    ud2();
    L(worker);
    // A fault of the worker, which has no alternate stack.
    mov(rax, worker_fault_);
    jmp(rax);
  }

  // Waits for kGuest as long as the thread page says: then to `look`, else to `sleep`.
  void Spin(const Xbyak::Address& state, Xbyak::Label& look, Xbyak::Label& sleep) {
    Xbyak::Label loop;
    mov(r14d, dword[r13 + offsetof(ThreadPage, spin_cycles)]);
    test(r14d, r14d);
    jz(sleep, T_NEAR);
    rdtsc();
    mov(r15d, eax);
    L(loop);
    pause();
    cmp(byte[rbx + offsetof(Slot, state)], kTrap);
    jne(look, T_NEAR);
    rdtsc();
    sub(eax, r15d);
    cmp(eax, r14d);
    jb(loop);
    jmp(sleep, T_NEAR);
  }

  void Doorbell() {
    mov(eax, kDoorbell);
    syscall();
    doorbells_.push_back(Here());
  }

  // What the thread page asks for (host_calls.h). rbx: the slot. Changes all but rbx, r12 and r13.
  void HostCalls(const Xbyak::Reg64& page, uint32_t then) {
    Xbyak::Label next, told, made, done, stay, ring, out;
    const size_t args = offsetof(HostCall, args);
    mov(ebp, dword[page + offsetof(ThreadPage, host_count)]);
    lea(r15, ptr[page + offsetof(ThreadPage, host_calls)]);
    xor_(r14d, r14d);
    cmp(dword[page + offsetof(ThreadPage, host_asks)], 0);
    je(next);
    Doorbell();
    L(next);
    test(ebp, ebp);
    jz(done);
    mov(rdi, qword[r15 + args]);
    mov(rsi, qword[r15 + args + 8]);
    mov(rdx, qword[r15 + args + 16]);
    mov(r10, qword[r15 + args + 24]);
    mov(r8, qword[r15 + args + 32]);
    mov(r9, qword[r15 + args + 40]);
    mov(eax, dword[r15 + offsetof(HostCall, number)]);
    cmp(dword[r15 + offsetof(HostCall, free)], 0);
    je(told);
    AllowedCall();
    jmp(made);
    L(told);
    syscall();
    host_calls_.push_back(Here());
    L(made);
    mov(r14, rax);
    cmp(rax, -4095);
    jae(done);
    add(r15, sizeof(HostCall));
    dec(ebp);
    jmp(next);
    L(done);
    mov(qword[rbx + offsetof(Slot, host_result)], r14);
    mov(dword[rbx + offsetof(Slot, host_left)], ebp);
    cmp(dword[page + offsetof(ThreadPage, host_closes)], 0);
    je(stay);
    mov(edi, kHostCallFd);
    mov(esi, edi);
    xor_(edx, edx);
    mov(eax, SYS_close_range);
    AllowedCall();
    L(stay);
    mov(r14d, dword[page + offsetof(ThreadPage, host_rings)]);
    mov(ecx, then);
    xchg(dword[rbx + offsetof(Slot, state)], ecx);
    test(r14d, r14d);
    jnz(ring);
    test(ecx, kParked);
    jz(out);
    L(ring);
    Doorbell();
    L(out);
  }

  void Futex(int op, uint32_t value) {
    lea(rdi, ptr[rbx + offsetof(Slot, state)]);
    mov(esi, op);
    mov(edx, value);
    xor_(r10d, r10d);
    mov(eax, SYS_futex);
    syscall();
  }

  // struct sock_fprog and what it points to.
  void Filter() {
    const std::vector<stub::BpfInstruction> filter =
        notify_ ? GuestFilter(gate_address_) : GuestFilterWithoutNotifications();
    align(16);
    L(program_);
    dq(filter.size());
    dq(Here() + 8);
    for (const stub::BpfInstruction& i : filter) {
      dw(i.code);
      db(i.jump_true);
      db(i.jump_false);
      dd(i.k);
    }
  }

  void Raw(std::initializer_list<uint8_t> bytes) {
    for (uint8_t byte : bytes) db(byte);
  }

  const bool notify_;
  const uint64_t xfeatures_;
  const uint64_t worker_fault_;
  std::vector<uint64_t> doorbells_, host_calls_;
  uint64_t gate_address_ = 0;
  Xbyak::Label program_, gate_;
};

}  // namespace

ThreadBlob GenerateThreadBlob(bool notify, uint64_t xfeatures) {
  // The worker's code depends on addresses of ours, and ours on one of the worker's.
  const ThreadBlob first = Generator(notify, xfeatures, 0).Generate();
  return Generator(notify, xfeatures, stub::GenerateBlob(xfeatures, first.code).fault).Generate();
}

}  // namespace caisson::platform::trap
