// Input side of the line discipline.
#include <algorithm>
#include <cctype>

#include "vfs/tty/line_discipline.h"

namespace caisson::vfs::tty {
namespace {

bool IsControl(uint8_t c) { return c < 32 || c == 127; }
bool IsWord(uint8_t c) { return std::isalnum(c) != 0 || c == '_'; }

}  // namespace

size_t LineDiscipline::Receive(absl::Span<const char> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    // n_tty_receive_buf_common(): one place is kept; a line that is too long goes on losing its
    // last character until a newline comes.
    size_t room = kBufferSize - (head_ - tail_);
    if (I(kParmrk)) room = (room + 2) / 3;
    if (room <= 1) {
      if (!canonical() || canon_head_ != tail_) break;
      if (room == 0) --head_;
    }
    ReceiveChar(static_cast<uint8_t>(bytes[done++]));
  }
  ProcessEchoes();
  if ((!canonical() || L(kExtproc)) && done != 0) side_.InputReady();
  return done;
}

void LineDiscipline::ReceiveChar(uint8_t c) {
  bool literal = literal_next_;
  literal_next_ = false;
  if (I(kIstrip)) c &= 0x7f;
  if (I(kIuclc) && L(kIexten) && c < 128) c = static_cast<uint8_t>(std::tolower(c));
  if (L(kExtproc)) return Put(c);
  if (literal) return EchoAndStore(c, true);
  if (I(kIxon) && ReceiveFlowControl(c)) return;
  if (L(kIsig) && ReceiveSignal(c)) return;
  RestartIfAny();
  if (c == '\r') {
    if (I(kIgncr)) return;
    if (I(kIcrnl)) c = '\n';
  } else if (c == '\n' && I(kInlcr)) {
    c = '\r';
  }
  if (canonical() && ReceiveCanonical(c)) return;
  EchoAndStore(c, false);
}

void LineDiscipline::RestartIfAny() {
  if (side_.output_stopped() && !side_.stopped_by_ioctl() && I(kIxon) && I(kIxany)) {
    side_.StartOutput();
    ProcessEchoes();
  }
}

bool LineDiscipline::ReceiveFlowControl(uint8_t c) {
  if (Is(c, kVstart)) {
    side_.StartOutput();
    ProcessEchoes();
    return true;
  }
  if (Is(c, kVstop)) {
    side_.StopOutput();
    return true;
  }
  return false;
}

bool LineDiscipline::ReceiveSignal(uint8_t c) {
  if (Is(c, kVintr)) return Signal(kSigInt, c), true;
  if (Is(c, kVquit)) return Signal(kSigQuit, c), true;
  if (Is(c, kVsusp)) return Signal(kSigTstp, c), true;
  return false;
}

void LineDiscipline::Signal(int signo, uint8_t c) {
  side_.SignalForeground(signo);
  if (!L(kNoflsh)) {
    echoes_.clear();
    side_.FlushOutput();
    FlushInput();
  }
  if (I(kIxon)) side_.StartOutput();
  if (L(kEcho)) Echo(c);
  ProcessEchoes();
}

void LineDiscipline::EchoAndStore(uint8_t c, bool literal) {
  if (L(kEcho)) {
    FinishErasing();
    if (c == '\n' && !literal) {
      EchoRaw('\n');
    } else {
      if (canon_head_ == head_) AddEcho(kSetCanonColumn);
      Echo(c);
    }
  }
  if (c == 0xff && I(kParmrk)) Put(c);
  Put(c);
}

void LineDiscipline::EndLine(uint8_t c) {
  line_ends_.set(head_ % kBufferSize);
  Put(c);
  canon_head_ = head_;
  side_.InputReady();
}

// n_tty_receive_char_canon(): true if `c` was special.
bool LineDiscipline::ReceiveCanonical(uint8_t c) {
  bool extended = L(kIexten);
  if (Is(c, kVerase) || Is(c, kVkill) || (Is(c, kVwerase) && extended)) {
    Erase(c);
    return true;
  }
  if (Is(c, kVlnext) && extended) {
    literal_next_ = true;
    if (L(kEcho)) {
      FinishErasing();
      if (L(kEchoctl)) {
        EchoRaw('^');
        EchoRaw('\b');
      }
    }
    return true;
  }
  if (Is(c, kVreprint) && L(kEcho) && extended) {
    FinishErasing();
    Echo(c);
    EchoRaw('\n');
    for (size_t i = canon_head_; i != head_; ++i) Echo(static_cast<uint8_t>(At(i)));
    return true;
  }
  if (c == '\n') {
    if (L(kEcho) || L(kEchonl)) EchoRaw('\n');
    EndLine(c);
    return true;
  }
  if (Is(c, kVeof)) {
    EndLine(0);  // A line end that is not part of the line.
    return true;
  }
  if (Is(c, kVeol) || (Is(c, kVeol2) && extended)) {
    if (L(kEcho)) {
      if (canon_head_ == head_) AddEcho(kSetCanonColumn);
      Echo(c);
    }
    if (c == 0xff && I(kParmrk)) Put(c);
    EndLine(c);
    return true;
  }
  return false;
}

// eraser().
void LineDiscipline::Erase(uint8_t c) {
  if (head_ == canon_head_) return;
  int kind = kVkill;
  if (Is(c, kVerase)) {
    kind = kVerase;
  } else if (Is(c, kVwerase)) {
    kind = kVwerase;
  } else if (!L(kEcho)) {
    head_ = canon_head_;
    return;
  } else if (!L(kEchok) || !L(kEchoke) || !L(kEchoe)) {
    head_ = canon_head_;
    FinishErasing();
    Echo(t_.cc[kVkill]);
    if (L(kEchok)) EchoRaw('\n');
    return;
  }
  bool seen_word = false;
  while (head_ != canon_head_ && EraseOne(kind, &seen_word)) {
  }
  if (head_ == canon_head_ && L(kEcho)) FinishErasing();
}

// Erases one character, of several bytes with IUTF8. False when the erasing is done.
bool LineDiscipline::EraseOne(int kind, bool* seen_word) {
  size_t head = head_;
  uint8_t c;
  do {
    c = static_cast<uint8_t>(At(--head));
  } while (IsContinuation(c) && head != canon_head_);
  if (IsContinuation(c)) return false;  // Never a part of one.
  if (kind == kVwerase) {
    if (IsWord(c)) {
      *seen_word = true;
    } else if (*seen_word) {
      return false;
    }
  }
  size_t length = head_ - head;
  head_ = head;
  if (L(kEcho)) {
    if (L(kEchoprt)) {
      if (!erasing_) {
        EchoRaw('\\');
        erasing_ = true;
      }
      Echo(c);
      while (--length > 0) {
        EchoRaw(static_cast<uint8_t>(At(++head)));
        AddEcho(kMoveBack);
      }
    } else if (kind == kVerase && !L(kEchoe)) {
      Echo(t_.cc[kVerase]);
    } else if (c == '\t') {
      EraseTabEcho();
    } else {
      if (IsControl(c) && L(kEchoctl))
        for (char e : {'\b', ' ', '\b'}) EchoRaw(e);
      if (!IsControl(c) || L(kEchoctl))
        for (char e : {'\b', ' ', '\b'}) EchoRaw(e);
    }
  }
  return kind != kVerase;
}

// How far back a tab went: characters since the last tab, or since the start of the line.
void LineDiscipline::EraseTabEcho() {
  unsigned characters = 0;
  bool after_tab = false;
  for (size_t i = head_; i != canon_head_;) {
    uint8_t c = static_cast<uint8_t>(At(--i));
    if (c == '\t') {
      after_tab = true;
      break;
    }
    if (IsControl(c)) {
      if (L(kEchoctl)) characters += 2;
    } else if (!IsContinuation(c)) {
      ++characters;
    }
  }
  AddEcho(kEraseTab | (characters & 7) | (after_tab ? 0x80 : 0));
}

void LineDiscipline::FinishErasing() {
  if (!erasing_) return;
  EchoRaw('/');
  erasing_ = false;
}

bool LineDiscipline::InputAvailable(bool poll) const {
  if (canonical() && !L(kExtproc)) return canon_head_ != tail_;
  size_t amount = poll && t_.cc[kVtime] == 0 && t_.cc[kVmin] != 0 ? t_.cc[kVmin] : 1;
  return head_ - tail_ >= amount;
}

// canon_copy_from_read_buf().
size_t LineDiscipline::ReadLine(absl::Span<char> to) {
  size_t n = 0;
  while (tail_ != canon_head_) {
    bool end = line_ends_.test(tail_ % kBufferSize);
    char c = At(tail_);
    if (end && c == 0) {  // VEOF, also right after the last byte that was asked for.
      line_ends_.reset(tail_++ % kBufferSize);
      break;
    }
    if (n == to.size()) break;
    to[n++] = c;
    line_ends_.reset(tail_++ % kBufferSize);
    if (end) break;
  }
  return n;
}

size_t LineDiscipline::ReadRaw(absl::Span<char> to) {
  size_t n = std::min(to.size(), head_ - tail_);
  for (size_t i = 0; i < n; ++i) to[i] = At(tail_++);
  if (canon_head_ < tail_) canon_head_ = tail_;
  return n;
}

size_t LineDiscipline::Queued() const {
  if (!canonical() || L(kExtproc)) return head_ - tail_;
  size_t n = 0;
  for (size_t i = tail_; i != canon_head_; ++i) {
    if (!line_ends_.test(i % kBufferSize) || buffer_[i % kBufferSize] != 0) ++n;
  }
  return n;
}

void LineDiscipline::FlushInput() {
  tail_ = canon_head_ = head_ = 0;
  line_ends_.reset();
  erasing_ = false;
  side_.InputFlushed();
}

void LineDiscipline::Reset() {
  tail_ = canon_head_ = head_ = 0;
  line_ends_.reset();
  erasing_ = literal_next_ = false;
  column_ = canon_column_ = 0;
  echoes_.clear();
}

// n_tty_set_termios().
void LineDiscipline::TermiosChanged(const Termios& old) {
  if (((old.lflag ^ t_.lflag) & (kIcanon | kExtproc)) != 0) {
    line_ends_.reset();
    if (!canonical() || head_ == tail_) {
      canon_head_ = tail_;
    } else {
      // What is there becomes a line without a newline.
      line_ends_.set((head_ - 1) % kBufferSize);
      canon_head_ = head_;
    }
    erasing_ = false;
    literal_next_ = false;
  }
  if (!I(kIxon) && (old.iflag & kIxon) != 0 && !side_.stopped_by_ioctl()) {
    side_.StartOutput();
    ProcessEchoes();
  }
  side_.InputReady();
}

}  // namespace caisson::vfs::tty
