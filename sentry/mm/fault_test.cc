#include <sys/mman.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/check.h"
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

// Memory of which little is left, or plenty.
class ShortMemory final : public SharedMemoryFactory {
 public:
  ShortMemory() { Set(0); }
  void Set(uint64_t used) {
    Write(usage_, absl::StrCat(used));
    Write(limit_, absl::StrCat(kLimit));
    headroom_.Renew();
  }
  Result<RefPtr<vfs::FileDescription>> NewSharedAnonymous(vfs::CallContext&, uint64_t) override {
    return Errno::kENODEV;
  }
  MemoryHeadroom* headroom() override { return &headroom_; }
  static constexpr uint64_t kLimit = uint64_t{1} << 30;

 private:
  static UniqueFd File(int* fd) {
    *fd = memfd_create("cgroup", MFD_CLOEXEC);
    return UniqueFd(*fd);
  }
  static void Write(int fd, const std::string& text) {
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(pwrite(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }
  int usage_ = -1, limit_ = -1, statistics_ = -1;
  MemoryHeadroom headroom_{{File(&usage_), File(&limit_), File(&statistics_)}};
};

class ShortMemoryTest : public MmTest {
 protected:
  ShortMemoryTest() { mm_ = MemoryManager::New(platform_, &memory_).value(); }
  FakeAddressSpace& space() { return static_cast<FakeAddressSpace&>(mm_->address_space()); }
  // "start+pages" of what was populated, in pages from kBase.
  std::string Populated() {
    std::string out;
    for (const platform::MapOp& op : space().TakeLog()) {
      if (op.kind != platform::MapOp::Kind::kPopulate) continue;
      EXPECT_EQ(op.protection, kWrite);
      absl::StrAppend(&out, (op.addr.value - kBase) / kPageSize, "+", op.length / kPageSize, " ");
    }
    return out;
  }
  ShortMemory memory_;
};

TEST_F(ShortMemoryTest, CopiesMakeTheirPagesInTheGuest) {
  Fixed(0, 8);
  memory_.Set(ShortMemory::kLimit);
  Put(GuestAddr(kBase + 100), std::string(2 * kPageSize, 'x'));
  EXPECT_EQ(Populated(), "0+3 ");
  EXPECT_EQ(Get(GuestAddr(kBase + 100), 3), "xxx");
  Put(GuestAddr(kBase), std::string(100, 'y'));
  EXPECT_EQ(Populated(), "") << "less than a page";
}

TEST_F(ShortMemoryTest, CopiesDoNotWherePlentyIsLeft) {
  Fixed(0, 8);
  Put(GuestAddr(kBase), std::string(8 * kPageSize, 'x'));
  EXPECT_EQ(Populated(), "");
}

TEST_F(ShortMemoryTest, LargeCopiesGoInPieces) {
  Fixed(0, 2048);
  memory_.Set(ShortMemory::kLimit);
  Put(GuestAddr(kBase), std::string(6 << 20, 'x'));
  EXPECT_EQ(Populated(), "0+1024 1024+512 ");
  EXPECT_EQ(Get(GuestAddr(kBase + (6 << 20) - 2), 3), absl::string_view("xx\0", 3));
}

TEST_F(ShortMemoryTest, APieceThatEndsEarlyEndsTheCopy) {
  Fixed(0, 1100);
  memory_.Set(ShortMemory::kLimit);
  const std::string text(6 << 20, 'x');
  EXPECT_EQ(mm_->CopyOutPartial(GuestAddr(kBase), {text.data(), text.size()}), 1100 * kPageSize);
  EXPECT_EQ(mm_->CopyOutPartial(GuestAddr(kBase + 1100 * kPageSize), {text.data(), kPageSize}), 0u);
}

TEST_F(ShortMemoryTest, StacksGrowAllTheSame) {
  Fixed(1000, 4, kReadWrite, kMapPrivate | kMapGrowsdown);
  memory_.Set(ShortMemory::kLimit);
  Put(GuestAddr(kBase + 996 * kPageSize), std::string(8 * kPageSize, 's'));
  EXPECT_EQ(Get(GuestAddr(kBase + 996 * kPageSize), 2), "ss");
}

TEST_F(ShortMemoryTest, WithoutPopulateCopiesGoOn) {
  Fixed(0, 2);
  memory_.Set(ShortMemory::kLimit);
  space().FailOp(0, Errno::kEINVAL);
  Put(GuestAddr(kBase), std::string(kPageSize, 'x'));
  EXPECT_EQ(Get(GuestAddr(kBase), 1), "x");
}

TEST_F(ShortMemoryTest, ADeadProcessIsNotCopiedTo) {
  Fixed(0, 2);
  memory_.Set(ShortMemory::kLimit);
  space().FailOp(0, Errno::kEIO);
  const std::string text(kPageSize, 'x');
  EXPECT_EQ(mm_->CopyOut(GuestAddr(kBase), {text.data(), text.size()}).error(), Errno::kEFAULT);
  EXPECT_EQ(Get(GuestAddr(kBase), 1), absl::string_view("\0", 1));
}

TEST_F(ShortMemoryTest, AForkedProcessIsWatchedToo) {
  Fixed(0, 2);
  RefPtr<MemoryManager> child = mm_->Fork().value();
  memory_.Set(ShortMemory::kLimit);
  const std::string text(kPageSize, 'x');
  ASSERT_TRUE(child->CopyOut(GuestAddr(kBase), {text.data(), text.size()}).ok());
  EXPECT_EQ(Populated(), "");
  mm_ = child;
  EXPECT_EQ(Populated(), "0+1 ");
}

}  // namespace
}  // namespace caisson::mm::testing
