// Pseudoterminals and the line discipline: pty(7), termios(3), ioctl_tty(2).
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "test/util/process_util.h"
#include "test/util/pty_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

class PtyTest : public testing::Test {
 protected:
  PtyTest() { pty_.SetEcho(false); }
  void Type(const std::string& text) { ASSERT_TRUE(WriteAll(pty_.master, text)); }
  std::string ReadTerminal() { return ReadOnce(pty_.terminal); }
  std::string ReadMaster() { return ReadOnce(pty_.master); }
  // Whether the descriptor is readable now.
  bool Readable(int fd) {
    pollfd poller = {fd, POLLIN, 0};
    return poll(&poller, 1, 0) == 1;
  }
  Pty pty_;
};

TEST_F(PtyTest, TerminalIsATtyWithAName) {
  EXPECT_EQ(isatty(pty_.terminal), 1);
  EXPECT_EQ(isatty(pty_.master), 1);
  struct stat st;
  ASSERT_THAT(stat(pty_.name.c_str(), &st), SyscallSucceeds());
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(major(st.st_rdev), 136u);
}

TEST_F(PtyTest, LockedTerminalCannotBeOpened) {
  FdCloser master(open("/dev/ptmx", O_RDWR | O_NOCTTY));
  int number = -1;
  ASSERT_THAT(ioctl(master, TIOCGPTN, &number), SyscallSucceeds());
  EXPECT_THAT(open(("/dev/pts/" + std::to_string(number)).c_str(), O_RDWR | O_NOCTTY),
              SyscallFailsWithErrno(EIO));
}

TEST_F(PtyTest, CanonicalInputWaitsForALine) {
  Type("abc");
  EXPECT_FALSE(Readable(pty_.terminal));
  Type("\n");
  EXPECT_TRUE(Readable(pty_.terminal));
  EXPECT_EQ(ReadTerminal(), "abc\n");
}

TEST_F(PtyTest, CanonicalReadReturnsOneLineAtATime) {
  Type("one\ntwo\n");
  EXPECT_EQ(ReadTerminal(), "one\n");
  EXPECT_EQ(ReadTerminal(), "two\n");
}

TEST_F(PtyTest, LineLongerThanTheBufferComesInPieces) {
  Type("abcdef\n");
  EXPECT_EQ(ReadOnce(pty_.terminal, 4), "abcd");
  EXPECT_EQ(ReadOnce(pty_.terminal, 4), "ef\n");
}

TEST_F(PtyTest, EraseAndKillEditTheLine) {
  Type(
      "abx\x7f"
      "c\n");
  EXPECT_EQ(ReadTerminal(), "abc\n");
  Type("garbage\x15good\n");
  EXPECT_EQ(ReadTerminal(), "good\n");
}

TEST_F(PtyTest, WordErase) {
  Type("keep this\x17that\n");
  EXPECT_EQ(ReadTerminal(), "keep that\n");
}

TEST_F(PtyTest, LiteralNextQuotesASpecialCharacter) {
  Type(
      "a\x16\x7f"
      "b\n");
  EXPECT_EQ(ReadTerminal(),
            "a\x7f"
            "b\n");
}

TEST_F(PtyTest, EofEndsAPartialLineAndAloneIsEndOfFile) {
  Type("part\x04");
  EXPECT_EQ(ReadTerminal(), "part");
  Type("\x04");
  char byte;
  EXPECT_THAT(read(pty_.terminal, &byte, 1), SyscallSucceedsWithValue(0));
}

TEST_F(PtyTest, CarriageReturnBecomesNewline) {
  Type("x\r");
  EXPECT_EQ(ReadTerminal(), "x\n");
}

TEST_F(PtyTest, OutputNewlineGetsACarriageReturn) {
  ASSERT_TRUE(WriteAll(pty_.terminal, "a\nb"));
  EXPECT_EQ(ReadMaster(), "a\r\nb");
}

TEST_F(PtyTest, EchoReturnsWhatIsTyped) {
  pty_.SetEcho(true);
  Type("hi\n");
  EXPECT_EQ(ReadMaster(), "hi\r\n");
}

TEST_F(PtyTest, EchoOfEraseBlanksTheCharacter) {
  pty_.SetEcho(true);
  Type("a\x7f\n");
  EXPECT_EQ(ReadMaster(), "a\b \b\r\n");
}

TEST_F(PtyTest, ControlCharactersEchoWithACaret) {
  pty_.SetEcho(true);
  Type("\x01\n");
  EXPECT_EQ(ReadMaster(), "^A\r\n");
}

TEST_F(PtyTest, RawModePassesEveryByte) {
  pty_.MakeRaw();
  Type("\x03\x04\x7f\r");
  EXPECT_EQ(ReadTerminal(), "\x03\x04\x7f\r");
  ASSERT_TRUE(WriteAll(pty_.terminal, "\n"));
  EXPECT_EQ(ReadMaster(), "\n");
}

TEST_F(PtyTest, VminIsTheLeastARawReadReturns) {
  pty_.MakeRaw();
  termios settings = pty_.Get();
  settings.c_cc[VMIN] = 3;
  settings.c_cc[VTIME] = 0;
  ASSERT_THAT(pty_.Set(settings), SyscallSucceeds());
  Type("ab");
  Child reader([&] { EXPECT_EQ(ReadTerminal(), "abc"); });
  ASSERT_TRUE(WaitUntilSleeping(reader.pid()));
  Type("c");
  EXPECT_THAT(reader.Wait(), ExitsWith(0));
}

TEST_F(PtyTest, VminAndVtimeOfZeroNeverBlock) {
  pty_.MakeRaw();
  termios settings = pty_.Get();
  settings.c_cc[VMIN] = 0;
  settings.c_cc[VTIME] = 0;
  ASSERT_THAT(pty_.Set(settings), SyscallSucceeds());
  char byte;
  EXPECT_THAT(read(pty_.terminal, &byte, 1), SyscallSucceedsWithValue(0));
}

TEST_F(PtyTest, VtimeEndsARawReadWithNothing) {
  pty_.MakeRaw();
  termios settings = pty_.Get();
  settings.c_cc[VMIN] = 0;
  settings.c_cc[VTIME] = 1;
  ASSERT_THAT(pty_.Set(settings), SyscallSucceeds());
  char byte;
  EXPECT_THAT(read(pty_.terminal, &byte, 1), SyscallSucceedsWithValue(0));
}

TEST_F(PtyTest, SettingsAreReadBack) {
  termios settings = pty_.Get();
  EXPECT_TRUE(settings.c_lflag & ICANON);
  EXPECT_EQ(settings.c_cc[VINTR], 3);
  settings.c_cc[VINTR] = 'q';
  settings.c_lflag &= ~ICANON;
  ASSERT_THAT(pty_.Set(settings), SyscallSucceeds());
  EXPECT_EQ(pty_.Get().c_cc[VINTR], 'q');
  EXPECT_FALSE(pty_.Get().c_lflag & ICANON);
}

TEST_F(PtyTest, WindowSizeIsShared) {
  winsize size = {50, 132, 0, 0}, read_back = {};
  ASSERT_THAT(ioctl(pty_.master, TIOCSWINSZ, &size), SyscallSucceeds());
  ASSERT_THAT(ioctl(pty_.terminal, TIOCGWINSZ, &read_back), SyscallSucceeds());
  EXPECT_EQ(read_back.ws_row, 50);
  EXPECT_EQ(read_back.ws_col, 132);
}

TEST_F(PtyTest, ClosedTerminalIsEioForTheMaster) {
  pty_.terminal.Close();
  char byte;
  EXPECT_THAT(read(pty_.master, &byte, 1), SyscallFailsWithErrno(EIO));
  pollfd poller = {pty_.master, POLLIN, 0};
  EXPECT_THAT(poll(&poller, 1, 0), SyscallSucceedsWithValue(1));
  EXPECT_TRUE(poller.revents & POLLHUP);
}

TEST_F(PtyTest, ClosedMasterIsEndOfFileForReadsAndEioForWrites) {
  pty_.master.Close();
  char byte = 0;
  EXPECT_THAT(read(pty_.terminal, &byte, 1), SyscallSucceedsWithValue(0));
  EXPECT_THAT(write(pty_.terminal, &byte, 1), SyscallFailsWithErrno(EIO));
}

TEST_F(PtyTest, FlushDropsPendingInput) {
  Type("lost\n");
  ASSERT_TRUE(Readable(pty_.terminal));
  ASSERT_THAT(tcflush(pty_.terminal, TCIFLUSH), SyscallSucceeds());
  EXPECT_FALSE(Readable(pty_.terminal));
}

TEST_F(PtyTest, FionreadCountsFinishedLines) {
  Type("abcd\n");
  ASSERT_TRUE(Readable(pty_.terminal));
  int count = 0;
  ASSERT_THAT(ioctl(pty_.terminal, FIONREAD, &count), SyscallSucceeds());
  EXPECT_EQ(count, 5);
}

TEST_F(PtyTest, OrdinaryFileIsNotATty) {
  TempFile file;
  FdCloser fd = file.Open(O_RDWR);
  termios settings;
  EXPECT_THAT(ioctl(fd, TCGETS, &settings), SyscallFailsWithErrno(ENOTTY));
}

}  // namespace
}  // namespace caisson::test
