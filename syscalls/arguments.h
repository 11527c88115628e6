// Argument types of system calls. Each decodes itself from a register and prints itself for
// strace, so that a line of table.inc is prototype, trace format and documentation in one.
#ifndef CAISSON_SYSCALLS_ARGUMENTS_H_
#define CAISSON_SYSCALLS_ARGUMENTS_H_

#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/guest_addr.h"
#include "sentry/kernel/task.h"

namespace caisson::syscalls {

using kernel::SyscallResult;
using kernel::Task;

// A descriptor number; negative ones are refused where the call refuses them.
struct Fd {
  int32_t value;
};
inline constexpr int32_t kAtFdcwd = -100;

// A guest pointer to a T that the call reads, or writes. Read exactly once.
template <typename T>
struct InPtr {
  GuestAddr address;
  bool is_null() const { return address.is_null(); }
  Result<T> Read(Task& task) const { return task.Read<T>(address); }
};
template <typename T>
struct OutPtr {
  GuestAddr address;
  bool is_null() const { return address.is_null(); }
  Result<void> Write(Task& task, const T& value) const { return task.Write(address, value); }
};
template <typename T>
struct InOutPtr {
  GuestAddr address;
  bool is_null() const { return address.is_null(); }
  Result<T> Read(Task& task) const { return task.Read<T>(address); }
  Result<void> Write(Task& task, const T& value) const { return task.Write(address, value); }
};
// A NUL-terminated path.
struct PathPtr {
  GuestAddr address;
  bool is_null() const { return address.is_null(); }
  Result<std::string> Read(Task& task, bool allow_empty = false) const {
    return task.ReadPath(address, allow_empty);
  }
};
// Numbers that are printed in octal (modes) or hexadecimal (flags).
struct Mode {
  uint32_t value;
};
struct Flags {
  uint32_t value;
};
struct SignalNumber {
  int32_t value;
};

template <typename T>
struct Argument;

template <>
struct Argument<Fd> {
  static Fd Decode(uint64_t v) { return {static_cast<int32_t>(v)}; }
  static void Format(Task&, Fd fd, std::string* out) {
    absl::StrAppend(out, fd.value == kAtFdcwd ? "AT_FDCWD" : absl::StrCat(fd.value));
  }
};
template <>
struct Argument<GuestAddr> {
  static GuestAddr Decode(uint64_t v) { return GuestAddr(v); }
  static void Format(Task&, GuestAddr a, std::string* out) {
    absl::StrAppend(out, a.is_null() ? "NULL" : absl::StrCat("0x", absl::Hex(a.value)));
  }
};
#define CAISSON_INTEGER_ARGUMENT(T)                                            \
  template <>                                                                  \
  struct Argument<T> {                                                         \
    static T Decode(uint64_t v) { return static_cast<T>(v); }                  \
    static void Format(Task&, T v, std::string* out) { absl::StrAppend(out, v); } \
  }
CAISSON_INTEGER_ARGUMENT(int32_t);
CAISSON_INTEGER_ARGUMENT(uint32_t);
CAISSON_INTEGER_ARGUMENT(int64_t);
CAISSON_INTEGER_ARGUMENT(uint64_t);
#undef CAISSON_INTEGER_ARGUMENT
template <>
struct Argument<Mode> {
  static Mode Decode(uint64_t v) { return {static_cast<uint32_t>(v)}; }
  static void Format(Task&, Mode m, std::string* out) {
    char text[16];
    snprintf(text, sizeof(text), "0%o", m.value);
    absl::StrAppend(out, text);
  }
};
template <>
struct Argument<Flags> {
  static Flags Decode(uint64_t v) { return {static_cast<uint32_t>(v)}; }
  static void Format(Task&, Flags f, std::string* out) {
    absl::StrAppend(out, f.value == 0 ? "0" : absl::StrCat("0x", absl::Hex(f.value)));
  }
};
template <>
struct Argument<SignalNumber> {
  static SignalNumber Decode(uint64_t v) { return {static_cast<int32_t>(v)}; }
  static void Format(Task&, SignalNumber s, std::string* out) {
    absl::StrAppend(out, s.value > 0 && s.value < 32 ? signal::Name(s.value) : absl::StrCat(s.value));
  }
};
template <>
struct Argument<PathPtr> {
  static PathPtr Decode(uint64_t v) { return {GuestAddr(v)}; }
  static void Format(Task& task, PathPtr p, std::string* out) {
    constexpr size_t kShown = 256;
    Result<std::string> text = task.memory().CopyInString(p.address, kShown);
    if (text.ok()) absl::StrAppend(out, "\"", absl::CHexEscape(*text), "\"");
    else absl::StrAppend(out, p.is_null() ? "NULL" : absl::StrCat("0x", absl::Hex(p.address.value)));
  }
};
template <typename P>
struct PointerArgument {
  static P Decode(uint64_t v) { return {GuestAddr(v)}; }
  static void Format(Task& task, P p, std::string* out) {
    Argument<GuestAddr>::Format(task, p.address, out);
  }
};
template <typename T>
struct Argument<InPtr<T>> : PointerArgument<InPtr<T>> {};
template <typename T>
struct Argument<OutPtr<T>> : PointerArgument<OutPtr<T>> {};
template <typename T>
struct Argument<InOutPtr<T>> : PointerArgument<InOutPtr<T>> {};

}  // namespace caisson::syscalls

#endif  // CAISSON_SYSCALLS_ARGUMENTS_H_
