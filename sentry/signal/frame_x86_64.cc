#include "sentry/signal/frame_x86_64.h"

#include <algorithm>
#include <string>

namespace caisson::signal {
namespace {

struct SigContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};
static_assert(sizeof(SigContext) == 256);

struct Frame {
  uint64_t return_address;  // pretcode.
  uint64_t uc_flags, uc_link;
  AltStack uc_stack;
  SigContext context;
  Set uc_mask;
  Info info;
};
static_assert(sizeof(Frame) == 440);

constexpr uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;
constexpr uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr size_t kFxsaveSize = 512, kSwReservedOffset = 464;
constexpr size_t kLegacyAndHeader = 576;  // FXSAVE area and XSAVE header.

struct SwReserved {
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t xstate_size, pad[7];
};
static_assert(sizeof(SwReserved) == 48);

constexpr uint64_t kRedZone = 128;
// What a handler may change of the flags: Linux FIX_EFLAGS (AC OF DF TF SF ZF AF PF CF RF).
constexpr uint64_t kFlagsMask = 0x40000 | 0x800 | 0x400 | 0x100 | 0x80 | 0x40 | 0x10 | 0x4 | 0x1 | 0x10000;
constexpr uint64_t kFlagTrap = 0x100, kFlagDirection = 0x400, kFlagResume = 0x10000;
constexpr uint64_t kUserCs = 0x33, kUserSs = 0x2b;

}  // namespace

Result<void> PushFrame(mm::GuestMemory& memory, const platform::Platform& platform,
                       platform::Context& context, platform::Registers& regs,
                       const Action& action, const Info& info, Set mask, AltStack& alt,
                       const FaultDetail& fault) {
  uint64_t sp = regs.rsp - kRedZone;
  bool alt_enabled = (alt.flags & kSsDisable) == 0 && alt.size != 0;
  bool on_alt = alt_enabled && (alt.flags & kSsAutodisarm) == 0 && alt.Contains(regs.rsp);
  bool entering_alt = false;
  if ((action.flags & kSaOnstack) != 0 && alt_enabled && !on_alt) {
    sp = alt.sp + alt.size;
    entering_alt = true;
  }

  size_t fp_size = platform.fp_state_size();
  std::string fp(fp_size + sizeof(kMagic2), '\0');
  TRY(context.GetFpState(absl::Span<char>(fp.data(), fp_size)));
  SwReserved sw{};
  sw.magic1 = kMagic1;
  sw.extended_size = static_cast<uint32_t>(fp_size + sizeof(kMagic2));
  sw.features = platform.fp_features();
  sw.xstate_size = static_cast<uint32_t>(fp_size);
  memcpy(fp.data() + kSwReservedOffset, &sw, sizeof(sw));
  memcpy(fp.data() + fp_size, &kMagic2, sizeof(kMagic2));

  if (sp < fp.size() + sizeof(Frame) + 128) return Errno::kEFAULT;
  sp = (sp - fp.size()) & ~uint64_t{63};
  uint64_t fp_address = sp;
  sp = ((sp - sizeof(Frame)) & ~uint64_t{15}) - 8;
  // A frame that leaves the alternate stack by its lower end is a overflow (Linux get_sigframe()).
  if ((entering_alt || on_alt) && (sp < alt.sp || sp >= alt.sp + alt.size)) return Errno::kEFAULT;

  Frame frame{};
  frame.return_address = action.restorer;
  frame.uc_flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  frame.uc_stack = alt;
  if (alt.size == 0) frame.uc_stack.flags = kSsDisable;
  frame.context = SigContext{
      .r8 = regs.r8, .r9 = regs.r9, .r10 = regs.r10, .r11 = regs.r11, .r12 = regs.r12,
      .r13 = regs.r13, .r14 = regs.r14, .r15 = regs.r15, .rdi = regs.rdi, .rsi = regs.rsi,
      .rbp = regs.rbp, .rbx = regs.rbx, .rdx = regs.rdx, .rax = regs.rax, .rcx = regs.rcx,
      .rsp = regs.rsp, .rip = regs.rip, .eflags = regs.eflags,
      .cs = static_cast<uint16_t>(regs.cs), .gs = 0, .fs = 0,
      .ss = static_cast<uint16_t>(regs.ss),
      .err = fault.error_code, .trapno = fault.trap_number, .oldmask = mask, .cr2 = fault.cr2,
      .fpstate = fp_address, .reserved = {}};
  frame.uc_mask = mask;
  frame.info = info;
  // At once: with what is between them for alignment.
  std::string all(fp_address - sp, '\0');
  memcpy(all.data(), &frame, sizeof(frame));
  all += fp;
  TRY(memory.CopyOut(GuestAddr(sp), all));

  // A handler starts with the state of a new program (Linux fpu__clear_user_states()).
  context.ResetFpState();
  if (alt_enabled && (alt.flags & kSsAutodisarm) != 0) alt = AltStack{.sp = 0, .flags = kSsDisable};
  regs.rsp = sp;
  regs.rip = action.handler;
  regs.rdi = info.signo;
  regs.rsi = sp + offsetof(Frame, info);
  regs.rdx = sp + offsetof(Frame, uc_flags);
  regs.rax = 0;
  regs.eflags &= ~(kFlagDirection | kFlagTrap | kFlagResume);
  regs.cs = kUserCs;
  regs.ss = kUserSs;
  regs.orig_rax = ~uint64_t{0};
  return {};
}

Result<Returned> PopFrame(mm::GuestMemory& memory, const platform::Platform& platform,
                          platform::Context& context, platform::Registers& regs) {
  // The handler's `ret` has taken the return address off the stack. As PushFrame() wrote it the extended
  // state is right behind it: one copy is all then.
  Frame frame;
  const uint64_t at = regs.rsp - 8;
  constexpr size_t kMaxGap = 64 + 16;
  std::string all(sizeof(frame) + kMaxGap + platform.fp_state_size() + sizeof(kMagic2), '\0');
  if (!memory.CopyIn(GuestAddr(at), absl::MakeSpan(all)).ok()) {
    all.resize(sizeof(frame));
    TRY(memory.CopyIn(GuestAddr(at), absl::MakeSpan(all)));
  }
  memcpy(&frame, all.data(), sizeof(frame));
  auto copy_in = [&](uint64_t from, char* to, size_t size) -> Result<void> {
    if (from >= at && from - at <= all.size() && size <= all.size() - (from - at)) {
      memcpy(to, all.data() + (from - at), size);
      return {};
    }
    return memory.CopyIn(GuestAddr(from), absl::Span<char>(to, size));
  };
  const SigContext& c = frame.context;
  // The next instruction must be canonical, or the host would fault in its own return path.
  if (c.rip >> 47 != 0) return Errno::kEFAULT;
  if (c.fpstate == 0) {
    context.ResetFpState();
  } else {
    size_t fp_size = platform.fp_state_size();
    std::string fp(fp_size, '\0');
    TRY(copy_in(c.fpstate, fp.data(), kFxsaveSize));
    SwReserved sw;
    memcpy(&sw, fp.data() + kSwReservedOffset, sizeof(sw));
    uint32_t magic2 = 0;
    bool extended = sw.magic1 == kMagic1 && sw.xstate_size >= kLegacyAndHeader &&
                    sw.xstate_size <= fp_size && sw.xstate_size <= sw.extended_size;
    if (extended) {
      extended = copy_in(c.fpstate + sw.xstate_size, reinterpret_cast<char*>(&magic2),
                         sizeof(magic2)).ok() &&
                 magic2 == kMagic2;
    }
    if (extended) {
      TRY(copy_in(c.fpstate + kFxsaveSize, fp.data() + kFxsaveSize, sw.xstate_size - kFxsaveSize));
      uint64_t xstate_bv;
      memcpy(&xstate_bv, fp.data() + kFxsaveSize, sizeof(xstate_bv));
      xstate_bv &= platform.fp_features() & sw.features;
      memcpy(fp.data() + kFxsaveSize, &xstate_bv, sizeof(xstate_bv));
      // Reserved header bytes are Linux's to define: a forged value is refused below.
    } else {
      uint64_t legacy = 3;  // x87 and SSE only.
      memcpy(fp.data() + kFxsaveSize, &legacy, sizeof(legacy));
    }
    memset(fp.data() + kSwReservedOffset, 0, sizeof(sw));
    TRY(context.SetFpState(fp));
  }
  regs.r8 = c.r8;
  regs.r9 = c.r9;
  regs.r10 = c.r10;
  regs.r11 = c.r11;
  regs.r12 = c.r12;
  regs.r13 = c.r13;
  regs.r14 = c.r14;
  regs.r15 = c.r15;
  regs.rdi = c.rdi;
  regs.rsi = c.rsi;
  regs.rbp = c.rbp;
  regs.rbx = c.rbx;
  regs.rdx = c.rdx;
  regs.rax = c.rax;
  regs.rcx = c.rcx;
  regs.rsp = c.rsp;
  regs.rip = c.rip;
  regs.eflags = (regs.eflags & ~kFlagsMask) | (c.eflags & kFlagsMask);
  regs.cs = kUserCs;
  regs.ss = kUserSs;
  regs.orig_rax = ~uint64_t{0};
  return Returned{.mask = frame.uc_mask & ~kUnblockable, .alt = frame.uc_stack};
}

}  // namespace caisson::signal
