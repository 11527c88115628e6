#include "vfs/tty/tty.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "auth/credentials.h"

namespace caisson::vfs::tty {

Tty::Tty(JobControl& jobs, uint32_t index)
    : jobs_(jobs), index_(index), line_(termios_, *this) {}

Tty::~Tty() = default;

Tty::Change::Change(Tty& tty) : tty_(tty) { tty_.mu_.Lock(); }

Tty::Change::~Change() {
  EventMask slave = std::exchange(tty_.slave_events_, 0);
  EventMask master = std::exchange(tty_.master_events_, 0);
  int32_t clear = std::exchange(tty_.clear_session_, 0);
  std::vector<PendingSignal> signals;
  signals.swap(tty_.signals_);
  tty_.mu_.Unlock();
  if (slave != 0) tty_.slave_queue_.Notify(slave);
  if (master != 0) tty_.master_queue_.Notify(master);
  if (clear != 0) tty_.jobs_.ClearSessionTty(clear, tty_);
  for (const PendingSignal& s : signals) {
    if (s.group != 0) {
      tty_.jobs_.SignalGroup(s.session, s.group, s.signo);
    } else {
      tty_.jobs_.SignalSessionLeader(s.session, s.signo);
    }
  }
}

size_t Tty::OutputRoom() const {
  size_t held = to_master_.size() - to_master_at_;
  return stopped_ || held >= kQueueLimit ? 0 : kQueueLimit - held;
}

void Tty::Output(absl::Span<const char> bytes) {
  if (master_closed_) return;
  to_master_.append(bytes.data(), bytes.size());
  master_events_ |= kReadable;
}

void Tty::FlushOutput() {
  to_master_.clear();
  to_master_at_ = 0;
  slave_events_ |= kWritable;
  PacketLocked(kPacketFlushWrite, 0);
}

void Tty::InputFlushed() {
  raw_input_.clear();
  master_events_ |= kWritable;
  PacketLocked(kPacketFlushRead, 0);
}

void Tty::PacketLocked(uint8_t set, uint8_t clear) {
  if (!packet_mode_) return;
  packet_status_ = (packet_status_ & ~clear) | set;
  master_events_ |= kReadable | kEventPri;
}

void Tty::SignalForeground(int signo) {
  if (group_ != 0) signals_.push_back({session_, group_, signo});
}

void Tty::StopOutput() {
  if (stopped_) return;
  stopped_ = true;
  PacketLocked(kPacketStop, kPacketStart);
}

void Tty::StartOutput() {
  if (!stopped_ || tco_stopped_) return;
  stopped_ = false;
  PacketLocked(kPacketStart, kPacketStop);
  slave_events_ |= kWritable;
}

void Tty::InputReady() { slave_events_ |= kReadable; }

int32_t Tty::session() const {
  MutexLock lock(mu_);
  return session_;
}

int32_t Tty::foreground_group() const {
  MutexLock lock(mu_);
  return group_;
}

WindowSize Tty::window_size() const {
  MutexLock lock(mu_);
  return window_;
}

void Tty::Unlock() {
  MutexLock lock(mu_);
  locked_ = false;
}

void Tty::SetWindowSize(const WindowSize& size) {
  Change change(*this);
  if (size == window_) return;
  window_ = size;
  SignalForeground(kSigWinch);
}

// __tty_hangup().
void Tty::HangupLocked(bool session_exits) {
  ++generation_;
  if (session_ != 0) {
    clear_session_ = session_;
    signals_.push_back({session_, 0, kSigHup});
    signals_.push_back({session_, 0, kSigCont});
    if (session_exits && group_ != 0) signals_.push_back({session_, group_, kSigHup});
  }
  session_ = 0;
  SetGroupLocked(0, nullptr);
  stopped_ = tco_stopped_ = exclusive_ = false;
  termios_ = Termios();
  line_.Reset();
  raw_input_.clear();
  slave_events_ |= kReadable | kWritable | kEventHup | kEventErr;
}

void Tty::OnSessionLeaderExit(int32_t session) {
  Change change(*this);
  if (session != 0 && session_ == session) HangupLocked(true);
}

Result<uint64_t> Tty::OpenSlave(CallContext& ctx) {
  MutexLock lock(mu_);
  if (locked_ || master_closed_) return Errno::kEIO;
  if (exclusive_ && !ctx.creds().HasRootCapability(auth::Capability::kSysAdmin))
    return Errno::kEBUSY;
  ++slaves_;
  slave_gone_ = false;
  return generation_;
}

void Tty::CloseSlave() {
  Change change(*this);
  if (--slaves_ != 0) return;
  slave_gone_ = true;
  exclusive_ = false;
  master_events_ |= kEventHup | kReadable;
}

void Tty::CloseMaster() {
  Change change(*this);
  master_closed_ = true;
  to_master_.clear();
  to_master_at_ = 0;
  HangupLocked(false);
}

Result<void> Tty::CheckJob(CallContext& ctx, int signo) {
  if (jobs_.ControllingTty(ctx).get() != this) return {};
  int32_t foreground = foreground_group();
  if (foreground == 0 || jobs_.CallerOf(ctx).group == foreground) return {};
  if (jobs_.CallerIgnores(ctx, signo)) {
    if (signo == kSigTtin) return Errno::kEIO;
    return {};
  }
  if (jobs_.CallerOrphaned(ctx)) return Errno::kEIO;
  ctx.SendSignal(signo, true);
  return Errno::kERESTARTSYS;
}

// n_tty_read().
Result<size_t> Tty::Read(CallContext& ctx, IoBuffer& to, uint64_t generation, bool nonblock,
                         bool timed_out) {
  {
    MutexLock lock(mu_);
    if (DeadLocked(generation)) return size_t{0};
  }
  TRY(CheckJob(ctx, kSigTtin));
  __attribute__((uninitialized)) char bounce[LineDiscipline::kBufferSize];
  size_t want = std::min(to.remaining(), sizeof(bounce)), n = 0;
  if (want == 0) return size_t{0};
  {
    Change change(*this);
    if (DeadLocked(generation)) return size_t{0};
    if ((termios_.lflag & kIcanon) != 0) {
      if (!line_.InputAvailable(false)) return Errno::kEAGAIN;
      n = line_.ReadLine({bounce, want});
    } else {
      size_t available = line_.raw_available();
      size_t min = termios_.cc[kVmin], time = termios_.cc[kVtime];
      if (available == 0) {
        // VMIN 0: what is there, after waiting for VTIME at most.
        if (min == 0 && (time == 0 || timed_out)) return size_t{0};
        return Errno::kEAGAIN;
      }
      if (available < std::min(min, want) && !nonblock && !timed_out) return Errno::kEAGAIN;
      n = line_.ReadRaw({bounce, want});
    }
    FeedLocked();
    if (line_.InputAvailable(true)) slave_events_ |= kReadable;  // For those who wait beside us.
    master_events_ |= kWritable;
  }
  return to.Put({bounce, n});
}

int64_t Tty::ReadDeadline(int64_t since, uint64_t generation) const {
  MutexLock lock(mu_);
  if (DeadLocked(generation) || (termios_.lflag & kIcanon) != 0 || termios_.cc[kVtime] == 0)
    return time::kNever;
  int64_t wait = int64_t{termios_.cc[kVtime]} * 100'000'000;
  if (termios_.cc[kVmin] == 0) return since + wait;
  // Between bytes only: without the first one there is no limit.
  if (line_.raw_available() == 0) return time::kNever;
  return std::max(since, last_input_) + wait;
}

Result<size_t> Tty::Write(CallContext& ctx, IoBuffer& from, uint64_t generation) {
  bool tostop;
  {
    MutexLock lock(mu_);
    if (DeadLocked(generation)) return Errno::kEIO;
    tostop = (termios_.lflag & kTostop) != 0;
  }
  if (tostop) TRY(CheckJob(ctx, kSigTtou));
  size_t done = 0;
  while (from.remaining() != 0) {
    __attribute__((uninitialized)) char bounce[2048];
    Result<size_t> taken = from.Take({bounce, sizeof(bounce)});
    if (!taken.ok()) {
      if (done != 0) break;
      return taken;
    }
    size_t written;
    {
      Change change(*this);
      if (DeadLocked(generation)) {
        from.Rewind(*taken);
        if (done != 0) break;
        return Errno::kEIO;
      }
      written = line_.Write({bounce, *taken});
    }
    done += written;
    if (written < *taken) {
      from.Rewind(*taken - written);
      break;
    }
  }
  if (done == 0 && from.remaining() != 0) return Errno::kEAGAIN;
  return done;
}

EventMask Tty::SlaveReadiness(uint64_t generation) const {
  MutexLock lock(mu_);
  if (DeadLocked(generation)) return kReadable | kWritable | kEventErr | kEventHup;
  EventMask events = 0;
  if (line_.InputAvailable(true)) events |= kReadable;
  if (OutputRoom() != 0) events |= kWritable;
  return events;
}

size_t Tty::InputLocked(absl::Span<const char> bytes) {
  size_t room = kQueueLimit - std::min(kQueueLimit, raw_input_.size());
  size_t n = std::min(room, bytes.size());
  if (n == 0) return 0;
  last_input_ = time::MonotonicNow();
  size_t direct = raw_input_.empty() ? line_.Receive(bytes.first(n)) : 0;
  raw_input_.append(bytes.data() + direct, n - direct);
  return n;
}

void Tty::FeedLocked() {
  if (raw_input_.empty()) return;
  // A signal character among them clears raw_input_, so it is taken out first.
  std::string waiting = std::move(raw_input_);
  raw_input_.clear();
  size_t n = line_.Receive(waiting);
  if (n < waiting.size()) raw_input_.append(waiting, n);
}

size_t Tty::Input(absl::Span<const char> bytes) {
  Change change(*this);
  return InputLocked(bytes);
}

Result<size_t> Tty::WriteMaster(IoBuffer& from) {
  size_t done = 0;
  while (from.remaining() != 0) {
    __attribute__((uninitialized)) char bounce[2048];
    Result<size_t> taken = from.Take({bounce, sizeof(bounce)});
    if (!taken.ok()) {
      if (done != 0) break;
      return taken;
    }
    size_t n = Input({bounce, *taken});
    done += n;
    if (n < *taken) {
      from.Rewind(*taken - n);
      break;
    }
  }
  if (done == 0 && from.remaining() != 0) return Errno::kEAGAIN;
  return done;
}

bool Tty::MasterHasInputLocked() const {
  return to_master_.size() != to_master_at_ || (packet_mode_ && packet_status_ != 0);
}

size_t Tty::TakeOutput(absl::Span<char> to) {
  Change change(*this);
  size_t n = std::min(to.size(), to_master_.size() - to_master_at_);
  memcpy(to.data(), to_master_.data() + to_master_at_, n);
  to_master_at_ += n;
  if (to_master_at_ == to_master_.size()) {
    to_master_.clear();
    to_master_at_ = 0;
  } else if (to_master_at_ >= kQueueLimit / 2) {
    to_master_.erase(0, to_master_at_);
    to_master_at_ = 0;
  }
  if (n != 0) {
    slave_events_ |= kWritable;
    line_.ProcessEchoes();
    // Echoes that were waiting for room may leave room for input that waits too.
    FeedLocked();
  }
  return n;
}

Result<size_t> Tty::ReadMaster(IoBuffer& to) {
  if (to.remaining() == 0) return size_t{0};
  bool packet;
  {
    MutexLock lock(mu_);
    if (!MasterHasInputLocked()) {
      if (slave_gone_) return Errno::kEIO;
      return Errno::kEAGAIN;
    }
    packet = packet_mode_;
    if (packet && packet_status_ != 0) {
      char status = static_cast<char>(std::exchange(packet_status_, 0));
      MutexUnlock unlocked(mu_);
      return to.Put({&status, 1});
    }
  }
  size_t done = 0;
  if (packet) {
    const char data = 0;  // TIOCPKT_DATA.
    done = TRY(to.Put({&data, 1}));
  }
  __attribute__((uninitialized)) char bounce[4096];
  while (to.remaining() != 0) {
    size_t n = TakeOutput({bounce, std::min(sizeof(bounce), to.remaining())});
    if (n == 0) break;
    Result<size_t> put = to.Put({bounce, n});
    if (!put.ok()) {
      if (done != 0) break;
      return put;
    }
    done += *put;
    if (*put < n) break;
  }
  if (done == 0) return Errno::kEAGAIN;  // Another reader was faster.
  return done;
}

EventMask Tty::MasterReadiness() const {
  MutexLock lock(mu_);
  EventMask events = 0;
  if (MasterHasInputLocked()) events |= kReadable;
  if (packet_mode_ && packet_status_ != 0) events |= kEventPri;
  if (slave_gone_) events |= kEventHup;
  if (raw_input_.size() < kQueueLimit) events |= kWritable;
  return events;
}

}  // namespace caisson::vfs::tty
