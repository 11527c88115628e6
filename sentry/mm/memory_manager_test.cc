#include <fcntl.h>

#include "sentry/mm/testing/mm_test.h"

namespace caisson::mm::testing {
namespace {

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
#ifdef CAISSON_SANITIZED
  GTEST_SKIP() << "the sanitizer's allocator needs mappings of its own";
#endif
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

// Whatever the descriptor that it is made with could do, and whoever asks the host.
TEST_F(MmTest, ASharedMappingThatMayNotBeWrittenChangesNothingIfItIs) {
  RefPtr<TestFile> file = TestFile::Memory("content");
  RefPtr<TestFile> reader = MakeRef<TestFile>(fcntl(file->host_fd(), F_DUPFD_CLOEXEC, 0), vfs::kOpenReadOnly);
  GuestAddr a = Map(0, 1, kRead, kMapShared, reader).value();
  EXPECT_EQ(ErrorOf(mm_->Mprotect(a, kPageSize, kReadWrite, limits_)), Errno::kEACCES);
  ASSERT_EQ(pwrite(file->host_fd(), "shared!", 7, 0), 7);
  EXPECT_EQ(Get(a, 7), "shared!");
  platform::MapOp op{platform::MapOp::Kind::kProtect};
  op.protection = kReadWrite;
  op.addr = a;
  op.length = kPageSize;
  ASSERT_TRUE(space().Apply({&op, 1}).ok());
  ASSERT_EQ(space().CopyOut(a, absl::string_view("forged!")), 7u);
  char seen[7];
  ASSERT_EQ(pread(file->host_fd(), seen, 7, 0), 7);
  EXPECT_EQ(absl::string_view(seen, 7), "shared!");
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
  EXPECT_EQ(ErrorOf(mm_->Mremap(a, 2 * kPageSize, 3 * kPageSize, 0, {}, limits_)), Errno::kENOMEM);
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
  ASSERT_TRUE(mm_->Mremap(a, 3 * kPageSize, 4 * kPageSize, abi::kMremapMaymove | abi::kMremapFixed,
                          to, limits_)
                  .ok());
  EXPECT_EQ(Get(to, 3), "one");
  EXPECT_EQ(Get(to + 2 * kPageSize, 5), "three");
  EXPECT_EQ(Get(to + 3 * kPageSize, 1), std::string(1, '\0'));
  EXPECT_EQ(Shape(), "100+4rw-p ");
}

TEST_F(MmTest, MremapDontunmapLeavesZeros) {
  GuestAddr a = Fixed(0, 1);
  Put(a, "data");
  GuestAddr b =
      mm_->Mremap(a, kPageSize, kPageSize, abi::kMremapMaymove | abi::kMremapDontunmap, {}, limits_)
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
  EXPECT_EQ(
      ErrorOf(mm_->Mremap(a, kPageSize, kPageSize, abi::kMremapFixed, a + (1 << 20), limits_)),
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

TEST_F(MmTest, AnonymousMemoryCanBeNamed) {
  GuestAddr a = Fixed(0, 3);
  ASSERT_TRUE(mm_->SetAnonymousName(a + kPageSize, kPageSize, "arena").ok());
  EXPECT_EQ(Shape(), "0+1rw-p 1+1rw-p 2+1rw-p ");
  EXPECT_EQ(mm_->Vmas()[1].name, "[anon:arena]");
  ASSERT_TRUE(mm_->SetAnonymousName(a, 3 * kPageSize, "").ok());
  EXPECT_EQ(Shape(), "0+3rw-p ");
  GuestAddr file = Map(0, 1, kRead, kMapPrivate, TestFile::Memory("x")).value();
  EXPECT_EQ(ErrorOf(mm_->SetAnonymousName(file, kPageSize, "x")), Errno::kEBADF);
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

}  // namespace
}  // namespace caisson::mm::testing
