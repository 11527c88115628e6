#include "sentry/mm/testing/mm_test.h"

namespace caisson::mm::testing {
namespace {

TEST_F(MmTest, WriteOnlyMemoryIsReadableForTheHost) {
  GuestAddr a = Fixed(0, 1, kWrite);
  Put(a, "hi");
  EXPECT_EQ(Get(a, 2), "hi");
  EXPECT_EQ(Shape(), "0+1-w-p ");
}

TEST_F(MmTest, StackGrowsOnFaultAndUnderOurOwnCopies) {
  Fixed(1000, 4, kReadWrite, kMapPrivate | kMapGrowsdown);
  EXPECT_TRUE(Fault(kBase + 999 * kPageSize).repaired);
  Put(GuestAddr(kBase + 900 * kPageSize), "deep");
  EXPECT_EQ(Get(GuestAddr(kBase + 900 * kPageSize), 4), "deep");
  // Past the limit: 16 pages in all.
  auto signal =
      Fault(kBase + 700 * kPageSize, platform::Access::kWrite, abi::kSigsegv, 16 * kPageSize);
  EXPECT_FALSE(signal.repaired);
  EXPECT_EQ(signal.code, abi::kSegvMaperr);
}

TEST_F(MmTest, StackKeepsItsGuardGap) {
  Fixed(0, 1);
  Fixed(300, 4, kReadWrite, kMapPrivate | kMapGrowsdown);
  EXPECT_TRUE(Fault(kBase + 257 * kPageSize).repaired);
  EXPECT_FALSE(Fault(kBase + 256 * kPageSize).repaired);
  // Nor is anything placed into the gap.
  EXPECT_NE(Map(kBase + 20 * kPageSize, 1, kRead, kMapPrivate).value().value,
            kBase + 20 * kPageSize);
}

TEST_F(MmTest, FaultCodes) {
  Fixed(0, 1, kRead);
  Fixed(1, 1, 0);
  EXPECT_EQ(Fault(kBase).code, abi::kSegvAccerr);
  EXPECT_EQ(Fault(kBase + kPageSize, platform::Access::kRead).code, abi::kSegvAccerr);
  EXPECT_EQ(Fault(kBase, platform::Access::kExecute).code, abi::kSegvAccerr);
  EXPECT_EQ(Fault(0x20000).code, abi::kSegvMaperr);
  EXPECT_EQ(Fault(~uint64_t{0}).code, abi::kSegvMaperr);
  auto bus = Fault(kBase, platform::Access::kRead, abi::kSigbus);
  EXPECT_EQ(bus.signo, abi::kSigbus);
  EXPECT_EQ(bus.code, abi::kBusAdrerr);
  // Allowed by the VMA: a race at first, a signal if it never ends.
  EXPECT_TRUE(Fault(kBase, platform::Access::kRead).repaired);
  for (int i = 0; i < 20; ++i) {
    if (!Fault(kBase, platform::Access::kRead).repaired) return;
  }
  FAIL() << "endless";
}

TEST_F(MmTest, StringsEndWherePagesDo) {
  GuestAddr a = Fixed(0, 1);
  Put(a + kPageSize - 4, absl::string_view("abc\0", 4));
  EXPECT_EQ(mm_->CopyInString(a + kPageSize - 4, 100).value(), "abc");
  EXPECT_EQ(mm_->CopyInString(a + kPageSize - 4, 3).value(), "abc");
  EXPECT_EQ(ErrorOf(mm_->CopyInString(a + kPageSize - 4, 2)), Errno::kENAMETOOLONG);
  Put(a + kPageSize - 4, "wxyz");
  EXPECT_EQ(ErrorOf(mm_->CopyInString(a + kPageSize - 4, 100)), Errno::kEFAULT);
  Fixed(1, 1);
  EXPECT_EQ(mm_->CopyInString(a + kPageSize - 4, 100).value(), "wxyz");
}

TEST_F(MmTest, CopiesOutsideTheGuestFail) {
  char byte = 0;
  for (uint64_t at : {uint64_t{0}, uint64_t{0xfff}, kTop, ~uint64_t{0}}) {
    EXPECT_EQ(mm_->CopyOut(GuestAddr(at), {&byte, 1}).error(), Errno::kEFAULT);
    EXPECT_EQ(mm_->CopyIn(GuestAddr(at), {&byte, 1}).error(), Errno::kEFAULT);
  }
  // A range that ends outside fails as a whole, partial copies stop at the edge.
  uint64_t last = kTop - kPageSize;
  Map(last, 1, kReadWrite, kMapPrivate | kMapFixed).value();
  std::string two(2 * kPageSize, 'x');
  EXPECT_EQ(mm_->CopyOut(GuestAddr(last), two).error(), Errno::kEFAULT);
  EXPECT_EQ(mm_->CopyOutPartial(GuestAddr(last), two), kPageSize);
}

TEST_F(MmTest, ForcedCopiesIgnoreProtection) {
  GuestAddr a = Fixed(0, 3);
  Put(a + kPageSize, "secret");
  ASSERT_TRUE(mm_->Mprotect(a + kPageSize, kPageSize, 0, limits_).ok());
  std::string out(2 * kPageSize, '?');
  EXPECT_EQ(mm_->CopyInForced(a + kPageSize, absl::MakeSpan(out)), out.size());
  EXPECT_EQ(out.substr(0, 6), "secret");
  ASSERT_TRUE(mm_->Mprotect(a, kPageSize, kRead | kExec, limits_).ok());
  EXPECT_EQ(mm_->CopyOutForced(a, {"\xcc", 1}), 1u);
  EXPECT_EQ(Get(a, 1), "\xcc");
  RefPtr<TestFile> file = TestFile::Memory("content", vfs::kOpenReadOnly);
  GuestAddr b = Map(0, 1, kRead, kMapShared, file).value();
  EXPECT_EQ(mm_->CopyOutForced(b, {"\xcc", 1}), 0u);
}

TEST_F(MmTest, IoBufferCrossesVectorsAndStopsAtFaults) {
  GuestAddr a = Fixed(0, 1);
  Fixed(2, 1);
  GuestIoBuffer buffer(*mm_, {{a, 3}, {a + 10, 0}, {a + 2 * kPageSize, 2}, {a + kPageSize, 5}});
  EXPECT_EQ(buffer.Put({"abcdefgh", 8}).value(), 5u);
  EXPECT_EQ(Get(a, 3), "abc");
  EXPECT_EQ(Get(a + 2 * kPageSize, 2), "de");
  EXPECT_EQ(ErrorOf(buffer.Put({"x", 1})), Errno::kEFAULT);
}

}  // namespace
}  // namespace caisson::mm::testing
