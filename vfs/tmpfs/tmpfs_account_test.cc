// What files in memory may take together, and allocations that end early.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "vfs/operations.h"
#include "vfs/testing/test_context.h"
#include "vfs/tmpfs/filesystem.h"
#include "vfs/tmpfs/memfd.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

constexpr uint32_t kNew = kOpenReadWrite | kOpenCreate;

// Another's context, of which one answer is another.
class CallContextWrapper : public CallContext {
 public:
  explicit CallContextWrapper(CallContext& of) : of_(of) {}
  const auth::Credentials& creds() const override { return of_.creds(); }
  VfsPath root() const override { return of_.root(); }
  VfsPath cwd() const override { return of_.cwd(); }
  MountNamespace& mount_namespace() const override { return of_.mount_namespace(); }
  FileMode umask() const override { return of_.umask(); }
  uint64_t file_size_limit() const override { return of_.file_size_limit(); }
  int32_t tgid() const override { return of_.tgid(); }
  int32_t tid() const override { return of_.tid(); }
  Result<void> Block(int64_t deadline) override { return of_.Block(deadline); }
  void Wake() override { of_.Wake(); }
  void SendSignal(int signo, bool to_group) override { of_.SendSignal(signo, to_group); }
  Result<void> CopyInBytes(GuestAddr from, absl::Span<char> to) override {
    return of_.CopyInBytes(from, to);
  }
  Result<void> CopyOutBytes(GuestAddr to, absl::Span<const char> from) override {
    return of_.CopyOutBytes(to, from);
  }

 private:
  CallContext& of_;
};

// Two file systems and memfds that share one account of 96 MiB.
class SharedAccountTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kMiB = uint64_t{1} << 20;
  SharedAccountTest() { account_->SetMemory(128 * kMiB); }
  RefPtr<tmpfs::TmpfsFileSystem> New(absl::string_view options) {
    return tmpfs::TmpfsFileSystem::New(options, {}, 128 * kMiB, "tmpfs", account_).value();
  }
  Result<void> Allocate(FileDescription& f, int mode, uint64_t at, uint64_t n) {
    return f.Allocate(ctx_, mode, at, n);
  }
  RefPtr<tmpfs::MemoryAccount> account_ = MakeRef<tmpfs::MemoryAccount>();
  TestWorld world_{New("mode=755")};
  TestContext ctx_{world_};
  tmpfs::AnonymousFiles memfds_{account_};
};

TEST_F(SharedAccountTest, FilesAndMemfdsTakeFromOneAccount) {
  RefPtr<FileDescription> file = *ctx_.Open("/f", kNew);
  RefPtr<FileDescription> memfd = *memfds_.NewMemfd(ctx_, "m", 0);
  ASSERT_OK(Allocate(*file, 0, 0, 60 * kMiB));
  EXPECT_ERRNO(Allocate(*memfd, 0, 0, 40 * kMiB), kENOSPC);
  EXPECT_EQ((*memfd->inode()->GetAttributes(ctx_)).blocks, 0u);
  ASSERT_OK(Allocate(*memfd, 0, 0, 30 * kMiB));
  ASSERT_OK(FileTruncate(ctx_, *file, 0));
  EXPECT_LT(account_->used(), 31 * kMiB);
  ASSERT_OK(Allocate(*memfd, 0, 0, 90 * kMiB));
  memfd = nullptr;
  file = nullptr;
  EXPECT_LT(account_->used(), 64u << 10) << "inodes alone";
}

TEST_F(SharedAccountTest, WritesEndWhereTheAccountDoes) {
  RefPtr<FileDescription> memfd = *memfds_.NewMemfd(ctx_, "m", 0);
  const std::string piece(kMiB, 'x');
  size_t written = 0;
  for (;;) {
    Result<size_t> n = ctx_.Write(*memfd, piece);
    if (!n.ok()) {
      EXPECT_EQ(n.error(), Errno::kENOSPC);
      break;
    }
    written += *n;
    ASSERT_LE(written, 96 * kMiB);
  }
  EXPECT_GT(written, 95 * kMiB);
  EXPECT_ERRNO(ctx_.WriteFile("/small", std::string(64 << 10, 'y')), kENOSPC);
}

TEST_F(SharedAccountTest, InodesAreMemoryToo) {
  RefPtr<FileDescription> memfd = *memfds_.NewMemfd(ctx_, "m", 0);
  ASSERT_OK(Allocate(*memfd, 0, 0, account_->available() / 4096 * 4096));
  int made = 0;
  Result<void> result;
  while (made < 10 && result.ok()) {
    result = ctx_.WriteFile(absl::StrCat("/", made), "");
    if (result.ok()) ++made;
  }
  EXPECT_LT(made, 5);
  EXPECT_EQ(result.error(), Errno::kENOSPC);
}

TEST_F(SharedAccountTest, AnEndingCallerLeavesNothingAllocated) {
  class Ending final : public CallContextWrapper {
   public:
    using CallContextWrapper::CallContextWrapper;
    bool IsEnding() const override { return ++asked_ > 2; }

   private:
    mutable int asked_ = 0;
  } ending(ctx_);
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  SpanBuffer b = SpanBuffer::ForWrite({"data", 4});
  ASSERT_EQ(*FilePWrite(ctx_, *f, b, 10 * kMiB + 5, 0), 4u);
  const uint64_t before = account_->used();
  EXPECT_ERRNO(f->Allocate(ending, 0, 100, 40 * kMiB), kEINTR);
  const Attributes attr = *ctx_.Stat("/f");
  EXPECT_EQ(attr.size, 10 * kMiB + 9);
  EXPECT_EQ(attr.blocks, 8u);
  EXPECT_EQ(account_->used(), before);
  std::string out(4, '?');
  SpanBuffer in(absl::Span<char>(&out[0], 4));
  ASSERT_EQ(*FilePRead(ctx_, *f, in, 10 * kMiB + 5, 0), 4u);
  EXPECT_EQ(out, "data");
}

TEST_F(SharedAccountTest, WhatMayBeMappedIsNotUndone) {
  class Ending final : public CallContextWrapper {
   public:
    using CallContextWrapper::CallContextWrapper;
    bool IsEnding() const override { return ++asked_ > 1; }

   private:
    mutable int asked_ = 0;
  } ending(ctx_);
  RefPtr<FileDescription> f = *ctx_.Open("/f", kNew);
  ASSERT_OK(f->Map(ctx_, 0, 4096, true, true));
  EXPECT_ERRNO(f->Allocate(ending, 0, 0, 40 * kMiB), kEINTR);
  EXPECT_EQ((*ctx_.Stat("/f")).size, 0u);
  EXPECT_EQ((*ctx_.Stat("/f")).blocks, 8 * kMiB / 512);
}

}  // namespace
}  // namespace caisson::vfs
