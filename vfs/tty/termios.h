// Terminal settings and ioctl numbers of x86-64 Linux (termios(3), ioctl_tty(2)).
#ifndef CAISSON_VFS_TTY_TERMIOS_H_
#define CAISSON_VFS_TTY_TERMIOS_H_

#include <cstdint>

namespace caisson::vfs::tty {

// c_iflag.
inline constexpr uint32_t kIgnbrk = 0000001, kBrkint = 0000002, kIgnpar = 0000004,
                          kParmrk = 0000010, kInpck = 0000020, kIstrip = 0000040,
                          kInlcr = 0000100, kIgncr = 0000200, kIcrnl = 0000400, kIuclc = 0001000,
                          kIxon = 0002000, kIxany = 0004000, kIxoff = 0010000, kImaxbel = 0020000,
                          kIutf8 = 0040000;
// c_oflag.
inline constexpr uint32_t kOpost = 0000001, kOlcuc = 0000002, kOnlcr = 0000004, kOcrnl = 0000010,
                          kOnocr = 0000020, kOnlret = 0000040, kTabdly = 0014000,
                          kXtabs = 0014000;
// c_cflag.
inline constexpr uint32_t kCs8 = 0000060, kCsize = 0000060, kCread = 0000200, kParenb = 0000400,
                          kHupcl = 0002000, kClocal = 0004000, kB38400 = 0000017,
                          kCbaud = 0010017, kBother = 0010000, kCibaudShift = 16;
// c_lflag.
inline constexpr uint32_t kIsig = 0000001, kIcanon = 0000002, kXcase = 0000004, kEcho = 0000010,
                          kEchoe = 0000020, kEchok = 0000040, kEchonl = 0000100,
                          kNoflsh = 0000200, kTostop = 0000400, kEchoctl = 0001000,
                          kEchoprt = 0002000, kEchoke = 0004000, kFlusho = 0010000,
                          kPendin = 0040000, kIexten = 0100000, kExtproc = 0200000;
// Indices of c_cc.
inline constexpr int kVintr = 0, kVquit = 1, kVerase = 2, kVkill = 3, kVeof = 4, kVtime = 5,
                     kVmin = 6, kVswtc = 7, kVstart = 8, kVstop = 9, kVsusp = 10, kVeol = 11,
                     kVreprint = 12, kVdiscard = 13, kVwerase = 14, kVlnext = 15, kVeol2 = 16;
inline constexpr int kControlChars = 19;

// struct termios2 of the kernel; struct termios is its first 36 bytes.
struct Termios {
  uint32_t iflag = kIcrnl | kIxon;
  uint32_t oflag = kOpost | kOnlcr;
  uint32_t cflag = kB38400 | kCs8 | kCread | kHupcl;
  uint32_t lflag = kIsig | kIcanon | kEcho | kEchoe | kEchok | kEchoctl | kEchoke | kIexten;
  uint8_t line = 0;
  // INIT_C_CC: "\003\034\177\025\004\0\1\0\021\023\032\0\022\017\027\026\0".
  uint8_t cc[kControlChars] = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0};
  uint32_t ispeed = 38400;
  uint32_t ospeed = 38400;
};
inline constexpr int kTermiosSize = 36;
static_assert(sizeof(Termios) == 44);

// struct termio: TCGETA and its kind.
struct Termio {
  uint16_t iflag, oflag, cflag, lflag;
  uint8_t line;
  uint8_t cc[8];
  uint8_t pad;
};
static_assert(sizeof(Termio) == 18);

struct WindowSize {
  uint16_t rows = 0, columns = 0, x_pixels = 0, y_pixels = 0;
  friend bool operator==(const WindowSize&, const WindowSize&) = default;
};
static_assert(sizeof(WindowSize) == 8);

inline constexpr uint32_t kTcgets = 0x5401, kTcsets = 0x5402, kTcsetsw = 0x5403, kTcsetsf = 0x5404,
                          kTcgeta = 0x5405, kTcseta = 0x5406, kTcsetaw = 0x5407, kTcsetaf = 0x5408,
                          kTcsbrk = 0x5409, kTcxonc = 0x540a, kTcflsh = 0x540b, kTiocexcl = 0x540c,
                          kTiocnxcl = 0x540d, kTiocsctty = 0x540e, kTiocgpgrp = 0x540f,
                          kTiocspgrp = 0x5410, kTiocoutq = 0x5411, kTiocsti = 0x5412,
                          kTiocgwinsz = 0x5413, kTiocswinsz = 0x5414, kTiocmget = 0x5415,
                          kTiocgsoftcar = 0x5419, kTiocssoftcar = 0x541a, kFionread = 0x541b,
                          kTioccons = 0x541d, kTiocpkt = 0x5420, kFionbio = 0x5421,
                          kTiocnotty = 0x5422, kTiocsetd = 0x5423, kTiocgetd = 0x5424,
                          kTcsbrkp = 0x5425, kTiocsbrk = 0x5427, kTioccbrk = 0x5428,
                          kTiocgsid = 0x5429, kTcgets2 = 0x802c542a, kTcsets2 = 0x402c542b,
                          kTcsetsw2 = 0x402c542c, kTcsetsf2 = 0x402c542d, kTiocgptn = 0x80045430,
                          kTiocsptlck = 0x40045431, kTiocgdev = 0x80045432,
                          kTiocsig = 0x40045436, kTiocvhangup = 0x5437, kTiocgpkt = 0x80045438,
                          kTiocgptlck = 0x80045439, kTiocgexcl = 0x80045440,
                          kTiocgptpeer = 0x5441;

// Status bytes of packet mode (TIOCPKT).
inline constexpr uint8_t kPacketFlushRead = 1, kPacketFlushWrite = 2, kPacketStop = 4,
                         kPacketStart = 8, kPacketNoStop = 16, kPacketDoStop = 32,
                         kPacketIoctl = 64;

inline constexpr int kSigHup = 1, kSigInt = 2, kSigQuit = 3, kSigCont = 18, kSigTstp = 20,
                     kSigTtin = 21, kSigTtou = 22, kSigWinch = 28;

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_TERMIOS_H_
