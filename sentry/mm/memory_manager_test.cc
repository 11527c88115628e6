#include "sentry/mm/memory_manager.h"

#include <string>

#include "abi/mman.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "platform/fake/fake_platform.h"
#include "sentry/mm/testing/fake_vfs.h"

namespace caisson::mm {
namespace {

using platform::fake::FakeAddressSpace;
using platform::fake::FakePlatform;
using testing::TestContext;
using testing::TestFile;
using testing::TestSharedMemory;

constexpr uint32_t kRead = 1, kWrite = 2, kExec = 4, kReadWrite = 3;
constexpr uint64_t kBase = 0x10'0000'0000;
constexpr uint64_t kTop = FakeAddressSpace::kRange.end.value;

class MmTest : public ::testing::Test {
 protected:
  MmTest() : mm_(MemoryManager::New(platform_, &shared_).value()) {
    mm_->SetMmapBase(GuestAddr(kTop / 2));
  }

  Result<GuestAddr> Map(uint64_t at, uint64_t pages, uint32_t protection, uint32_t flags,
                        RefPtr<vfs::FileDescription> file = nullptr, uint64_t offset = 0) {
    MmapArgs args;
    args.addr = GuestAddr(at);
    args.length = pages * kPageSize;
    args.protection = protection;
    args.flags = flags | (file ? 0 : kMapAnonymous);
    args.file = std::move(file);
    args.offset = offset;
    return mm_->Mmap(ctx_, args, limits_);
  }
  GuestAddr Fixed(uint64_t page, uint64_t pages, uint32_t protection = kReadWrite,
                  uint32_t flags = kMapPrivate) {
    return Map(kBase + page * kPageSize, pages, protection, flags | kMapFixed).value();
  }
  void Put(GuestAddr at, absl::string_view text) {
    ASSERT_TRUE(mm_->CopyOut(at, {text.data(), text.size()}).ok());
  }
  std::string Get(GuestAddr at, size_t n) { return Get(*mm_, at, n); }
  std::string Get(MemoryManager& mm, GuestAddr at, size_t n) {
    std::string out(n, '?');
    out.resize(mm.CopyInPartial(at, absl::MakeSpan(out)));
    return out;
  }
  // "start+pages prot" of each VMA above kBase, in pages from there.
  std::string Shape() {
    std::string out;
    for (const auto& v : mm_->Vmas()) {
      if (v.range.start.value < kBase) continue;
      absl::StrAppend(&out, (v.range.start.value - kBase) / kPageSize, "+",
                      v.range.length() / kPageSize, v.protection & 1 ? "r" : "-",
                      v.protection & 2 ? "w" : "-", v.protection & 4 ? "x" : "-",
                      v.shared ? "s" : "p", " ");
    }
    return out;
  }
  MemoryManager::FaultSignal Fault(uint64_t at, platform::Access access = platform::Access::kWrite,
                                   int signo = abi::kSigsegv, uint64_t stack_limit = 8 << 20) {
    platform::Event event;
    event.kind = platform::Event::Kind::kFault;
    event.signo = signo;
    event.address = at;
    event.access = access;
    return mm_->HandleFault(event, stack_limit);
  }

  FakeAddressSpace& space() { return static_cast<FakeAddressSpace&>(mm_->address_space()); }

  FakePlatform platform_;
  TestSharedMemory shared_;
  TestContext ctx_;
  Limits limits_;
  RefPtr<MemoryManager> mm_;
};

template <typename T>
Errno ErrorOf(const Result<T>& r) {
  return r.ok() ? Errno{0} : r.error();
}

TEST_F(MmTest, MapsGoTopDownAndMerge) {
  GuestAddr a = Map(0, 1, kReadWrite, kMapPrivate).value();
  EXPECT_EQ(a.value, kTop / 2 - kPageSize);
  GuestAddr b = Map(0, 2, kReadWrite, kMapPrivate).value();
  EXPECT_EQ(b.value, a.value - 2 * kPageSize);
  ASSERT_EQ(mm_->Vmas().size(), 1u);
  EXPECT_EQ(mm_->Vmas()[0].range.length(), 3 * kPageSize);
}

TEST_F(MmTest, LargeAnonymousMapsAreHugePageAligned) {
  Map(0, 1, kReadWrite, kMapPrivate).value();
  EXPECT_EQ(Map(0, 1024, kReadWrite, kMapPrivate).value().value % (2 << 20), 0u);
}

TEST_F(MmTest, FreshMemoryIsZeroAndKeepsWhatIsWritten) {
  GuestAddr a = Fixed(0, 2);
  EXPECT_EQ(Get(a, 4), std::string(4, '\0'));
  Put(a + kPageSize - 2, "abcd");
  EXPECT_EQ(Get(a + kPageSize - 2, 4), "abcd");
}

TEST_F(MmTest, HintIsHonouredWhenFreeElseIgnored) {
  EXPECT_EQ(Map(kBase, 1, kRead, kMapPrivate).value().value, kBase);
  EXPECT_NE(Map(kBase, 1, kRead, kMapPrivate).value().value, kBase);
}

TEST_F(MmTest, NoreplaceRefusesAndFixedReplaces) {
  GuestAddr a = Fixed(0, 3);
  Put(a + kPageSize, "old");
  EXPECT_EQ(ErrorOf(Map(kBase, 1, kRead, kMapPrivate | kMapFixedNoreplace)), Errno::kEEXIST);
  Fixed(1, 1);
  EXPECT_EQ(Get(a + kPageSize, 3), std::string(3, '\0'));
  EXPECT_EQ(Shape(), "0+3rw-p ");
}

TEST_F(MmTest, Map32BitStaysBelow2G) {
  EXPECT_LT(Map(0, 1, kRead, kMapPrivate | kMap32Bit).value().value, uint64_t{1} << 31);
}

TEST_F(MmTest, MmapRefusesWhatLinuxRefuses) {
  EXPECT_EQ(ErrorOf(Map(0, 0, kRead, kMapPrivate)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(Map(0, 1, kRead, 0)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(Map(123, 1, kRead, kMapPrivate | kMapFixed)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(Map(0, 1, kRead, kMapPrivate | kMapFixed)), Errno::kEPERM);
  EXPECT_EQ(ErrorOf(Map(kTop, 1, kRead, kMapPrivate | kMapFixed)), Errno::kENOMEM);
  EXPECT_EQ(ErrorOf(Map(0, uint64_t{1} << 30, kRead, kMapPrivate)), Errno::kENOMEM);
  EXPECT_EQ(ErrorOf(Map(0, 1, kRead, kMapPrivate | kMapHugetlb)), Errno::kENOMEM);
  limits_.memlock = 0;
  EXPECT_EQ(ErrorOf(Map(0, 1, kRead, kMapPrivate | kMapLocked)), Errno::kEPERM);
}

TEST_F(MmTest, LimitsAreKept) {
  limits_.address_space = 4 * kPageSize;
  Fixed(0, 4);
  EXPECT_EQ(ErrorOf(Map(0, 1, kRead, kMapPrivate)), Errno::kENOMEM);
  Fixed(1, 2);  // In place of others: no growth.
  limits_ = {};
  limits_.data = 4 * kPageSize;
  EXPECT_EQ(ErrorOf(Map(0, 1, kReadWrite, kMapPrivate)), Errno::kENOMEM);
  Map(0, 1, kRead, kMapPrivate).value();
  Map(0, 1, kReadWrite, kMapShared).value();
}

TEST_F(MmTest, MapCountIsBounded) {
  Fixed(0, 70000, 0);
  size_t n = 0;
  Result<void> last;
  // Every second page becomes a VMA of its own, until we or the host (which has the test's VMAs
  // too) refuse; what was refused is undone.
  while (n < 35000 && last.ok()) {
    last = mm_->Mprotect(GuestAddr(kBase + (2 * n + 1) * kPageSize), kPageSize, kRead, limits_);
    if (last.ok()) ++n;
  }
  EXPECT_EQ(ErrorOf(last), Errno::kENOMEM);
  EXPECT_EQ(mm_->Vmas().size(), 2 * n + 1);
  EXPECT_EQ(space().ProtectionAt(GuestAddr(kBase + (2 * n + 1) * kPageSize)), 0u);
  EXPECT_TRUE(mm_->Munmap(GuestAddr(kBase), 70000 * kPageSize).ok());
  EXPECT_EQ(mm_->totals().virtual_bytes, 0u);
}

TEST_F(MmTest, MunmapSplits) {
  Fixed(0, 5);
  ASSERT_TRUE(mm_->Munmap(GuestAddr(kBase + 2 * kPageSize), kPageSize).ok());
  EXPECT_EQ(Shape(), "0+2rw-p 3+2rw-p ");
  EXPECT_EQ(mm_->CopyOut(GuestAddr(kBase + 2 * kPageSize), {"x", 1}).error(), Errno::kEFAULT);
  EXPECT_EQ(mm_->totals().virtual_bytes, 4 * kPageSize);
  EXPECT_EQ(ErrorOf(mm_->Munmap(GuestAddr(kBase + 1), kPageSize)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(mm_->Munmap(GuestAddr(kBase), 0)), Errno::kEINVAL);
  EXPECT_TRUE(mm_->Munmap(GuestAddr(kBase + 100 * kPageSize), kPageSize).ok());
}

TEST_F(MmTest, MprotectSplitsAndMergesBack) {
  Fixed(0, 4);
  ASSERT_TRUE(mm_->Mprotect(GuestAddr(kBase + kPageSize), kPageSize, kRead, limits_).ok());
  EXPECT_EQ(Shape(), "0+1rw-p 1+1r--p 2+2rw-p ");
  EXPECT_EQ(mm_->CopyOut(GuestAddr(kBase + kPageSize), {"x", 1}).error(), Errno::kEFAULT);
  ASSERT_TRUE(mm_->Mprotect(GuestAddr(kBase + kPageSize), kPageSize, kReadWrite, limits_).ok());
  EXPECT_EQ(Shape(), "0+4rw-p ");
}

TEST_F(MmTest, MprotectAppliesUpToAHole) {
  Fixed(0, 1);
  Fixed(2, 1);
  EXPECT_EQ(ErrorOf(mm_->Mprotect(GuestAddr(kBase), 3 * kPageSize, kRead, limits_)),
            Errno::kENOMEM);
  EXPECT_EQ(Shape(), "0+1r--p 2+1rw-p ");
}

TEST_F(MmTest, WriteOnlyMemoryIsReadableForTheHost) {
  GuestAddr a = Fixed(0, 1, kWrite);
  Put(a, "hi");
  EXPECT_EQ(Get(a, 2), "hi");
  EXPECT_EQ(Shape(), "0+1-w-p ");
}

TEST_F(MmTest, SharedMappingOfReadOnlyFileNeverBecomesWritable) {
  RefPtr<TestFile> file = TestFile::Memory("content", vfs::kOpenReadOnly);
  EXPECT_EQ(ErrorOf(Map(0, 1, kReadWrite, kMapShared, file)), Errno::kEACCES);
  GuestAddr a = Map(0, 1, kRead, kMapShared, file).value();
  EXPECT_EQ(ErrorOf(mm_->Mprotect(a, kPageSize, kReadWrite, limits_)), Errno::kEACCES);
  GuestAddr b = Map(0, 1, kReadWrite, kMapPrivate, file).value();
  EXPECT_EQ(Get(b, 7), "content");
  Put(b, "X");
  EXPECT_EQ(Get(a, 7), "content");
}

TEST_F(MmTest, FileOpenedForWritingOnlyCannotBeMapped) {
  EXPECT_EQ(ErrorOf(Map(0, 1, kRead, kMapPrivate, TestFile::Memory("x", vfs::kOpenWriteOnly))),
            Errno::kEACCES);
}

TEST_F(MmTest, SharedAnonymousIsSharedAfterFork) {
  GuestAddr shared = Map(0, 1, kReadWrite, kMapShared).value();
  GuestAddr own = Map(0, 1, kReadWrite, kMapPrivate).value();
  RefPtr<MemoryManager> child = mm_->Fork().value();
  Put(shared, "both");
  Put(own, "mine");
  EXPECT_EQ(Get(*child, shared, 4), "both");
  EXPECT_EQ(Get(*child, own, 4), std::string(4, '\0'));
  auto parent_key = mm_->GetFutexKey(shared + 8, false).value();
  EXPECT_TRUE(parent_key == child->GetFutexKey(shared + 8, false).value());
  EXPECT_FALSE(mm_->GetFutexKey(own, false).value() == child->GetFutexKey(own, false).value());
}

TEST_F(MmTest, DontforkAndWipeonfork) {
  GuestAddr a = Fixed(0, 3);
  Put(a, "a");
  Put(a + kPageSize, "b");
  Put(a + 2 * kPageSize, "c");
  ASSERT_TRUE(mm_->Madvise(a, kPageSize, abi::kMadvDontfork).ok());
  ASSERT_TRUE(mm_->Madvise(a + kPageSize, kPageSize, abi::kMadvWipeonfork).ok());
  RefPtr<MemoryManager> child = mm_->Fork().value();
  EXPECT_EQ(Get(*child, a, 1), "");
  EXPECT_EQ(Get(*child, a + kPageSize, 1), std::string(1, '\0'));
  EXPECT_EQ(Get(*child, a + 2 * kPageSize, 1), "c");
  EXPECT_EQ(child->totals().virtual_bytes, 2 * kPageSize);
}

TEST_F(MmTest, MremapGrowsInPlaceThenMoves) {
  GuestAddr a = Fixed(0, 1);
  Put(a, "data");
  EXPECT_EQ(mm_->Mremap(a, kPageSize, 2 * kPageSize, 0, {}, limits_).value(), a);
  EXPECT_EQ(Shape(), "0+2rw-p ");
  Fixed(2, 1, kRead);
  EXPECT_EQ(ErrorOf(mm_->Mremap(a, 2 * kPageSize, 3 * kPageSize, 0, {}, limits_)),
            Errno::kENOMEM);
  GuestAddr b =
      mm_->Mremap(a, 2 * kPageSize, 3 * kPageSize, abi::kMremapMaymove, {}, limits_).value();
  EXPECT_NE(b, a);
  EXPECT_EQ(Get(b, 4), "data");
  EXPECT_EQ(Get(a, 4), "");
}

TEST_F(MmTest, MremapMovesMemoryThatTheHostHasInPieces) {
  // Pages faulted in apart keep separate VMAs on the host even when ours merge.
  GuestAddr a = Fixed(0, 1);
  Put(a, "one");
  Fixed(2, 1);
  Put(a + 2 * kPageSize, "three");
  Fixed(1, 1);
  ASSERT_EQ(Shape(), "0+3rw-p ");
  GuestAddr to(kBase + 100 * kPageSize);
  ASSERT_TRUE(mm_->Mremap(a, 3 * kPageSize, 4 * kPageSize,
                          abi::kMremapMaymove | abi::kMremapFixed, to, limits_)
                  .ok());
  EXPECT_EQ(Get(to, 3), "one");
  EXPECT_EQ(Get(to + 2 * kPageSize, 5), "three");
  EXPECT_EQ(Get(to + 3 * kPageSize, 1), std::string(1, '\0'));
  EXPECT_EQ(Shape(), "100+4rw-p ");
}

TEST_F(MmTest, MremapDontunmapLeavesZeros) {
  GuestAddr a = Fixed(0, 1);
  Put(a, "data");
  GuestAddr b = mm_->Mremap(a, kPageSize, kPageSize, abi::kMremapMaymove | abi::kMremapDontunmap,
                            {}, limits_)
                    .value();
  EXPECT_EQ(Get(b, 4), "data");
  EXPECT_EQ(Get(a, 4), std::string(4, '\0'));
}

TEST_F(MmTest, MremapOfZeroLengthCopiesASharedMapping) {
  GuestAddr a = Map(kBase, 1, kReadWrite, kMapShared | kMapFixed).value();
  GuestAddr b = mm_->Mremap(a, 0, kPageSize, abi::kMremapMaymove, {}, limits_).value();
  Put(a, "seen");
  EXPECT_EQ(Get(b, 4), "seen");
  GuestAddr c = Fixed(10, 1);
  EXPECT_EQ(ErrorOf(mm_->Mremap(c, 0, kPageSize, abi::kMremapMaymove, {}, limits_)),
            Errno::kEINVAL);
}

TEST_F(MmTest, MremapChecksItsArguments) {
  GuestAddr a = Fixed(0, 2);
  EXPECT_EQ(ErrorOf(mm_->Mremap(a, kPageSize, kPageSize, 8, {}, limits_)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(mm_->Mremap(a, kPageSize, kPageSize, abi::kMremapFixed, a + (1 << 20), limits_)),
            Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(mm_->Mremap(a, 2 * kPageSize, kPageSize, 3, a + kPageSize, limits_)),
            Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(mm_->Mremap(a, 3 * kPageSize, 4 * kPageSize, 1, {}, limits_)), Errno::kEFAULT);
  EXPECT_EQ(ErrorOf(mm_->Mremap(a + (1 << 20), kPageSize, 2 * kPageSize, 1, {}, limits_)),
            Errno::kEFAULT);
}

TEST_F(MmTest, BreakGrowsAndShrinks) {
  mm_->InitBreak(GuestAddr(kBase + 10));
  EXPECT_EQ(mm_->Brk(GuestAddr(0), limits_), GuestAddr(kBase + 10));
  GuestAddr up(kBase + 3 * kPageSize + 5);
  EXPECT_EQ(mm_->Brk(up, limits_), up);
  EXPECT_EQ(Shape(), "1+3rw-p ");
  EXPECT_EQ(mm_->Vmas()[0].name, "[heap]");
  Put(GuestAddr(kBase + kPageSize), "heap");
  EXPECT_EQ(mm_->Brk(GuestAddr(kBase + kPageSize + 8), limits_).value, kBase + kPageSize + 8);
  EXPECT_EQ(Shape(), "1+1rw-p ");
  Fixed(4, 1, kRead);
  EXPECT_EQ(mm_->Brk(GuestAddr(kBase + 5 * kPageSize), limits_).value, kBase + kPageSize + 8);
  limits_.data = kPageSize;
  EXPECT_EQ(mm_->Brk(GuestAddr(kBase + 3 * kPageSize), limits_).value, kBase + kPageSize + 8);
}

TEST_F(MmTest, StackGrowsOnFaultAndUnderOurOwnCopies) {
  Fixed(1000, 4, kReadWrite, kMapPrivate | kMapGrowsdown);
  EXPECT_TRUE(Fault(kBase + 999 * kPageSize).repaired);
  Put(GuestAddr(kBase + 900 * kPageSize), "deep");
  EXPECT_EQ(Get(GuestAddr(kBase + 900 * kPageSize), 4), "deep");
  // Past the limit: 16 pages in all.
  auto signal = Fault(kBase + 700 * kPageSize, platform::Access::kWrite, abi::kSigsegv,
                      16 * kPageSize);
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

TEST_F(MmTest, MadviseDontneedDropsAndHolesAreReported) {
  GuestAddr a = Fixed(0, 1);
  Fixed(2, 1);
  Put(a, "gone");
  Put(a + 2 * kPageSize, "gone");
  EXPECT_EQ(ErrorOf(mm_->Madvise(a, 3 * kPageSize, abi::kMadvDontneed)), Errno::kENOMEM);
  EXPECT_EQ(Get(a, 4), std::string(4, '\0'));
  EXPECT_EQ(Get(a + 2 * kPageSize, 4), std::string(4, '\0'));
  EXPECT_EQ(ErrorOf(mm_->Madvise(a, kPageSize, 77)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(mm_->Madvise(a, kPageSize, abi::kMadvRemove)), Errno::kEINVAL);
}

TEST_F(MmTest, LockedMemoryIsCountedAndLimited) {
  GuestAddr a = Fixed(0, 4);
  limits_.memlock = 2 * kPageSize;
  ASSERT_TRUE(mm_->Mlock(a, 2 * kPageSize, false, limits_).ok());
  ASSERT_TRUE(mm_->Mlock(a, 2 * kPageSize, false, limits_).ok());
  EXPECT_EQ(ErrorOf(mm_->Mlock(a, 3 * kPageSize, false, limits_)), Errno::kENOMEM);
  EXPECT_EQ(mm_->totals().locked, 2 * kPageSize);
  EXPECT_EQ(ErrorOf(mm_->Madvise(a, kPageSize, abi::kMadvDontneed)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(Map(0, 1, kRead, kMapPrivate | kMapLocked)), Errno::kEAGAIN);
  RefPtr<MemoryManager> child = mm_->Fork().value();
  EXPECT_EQ(child->totals().locked, 0u);
  ASSERT_TRUE(mm_->MunlockAll().ok());
  EXPECT_EQ(mm_->totals().locked, 0u);
  EXPECT_EQ(Shape(), "0+4rw-p ");
  limits_.memlock = 0;
  EXPECT_EQ(ErrorOf(mm_->Mlock(a, 1, false, limits_)), Errno::kEPERM);
}

TEST_F(MmTest, MsyncSyncsSharedFiles) {
  RefPtr<TestFile> file = TestFile::Memory("x");
  GuestAddr a = Map(0, 1, kReadWrite, kMapShared, file).value();
  ASSERT_TRUE(mm_->Msync(ctx_, a, kPageSize, abi::kMsSync).ok());
  EXPECT_EQ(file->syncs, 1);
  EXPECT_EQ(ErrorOf(mm_->Msync(ctx_, a, kPageSize, abi::kMsSync | abi::kMsAsync)), Errno::kEINVAL);
  EXPECT_EQ(ErrorOf(mm_->Msync(ctx_, GuestAddr(kBase), kPageSize, abi::kMsSync)), Errno::kENOMEM);
}

TEST_F(MmTest, MincoreReportsResidency) {
  GuestAddr a = Fixed(0, 2);
  GuestAddr vec = Fixed(8, 1);
  Put(a + kPageSize, "x");
  ASSERT_TRUE(mm_->Mincore(a, 2 * kPageSize, vec).ok());
  EXPECT_EQ(Get(vec, 2), std::string("\0\1", 2));
  EXPECT_EQ(ErrorOf(mm_->Mincore(a, 3 * kPageSize, vec)), Errno::kENOMEM);
  EXPECT_EQ(ErrorOf(mm_->Mincore(a, kPageSize, GuestAddr(kBase + 50 * kPageSize))), Errno::kEFAULT);
}

TEST_F(MmTest, AFailedFixedMapLeavesTreeAndHostInAgreement) {
  GuestAddr a = Fixed(0, 3);
  space().FailOp(0, Errno::kENOMEM);
  EXPECT_EQ(ErrorOf(Map(kBase + kPageSize, 1, kRead, kMapPrivate | kMapFixed)), Errno::kENOMEM);
  EXPECT_EQ(Shape(), "0+1rw-p 2+1rw-p ");
  EXPECT_FALSE(space().ProtectionAt(a + kPageSize).has_value());
}

TEST_F(MmTest, ExecutableDeniesWritersUntilTheLastForkIsGone) {
  RefPtr<TestFile> file = TestFile::Memory("x");
  mm_->SetExecutable(file);
  RefPtr<MemoryManager> child = mm_->Fork().value();
  mm_.reset();
  EXPECT_EQ(ErrorOf(file->inode()->AddWriter()), Errno::kETXTBSY);
  child.reset();
  EXPECT_TRUE(file->inode()->AddWriter().ok());
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
}  // namespace caisson::mm
