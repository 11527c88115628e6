#include "vfs/tty/line_discipline.h"

#include <string>

#include <gtest/gtest.h>

namespace caisson::vfs::tty {
namespace {

class LineDisciplineTest : public ::testing::Test, public TerminalSide {
 protected:
  size_t Type(absl::string_view text) { return line_.Receive({text.data(), text.size()}); }
  std::string Line(size_t n = 4096) {
    std::string to(n, '\0');
    to.resize(line_.ReadLine(absl::MakeSpan(to)));
    return to;
  }
  std::string Raw(size_t n = 4096) {
    std::string to(n, '\0');
    to.resize(line_.ReadRaw(absl::MakeSpan(to)));
    return to;
  }
  std::string Echo() { return std::exchange(output_, ""); }
  std::string Print(absl::string_view text) {
    EXPECT_EQ(line_.Write({text.data(), text.size()}), text.size());
    return Echo();
  }
  void Change(uint32_t iflag, uint32_t oflag, uint32_t lflag) {
    Termios old = t_;
    t_.iflag = iflag;
    t_.oflag = oflag;
    t_.lflag = lflag;
    line_.TermiosChanged(old);
  }

  size_t OutputRoom() const override { return stopped_ ? 0 : room_ - output_.size(); }
  void Output(absl::Span<const char> b) override { output_.append(b.data(), b.size()); }
  void FlushOutput() override { output_.clear(); }
  void InputFlushed() override {}
  void SignalForeground(int signo) override { signal_ = signo; }
  void StopOutput() override { stopped_ = true; }
  void StartOutput() override { stopped_ = false; }
  bool output_stopped() const override { return stopped_; }
  bool stopped_by_ioctl() const override { return false; }
  void InputReady() override {}

  Termios t_;
  LineDiscipline line_{t_, *this};
  std::string output_;
  size_t room_ = 8192;
  bool stopped_ = false;
  int signal_ = 0;
};

TEST_F(LineDisciplineTest, ALineIsReadableWhenItIsWhole) {
  Type("hel");
  EXPECT_FALSE(line_.InputAvailable(false));
  Type("lo\rnext");
  EXPECT_TRUE(line_.InputAvailable(false));
  EXPECT_EQ(line_.Queued(), 6u);
  EXPECT_EQ(Line(2), "he");
  EXPECT_EQ(Line(), "llo\n");
  EXPECT_FALSE(line_.InputAvailable(false));
  EXPECT_EQ(Echo(), "hello\r\nnext");
}

TEST_F(LineDisciplineTest, EndOfFile) {
  Type("ab\x04");
  EXPECT_EQ(Line(2), "ab");  // The mark after the last byte goes with it.
  EXPECT_FALSE(line_.InputAvailable(false));
  Type("\x04");
  EXPECT_TRUE(line_.InputAvailable(false));
  EXPECT_EQ(Line(), "");
  EXPECT_FALSE(line_.InputAvailable(false));
}

TEST_F(LineDisciplineTest, EraseWordAndKill) {
  Type("abc\x7f");
  EXPECT_EQ(Echo(), "abc\b \b");
  Type(" foo_1 bar\x17");
  EXPECT_EQ(Echo(), " foo_1 bar\b \b\b \b\b \b");
  Type("x\n");
  EXPECT_EQ(Line(), "ab foo_1 x\n");
  Echo();
  Type("zz\x15ok\n");
  EXPECT_EQ(Echo(), "zz\b \b\b \bok\r\n");
  EXPECT_EQ(Line(), "ok\n");
}

TEST_F(LineDisciplineTest, EraseOfControlTabAndUtf8) {
  Type("\x01\x7f");
  EXPECT_EQ(Echo(), "^A\b \b\b \b");
  Type("ab\t\x7f");
  EXPECT_EQ(Echo(), "ab\t\b\b\b\b\b\b");
  t_.iflag |= kIutf8;
  Type("\xc3\xa9\x7f\n");
  EXPECT_EQ(Echo(), "\xc3\xa9\b \b\r\n");
  EXPECT_EQ(Line(), "ab\n");
}

TEST_F(LineDisciplineTest, LiteralNextAndReprint) {
  Type("a\x16\x03");
  EXPECT_EQ(Echo(), "a^\b^C");
  EXPECT_EQ(signal_, 0);
  Type("\x12");
  EXPECT_EQ(Echo(), "^R\r\na^C");
  Type("\n");
  EXPECT_EQ(Line(), "a\x03\n");
}

TEST_F(LineDisciplineTest, SignalsFlushUnlessTold) {
  Type("abc\x03");
  EXPECT_EQ(signal_, kSigInt);
  EXPECT_EQ(Echo(), "^C");
  Type("d\n");
  EXPECT_EQ(Line(), "d\n");
  t_.lflag |= kNoflsh;
  Type("abc\x1c\n");
  EXPECT_EQ(signal_, kSigQuit);
  EXPECT_EQ(Line(), "abc\n");
  Type("\x1a");
  EXPECT_EQ(signal_, kSigTstp);
}

TEST_F(LineDisciplineTest, FlowControlHoldsOutputAndEchoes) {
  Type("\x13");
  EXPECT_TRUE(stopped_);
  EXPECT_EQ(line_.Write({"out", 3}), 0u);
  Type("e");
  EXPECT_EQ(Echo(), "");
  Type("\x11");
  EXPECT_EQ(Echo(), "e");
  Type("\x13");
  t_.iflag |= kIxany;
  Type("x");
  EXPECT_EQ(Echo(), "x");
}

TEST_F(LineDisciplineTest, OutputProcessing) {
  EXPECT_EQ(Print("a\nb\tc"), "a\r\nb\tc");
  Change(kIcrnl, kOpost | kXtabs, t_.lflag);
  EXPECT_EQ(Print("\rab\tc\n\t"), "\rab      c\n       ");  // The newline keeps the column.
  Change(kIcrnl, kOpost | kOcrnl | kOnlret | kOnocr, t_.lflag);
  EXPECT_EQ(Print("x\r\r"), "x\n");  // The second is at column 0.
  Change(kIcrnl, 0, t_.lflag);
  EXPECT_EQ(Print("a\nb\t"), "a\nb\t");
}

TEST_F(LineDisciplineTest, InputMapping) {
  Change(kInlcr | kIgncr | kIstrip, kOpost, kIcanon);
  Type("a\r\xe2\n");  // IGNCR drops the first; INLCR makes the last a '\r', which ends no line.
  EXPECT_FALSE(line_.InputAvailable(false));
  Type("\x04");
  EXPECT_EQ(Line(), "ab\r");
}

TEST_F(LineDisciplineTest, RawInputAndMinimum) {
  Change(0, 0, 0);
  t_.cc[kVmin] = 3;
  Type("ab");
  EXPECT_TRUE(line_.InputAvailable(false));
  EXPECT_FALSE(line_.InputAvailable(true));
  Type("\x03");
  EXPECT_TRUE(line_.InputAvailable(true));
  EXPECT_EQ(Raw(), "ab\x03");
  EXPECT_EQ(Echo(), "");
}

TEST_F(LineDisciplineTest, WhatWasTypedBecomesALineWithIcanon) {
  Change(0, 0, 0);
  Type("abc");
  Change(0, 0, kIcanon);
  EXPECT_TRUE(line_.InputAvailable(false));
  EXPECT_EQ(Line(), "abc");
  Type("de");
  Change(0, 0, 0);
  EXPECT_EQ(Raw(), "de");
}

TEST_F(LineDisciplineTest, ALineThatIsTooLongLosesItsEnd) {
  t_.lflag &= ~kEcho;
  EXPECT_EQ(Type(std::string(5000, 'x')), 5000u);
  EXPECT_FALSE(line_.InputAvailable(false));
  Type("\n");
  EXPECT_EQ(Line(8192), std::string(4095, 'x') + "\n");
  Change(0, 0, 0);
  EXPECT_EQ(Type(std::string(5000, 'y')), 4095u);
}

TEST_F(LineDisciplineTest, EchoesWaitForRoom) {
  room_ = 2;
  Type("abc");
  EXPECT_EQ(Echo(), "ab");
  line_.ProcessEchoes();
  EXPECT_EQ(Echo(), "c");
}

}  // namespace
}  // namespace caisson::vfs::tty
