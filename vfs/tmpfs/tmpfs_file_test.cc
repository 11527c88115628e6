#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"
#include "vfs/tmpfs/filesystem.h"
#include "vfs/tmpfs/memfd.h"
#include "vfs/tmpfs/regular_file.h"
#include "vfs/tmpfs/window_cache.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

constexpr uint32_t kNew = kOpenReadWrite | kOpenCreate;

// Guest-like memory: no Direct(), and faults past `good` bytes.
class FaultyBuffer final : public IoBuffer {
 public:
  FaultyBuffer(char* data, size_t size, size_t good) : IoBuffer(size), data_(data), good_(good) {}

 protected:
  Result<size_t> DoPut(size_t at, const char* from, size_t n) override {
    if (at >= good_) return Errno::kEFAULT;
    n = std::min(n, good_ - at);
    memcpy(data_ + at, from, n);
    return n;
  }
  Result<size_t> DoTake(size_t at, char* to, size_t n) override {
    if (at >= good_) return Errno::kEFAULT;
    n = std::min(n, good_ - at);
    memcpy(to, data_ + at, n);
    return n;
  }

 private:
  char* data_;
  size_t good_;
};

// Guest-like memory that the host can copy to; counts the bytes that it did.
class HostCopiedBuffer final : public IoBuffer {
 public:
  explicit HostCopiedBuffer(std::string& to) : IoBuffer(to.size()), data_(&to[0]) {}
  size_t by_host() const { return by_host_; }

 protected:
  Result<size_t> DoPut(size_t at, const char* from, size_t n) override {
    memcpy(data_ + at, from, n);
    return n;
  }
  Result<size_t> DoTake(size_t, char*, size_t) override { return Errno::kEFAULT; }
  size_t DoPutByHost(size_t at, const char* from, size_t n) override {
    iovec local{const_cast<char*>(from), n}, remote{data_ + at, n};
    const ssize_t done = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
    if (done <= 0) return 0;
    by_host_ += static_cast<size_t>(done);
    return static_cast<size_t>(done);
  }

 private:
  char* data_;
  size_t by_host_ = 0;
};

class TmpfsFileTest : public ::testing::Test {
 protected:
  explicit TmpfsFileTest(absl::string_view options = "mode=755")
      : world_(tmpfs::TmpfsFileSystem::New(options).value()) {}
  Result<size_t> PWrite(FileDescription& f, absl::string_view s, uint64_t at) {
    SpanBuffer b = SpanBuffer::ForWrite({s.data(), s.size()});
    return FilePWrite(ctx_, f, b, at, 0);
  }
  std::string PRead(FileDescription& f, size_t n, uint64_t at) {
    std::string out(n, '?');
    SpanBuffer b(absl::Span<char>(&out[0], n));
    Result<size_t> r = FilePRead(ctx_, f, b, at, 0);
    out.resize(r.ok() ? *r : 0);
    return out;
  }
  TestWorld world_;
  TestContext ctx_{world_};
};

TEST_F(TmpfsFileTest, KeepsBytesAcrossTheMoveToAHostFile) {
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  std::string want;
  for (int i = 0; i < 9000; ++i) {
    std::string piece = absl::StrCat("line ", i, " of what is written piece by piece\n");
    ASSERT_EQ(*ctx_.Write(*f, piece), piece.size());
    want += piece;
  }
  ASSERT_GT(want.size(), tmpfs::RegularFile::kSmall);
  EXPECT_EQ(*ctx_.ReadFile("/f"), want);
  Attributes attr = *ctx_.Stat("/f");
  EXPECT_EQ(attr.size, want.size());
  EXPECT_EQ(attr.blocks, (want.size() + 4095) / 4096 * 8);
}

TEST_F(TmpfsFileTest, SparseFilesReadZerosAndKnowTheirHoles) {
  for (uint64_t at : {uint64_t{200000}, uint64_t{1} << 40}) {
    RefPtr<FileDescription> f = *ctx_.Open("/f", kNew | kOpenTruncate);
    ASSERT_EQ(*PWrite(*f, "data", at), 4u);
    EXPECT_EQ(PRead(*f, 8, at - 4), std::string(4, '\0') + "data");
    EXPECT_EQ((*ctx_.Stat("/f")).size, at + 4);
    if (at > tmpfs::RegularFile::kSmall) {
      EXPECT_EQ((*ctx_.Stat("/f")).blocks, 8u);
      EXPECT_EQ(*f->Seek(ctx_, 0, 3), static_cast<int64_t>(at));  // SEEK_DATA
      EXPECT_EQ(*f->Seek(ctx_, 0, 4), 0);                         // SEEK_HOLE
    }
    EXPECT_EQ(*f->Seek(ctx_, static_cast<int64_t>(at), 4), static_cast<int64_t>(at) + 4);
    EXPECT_ERRNO(f->Seek(ctx_, static_cast<int64_t>(at) + 4, 3), kENXIO);
  }
}

std::string Pattern(size_t size) {
  std::string s(size, 0);
  for (size_t i = 0; i < size; ++i) s[i] = static_cast<char>(i * 31 + i / 4096);
  return s;
}

TEST_F(TmpfsFileTest, LargeReadsAreOneCopyByTheHost) {
  const size_t size = 2 * tmpfs::WindowCache::kWindow + 12345;
  const std::string want = Pattern(size);
  ASSERT_OK(ctx_.WriteFile("/f", want));
  RefPtr<FileDescription> f = *ctx_.Open("/f", kOpenReadWrite);
  for (size_t from : {size_t{0}, size_t{777}, size_t{tmpfs::WindowCache::kWindow - 1}}) {
    std::string to(size, '?');
    HostCopiedBuffer buffer(to);
    ASSERT_EQ(*FilePRead(ctx_, *f, buffer, from, 0), size - from);
    EXPECT_EQ(buffer.by_host(), size - from);
    to.resize(size - from);
    EXPECT_TRUE(to == want.substr(from));
  }
  // A hole stays one.
  ASSERT_OK(FileTruncate(ctx_, *f, 2 * size));
  const int64_t blocks = static_cast<int64_t>((*ctx_.Stat("/f")).blocks);
  std::string to(2 * size, '?');
  HostCopiedBuffer buffer(to);
  ASSERT_EQ(*FilePRead(ctx_, *f, buffer, 0, 0), 2 * size);
  EXPECT_EQ(buffer.by_host(), 0u);
  EXPECT_TRUE(to == want + std::string(size, '\0'));
  EXPECT_EQ(static_cast<int64_t>((*ctx_.Stat("/f")).blocks), blocks);
}

TEST_F(TmpfsFileTest, ManyLargeFilesShareAFewWindows) {
  const std::string want = Pattern(400000);
  std::vector<RefPtr<FileDescription>> files;
  for (size_t i = 0; i < 3 * tmpfs::WindowCache::kWindows; ++i) {
    files.push_back(*ctx_.Open(absl::StrCat("/f", i), kNew));
    ASSERT_EQ(*ctx_.Write(*files.back(), absl::StrCat(i, want)), want.size() + (i < 10 ? 1 : 2));
  }
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < files.size(); ++i) {
      std::string to(want.size() + (i < 10 ? 1 : 2), '?');
      HostCopiedBuffer buffer(to);
      ASSERT_EQ(*FilePRead(ctx_, *files[i], buffer, 0, 0), to.size());
      EXPECT_EQ(buffer.by_host(), to.size());
      EXPECT_TRUE(to == absl::StrCat(i, want)) << i;
    }
    // A file that is gone leaves its window, and one that gets its address does not see it.
    files.resize(files.size() / 2);
    for (size_t i = files.size(); i < 3 * tmpfs::WindowCache::kWindows; ++i)
      ASSERT_OK(ctx_.Unlink(absl::StrCat("/f", i)));
    for (size_t i = files.size(); round == 0 && i < 3 * tmpfs::WindowCache::kWindows; ++i) {
      files.push_back(*ctx_.Open(absl::StrCat("/f", i), kNew));
      ASSERT_EQ(*ctx_.Write(*files.back(), absl::StrCat(i, want)), want.size() + 2);
    }
  }
}

// The host has unmapped what was there when it runs out of memory for what comes.
TEST(WindowCacheTest, AWindowWhoseMappingFailedShowsNothingAnyMore) {
  tmpfs::WindowCache cache;
  int file, other;
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(fd.get(), 4096), 0);
  for (size_t i = 0; i < tmpfs::WindowCache::kWindows; ++i)
    EXPECT_FALSE(cache.Map(&file, fd.get(), i * tmpfs::WindowCache::kWindow).bytes().empty());
  EXPECT_TRUE(cache.Map(&other, -1, 0).bytes().empty());  // Was to be in place of the first one.
  const void* first = cache.Map(&file, fd.get(), tmpfs::WindowCache::kWindow).bytes().data();
  EXPECT_NE(static_cast<const char*>(first) - tmpfs::WindowCache::kWindow, cache.Map(&file, fd.get(), 0).bytes().data());
  cache.Forget(&file);
}

TEST_F(TmpfsFileTest, TruncationWhileTheHostCopiesOnlyShortensTheRead) {
  const std::string want = Pattern(size_t{3} << 20);
  ASSERT_OK(ctx_.WriteFile("/f", want));
  RefPtr<FileDescription> f = *ctx_.Open("/f", kOpenReadWrite);
  // It may have the file's lock nearly all the time: so it is its rounds that are counted.
  std::atomic<bool> done{false};
  std::thread cutter([&] {
    TestContext ctx(world_);
    for (int i = 0; i < 300; ++i) {
      ASSERT_OK(FileTruncate(ctx, *f, 100000));
      SpanBuffer all = SpanBuffer::ForWrite(want);
      EXPECT_EQ(*FilePWrite(ctx, *f, all, 0, 0), want.size());
    }
    done.store(true);
  });
  std::string to(want.size(), '?');
  while (!done.load()) {
    HostCopiedBuffer buffer(to);
    const size_t n = *FilePRead(ctx_, *f, buffer, 0, 0);
    EXPECT_GE(n, 100000u);
    EXPECT_TRUE(memcmp(to.data(), want.data(), 100000) == 0);
  }
  cutter.join();
}

TEST_F(TmpfsFileTest, TruncateCutsAndZeroes) {
  for (size_t size : {size_t{1000}, size_t{400000}}) {
    RefPtr<FileDescription> f = *ctx_.Open("/f", kNew | kOpenTruncate);
    ASSERT_EQ(*ctx_.Write(*f, std::string(size, 'x')), size);
    ASSERT_OK(FileTruncate(ctx_, *f, 10));
    ASSERT_OK(FileTruncate(ctx_, *f, 20));
    EXPECT_EQ(PRead(*f, 100, 0), std::string(10, 'x') + std::string(10, '\0'));
    EXPECT_EQ((*ctx_.Stat("/f")).blocks, 8u);
    ASSERT_OK(FileTruncate(ctx_, *f, 0));
    EXPECT_EQ((*ctx_.Stat("/f")).blocks, 0u);
  }
}

TEST_F(TmpfsFileTest, AppendWritesAtTheEndWhereverTheOffset) {
  ASSERT_OK(ctx_.WriteFile("/f", "abc"));
  RefPtr<FileDescription> f = *ctx_.Open("/f", kOpenReadWrite | kOpenAppend);
  ASSERT_EQ(*ctx_.Write(*f, "d"), 1u);
  ASSERT_EQ(*PWrite(*f, "e", 0), 1u);
  EXPECT_EQ(*ctx_.ReadFile("/f"), "abcde");
  EXPECT_EQ(*f->Seek(ctx_, 0, 1), 4);
}

TEST_F(TmpfsFileTest, FaultsEndATransferEarly) {
  std::string memory(300000, 'm');
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  FaultyBuffer none(&memory[0], 100, 0);
  EXPECT_ERRNO(FileWrite(ctx_, *f, none, 0), kEFAULT);
  EXPECT_EQ((*ctx_.Stat("/f")).size, 0u);
  FaultyBuffer part(&memory[0], 300000, 70000);
  EXPECT_EQ(*FileWrite(ctx_, *f, part, 0), 70000u);
  std::string back(300000, 'b');
  FaultyBuffer into(&back[0], 300000, 66000);
  EXPECT_EQ(*FilePRead(ctx_, *f, into, 0, 0), 66000u);
  EXPECT_EQ(back, std::string(66000, 'm') + std::string(234000, 'b'));
}

TEST_F(TmpfsFileTest, FileSizeLimitCutsThenSignals) {
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  ctx_.file_size_limit_ = 5;
  EXPECT_EQ(*ctx_.Write(*f, "12345678"), 5u);
  EXPECT_TRUE(ctx_.signals_.empty());
  EXPECT_ERRNO(ctx_.Write(*f, "9"), kEFBIG);
  EXPECT_EQ(ctx_.signals_, std::vector<int>{25});
  EXPECT_ERRNO(FileTruncate(ctx_, *f, 6), kEFBIG);
  ASSERT_OK(FileTruncate(ctx_, *f, 3));
}

TEST_F(TmpfsFileTest, AllocatePunchAndKeepSize) {
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  ASSERT_OK(f->Allocate(ctx_, 0, 0, 1 << 20));
  EXPECT_EQ((*ctx_.Stat("/f")).size, 1u << 20);
  EXPECT_EQ((*ctx_.Stat("/f")).blocks, (1u << 20) / 512);
  ASSERT_EQ(*PWrite(*f, std::string(8192, 'x'), 4096), 8192u);
  ASSERT_OK(f->Allocate(ctx_, 3, 4096, 4096));  // PUNCH_HOLE | KEEP_SIZE
  EXPECT_EQ(PRead(*f, 2, 8191), std::string(1, '\0') + "x");
  EXPECT_EQ((*ctx_.Stat("/f")).blocks, (1u << 20) / 512 - 8);
  ASSERT_OK(f->Allocate(ctx_, 1, 1 << 20, 4096));  // KEEP_SIZE
  EXPECT_EQ((*ctx_.Stat("/f")).size, 1u << 20);
  EXPECT_ERRNO(f->Allocate(ctx_, 2, 0, 4096), kEOPNOTSUPP);
  EXPECT_ERRNO(f->Allocate(ctx_, 8, 0, 4096), kEOPNOTSUPP);     // COLLAPSE_RANGE
  EXPECT_ERRNO(f->Allocate(ctx_, 0x20, 0, 4096), kEOPNOTSUPP);  // INSERT_RANGE
}

TEST_F(TmpfsFileTest, MappingsAndReadsShareBytes) {
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  ASSERT_EQ(*ctx_.Write(*f, "before"), 6u);
  Result<HostMapping> m = f->Map(ctx_, 0, 4096, true, true);
  ASSERT_OK(m);
  auto* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m->host_fd,
                                    static_cast<off_t>(m->offset)));
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(std::string(p, 6), "before");
  memcpy(p, "mapped", 6);
  EXPECT_EQ(*ctx_.ReadFile("/f"), "mapped");
  munmap(p, 4096);
  RefPtr<FileDescription> ro = *ctx_.Open("/f", kOpenReadOnly);
  EXPECT_ERRNO(ro->Map(ctx_, 0, 4096, true, true), kEACCES);
  EXPECT_FALSE((*ro->Map(ctx_, 0, 4096, true, false)).writable);
}

class LimitedTmpfsTest : public TmpfsFileTest {
 protected:
  LimitedTmpfsTest() : TmpfsFileTest("size=512k,nr_inodes=5,mode=755") {}
  uint64_t Free() {
    return (*(*ctx_.Walk("/")).mount->fs().Statistics(ctx_)).blocks_free;
  }
};

TEST_F(LimitedTmpfsTest, SpaceRunsOutAndComesBack) {
  EXPECT_EQ(Free(), 128u);
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  EXPECT_EQ(*ctx_.Write(*f, std::string(600000, 'x')), 524288u);
  EXPECT_EQ(Free(), 0u);
  EXPECT_ERRNO(ctx_.Write(*f, "x"), kENOSPC);
  ASSERT_EQ(*PWrite(*f, "y", 5), 1u);  // Where there is data it stays possible.
  EXPECT_ERRNO(f->Allocate(ctx_, 0, 0, 600000), kENOSPC);
  ASSERT_OK(FileTruncate(ctx_, *f, 4097));
  EXPECT_EQ(Free(), 126u);
  ASSERT_OK(ctx_.WriteFile("/g", std::string(100, 'x')));
  EXPECT_EQ(Free(), 125u);
  ASSERT_OK(ctx_.Unlink("/g"));
  ASSERT_OK(ctx_.Unlink("/f"));
  EXPECT_EQ(Free(), 126u);
  f.reset();
  EXPECT_EQ(Free(), 128u);
}

TEST_F(LimitedTmpfsTest, SparseWritesAreChargedByPage) {
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  ASSERT_EQ(*PWrite(*f, "x", 1 << 30), 1u);
  EXPECT_EQ(Free(), 127u);
  ASSERT_EQ(*PWrite(*f, std::string(5000, 'x'), 100000), 5000u);
  EXPECT_EQ(Free(), 125u);
  EXPECT_EQ(*PWrite(*f, std::string(600000, 'x'), 1 << 29), 125u * 4096);
  EXPECT_ERRNO(PWrite(*f, "x", 0), kENOSPC);
}

TEST_F(LimitedTmpfsTest, InodesRunOut) {
  for (int i = 0; i < 4; ++i) ASSERT_OK(ctx_.WriteFile(absl::StrCat("/f", i), ""));
  EXPECT_ERRNO(ctx_.WriteFile("/more", ""), kENOSPC);
  EXPECT_ERRNO(ctx_.Mkdir("/more"), kENOSPC);
  EXPECT_ERRNO(ctx_.Symlink("x", "/more"), kENOSPC);
  ASSERT_OK(ctx_.Link("/f0", "/hard"));
  ASSERT_OK(ctx_.Unlink("/f1"));
  ASSERT_OK(ctx_.WriteFile("/more", ""));
}

TEST_F(TmpfsFileTest, Seals) {
  tmpfs::AnonymousFiles files;
  RefPtr<FileDescription> f = *files.NewMemfd(ctx_, "name", tmpfs::kMfdAllowSealing);
  EXPECT_EQ(ctx_.PathName(f->path()), "/memfd:name (deleted)");
  ASSERT_EQ(*ctx_.Write(*f, "0123456789"), 10u);
  EXPECT_EQ(*tmpfs::GetSeals(*f), 0u);
  ASSERT_OK(tmpfs::AddSeals(*f, tmpfs::kSealShrink));
  EXPECT_ERRNO(FileTruncate(ctx_, *f, 5), kEPERM);
  ASSERT_OK(FileTruncate(ctx_, *f, 15));
  ASSERT_OK(tmpfs::AddSeals(*f, tmpfs::kSealGrow));
  EXPECT_ERRNO(ctx_.Write(*f, "past the end"), kEPERM);
  ASSERT_EQ(*PWrite(*f, "in", 3), 2u);
  f->inode()->AddWritableMapping();
  EXPECT_ERRNO(tmpfs::AddSeals(*f, tmpfs::kSealWrite), kEBUSY);
  f->inode()->RemoveWritableMapping();
  ASSERT_OK(tmpfs::AddSeals(*f, tmpfs::kSealWrite | tmpfs::kSealSeal));
  EXPECT_ERRNO(PWrite(*f, "in", 3), kEPERM);
  EXPECT_ERRNO(f->Map(ctx_, 0, 4096, true, true), kEPERM);
  EXPECT_FALSE((*f->Map(ctx_, 0, 4096, true, false)).writable);
  ASSERT_OK(f->Map(ctx_, 0, 4096, false, true));
  EXPECT_ERRNO(tmpfs::AddSeals(*f, tmpfs::kSealExec), kEPERM);
  RefPtr<FileDescription> plain = *files.NewMemfd(ctx_, "", 0);
  EXPECT_ERRNO(tmpfs::AddSeals(*plain, tmpfs::kSealGrow), kEPERM);
  EXPECT_ERRNO(files.NewMemfd(ctx_, std::string(250, 'x'), 0), kEINVAL);
}

}  // namespace
}  // namespace caisson::vfs
