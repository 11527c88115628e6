// The terminal line discipline N_TTY (termios(3), Linux drivers/tty/n_tty.c).
#ifndef CAISSON_VFS_TTY_LINE_DISCIPLINE_H_
#define CAISSON_VFS_TTY_LINE_DISCIPLINE_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/types/span.h"
#include "vfs/tty/termios.h"

namespace caisson::vfs::tty {

// What the discipline does to its terminal. Called under the terminal's lock.
class TerminalSide {
 public:
  // Bytes that Output() takes now; 0 while output is stopped.
  virtual size_t OutputRoom() const = 0;
  virtual void Output(absl::Span<const char> bytes) = 0;  // At most OutputRoom().
  virtual void FlushOutput() = 0;      // Discards what the other side has not read.
  virtual void InputFlushed() = 0;     // Packet mode tells the other side.
  virtual void SignalForeground(int signo) = 0;
  virtual void StopOutput() = 0;
  virtual void StartOutput() = 0;      // No effect after TCXONC's TCOOFF.
  virtual bool output_stopped() const = 0;
  virtual bool stopped_by_ioctl() const = 0;
  virtual void InputReady() = 0;       // Readers have something to look at.

 protected:
  ~TerminalSide() = default;
};

// Cooks input into a 4 KiB buffer, echoes, and cooks output. Not thread-safe: the terminal's lock.
class LineDiscipline {
 public:
  static constexpr size_t kBufferSize = 4096;

  LineDiscipline(const Termios& termios, TerminalSide& side) : t_(termios), side_(side) {}

  // Input from the other side: how many of `bytes` were taken (fewer when the buffer is full).
  size_t Receive(absl::Span<const char> bytes);
  // Output of a program: how many of `bytes` were taken (fewer when there is no room).
  size_t Write(absl::Span<const char> bytes);

  // Whether read(2) has something: a line (or end of file), or enough bytes.
  bool InputAvailable(bool poll) const;
  // Bytes for a read of a canonical line: may be 0 (VEOF). Call if InputAvailable().
  size_t ReadLine(absl::Span<char> to);
  size_t ReadRaw(absl::Span<char> to);
  size_t raw_available() const { return head_ - tail_; }
  size_t Queued() const;  // FIONREAD.

  void FlushInput();      // tcflush(TCIFLUSH).
  // After `t_` was changed from `old`.
  void TermiosChanged(const Termios& old);
  // Echoes that waited for room.
  void ProcessEchoes();
  void Reset();

 private:
  enum EchoOp : uint16_t { kPlain = 0, kControl = 0x100, kEraseTab = 0x200, kSetCanonColumn = 0x300,
                           kMoveBack = 0x400 };
  static constexpr size_t kMaxEchoes = 4096;

  bool canonical() const { return (t_.lflag & kIcanon) != 0; }
  bool L(uint32_t flag) const { return (t_.lflag & flag) != 0; }
  bool I(uint32_t flag) const { return (t_.iflag & flag) != 0; }
  bool O(uint32_t flag) const { return (t_.oflag & flag) != 0; }
  bool Is(uint8_t c, int index) const { return c != 0 && t_.cc[index] == c; }
  bool IsContinuation(uint8_t c) const { return I(kIutf8) && (c & 0xc0) == 0x80; }
  char& At(size_t i) { return buffer_[i % kBufferSize]; }

  void ReceiveChar(uint8_t c);
  void ReceiveLiteral(uint8_t c);
  bool ReceiveFlowControl(uint8_t c);
  bool ReceiveSignal(uint8_t c);
  bool ReceiveCanonical(uint8_t c);
  void EchoAndStore(uint8_t c, bool literal);
  void EndLine(uint8_t c);
  void Put(uint8_t c) {
    if (head_ - tail_ < kBufferSize) At(head_++) = static_cast<char>(c);
  }
  void Signal(int signo, uint8_t c);
  void RestartIfAny();

  void Erase(uint8_t c);
  bool EraseOne(int kind, bool* seen_word);
  void EraseTabEcho();
  void FinishErasing();
  void Echo(uint8_t c);        // As ^X if it is a control character and ECHOCTL.
  void EchoRaw(uint8_t c) { AddEcho(kPlain | c); }
  void AddEcho(uint16_t op);
  bool ProcessEcho(uint16_t op);
  // One byte through OPOST. False if there is no room.
  bool OutputChar(uint8_t c);
  bool Emit(absl::Span<const char> bytes);

  const Termios& t_;
  TerminalSide& side_;

  // A ring: positions grow for ever. [tail_, canon_head_) are whole lines, [canon_head_, head_) is
  // the line being typed; without ICANON only tail_ and head_ count.
  char buffer_[kBufferSize];
  std::bitset<kBufferSize> line_ends_;
  size_t tail_ = 0, canon_head_ = 0, head_ = 0;
  bool literal_next_ = false;
  bool erasing_ = false;  // Between '\' and '/' of ECHOPRT.
  unsigned column_ = 0, canon_column_ = 0;
  std::deque<uint16_t> echoes_;
};

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_LINE_DISCIPLINE_H_
