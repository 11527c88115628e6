#include "syscalls/trace.h"

#include <cstring>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "sentry/signal/signal.h"
#include "syscalls/trace_names.h"

namespace caisson::syscalls {
namespace {

using kernel::SyscallResult;
using kernel::Task;

// How an argument is shown.
enum class Show : uint8_t {
  kEnd, kInt, kUnsigned, kLong, kUlong, kHex, kOctal, kAddress, kFd, kPath, kSignal,
  kOpen, kOpenBits, kProt, kMap, kRemap, kMsync, kAdvice, kAccess, kAt, kAccessAt, kUnlink, kRename, kStatx, kClone, kFutex, kFcntl, kFcntlValue,
  kIoctl, kSeek, kClock, kTimer, kWait, kWaitId, kRlimit, kSigmask, kDomain, kSocket, kMessage, kShutdown, kLevel, kEpoll, kRandom,
  kEventfd, kMemfd, kFlock, kMount, kUmount, kArch, kPrctl,
  kBytes,      // Of as many bytes as the next argument says.
  kAddressOf,  // A sockaddr; likewise.
  kStrings,    // argv.
  kCount,      // How many strings there are: envp.
  kSigset, kSigaction, kTimespec, kEpollEvent, kCloneArgs,
  kPoll, kIovecs,  // Of as many entries as the next argument says.
  // What the call fills in.
  kBytesOut,  // Of as many bytes as it returns.
  kStringOut, kStat, kFdPair, kStatus, kTimespecOut, kSigsetOut, kRlimitOut, kPidOut,
};

struct Line {
  int number;
  Show show[7];
};

using enum Show;
constexpr Line kLines[] = {
    {0, {kFd, kBytesOut, kUlong}}, {1, {kFd, kBytes, kUlong}}, {2, {kPath, kOpen, kOctal}}, {4, {kPath, kStat}}, {5, {kFd, kStat}}, {6, {kPath, kStat}},
    {7, {kPoll, kUnsigned, kInt}},    {8, {kFd, kLong, kSeek}}, {9, {kAddress, kUlong, kProt, kMap, kFd, kHex}}, {10, {kAddress, kUlong, kProt}},
    {13, {kSignal, kSigaction, kAddress, kUlong}}, {14, {kSigmask, kSigset, kSigsetOut, kUlong}}, {16, {kFd, kIoctl, kHex}},
    {17, {kFd, kBytesOut, kUlong, kLong}}, {18, {kFd, kBytes, kUlong, kLong}}, {20, {kFd, kIovecs, kUlong}}, {21, {kPath, kAccess}}, {22, {kFdPair}},
    {25, {kAddress, kUlong, kUlong, kRemap, kAddress}}, {26, {kAddress, kUlong, kMsync}}, {28, {kAddress, kUlong, kAdvice}},
    {35, {kTimespec, kTimespecOut}}, {41, {kDomain, kSocket, kInt}}, {42, {kFd, kAddressOf, kUnsigned}},
    {44, {kFd, kBytes, kUlong, kMessage, kAddressOf, kUnsigned}}, {45, {kFd, kBytesOut, kUlong, kMessage, kAddress, kAddress}},
    {46, {kFd, kAddress, kMessage}}, {47, {kFd, kAddress, kMessage}}, {48, {kFd, kShutdown}}, {49, {kFd, kAddressOf, kUnsigned}},
    {53, {kDomain, kSocket, kInt, kFdPair}}, {54, {kFd, kLevel, kInt, kBytes, kUnsigned}}, {55, {kFd, kLevel, kInt, kAddress, kAddress}},
    {56, {kClone, kAddress, kAddress, kAddress, kAddress}}, {59, {kPath, kStrings, kCount}}, {61, {kInt, kStatus, kWait, kAddress}},
    {72, {kFd, kFcntl, kFcntlValue}}, {73, {kFd, kFlock}}, {79, {kStringOut, kUlong}}, {89, {kPath, kBytesOut, kUlong}},
    {97, {kRlimit, kRlimitOut}}, {127, {kSigsetOut, kUlong}}, {128, {kSigset, kAddress, kTimespec, kUlong}}, {130, {kSigset, kUlong}},
    {157, {kPrctl, kHex, kHex, kHex, kHex}}, {158, {kArch, kHex}}, {160, {kRlimit, kAddress}}, {165, {kPath, kPath, kPath, kMount, kAddress}},
    {166, {kPath, kUmount}}, {170, {kBytes, kUlong}}, {188, {kPath, kPath, kBytes, kUlong, kHex}}, {190, {kFd, kPath, kBytes, kUlong, kHex}},
    {191, {kPath, kPath, kBytesOut, kUlong}}, {192, {kPath, kPath, kBytesOut, kUlong}}, {193, {kFd, kPath, kBytesOut, kUlong}},
    {202, {kAddress, kFutex, kUnsigned, kAddress, kAddress, kHex}}, {227, {kClock, kTimespec}}, {228, {kClock, kTimespecOut}},
    {229, {kClock, kTimespecOut}}, {230, {kClock, kTimer, kTimespec, kTimespecOut}}, {233, {kFd, kEpoll, kFd, kEpollEvent}},
    {247, {kWaitId, kInt, kAddress, kWait, kAddress}}, {257, {kFd, kPath, kOpen, kOctal}}, {260, {kFd, kPath, kInt, kInt, kAt}},
    {262, {kFd, kPath, kStat, kAt}}, {263, {kFd, kPath, kUnlink}}, {265, {kFd, kPath, kFd, kPath, kAt}}, {267, {kFd, kPath, kBytesOut, kUlong}},
    {269, {kFd, kPath, kAccess}}, {271, {kPoll, kUnsigned, kTimespec, kSigset, kUlong}}, {272, {kClone}}, {280, {kFd, kPath, kAddress, kAt}}, {283, {kClock, kOpenBits}}, {288, {kFd, kAddress, kAddress, kSocket}},
    {289, {kFd, kSigset, kUlong, kOpenBits}}, {290, {kUnsigned, kEventfd}}, {291, {kOpenBits}}, {292, {kFd, kFd, kOpenBits}}, {293, {kFdPair, kOpenBits}}, {294, {kOpenBits}},
    {302, {kInt, kRlimit, kAddress, kRlimitOut}}, {308, {kFd, kClone}}, {316, {kFd, kPath, kFd, kPath, kRename}}, {318, {kAddress, kUlong, kRandom}},
    {319, {kPath, kMemfd}}, {322, {kFd, kPath, kStrings, kCount, kAt}}, {332, {kFd, kPath, kAt, kStatx, kAddress}}, {434, {kInt, kOpenBits}}, {435, {kCloneArgs, kUlong}},
    {439, {kFd, kPath, kAccess, kAccessAt}},
};

const Line* Find(int number) {
  for (const Line& line : kLines) {
    if (line.number == number) return &line;
  }
  return nullptr;
}

bool IsFilledIn(Show show) { return show >= kBytesOut; }

std::string Hex(uint64_t v) { return absl::StrCat("0x", absl::Hex(v)); }
std::string Address(uint64_t v) { return v == 0 ? "NULL" : Hex(v); }

// Names of the bits, and what is left of them in hexadecimal.
std::string Bits(absl::Span<const TraceName> names, uint64_t v) {
  if (v == 0) return names.back().value == 0 ? names.back().name : "0";
  std::string out;
  for (const TraceName& n : names) {
    if (n.value == 0 || (v & n.value) != n.value) continue;
    absl::StrAppend(&out, out.empty() ? "" : "|", n.name);
    v &= ~n.value;
  }
  if (v != 0) absl::StrAppend(&out, out.empty() ? "" : "|", Hex(v));
  return out;
}

// O_RDONLY is 0.
std::string OpenFlags(uint64_t v) {
  constexpr uint64_t kAccessMode = 3;
  if ((v & kAccessMode) != 0) return Bits(kOpenNames, v);
  return v == 0 ? "O_RDONLY" : absl::StrCat("O_RDONLY|", Bits(kOpenNames, v));
}

// At most `size` bytes, quoted; nothing if they cannot be read. What is not printed shows as "...".
std::optional<std::string> Quoted(Task& task, uint64_t address, uint64_t size) {
  constexpr uint64_t kShown = 48;
  char data[kShown];
  const uint64_t n = std::min(size, kShown);
  if (!task.memory().CopyIn(GuestAddr(address), absl::MakeSpan(data, n)).ok()) return std::nullopt;
  return absl::StrCat("\"", absl::CEscape(absl::string_view(data, n)), "\"", n < size ? "..." : "");
}

std::string Text(Task& task, uint64_t address) {
  constexpr size_t kShown = 256;
  Result<std::string> text = task.memory().CopyInString(GuestAddr(address), kShown);
  return text.ok() ? absl::StrCat("\"", absl::CEscape(*text), "\"") : Address(address);
}

template <typename T>
std::optional<T> Read(Task& task, uint64_t address) {
  if (address == 0) return std::nullopt;
  Result<T> value = task.Read<T>(GuestAddr(address));
  if (!value.ok()) return std::nullopt;
  return *value;
}

std::string Strings(Task& task, uint64_t address) {
  constexpr int kShown = 16;
  std::string out = "[";
  for (int i = 0; i < kShown; ++i) {
    std::optional<uint64_t> at = Read<uint64_t>(task, address + static_cast<uint64_t>(i) * 8);
    if (!at) return Address(address);
    if (*at == 0) return out + "]";
    absl::StrAppend(&out, i == 0 ? "" : ", ", Text(task, *at));
  }
  return out + ", ...]";
}

std::string Count(Task& task, uint64_t address) {
  constexpr int kMost = 10000;
  for (int i = 0; i < kMost; ++i) {
    std::optional<uint64_t> at = Read<uint64_t>(task, address + static_cast<uint64_t>(i) * 8);
    if (!at) break;
    if (*at == 0) return absl::StrCat(Hex(address), " /* ", i, " vars */");
  }
  return Address(address);
}

std::string SignalName(int signo) {
  constexpr int kFirstRealTime = 32;
  return signo < kFirstRealTime ? signal::Name(signo) : absl::StrCat("SIGRT_", signo - kFirstRealTime);
}

std::string Sigset(uint64_t set) {
  std::string out = "[";
  const bool most = __builtin_popcountll(set) > 32;
  for (int signo = 1; signo <= 64; ++signo) {
    if (((set & signal::Bit(signo)) != 0) == most) continue;
    absl::StrAppend(&out, out.size() == 1 ? "" : " ", SignalName(signo).substr(3));
  }
  return absl::StrCat(most ? "~" : "", out, "]");
}

std::string Sigaction(Task& task, uint64_t address) {
  struct Action {
    uint64_t handler, flags, restorer, mask;
  };
  std::optional<Action> a = Read<Action>(task, address);
  if (!a) return Address(address);
  const std::string handler = a->handler == 0 ? "SIG_DFL" : a->handler == 1 ? "SIG_IGN" : Hex(a->handler);
  return absl::StrCat("{sa_handler=", handler, ", sa_mask=", Sigset(a->mask), ", sa_flags=", Bits(kSigactionNames, a->flags), "}");
}

std::string SocketAddress(Task& task, uint64_t address, uint64_t size) {
  constexpr uint64_t kUnixMax = 110;
  char data[kUnixMax] = {};
  const uint64_t n = std::min(size, kUnixMax);
  if (address == 0 || n < 2 || !task.memory().CopyIn(GuestAddr(address), absl::MakeSpan(data, n)).ok()) return Address(address);
  uint16_t family = 0;
  memcpy(&family, data, sizeof(family));
  std::string out = absl::StrCat("{sa_family=", NameOf(kDomainNames, family));
  if (family == 1 && n > 2) {
    const bool abstract = data[2] == '\0';
    absl::string_view path(data + 2, n - 2);
    path = abstract ? path.substr(1) : path.substr(0, path.find('\0'));
    absl::StrAppend(&out, ", sun_path=", abstract ? "@" : "", "\"", absl::CEscape(path), "\"");
  }
  return out + "}";
}

std::string Stat(Task& task, uint64_t address) {
  struct Head {  // Of struct stat, x86-64.
    uint64_t dev, ino, nlink;
    uint32_t mode, uid, gid, pad;
    uint64_t rdev;
    int64_t size;
  };
  std::optional<Head> s = Read<Head>(task, address);
  if (!s) return Address(address);
  constexpr TraceName kTypes[] = {{0140000, "S_IFSOCK"}, {0120000, "S_IFLNK"}, {0100000, "S_IFREG"}, {060000, "S_IFBLK"},
                                  {040000, "S_IFDIR"},   {020000, "S_IFCHR"},  {010000, "S_IFIFO"}};
  char permissions[8];
  snprintf(permissions, sizeof(permissions), "0%o", s->mode & 07777);
  return absl::StrCat("{st_mode=", NameOf(kTypes, s->mode & 0170000), "|", permissions, ", st_size=", s->size, ", ...}");
}

std::string Status(Task& task, uint64_t address, int64_t result) {
  std::optional<int32_t> status = result > 0 ? Read<int32_t>(task, address) : std::nullopt;
  if (!status) return Address(address);
  const int32_t s = *status;
  if (s == 0xffff) return "[{WIFCONTINUED(s)}]";
  if ((s & 0xff) == 0x7f) return absl::StrCat("[{WIFSTOPPED(s) && WSTOPSIG(s) == ", SignalName((s >> 8) & 0x7f), "}]");
  if ((s & 0x7f) == 0) return absl::StrCat("[{WIFEXITED(s) && WEXITSTATUS(s) == ", (s >> 8) & 0xff, "}]");
  return absl::StrCat("[{WIFSIGNALED(s) && WTERMSIG(s) == ", SignalName(s & 0x7f), (s & 0x80) != 0 ? " && WCOREDUMP(s)" : "", "}]");
}

struct Pair {
  int64_t first, second;
};

std::string Timespec(Task& task, uint64_t address) {
  std::optional<Pair> t = Read<Pair>(task, address);
  return t ? absl::StrCat("{tv_sec=", t->first, ", tv_nsec=", t->second, "}") : Address(address);
}

std::string Rlimit(Task& task, uint64_t address) {
  std::optional<Pair> l = Read<Pair>(task, address);
  auto one = [](int64_t v) { return v == -1 ? "RLIM64_INFINITY" : absl::StrCat(static_cast<uint64_t>(v)); };
  return l ? absl::StrCat("{rlim_cur=", one(l->first), ", rlim_max=", one(l->second), "}") : Address(address);
}

std::string FdPair(Task& task, uint64_t address) {
  struct Ends {
    int32_t first, second;
  };
  std::optional<Ends> ends = Read<Ends>(task, address);
  return ends ? absl::StrCat("[", ends->first, ", ", ends->second, "]") : Address(address);
}

std::string Futex(uint64_t v) {
  constexpr uint64_t kPrivate = 128, kRealtime = 256;
  std::string out = NameOf(kFutexNames, v & ~(kPrivate | kRealtime) & 0xffffffff);
  if ((v & kPrivate) != 0) out += "_PRIVATE";
  if ((v & kRealtime) != 0) out += "|FUTEX_CLOCK_REALTIME";
  return out;
}

std::string CloneFlags(uint64_t v) {
  constexpr uint64_t kSignal = 0xff;
  const int signo = static_cast<int>(v & kSignal);
  std::string out = (v & ~kSignal) == 0 && signo != 0 ? "" : Bits(kCloneNames, v & ~kSignal);
  if (signo != 0) absl::StrAppend(&out, out.empty() ? "" : "|", signo <= 64 ? SignalName(signo) : absl::StrCat(signo));
  return out;
}

std::string EpollEvent(Task& task, uint64_t address) {
  struct Event {
    uint32_t events;
    uint32_t data[2];
  };
  std::optional<Event> e = Read<Event>(task, address);
  if (!e) return Address(address);
  return absl::StrCat("{events=", Bits(kEpollEventNames, e->events), ", data=", Hex(e->data[0] | uint64_t{e->data[1]} << 32), "}");
}

// struct clone_args, as far as every version of it has it.
std::string CloneArgs(Task& task, uint64_t address) {
  struct Head {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size;
  };
  std::optional<Head> a = Read<Head>(task, address);
  if (!a) return Address(address);
  return absl::StrCat("{flags=", Bits(kCloneNames, a->flags), ", exit_signal=", a->exit_signal > 64 ? Hex(a->exit_signal) : a->exit_signal == 0 ? "0" : SignalName(static_cast<int>(a->exit_signal)),
                      ", stack=", Address(a->stack), ", stack_size=", Hex(a->stack_size), "}");
}

constexpr uint64_t kShownEntries = 8;

std::string Poll(Task& task, uint64_t address, uint64_t count) {
  struct Entry {
    int32_t fd;
    int16_t events, returned;
  };
  std::string out = "[";
  for (uint64_t i = 0; i < std::min(count, kShownEntries); ++i) {
    std::optional<Entry> e = Read<Entry>(task, address + i * sizeof(Entry));
    if (!e) return Address(address);
    absl::StrAppend(&out, i == 0 ? "" : ", ", "{fd=", e->fd, ", events=", Bits(kPollNames, static_cast<uint16_t>(e->events)), "}");
  }
  return absl::StrCat(out, count > kShownEntries ? ", ...]" : "]");
}

std::string Iovecs(Task& task, uint64_t address, uint64_t count) {
  struct Iovec {
    uint64_t base, length;
  };
  std::string out = "[";
  for (uint64_t i = 0; i < std::min(count, kShownEntries); ++i) {
    std::optional<Iovec> v = Read<Iovec>(task, address + i * sizeof(Iovec));
    if (!v) return Address(address);
    absl::StrAppend(&out, i == 0 ? "" : ", ", "{iov_base=", Quoted(task, v->base, v->length).value_or(Hex(v->base)), ", iov_len=", v->length, "}");
  }
  return absl::StrCat(out, count > kShownEntries ? ", ...]" : "]");
}

std::string FcntlValue(uint64_t command, uint64_t v) {
  switch (command) {
    case 1: case 3: case 9: case 11: case 1025: case 1032: case 1034: return "";  // F_GETFD and its like take none.
    case 2: return v == 1 ? "FD_CLOEXEC" : Hex(v);
    case 4: return OpenFlags(v);
    case 0: case 1030: case 1031: return absl::StrCat(v);
    default: return Hex(v);
  }
}

// What a call has filled in. `returned` is not negative.
std::string FilledIn(Task& task, Show show, uint64_t v, int64_t returned) {
  switch (show) {
    case kBytesOut: return returned == 0 ? "\"\"" : Quoted(task, v, static_cast<uint64_t>(returned)).value_or(Address(v));
    case kStringOut: return Text(task, v);
    case kStat: return Stat(task, v);
    case kFdPair: return FdPair(task, v);
    case kStatus: return Status(task, v, returned);
    case kTimespecOut: return Timespec(task, v);
    case kRlimitOut: return Rlimit(task, v);
    case kSigsetOut: {
      std::optional<uint64_t> set = Read<uint64_t>(task, v);
      return set ? Sigset(*set) : Address(v);
    }
    default: return Address(v);
  }
}

// `v` is the argument, `next` the one after and `before` the one before it.
std::string Shown(Task& task, Show show, uint64_t v, uint64_t before, uint64_t next) {
  constexpr int64_t kAtFdcwd = -100;
  const uint64_t low = v & 0xffffffff;
  switch (show) {
    case kInt: return absl::StrCat(static_cast<int32_t>(v));
    case kUnsigned: return absl::StrCat(low);
    case kLong: return absl::StrCat(static_cast<int64_t>(v));
    case kUlong: return absl::StrCat(v);
    case kHex: return v == 0 ? "0" : Hex(v);
    case kFd: return static_cast<int32_t>(v) == kAtFdcwd ? "AT_FDCWD" : absl::StrCat(static_cast<int32_t>(v));
    case kOctal: {
      char text[16];
      snprintf(text, sizeof(text), "0%o", static_cast<unsigned>(low));
      return text;
    }
    case kPath: return Text(task, v);
    case kSignal: return low > 0 && low <= 64 ? SignalName(static_cast<int>(low)) : absl::StrCat(static_cast<int32_t>(v));
    case kOpen: return OpenFlags(low);
    case kOpenBits: return Bits(kOpenNames, low);
    case kProt: return Bits(kProtNames, low);
    case kMap: return Bits(kMapNames, low);
    case kRemap: return Bits(kRemapNames, low);
    case kMsync: return Bits(kMsyncNames, low);
    case kAdvice: return NameOf(kAdviceNames, low);
    case kAccess: return Bits(kAccessNames, low);
    case kAt: return Bits(kAtNames, low);
    case kAccessAt: return Bits(kAccessAtNames, low);
    case kUnlink: return Bits(kUnlinkNames, low);
    case kRename: return Bits(kRenameNames, low);
    case kStatx: return Bits(kStatxNames, low);
    case kClone: return CloneFlags(low);
    case kFutex: return Futex(low);
    case kFcntl: return NameOf(kFcntlNames, low);
    case kFcntlValue: return FcntlValue(before & 0xffffffff, v);
    case kIoctl: return NameOf(kIoctlNames, low);
    case kSeek: return NameOf(kSeekNames, low);
    case kClock: return NameOf(kClockNames, low);
    case kTimer: return Bits(kTimerNames, low);
    case kWait: return Bits(kWaitNames, low);
    case kWaitId: return NameOf(kWaitIdNames, low);
    case kRlimit: return NameOf(kRlimitNames, low);
    case kSigmask: return NameOf(kSigmaskNames, low);
    case kDomain: return NameOf(kDomainNames, low);
    case kSocket: return Bits(kSocketNames, low);
    case kMessage: return Bits(kMessageNames, low);
    case kShutdown: return NameOf(kShutdownNames, low);
    case kLevel: return NameOf(kLevelNames, low);
    case kEpoll: return NameOf(kEpollNames, low);
    case kRandom: return Bits(kRandomNames, low);
    case kEventfd: return Bits(kEventfdNames, low);
    case kMemfd: return Bits(kMemfdNames, low);
    case kFlock: return Bits(kFlockNames, low);
    case kMount: return Bits(kMountNames, v);
    case kUmount: return Bits(kUmountNames, low);
    case kArch: return NameOf(kArchNames, low);
    case kPrctl: return NameOf(kPrctlNames, low);
    case kBytes: return v == 0 ? "NULL" : Quoted(task, v, next).value_or(Hex(v));
    case kAddressOf: return SocketAddress(task, v, next & 0xffffffff);
    case kStrings: return Strings(task, v);
    case kCount: return Count(task, v);
    case kSigaction: return Sigaction(task, v);
    case kTimespec: return Timespec(task, v);
    case kEpollEvent: return EpollEvent(task, v);
    case kCloneArgs: return CloneArgs(task, v);
    case kPoll: return Poll(task, v, next & 0xffffffff);
    case kIovecs: return Iovecs(task, v, next);
    case kSigset: {
      std::optional<uint64_t> set = Read<uint64_t>(task, v);
      return set ? Sigset(*set) : Address(v);
    }
    default: return Address(v);
  }
}

bool ReturnsAddress(int number) {
  constexpr int kMmap = 9, kBrk = 12, kMremap = 25, kShmat = 30;
  return number == kMmap || number == kBrk || number == kMremap || number == kShmat;
}

}  // namespace

std::string NameOf(absl::Span<const TraceName> names, uint64_t v) {
  for (const TraceName& n : names) {
    if (n.value == v) return n.name;
  }
  return Hex(v);
}

bool FillsIn(int number) {
  const Line* line = Find(number);
  if (line == nullptr) return false;
  for (Show show : line->show) {
    if (IsFilledIn(show)) return true;
  }
  return false;
}

bool FormatArguments(Task& task, int number, const SyscallResult* result, std::string* out) {
  const Line* line = Find(number);
  if (line == nullptr) return false;
  const platform::Registers& regs = task.regs();
  constexpr size_t kArguments = 6;
  const int64_t returned = result != nullptr && result->ok() ? result->value() : -1;
  for (size_t i = 0; i < kArguments && line->show[i] != kEnd; ++i) {
    const Show show = line->show[i];
    const uint64_t v = regs.arg(i);
    // A mode says something where there may be a new file.
    constexpr uint64_t kCreates = 0100 | 020000000;
    if (show == kOctal && i > 0 && line->show[i - 1] == kOpen && (regs.arg(i - 1) & kCreates) == 0) break;
    std::string text = IsFilledIn(show) && returned >= 0
                           ? FilledIn(task, show, v, returned)
                           : Shown(task, show, v, i > 0 ? regs.arg(i - 1) : 0, i + 1 < kArguments ? regs.arg(i + 1) : 0);
    if (text.empty()) continue;
    absl::StrAppend(out, i == 0 ? "" : ", ", text);
  }
  return true;
}

std::string FormatSignal(const signal::Info& info) {
  constexpr TraceName kCodes[] = {{0, "SI_USER"}, {0x80, "SI_KERNEL"}};
  std::string out = absl::StrCat(SignalName(info.signo), " {si_code=");
  if (info.signo == signal::kSIGCHLD && info.code >= signal::kCldExited) {
    constexpr const char* kChild[] = {"", "CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"};
    return absl::StrCat(out, static_cast<size_t>(info.code) < std::size(kChild) ? kChild[info.code] : "?", ", si_pid=", info.child.pid,
                        ", si_uid=", info.child.uid, ", si_status=", info.child.status, "}");
  }
  if (info.code == signal::kSiQueue || info.code == signal::kSiTkill || info.code == signal::kSiUser) {
    const char* name = info.code == signal::kSiQueue ? "SI_QUEUE" : info.code == signal::kSiTkill ? "SI_TKILL" : "SI_USER";
    return absl::StrCat(out, name, ", si_pid=", info.rt.pid, ", si_uid=", info.rt.uid, "}");
  }
  if (info.code == signal::kSiTimer) return absl::StrCat(out, "SI_TIMER, si_timerid=", info.timer.timer_id, "}");
  if ((signal::Bit(info.signo) & signal::kSynchronous) != 0 && info.code > 0 && info.code < signal::kSiKernel)
    return absl::StrCat(out, info.code, ", si_addr=", Address(info.fault.address), "}");
  return absl::StrCat(out, NameOf(kCodes, static_cast<uint32_t>(info.code)), "}");
}

std::string FormatResult(int number, const SyscallResult& result) {
  if (result.ok()) {
    const int64_t v = result.value();
    return ReturnsAddress(number) ? Hex(static_cast<uint64_t>(v)) : absl::StrCat(v);
  }
  switch (result.error()) {
    case Errno::kERESTARTSYS: return "? ERESTARTSYS (To be restarted if SA_RESTART is set)";
    case Errno::kERESTARTNOINTR: return "? ERESTARTNOINTR (To be restarted)";
    case Errno::kERESTARTNOHAND: return "? ERESTARTNOHAND (To be restarted if no handler)";
    case Errno::kERESTART_RESTARTBLOCK: return "? ERESTART_RESTARTBLOCK (Interrupted by signal)";
    default: break;
  }
  const char* text = strerrordesc_np(static_cast<int>(result.error()));
  return absl::StrCat("-1 ", std::string(ErrnoName(result.error())), " (", text != nullptr ? text : "?", ")");
}

}  // namespace caisson::syscalls
