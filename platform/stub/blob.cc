#include "platform/stub/blob.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstring>
#include <vector>

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "base/check.h"
#include "platform/stub/layout.h"
#include "platform/stub/xstate.h"

namespace caisson::platform::stub {

const uint64_t kCloneThreadFlags =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
const uint64_t kCloneStubFlags = CLONE_PARENT | SIGCHLD;

namespace {

// Registers of the worker, which has no stack and trusts no memory but the control page:
//   r14 control page, r13 result page, r12 current request, ebx its index,
//   rbp where a fault continues (0: none expected).
class Generator : public Xbyak::CodeGenerator {
 public:
  Generator(uint64_t xfeatures, const ThreadCode& threads)
      // The zygote keeps the key rights that the kernel gives a new program.
      : CodeGenerator(kWorkerBlobSize), xfeatures_(xfeatures & ~kPkru), threads_(threads) {}

  Blob Generate() {
    Blob blob;
    // The initial extended state: MXCSR and the FPU control word, no component present.
    align(64);
    L(initial_state_);
    char state[576] = {0x7f, 0x03};
    state[24] = static_cast<char>(0x80);
    state[25] = 0x1f;
    for (char byte : state) db(static_cast<uint8_t>(byte));
    blob.entry = Here();
    Entry();
    L(wait_);
    Wait();
    Vector();
    ChildStart();
    blob.fault = Here();
    Fault();
    blob.park = Here();
    L(park_);
    if (threads_.start != 0) {
      mov(rax, threads_.start);
      jmp(rax);
    }
    mov(eax, SYS_pause);
    syscall();
    jmp(park_);
    blob.exit_thread = Here();
    xor_(edi, edi);
    mov(eax, SYS_exit);
    syscall();
    ud2();
    blob.restorer = Here();
    mov(eax, SYS_rt_sigreturn);
    syscall();
    ud2();
    L(die_);
    xor_(edi, edi);
    mov(eax, SYS_exit_group);
    syscall();
    ud2();
    CHECK(getSize() <= kWorkerBlobSize);
    ready();
    CHECK(Xbyak::GetError() == 0);
    blob.code.assign(reinterpret_cast<const char*>(getCode()), getSize());
    blob.handler = threads_.handler;
    if (!threads_.code.empty()) {
      blob.code.resize(kWorkerBlobSize, '\xcc');
      blob.code += threads_.code;
      CHECK(blob.code.size() <= kBlobSize);
    }
    return blob;
  }

 private:
  uint64_t Here() const { return kBlobAddr + getSize(); }

  // Once, in the zygote.
  void Entry() {
    mov(rsp, kWorkerStackTop);
    lea(rdi, ptr[rip + initial_state_]);
    mov(eax, static_cast<uint32_t>(xfeatures_));
    mov(edx, static_cast<uint32_t>(xfeatures_ >> 32));
    for (int byte : {0x48, 0x0f, 0xae, 0x2f}) db(byte);  // xrstor64 [rdi]
    cld();
    xor_(edi, edi);
    mov(rsi, kReservedStart);
    mov(eax, SYS_munmap);
    syscall();
    test(rax, rax);
    jnz(die_, T_NEAR);
    // Also where a child continues.
    L(started_);
    mov(r14, kControlAddr);
    mov(r13, kResultAddr);
    xor_(ebp, ebp);
    test(dword[r14 + offsetof(ControlPage, flags)], ControlPage::kReadyThread);
    jz(reply_);
    mov(edi, static_cast<uint32_t>(kCloneThreadFlags));
    xor_(esi, esi);
    xor_(edx, edx);
    xor_(r10d, r10d);
    mov(r8, threads_.ready_r8);
    mov(r9, threads_.ready_r9);
    mov(eax, SYS_clone);
    syscall();
    test(rax, rax);
    jz(park_, T_NEAR);
    mov(dword[r13 + offsetof(ResultPage, ready_tid)], eax);
    L(reply_);
    mov(edi, kStubSocket);
    mov(rsi, r14);
    mov(edx, 1);
    mov(r10d, MSG_NOSIGNAL);
    xor_(r8d, r8d);
    xor_(r9d, r9d);
    mov(eax, SYS_sendto);
    syscall();
    cmp(rax, 1);
    jne(die_, T_NEAR);
  }

  // Waits for the bell: a message of one byte, with the descriptors of the vector.
  void Wait() {
    xor_(ebp, ebp);
    const size_t msg = offsetof(ResultPage, msghdr);
    xor_(eax, eax);
    mov(qword[r13 + msg], rax);       // msg_name
    mov(qword[r13 + msg + 8], rax);   // msg_namelen
    lea(rcx, ptr[r13 + offsetof(ResultPage, iovec)]);
    mov(qword[r13 + msg + 16], rcx);  // msg_iov
    mov(qword[r13 + msg + 24], 1);    // msg_iovlen
    lea(rcx, ptr[r13 + offsetof(ResultPage, cmsg)]);
    mov(qword[r13 + msg + 32], rcx);  // msg_control
    mov(qword[r13 + msg + 40], static_cast<uint32_t>(sizeof(ResultPage::cmsg)));
    mov(qword[r13 + msg + 48], rax);  // msg_flags
    lea(rcx, ptr[r13 + offsetof(ResultPage, payload)]);
    mov(qword[r13 + offsetof(ResultPage, iovec)], rcx);
    mov(qword[r13 + offsetof(ResultPage, iovec) + 8], 1);
    mov(edi, kStubSocket);
    lea(rsi, ptr[r13 + msg]);
    mov(edx, MSG_CMSG_CLOEXEC);
    mov(eax, SYS_recvmsg);
    syscall();
    cmp(rax, -EINTR);
    je(wait_, T_NEAR);
    cmp(rax, 1);  // 0: the sentry has closed its end or is gone.
    jne(die_, T_NEAR);
  }

  void Vector() {
    Xbyak::Label next, cas, store, done, no_close;
    xor_(ebx, ebx);
    lea(r12, ptr[r14 + offsetof(ControlPage, requests)]);
    L(next);
    cmp(ebx, dword[r14 + offsetof(ControlPage, count)]);
    jae(done);
    cmp(dword[r12 + offsetof(Request, kind)], static_cast<int>(RequestKind::kCompareExchange));
    je(cas);
    LoadArguments();
    // Kept in a register: when the new thread gets to run, the page may hold the next vector, and
    // it would take itself for the worker.
    mov(r15d, dword[r12 + offsetof(Request, kind)]);
    mov(eax, dword[r12 + offsetof(Request, number)]);
    syscall();
    test(rax, rax);
    jnz(store);
    cmp(r15d, static_cast<int>(RequestKind::kCloneThread));
    je(park_, T_NEAR);
    ja(child_, T_NEAR);
    L(store);
    xor_(ebp, ebp);
    mov(qword[r13 + rbx * 8], rax);
    cmp(rax, -4095);
    jae(done);
    inc(ebx);
    add(r12, sizeof(Request));
    jmp(next);
    L(cas);
    mov(rdi, qword[r12 + offsetof(Request, args)]);
    mov(eax, dword[r12 + offsetof(Request, args) + 8]);
    mov(edx, dword[r12 + offsetof(Request, args) + 16]);
    lea(rbp, ptr[rip + store]);
    lock();
    cmpxchg(dword[rdi], edx);
    mov(eax, eax);
    jmp(store);
    L(done);
    mov(dword[r13 + offsetof(ResultPage, executed)], ebx);
    test(dword[r14 + offsetof(ControlPage, flags)], ControlPage::kCloseAll);
    jz(no_close);
    CloseUpTo(kThreadFd - 1);
    L(no_close);
    jmp(reply_, T_NEAR);
  }

  void LoadArguments() {
    const size_t args = offsetof(Request, args);
    mov(rdi, qword[r12 + args]);
    mov(rsi, qword[r12 + args + 8]);
    mov(rdx, qword[r12 + args + 16]);
    mov(r10, qword[r12 + args + 24]);
    mov(r8, qword[r12 + args + 32]);
    mov(r9, qword[r12 + args + 40]);
  }

  // In a new stub, whose pages are still its parent's: maps its own over them before anything
  // else, takes its own socket, and closes what came with them (docs/platform.md 7).
  void ChildStart() {
    L(child_);
    mov(rbx, r9);  // Its last argument, for the same reason not from the page.
    mov(rdi, kControlAddr);
    mov(esi, static_cast<uint32_t>(kControlSize));
    mov(edx, 1);       // PROT_READ
    mov(r10d, 0x11);   // MAP_SHARED | MAP_FIXED
    lea(r8, ptr[rbx + 1]);
    xor_(r9d, r9d);
    mov(eax, SYS_mmap);
    syscall();
    cmp(rax, -4095);
    jae(die_, T_NEAR);
    mov(rdi, kResultAddr);
    mov(esi, static_cast<uint32_t>(kResultSize));
    mov(edx, 3);  // PROT_READ | PROT_WRITE
    mov(r10d, 0x11);
    lea(r8, ptr[rbx + 2]);
    xor_(r9d, r9d);
    mov(eax, SYS_mmap);
    syscall();
    cmp(rax, -4095);
    jae(die_, T_NEAR);
    mov(edi, ebx);
    mov(esi, kStubSocket);
    mov(edx, 02000000);  // O_CLOEXEC
    mov(eax, SYS_dup3);
    syscall();
    test(rax, rax);
    jnz(die_, T_NEAR);
    CloseUpTo(0xffffffff);
    jmp(started_, T_NEAR);
  }

  void CloseUpTo(uint32_t last) {
    mov(edi, kStubSocket + 1);
    mov(esi, last);
    xor_(edx, edx);
    mov(eax, SYS_close_range);
    syscall();
  }

  // The worker's SIGSEGV and SIGBUS. Nothing is read from the frame, which the guest can write,
  // and there is no sigreturn: the kernel left all registers that count as they were.
  void Fault() {
    mov(rsp, kWorkerStackTop);
    test(rbp, rbp);
    jz(die_, T_NEAR);
    mov(rax, -EFAULT);
    jmp(rbp);
  }

  const uint64_t xfeatures_;
  const ThreadCode& threads_;
  Xbyak::Label initial_state_, started_, reply_, wait_, child_, park_, die_;
};

}  // namespace

Blob GenerateBlob(uint64_t xfeatures, const ThreadCode& threads) {
  return Generator(xfeatures, threads).Generate();
}

}  // namespace caisson::platform::stub
