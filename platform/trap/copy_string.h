// The part of the trampoline that copies a string into the slot.
#ifndef CAISSON_PLATFORM_TRAP_COPY_STRING_H_
#define CAISSON_PLATFORM_TRAP_COPY_STRING_H_

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "platform/trap/slot.h"

namespace caisson::platform::trap {

// rsi: the string; rdi: where it goes to, with room for kMaxCopiedString bytes. By aligned words, which are never in two
// pages, until one has a NUL behind the string's start, or there is no more room: to `copied`, with the number of bytes in
// r8. No string: to `failed`. Changes rcx, rdx, rsi, r8, r9, r10 and r12.
inline void EmitCopyString(Xbyak::CodeGenerator& g, const Xbyak::Label& copied, const Xbyak::Label& failed) {
  Xbyak::Label next;
  g.mov(g.ecx, g.esi);
  g.and_(g.ecx, 7);
  g.shl(g.ecx, 3);
  g.and_(g.rsi, -8);
  g.jz(failed);
  g.mov(g.r9d, 1);
  g.shl(g.r9, g.cl);
  g.dec(g.r9);  // What is before the start is no NUL.
  g.mov(g.r10, 0x0101010101010101);
  g.mov(g.r12, 0x8080808080808080);
  g.xor_(g.r8d, g.r8d);
  g.L(next);
  g.mov(g.rdx, g.qword[g.rsi + g.r8]);
  g.mov(g.qword[g.rdi + g.r8], g.rdx);
  g.add(g.r8, 8);
  g.or_(g.rdx, g.r9);
  g.xor_(g.r9d, g.r9d);
  g.mov(g.rcx, g.rdx);
  g.sub(g.rdx, g.r10);
  g.not_(g.rcx);
  g.and_(g.rdx, g.rcx);
  g.test(g.rdx, g.r12);
  g.jnz(copied);
  g.cmp(g.r8, static_cast<uint32_t>(kMaxCopiedString));
  g.jb(next);
  g.jmp(copied);
}

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_COPY_STRING_H_
