// Arguments and results that go along with calls of patched sites: with them, without them and where
// memory is not there, everything is as it was.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "base/unique_fd.h"
#include "platform/stub/layout.h"
#include "platform/testing/testing.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;

constexpr int kOften = 100;
constexpr uint64_t kFlagDf = 0x400, kFlagAc = 0x40000;
constexpr GuestAddr kEnd = kData + kDataSize;  // Nothing is mapped behind it.

class CopiesTest : public ::testing::Test {
 protected:
  // Calls `number` for ever; rbp is the last result, rbx counts.
  void Start(uint32_t number) {
    space_ = NewSpace();
    context_ = TestPlatform().NewContext();
    regs_ = Load(*space_, [](Code& c) { c.nop(); });
    file_ = LoadFromFile(*space_, Assemble([number](Code& c) {
      Xbyak::Label again;
      c.L(again);
      c.inc(c.rbx);
      c.mov(c.eax, number);
      c.syscall();
      c.mov(c.rbp, c.rax);
      c.jmp(again);
    }));
    for (int i = 0; i < kOften; ++i) Call();
  }
  // To the next call.
  void Call() {
    ASSERT_EQ(RunGuest(*context_, *space_, regs_).kind, Kind::kSyscall);
    ASSERT_EQ(regs_.rbx == 0 || regs_.rip == kCode.value + 10, true);
    ASSERT_EQ(regs_.rip, kCode.value + 10);
    regs_.rax = ++calls_;
  }
  void Put(GuestAddr at, const std::string& bytes) {
    ASSERT_EQ(space_->CopyOut(at, bytes), bytes.size());
  }
  std::string Memory(GuestAddr at, size_t n) {
    std::string out(n, '?');
    EXPECT_EQ(space_->CopyIn(at, absl::MakeSpan(&out[0], n)), n);
    return out;
  }
  // What came along from `at` on.
  std::string Along(GuestAddr at, size_t max = 2048) {
    std::string out(max, '?');
    out.resize(context_->CopiedIn(at, absl::MakeSpan(&out[0], max)));
    return out;
  }
  bool patches() const { return TestPlatformName() != "ptrace"; }
  int64_t last_result() {
    context_->FullRegisters(regs_);
    return static_cast<int64_t>(regs_.rbp);
  }

  UniqueFd file_;
  std::unique_ptr<AddressSpace> space_;
  std::unique_ptr<Context> context_;
  Registers regs_{};
  uint64_t calls_ = 0;
};

TEST_F(CopiesTest, StringsComeAlongToTheirEnd) {
  Start(SYS_open);
  for (uint64_t at = 0; at < 9; ++at) {
    for (size_t n : {0u, 1u, 2u, 6u, 7u, 8u, 9u, 15u, 16u, 63u, 200u, 240u}) {
      Put(kData, std::string(at, '\0') + std::string(n, '\x80') + '\0' + std::string(300, 'z'));
      regs_.rdi = kData.value + at;
      Call();
      const std::string along = Along(kData + at);
      ASSERT_EQ(along, Memory(kData + at, along.size()));
      if (patches()) {
        ASSERT_GT(along.size(), n);
        ASSERT_LT(along.size(), n + 9);
      }
    }
  }
}

TEST_F(CopiesTest, LongStringsComeAlongInPart) {
  Start(SYS_open);
  const std::string text(5000, 'y');
  Put(kData, text);
  regs_.rdi = kData.value + 3;
  Call();
  const std::string along = Along(kData + 3, 5000);
  EXPECT_LE(along.size(), 256u);
  EXPECT_EQ(along, text.substr(0, along.size()));
}

TEST_F(CopiesTest, StringsAtTheEndOfMemory) {
  Start(SYS_open);
  Put(kEnd - 8, std::string("abcdefg\0", 8));
  regs_.rdi = (kEnd - 6).value;
  Call();
  if (patches()) {
    EXPECT_EQ(Along(kEnd - 6), std::string("cdefg\0", 6));
  }
  Put(kEnd - 8, "abcdefgh");
  for (uint64_t back : {1u, 7u, 8u}) {
    regs_.rdi = (kEnd - back).value;
    Call();
    EXPECT_EQ(Along(kEnd - back), "");
  }
  // And again one that is there.
  Put(kData, std::string("x\0", 2));
  regs_.rdi = kData.value;
  Call();
  if (patches()) {
    EXPECT_EQ(Along(kData, 2), std::string("x\0", 2));
  }
}

TEST_F(CopiesTest, AddressesThatAreNone) {
  Start(SYS_open);
  for (uint64_t bad : {uint64_t{0}, uint64_t{1}, uint64_t{7}, kEnd.value, uint64_t{1} << 47, uint64_t{1} << 63,
                       ~uint64_t{0}, ~uint64_t{0} - 7, stub::kBlobAddr, stub::kThreadBlobAddr, stub::kSlotAddr,
                       stub::kThreadPageAddr, uint64_t{0xffffffffff600000}}) {
    for (int i = 0; i < 3; ++i) {
      regs_.rdi = bad;
      Call();
      EXPECT_EQ(regs_.rdi, bad);
      EXPECT_EQ(Along(GuestAddr(bad & ~uint64_t{7})), "") << std::hex << bad;
    }
  }
}

TEST_F(CopiesTest, BuffersComeAlongWholeOrNotAtAll) {
  Start(SYS_write);
  std::string text;
  constexpr size_t kText = 6000;
  for (size_t i = 0; i < kText; ++i) text += static_cast<char>('a' + i % 23);
  Put(kEnd - kText, text);
  for (uint64_t n : {0u, 1u, 3u, 8u, 1000u, 1024u, 1025u, 3000u, 4095u, 4096u, 4097u, 6000u}) {
    regs_.rsi = (kEnd - n).value;
    regs_.rdx = n;
    Call();
    EXPECT_EQ(Along(kEnd - n, kText), patches() && n <= 4096 ? text.substr(kText - n) : "") << n;
    regs_.rdx = n + 1;
    Call();
    EXPECT_EQ(Along(kEnd - n), "") << n;
  }
  regs_.rdx = ~uint64_t{0};
  Call();
  EXPECT_EQ(Along(GuestAddr(regs_.rsi)), "");
}

TEST_F(CopiesTest, NothingComesAlongTwice) {
  Start(SYS_open);
  Put(kData, std::string("first\0", 6));
  regs_.rdi = kData.value;
  Call();
  regs_.rdi = 0;
  Call();
  EXPECT_EQ(Along(kData), "");
}

TEST_F(CopiesTest, TextComesAlongUnpatched) {
  Start(SYS_write);
  regs_.rsi = kCode.value;
  regs_.rdx = 0x20;
  const std::string text = Memory(kCode, 0x20);
  Call();
  const std::string along = Along(kCode);
  EXPECT_EQ(along, text.substr(0, along.size()));
}

TEST_F(CopiesTest, ResultsAreThereBeforeTheNextCall) {
  Start(SYS_read);
  std::string want(0x3000, '\0');
  for (size_t i = 0; i < 300; ++i) {
    const size_t at = 100 + i * 7, n = 1 + i * i % 4096, at2 = 0x2800 + i;
    std::string bytes(n, static_cast<char>('A' + i % 26));
    if (i % 3 == 0) regs_.eflags = 0x202 | kFlagDf;
    if (i % 3 == 1) regs_.eflags = 0x202 | kFlagAc;
    if (!context_->CopyOutLater(kData + at, bytes)) Put(kData + at, bytes);
    want.replace(at, n, bytes);
    if (!context_->CopyOutLater(kData + at2, {"xyz", 3})) {
      context_->FlushCopies(*space_);
      Put(kData + at2, "xyz");
    }
    want.replace(at2, 3, "xyz");
    if (i % 5 == 4) regs_.fs_base = 0x1000 * i;  // By another way than the trampoline.
    const uint64_t result = regs_.rax, flags = regs_.eflags;
    Call();
    ASSERT_EQ(last_result(), static_cast<int64_t>(result));
    ASSERT_EQ(regs_.eflags & (kFlagDf | kFlagAc), flags & (kFlagDf | kFlagAc));
    ASSERT_EQ(Memory(kData, want.size()), want) << i;
    regs_.eflags = 0x202;
  }
}

TEST_F(CopiesTest, ResultsHaveABound) {
  Start(SYS_read);
  const std::string page(4096, 'p');
  if (context_->CopyOutLater(kData, page)) {
    EXPECT_FALSE(context_->CopyOutLater(kData + 0x2000, {"x", 1}));
    EXPECT_TRUE(patches());
  }
  Call();
  EXPECT_FALSE(context_->CopyOutLater(kData, std::string(4097, 'q')));
  int taken = 0;
  while (taken < 100 && context_->CopyOutLater(kData + taken, {"123456789", 1})) ++taken;
  EXPECT_LT(taken, 100);
  Call();
  if (patches()) {
    EXPECT_EQ(Memory(kData, 4096), std::string(taken, '1') + page.substr(taken));
  }
}

TEST_F(CopiesTest, MemoryThatIsNotThereIsEfault) {
  Start(SYS_read);
  ASSERT_TRUE(space_->Apply({Simple(MapOp::Kind::kProtect, kData + 0x1000, 0x1000, kProtRead)}).ok());
  for (GuestAddr bad : {kEnd, kEnd - 3, kData + 0x1000, kData + 0xffe, GuestAddr(0x10000)}) {
    const bool later = context_->CopyOutLater(bad, {"12345678", 8});
    const bool second = later && context_->CopyOutLater(kData + 8, {"second", 6});
    const auto result = static_cast<int64_t>(regs_.rax);
    Call();
    EXPECT_EQ(last_result(), later ? -EFAULT : result) << std::hex << bad.value;
    if (second) {
      EXPECT_EQ(Memory(kData + 8, 6), "second");
    }
    Put(kData + 8, "------");
  }
  // The same by the sentry's own copies.
  if (context_->CopyOutLater(kEnd, {"1", 1})) {
    context_->FlushCopies(*space_);
    Call();
    EXPECT_EQ(last_result(), -EFAULT);
  }
  const auto result = static_cast<int64_t>(regs_.rax);
  Call();
  EXPECT_EQ(last_result(), result);
}

TEST_F(CopiesTest, CopiesOnWriteAreThisProcesssOwn) {
  Start(SYS_read);
  Put(kData, "before");
  Result<std::unique_ptr<AddressSpace>> child = space_->Fork();
  ASSERT_TRUE(child.ok());
  if (!context_->CopyOutLater(kData, {"after!", 6})) Put(kData, "after!");
  Call();
  EXPECT_EQ(Memory(kData, 6), "after!");
  char seen[6];
  ASSERT_EQ((*child)->CopyIn(kData, absl::MakeSpan(seen)), 6u);
  EXPECT_EQ(std::string(seen, 6), "before");
}

TEST_F(CopiesTest, SignalsInTheMiddle) {
  Start(SYS_write);
  std::atomic<bool> stop{false};
  std::thread interrupter([&] {
    for (unsigned i = 0; !stop.load(); ++i) {
      context_->Interrupt();
      for (unsigned spin = 0; spin < i % 211 * 40; ++spin) asm volatile("");
      if (i % 16 == 0) usleep(30);
    }
  });
  const time_t deadline = time(nullptr) + 4;
  uint64_t n = regs_.rbx, along = 0;
  const int64_t first = static_cast<int64_t>(regs_.rbx);
  context_->FullRegisters(regs_);
  n = regs_.rbx;
  std::string sent(1000, 's'), stored(4000, 'r');
  while (time(nullptr) < deadline && !HasFailure()) {
    std::fill(stored.begin(), stored.end(), static_cast<char>('a' + n % 26));
    std::fill(sent.begin(), sent.end(), static_cast<char>('A' + n % 26));
    Put(kData + 0x4000, sent);
    if (!context_->CopyOutLater(kData + 1, {stored.data(), 2000})) Put(kData + 1, stored.substr(0, 2000));
    if (!context_->CopyOutLater(kData + 2001, {stored.data(), 2000})) {
      context_->FlushCopies(*space_);
      Put(kData + 2001, stored.substr(0, 2000));
    }
    regs_.rsi = (kData + 0x4000).value;
    regs_.rdx = sent.size();
    const auto result = static_cast<int64_t>(regs_.rax = n * 5);
    Event event;
    do event = context_->Switch(*space_, regs_);
    while (event.kind == Kind::kInterrupted);
    ASSERT_EQ(event.kind, Kind::kSyscall);
    ASSERT_EQ(regs_.rip, kCode.value + 10);
    const std::string came = Along(kData + 0x4000);
    if (!came.empty()) {
      ++along;
      ASSERT_EQ(came, sent);
    }
    ASSERT_EQ(Memory(kData + 1, 4000), stored);
    if (n % 16 == 0) {
      ASSERT_EQ(last_result(), result);
      ASSERT_EQ(regs_.rbx, n + 1);
    }
    ++n;
  }
  stop = true;
  interrupter.join();
  static_cast<void>(first);
  if (patches()) {
    EXPECT_GT(along, 100u);
  }
}

TEST_F(CopiesTest, PagesThatGoMeanwhile) {
  Start(SYS_write);
  constexpr GuestAddr kPage = kData + 0x3000;
  std::atomic<bool> stop{false};
  std::thread mapper([&] {
    while (!stop.load()) {
      CHECK(space_->Apply({Simple(MapOp::Kind::kUnmap, kPage, 0x1000)}).ok());
      CHECK(space_->Apply({MapAnonymous(kPage, 0x1000, kReadWrite)}).ok());
    }
  });
  const time_t deadline = time(nullptr) + 3;
  int faults = 0, good = 0;
  while (time(nullptr) < deadline && !HasFailure()) {
    regs_.rsi = (kPage + 8).value;
    regs_.rdx = 500;
    const bool later = context_->CopyOutLater(kPage - 100, std::string(2000, 'n'));
    const auto result = static_cast<int64_t>(regs_.rax = 77);
    Call();
    const std::string along = Along(kPage + 8);
    ASSERT_TRUE(along.empty() || along.size() == 500);
    const int64_t got = last_result();
    if (got == result) ++good;
    else if (later && got == -EFAULT) ++faults;
    else FAIL() << got;
  }
  stop = true;
  mapper.join();
  EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace caisson::platform
