// Output side of the line discipline: OPOST and echoes.
#include <algorithm>
#include <cctype>

#include "vfs/tty/line_discipline.h"

namespace caisson::vfs::tty {
namespace {

bool IsControl(uint8_t c) { return c < 32 || c == 127; }

}  // namespace

bool LineDiscipline::Emit(absl::Span<const char> bytes) {
  if (side_.OutputRoom() < bytes.size()) return false;
  side_.Output(bytes);
  return true;
}

// do_output_char().
bool LineDiscipline::OutputChar(uint8_t c) {
  char out = static_cast<char>(c);
  if (!O(kOpost)) return Emit({&out, 1});
  switch (c) {
    case '\n':
      if (O(kOnlcr)) {
        if (!Emit({"\r\n", 2})) return false;
        canon_column_ = column_ = 0;
        return true;
      }
      if (!Emit({&out, 1})) return false;
      if (O(kOnlret)) column_ = 0;
      canon_column_ = column_;
      return true;
    case '\r':
      if (O(kOnocr) && column_ == 0) return true;
      if (O(kOcrnl)) {
        if (!Emit({"\n", 1})) return false;
        if (O(kOnlret)) canon_column_ = column_ = 0;
        return true;
      }
      if (!Emit({&out, 1})) return false;
      canon_column_ = column_ = 0;
      return true;
    case '\t': {
      unsigned spaces = 8 - (column_ & 7);
      if ((t_.oflag & kTabdly) == kXtabs) {
        if (!Emit({"        ", spaces})) return false;
      } else if (!Emit({&out, 1})) {
        return false;
      }
      column_ += spaces;
      return true;
    }
    case '\b':
      if (!Emit({&out, 1})) return false;
      if (column_ > 0) --column_;
      return true;
    default:
      if (IsControl(c)) return Emit({&out, 1});
      if (O(kOlcuc) && c < 128) out = static_cast<char>(std::toupper(c));
      if (!Emit({&out, 1})) return false;
      if (!IsContinuation(c)) ++column_;
      return true;
  }
}

size_t LineDiscipline::Write(absl::Span<const char> bytes) {
  ProcessEchoes();
  size_t done = 0;
  if (!O(kOpost)) {
    done = std::min(bytes.size(), side_.OutputRoom());
    if (done != 0) side_.Output(bytes.first(done));
    return done;
  }
  while (done < bytes.size()) {
    // Runs of plain characters go at once.
    size_t run = done, room = side_.OutputRoom();
    while (run < bytes.size() && run - done < room && !IsControl(static_cast<uint8_t>(bytes[run])) &&
           !O(kOlcuc)) {
      if (!IsContinuation(static_cast<uint8_t>(bytes[run]))) ++column_;
      ++run;
    }
    if (run != done) {
      side_.Output(bytes.subspan(done, run - done));
      done = run;
      continue;
    }
    if (!OutputChar(static_cast<uint8_t>(bytes[done]))) break;
    ++done;
  }
  return done;
}

void LineDiscipline::Echo(uint8_t c) {
  bool control = L(kEchoctl) && IsControl(c) && c != '\t';
  AddEcho((control ? kControl : kPlain) | c);
}

void LineDiscipline::AddEcho(uint16_t op) {
  if (echoes_.size() >= kMaxEchoes) echoes_.pop_front();
  echoes_.push_back(op);
}

void LineDiscipline::ProcessEchoes() {
  while (!echoes_.empty() && ProcessEcho(echoes_.front())) echoes_.pop_front();
}

// One operation of __process_echoes(). False if there is no room for all of it.
bool LineDiscipline::ProcessEcho(uint16_t op) {
  uint8_t c = op & 0xff;
  switch (op & 0xff00) {
    case kSetCanonColumn:
      canon_column_ = column_;
      return true;
    case kMoveBack:
      if (column_ > 0) --column_;
      return true;
    case kControl: {
      const char text[2] = {'^', static_cast<char>(c ^ 0x40)};
      if (!Emit(text)) return false;
      column_ += 2;
      return true;
    }
    case kEraseTab: {
      unsigned characters = c & 0x7f;
      if ((c & 0x80) == 0) characters += canon_column_;  // The tab was the line's first.
      unsigned back = 8 - (characters & 7);
      if (!Emit({"\b\b\b\b\b\b\b\b", back})) return false;
      column_ = column_ > back ? column_ - back : 0;
      return true;
    }
    default:
      return OutputChar(c);
  }
}

}  // namespace caisson::vfs::tty
