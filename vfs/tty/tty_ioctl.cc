// ioctl_tty(2), for both ends of a terminal.
#include <cstring>
#include <utility>

#include "auth/credentials.h"
#include "vfs/tty/tty.h"

namespace caisson::vfs::tty {
namespace {

constexpr int kSignals = 64;

bool IsAdmin(CallContext& ctx) {
  return ctx.creds().HasRootCapability(auth::Capability::kSysAdmin);
}

Result<int64_t> PutInt(CallContext& ctx, uint64_t arg, int32_t value) {
  TRY(ctx.CopyOutObject(GuestAddr(arg), value));
  return int64_t{0};
}

}  // namespace

Result<int64_t> Tty::Ioctl(CallContext& ctx, uint32_t request, uint64_t arg, bool master,
                           uint64_t generation, bool readable) {
  if (!master) {
    MutexLock lock(mu_);
    if (DeadLocked(generation)) return request == kTiocspgrp ? Errno::kENOTTY : Errno::kEIO;
  }
  switch (request) {
    case kTcgets:
    case kTcgets2:
    case kTcgeta:
      return GetTermios(ctx, request, arg);
    case kTcsets:
    case kTcsetsw:
    case kTcsetsf:
    case kTcsets2:
    case kTcsetsw2:
    case kTcsetsf2:
    case kTcseta:
    case kTcsetaw:
    case kTcsetaf:
      return SetTermios(ctx, request, arg, master);
    case kTcflsh:
      TRY(CheckJob(ctx, kSigTtou));
      return Flush(ctx, arg, master);
    case kTcxonc:
      TRY(CheckJob(ctx, kSigTtou));
      return FlowControl(ctx, arg);
    case kTcsbrk:  // There is no line to break, and nothing stays unsent.
    case kTcsbrkp:
    case kTiocsbrk:
    case kTioccbrk:
      TRY(CheckJob(ctx, kSigTtou));
      return int64_t{0};
    case kTiocgwinsz:
      TRY(ctx.CopyOutObject(GuestAddr(arg), window_size()));
      return int64_t{0};
    case kTiocswinsz:
      SetWindowSize(TRY(ctx.CopyInObject<WindowSize>(GuestAddr(arg))));
      return int64_t{0};
    case kFionread: {
      int32_t n;
      {
        MutexLock lock(mu_);
        n = static_cast<int32_t>(master ? to_master_.size() - to_master_at_ : line_.Queued());
      }
      return PutInt(ctx, arg, n);
    }
    case kTiocoutq:  // Linux's pty has none either: what was written is at the other end.
      return PutInt(ctx, arg, 0);
    case kTiocgetd:
      return PutInt(ctx, arg, 0);  // N_TTY.
    case kTiocsetd: {
      int32_t discipline = TRY(ctx.CopyInObject<int32_t>(GuestAddr(arg)));
      if (discipline != 0) return Errno::kEINVAL;
      return int64_t{0};
    }
    case kTiocgsoftcar: {
      bool local;
      {
        MutexLock lock(mu_);
        local = (termios_.cflag & kClocal) != 0;
      }
      return PutInt(ctx, arg, local ? 1 : 0);
    }
    case kTiocssoftcar: {
      int32_t local = TRY(ctx.CopyInObject<int32_t>(GuestAddr(arg)));
      MutexLock lock(mu_);
      termios_.cflag = (termios_.cflag & ~kClocal) | (local != 0 ? kClocal : 0);
      return int64_t{0};
    }
    case kTiocexcl:
    case kTiocnxcl: {
      MutexLock lock(mu_);
      exclusive_ = request == kTiocexcl;
      return int64_t{0};
    }
    case kTiocgexcl: {
      bool on;
      {
        MutexLock lock(mu_);
        on = exclusive_;
      }
      return PutInt(ctx, arg, on ? 1 : 0);
    }
    case kTiocgdev:
      return PutInt(ctx, arg, static_cast<int32_t>(
                                  master ? DeviceNumber{5, 2}.Encode() : device().Encode()));
    case kTiocsti: {
      if (jobs_.ControllingTty(ctx).get() != this && !IsAdmin(ctx)) return Errno::kEPERM;
      char c = TRY(ctx.CopyInObject<char>(GuestAddr(arg)));
      Change change(*this);
      InputLocked({&c, 1});
      return int64_t{0};
    }
    case kTiocvhangup: {
      if (!IsAdmin(ctx)) return Errno::kEPERM;
      Change change(*this);
      HangupLocked(false);
      return int64_t{0};
    }
    case kTiocsctty:
    case kTiocnotty:
    case kTiocgpgrp:
    case kTiocspgrp:
    case kTiocgsid:
      return SessionIoctl(ctx, request, arg, master, readable);
    default:
      return master ? MasterIoctl(ctx, request, arg) : Errno::kENOTTY;
  }
}

// pty_unix98_ioctl().
Result<int64_t> Tty::MasterIoctl(CallContext& ctx, uint32_t request, uint64_t arg) {
  switch (request) {
    case kTiocgptn:
      return PutInt(ctx, arg, static_cast<int32_t>(index_));
    case kTiocsptlck: {
      int32_t value = TRY(ctx.CopyInObject<int32_t>(GuestAddr(arg)));
      MutexLock lock(mu_);
      locked_ = value != 0;
      return int64_t{0};
    }
    case kTiocgptlck: {
      bool on;
      {
        MutexLock lock(mu_);
        on = locked_;
      }
      return PutInt(ctx, arg, on ? 1 : 0);
    }
    case kTiocpkt: {
      int32_t value = TRY(ctx.CopyInObject<int32_t>(GuestAddr(arg)));
      MutexLock lock(mu_);
      if (value != 0 && !packet_mode_) packet_status_ = 0;
      packet_mode_ = value != 0;
      return int64_t{0};
    }
    case kTiocgpkt: {
      bool on;
      {
        MutexLock lock(mu_);
        on = packet_mode_;
      }
      return PutInt(ctx, arg, on ? 1 : 0);
    }
    case kTiocsig: {
      if (arg < 1 || arg > kSignals) return Errno::kEINVAL;
      int signo = static_cast<int>(arg);
      if (signo != kSigInt && signo != kSigQuit && signo != kSigTstp) return Errno::kEINVAL;
      Change change(*this);
      SignalForeground(signo);
      return int64_t{0};
    }
    default:
      return Errno::kENOTTY;
  }
}

Result<int64_t> Tty::GetTermios(CallContext& ctx, uint32_t request, uint64_t arg) {
  Termios now;
  {
    MutexLock lock(mu_);
    now = termios_;
  }
  if (request == kTcgeta) {
    Termio old = {};
    old.iflag = static_cast<uint16_t>(now.iflag);
    old.oflag = static_cast<uint16_t>(now.oflag);
    old.cflag = static_cast<uint16_t>(now.cflag);
    old.lflag = static_cast<uint16_t>(now.lflag);
    old.line = now.line;
    memcpy(old.cc, now.cc, sizeof(old.cc));
    TRY(ctx.CopyOutObject(GuestAddr(arg), old));
    return int64_t{0};
  }
  size_t size = request == kTcgets ? kTermiosSize : sizeof(Termios);
  TRY(ctx.CopyOutBytes(GuestAddr(arg), {reinterpret_cast<const char*>(&now), size}));
  return int64_t{0};
}

// set_termios() of tty_ioctl.c. Draining is immediate: see TIOCOUTQ.
Result<int64_t> Tty::SetTermios(CallContext& ctx, uint32_t request, uint64_t arg, bool master) {
  TRY(CheckJob(ctx, kSigTtou));
  Termios next;
  {
    MutexLock lock(mu_);
    next = termios_;
  }
  bool flush = request == kTcsetsf || request == kTcsetsf2 || request == kTcsetaf;
  if (request == kTcseta || request == kTcsetaw || request == kTcsetaf) {
    Termio old = TRY(ctx.CopyInObject<Termio>(GuestAddr(arg)));
    next.iflag = (next.iflag & 0xffff0000) | old.iflag;
    next.oflag = (next.oflag & 0xffff0000) | old.oflag;
    next.cflag = (next.cflag & 0xffff0000) | old.cflag;
    next.lflag = (next.lflag & 0xffff0000) | old.lflag;
    next.line = old.line;
    memcpy(next.cc, old.cc, sizeof(old.cc));
  } else {
    bool two = request == kTcsets2 || request == kTcsetsw2 || request == kTcsetsf2;
    size_t size = two ? sizeof(Termios) : kTermiosSize;
    TRY(ctx.CopyInBytes(GuestAddr(arg), {reinterpret_cast<char*>(&next), size}));
  }
  Change change(*this);
  if (flush && !master) line_.FlushInput();
  ApplyTermiosLocked(next);
  return int64_t{0};
}

// tty_set_termios() with pty_set_termios().
void Tty::ApplyTermiosLocked(Termios next) {
  static constexpr uint32_t kSpeeds[] = {0,    50,   75,   110,  134,  150,  200,   300,
                                         600,  1200, 1800, 2400, 4800, 9600, 19200, 38400};
  static constexpr uint32_t kFastSpeeds[] = {57600,   115200,  230400,  460800,  500000,
                                             576000,  921600,  1000000, 1152000, 1500000,
                                             2000000, 2500000, 3000000, 3500000, 4000000};
  uint32_t speed = next.cflag & kCbaud;
  if (speed < 16) {
    next.ispeed = next.ospeed = kSpeeds[speed];
  } else if (speed != kBother && (speed & 0xf) <= 15) {
    next.ispeed = next.ospeed = kFastSpeeds[(speed & 0xf) - 1];
  }
  next.cflag = (next.cflag & ~(kCsize | kParenb)) | kCs8 | kCread;
  next.line = 0;
  Termios old = termios_;
  termios_ = next;
  if (packet_mode_) {
    auto flow = [](const Termios& t) {
      return (t.iflag & kIxon) != 0 && t.cc[kVstop] == 023 && t.cc[kVstart] == 021;
    };
    if (flow(old) != flow(next)) {
      PacketLocked(flow(next) ? kPacketDoStop : kPacketNoStop,
                   flow(next) ? kPacketNoStop : kPacketDoStop);
    }
    if (((old.lflag | next.lflag) & kExtproc) != 0) PacketLocked(kPacketIoctl, 0);
  }
  line_.TermiosChanged(old);
  slave_events_ |= kReadable | kWritable;
}

Result<int64_t> Tty::Flush(CallContext&, uint64_t which, bool master) {
  if (which > 2) return Errno::kEINVAL;
  Change change(*this);
  bool input = which != 1, output = which != 0;
  // The master's input is the slave's output.
  if (master) std::swap(input, output);
  if (input) {
    line_.FlushInput();
    slave_events_ |= kReadable;
  }
  if (output) FlushOutput();
  return int64_t{0};
}

// n_tty_ioctl_helper(), TCXONC.
Result<int64_t> Tty::FlowControl(CallContext&, uint64_t action) {
  Change change(*this);
  switch (action) {
    case 0:  // TCOOFF.
      if (!tco_stopped_) {
        StopOutput();
        tco_stopped_ = true;
      }
      return int64_t{0};
    case 1:  // TCOON.
      if (tco_stopped_) {
        tco_stopped_ = false;
        StartOutput();
        line_.ProcessEchoes();
      }
      return int64_t{0};
    case 2:    // TCIOFF: the other side shall stop.
    case 3: {  // TCION.
      char c = static_cast<char>(termios_.cc[action == 2 ? kVstop : kVstart]);
      if (c != 0) Output({&c, 1});
      return int64_t{0};
    }
    default:
      return Errno::kEINVAL;
  }
}

Result<void> Tty::BecomeControlling(CallContext& ctx, bool steal, bool readable) {
  JobControl::Caller caller = jobs_.CallerOf(ctx);
  if (caller.session_leader && caller.session == session()) return {};
  if (!caller.session_leader || jobs_.ControllingTty(ctx)) return Errno::kEPERM;
  bool admin = IsAdmin(ctx);
  int32_t robbed = 0;
  {
    MutexLock lock(mu_);
    if (session_ != 0) {
      if (!steal || !admin) return Errno::kEPERM;
      robbed = session_;
    }
    if (!readable && !admin) return Errno::kEPERM;
    session_ = caller.session;
    SetGroupLocked(caller.group, caller.group_hold);
  }
  if (robbed != 0) jobs_.ClearSessionTty(robbed, *this);
  jobs_.SetControllingTty(ctx, RefPtr<Tty>(this));
  return {};
}

void Tty::MaybeBecomeControlling(CallContext& ctx, bool readable) {
  if (!readable) return;
  JobControl::Caller caller = jobs_.CallerOf(ctx);
  if (!caller.session_leader || session() != 0 || jobs_.ControllingTty(ctx)) return;
  // Losing a race for it is as not getting it (tty_open_proc_set_tty() reports nothing).
  (void)BecomeControlling(ctx, false, readable);
}

// no_tty().
void Tty::Disassociate(CallContext& ctx, const JobControl::Caller& caller) {
  if (!caller.session_leader) {
    jobs_.DropControllingTty(ctx);
    return;
  }
  {
    Change change(*this);
    if (session_ == caller.session && session_ != 0) {
      SignalForeground(kSigHup);
      SignalForeground(kSigCont);
      clear_session_ = session_;
      session_ = 0;
      SetGroupLocked(0, nullptr);
    }
  }
  jobs_.DropControllingTty(ctx);
}

Result<int64_t> Tty::SessionIoctl(CallContext& ctx, uint32_t request, uint64_t arg, bool master,
                                  bool readable) {
  bool is_own = jobs_.ControllingTty(ctx).get() == this;
  JobControl::Caller caller = jobs_.CallerOf(ctx);
  switch (request) {
    case kTiocsctty:
      if (master) return Errno::kENOTTY;
      TRY(BecomeControlling(ctx, arg == 1, readable));
      return int64_t{0};
    case kTiocnotty:
      if (master || !is_own) return Errno::kENOTTY;
      Disassociate(ctx, caller);
      return int64_t{0};
    case kTiocgpgrp:
      if (!master && !is_own) return Errno::kENOTTY;
      return PutInt(ctx, arg, jobs_.ToCaller(ctx, foreground_group()));
    case kTiocgsid: {
      if (!master && !is_own) return Errno::kENOTTY;
      int32_t id = session();
      if (id == 0) return Errno::kENOTTY;
      return PutInt(ctx, arg, jobs_.ToCaller(ctx, id));
    }
    case kTiocspgrp: {
      Result<void> allowed = CheckJob(ctx, kSigTtou);
      if (!allowed.ok())
        return allowed.error() == Errno::kEIO ? Errno::kENOTTY : allowed.error();
      int32_t wanted = TRY(ctx.CopyInObject<int32_t>(GuestAddr(arg)));
      if (wanted < 0) return Errno::kEINVAL;
      if (!is_own || caller.session == 0 || session() != caller.session) return Errno::kENOTTY;
      ProcessId group = jobs_.FromCaller(ctx, wanted);
      if (group.number == 0 || !jobs_.GroupExists(group.number)) return Errno::kESRCH;
      if (!jobs_.GroupInSession(group.number, caller.session)) return Errno::kEPERM;
      MutexLock lock(mu_);
      if (session_ != caller.session) return Errno::kENOTTY;
      SetGroupLocked(group.number, std::move(group.hold));
      return int64_t{0};
    }
    default:
      return Errno::kENOTTY;
  }
}

}  // namespace caisson::vfs::tty
