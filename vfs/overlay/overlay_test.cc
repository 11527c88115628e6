#include "vfs/overlay/overlay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <thread>

#include "vfs/testing/test_context.h"
#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;
using ::testing::ElementsAre;
using Names = std::vector<std::string>;

// /lower is a tmpfs with some files, /over an overlay of it.
class OverlayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* d : {"/lower", "/over"}) ASSERT_OK(ctx_.Mkdir(d));
    lower_ = tmpfs::TmpfsFileSystem::New("mode=755").value();
    ASSERT_OK(ctx_.ns_->Add(lower_, *ctx_.Walk("/lower"), 0, "lower"));
    for (const char* d : {"/lower/d", "/lower/d/e", "/lower/empty"}) ASSERT_OK(ctx_.Mkdir(d));
    ASSERT_OK(ctx_.WriteFile("/lower/f", "lower f"));
    ASSERT_OK(ctx_.WriteFile("/lower/d/g", "lower g"));
    ASSERT_OK(ctx_.WriteFile("/lower/d/e/h", "lower h"));
    ASSERT_OK(ctx_.Symlink("f", "/lower/l"));
    ASSERT_OK(ctx_.ns_->RemountFlags(*ctx_.Walk("/lower"), kMountReadOnly));
    Result<RefPtr<FileSystem>> over = overlay::MakeMemoryOverlay(
        ctx_, lower_, tmpfs::TmpfsFileSystem::New("size=16m").value());
    ASSERT_OK(over);
    ASSERT_OK(ctx_.ns_->Add(*over, *ctx_.Walk("/over"), 0, "overlay"));
  }
  void Evict() { (*ctx_.Walk("/over")).dentry->Invalidate(); }
  RefPtr<FileSystem> lower_;
  TestWorld world_;
  TestContext ctx_{world_};
};

TEST_F(OverlayTest, ShowsWhatIsBelow) {
  EXPECT_EQ(*ctx_.List("/over"), (Names{"d", "empty", "f", "l"}));
  EXPECT_EQ(*ctx_.ReadFile("/over/d/e/h"), "lower h");
  EXPECT_EQ(*ctx_.ReadFile("/over/l"), "lower f");
  EXPECT_EQ((*ctx_.Stat("/over/f")).ino, (*ctx_.Stat("/lower/f")).ino);
  EXPECT_FALSE((*ctx_.Stat("/over/f")).dev == (*ctx_.Stat("/lower/f")).dev);
}

TEST_F(OverlayTest, ChangesStayAbove) {
  const uint64_t ino = (*ctx_.Stat("/over/d/e/h")).ino;
  const Timestamp mtime = (*ctx_.Stat("/over/d/e")).mtime;
  RefPtr<FileDescription> f = *ctx_.Open("/over/d/e/h", kOpenReadWrite);
  ASSERT_EQ(*ctx_.Write(*f, "UPPER"), 5u);
  EXPECT_EQ(*ctx_.ReadFile("/over/d/e/h"), "UPPER h");
  EXPECT_EQ(*ctx_.ReadFile("/lower/d/e/h"), "lower h");
  EXPECT_EQ((*ctx_.Stat("/over/d/e/h")).ino, ino);
  EXPECT_EQ((*ctx_.Stat("/over/d/e")).mtime, mtime);
  f.reset();
  Evict();
  EXPECT_EQ((*ctx_.Stat("/over/d/e/h")).ino, ino);
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/over/d"), 0711));
  EXPECT_EQ((*ctx_.Stat("/lower/d")).mode & 0777, 0755u);
  EXPECT_EQ((*ctx_.Stat("/over/d")).mode & 0777, 0711u);
  EXPECT_EQ(*ctx_.List("/over/d"), (Names{"e", "g"}));
}

TEST_F(OverlayTest, OpenFilesFollowTheCopy) {
  RefPtr<FileDescription> reader = *ctx_.Open("/over/f");
  EXPECT_EQ(*ctx_.Read(*reader, 5), "lower");
  Result<HostMapping> map = reader->Map(ctx_, 0, 4096, false, false);
  ASSERT_OK(map);
  ASSERT_OK(ctx_.WriteFile("/over/f", "LOWER F, longer"));
  EXPECT_EQ(*ctx_.Read(*reader, 100), " F, longer");
  // The mapping made before is of the lower file still.
  void* p = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, map->host_fd, 0);
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(std::string(static_cast<char*>(p), 7), "lower f");
  munmap(p, 4096);
}

TEST_F(OverlayTest, RemovedNamesStayRemoved) {
  ASSERT_OK(ctx_.Unlink("/over/f"));
  EXPECT_ERRNO(ctx_.Stat("/over/f"), kENOENT);
  Evict();
  EXPECT_ERRNO(ctx_.Stat("/over/f"), kENOENT);
  EXPECT_EQ(*ctx_.List("/over"), (Names{"d", "empty", "l"}));
  ASSERT_OK(ctx_.WriteFile("/over/f", "new"));
  ASSERT_OK(ctx_.Unlink("/over/f"));
  EXPECT_ERRNO(ctx_.Stat("/over/f"), kENOENT);
  ASSERT_OK(ctx_.WriteFile("/over/d/g", "changed"));
  ASSERT_OK(ctx_.Unlink("/over/d/g"));
  Evict();
  EXPECT_EQ(*ctx_.List("/over/d"), (Names{"e"}));
  EXPECT_EQ(*ctx_.ReadFile("/lower/d/g"), "lower g");
}

TEST_F(OverlayTest, RemovedDirectoriesComeBackEmpty) {
  EXPECT_ERRNO(ctx_.Rmdir("/over/d"), kENOTEMPTY);
  ASSERT_OK(ctx_.Unlink("/over/d/g"));
  ASSERT_OK(ctx_.Unlink("/over/d/e/h"));
  ASSERT_OK(ctx_.Rmdir("/over/d/e"));
  VfsPath d = *ctx_.Walk("/over/d");
  ASSERT_OK(ctx_.Rmdir("/over/d"));
  EXPECT_EQ((*Stat(ctx_, d)).nlink, 0u);
  ASSERT_OK(ctx_.Mkdir("/over/d"));
  Evict();
  EXPECT_EQ(*ctx_.List("/over/d"), Names{});
  ASSERT_OK(ctx_.Rmdir("/over/empty"));  // Never copied up.
  EXPECT_ERRNO(ctx_.Stat("/over/empty"), kENOENT);
  ASSERT_OK(ctx_.Mkdir("/over/empty", 0700));
  EXPECT_EQ((*ctx_.Stat("/over/empty")).mode & 0777, 0700u);
  EXPECT_EQ(*ctx_.List("/lower/d/e"), (Names{"h"}));
}

TEST_F(OverlayTest, TruncatingOpenCopiesNoData) {
  ASSERT_OK(ctx_.ns_->RemountFlags(*ctx_.Walk("/lower"), 0));
  ASSERT_OK(ctx_.WriteFile("/lower/huge", std::string(20 << 20, 'x')));
  // More than the upper layer can hold.
  EXPECT_ERRNO(ctx_.Open("/over/huge", kOpenWriteOnly), kENOSPC);
  ASSERT_OK(ctx_.WriteFile("/over/huge", "small"));
  EXPECT_EQ(*ctx_.ReadFile("/over/huge"), "small");
}

TEST_F(OverlayTest, UnlinkedWhileOpen) {
  RefPtr<FileDescription> f = *ctx_.Open("/over/f");
  ASSERT_OK(ctx_.Unlink("/over/f"));
  EXPECT_EQ((*f->GetAttributes(ctx_)).nlink, 0u);
  EXPECT_EQ(*ctx_.Read(*f, 100), "lower f");
  // Opened again by descriptor, written, still without a name.
  RefPtr<FileDescription> w = *OpenPath(ctx_, f->path(), kOpenReadWrite);
  ASSERT_EQ(*ctx_.Write(*w, "L"), 1u);
  EXPECT_ERRNO(ctx_.Stat("/over/f"), kENOENT);
}

TEST_F(OverlayTest, AttributesMoveUpWithTheFile) {
  ASSERT_OK(ctx_.ns_->RemountFlags(*ctx_.Walk("/lower"), 0));
  ASSERT_OK(SetXattr(ctx_, *ctx_.Walk("/lower/f"), "user.k", "v", 0));
  ASSERT_OK(Chown(ctx_, *ctx_.Walk("/lower/f"), 7, 8));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/lower/f"), 04755));
  const Attributes before = *ctx_.Stat("/lower/f");
  ASSERT_OK(SetXattr(ctx_, *ctx_.Walk("/over/f"), "user.k2", "v2", 0));
  const Attributes after = *ctx_.Stat("/over/f");
  EXPECT_EQ(after.mode, before.mode);
  EXPECT_EQ(after.uid, 7u);
  EXPECT_EQ(after.gid, 8u);
  EXPECT_EQ(after.mtime, before.mtime);
  EXPECT_THAT(*ListXattr(ctx_, *ctx_.Walk("/over/f")), ElementsAre("user.k", "user.k2"));
  EXPECT_ERRNO(GetXattr(ctx_, *ctx_.Walk("/over/f"), "trusted.overlay.origin"), kENODATA);
  EXPECT_ERRNO(SetXattr(ctx_, *ctx_.Walk("/over/f"), "trusted.overlay.opaque", "y", 0), kEPERM);
  EXPECT_ERRNO(Mknod(ctx_, ctx_.cwd_, "/over/w", kModeChar | 0600, {}), kEPERM);
}

TEST_F(OverlayTest, SparseFilesStaySparse) {
  ASSERT_OK(ctx_.ns_->RemountFlags(*ctx_.Walk("/lower"), 0));
  RefPtr<FileDescription> f = *ctx_.Open("/lower/big", kOpenReadWrite | kOpenCreate);
  ASSERT_OK(FileTruncate(ctx_, *f, uint64_t{1} << 36));
  SpanBuffer b = SpanBuffer::ForWrite({"middle", 6});
  ASSERT_OK(FilePWrite(ctx_, *f, b, uint64_t{1} << 35, 0));
  ASSERT_OK(Chmod(ctx_, *ctx_.Walk("/over/big"), 0600));
  const Attributes attr = *ctx_.Stat("/over/big");
  EXPECT_EQ(attr.size, uint64_t{1} << 36);
  EXPECT_EQ(attr.blocks, 8u);
  RefPtr<FileDescription> g = *ctx_.Open("/over/big");
  ASSERT_OK(g->Seek(ctx_, int64_t{1} << 35, 0));
  EXPECT_EQ(*ctx_.Read(*g, 6), "middle");
}

TEST_F(OverlayTest, HardLinksOfCopiedFilesAreOneFile) {
  ASSERT_OK(ctx_.Link("/over/f", "/over/d/f2"));
  ASSERT_OK(ctx_.Unlink("/over/d/g"));
  ASSERT_OK(ctx_.Link("/over/f", "/over/d/g"));  // Over a whiteout.
  Evict();
  ASSERT_OK(ctx_.WriteFile("/over/d/f2", "both"));
  EXPECT_EQ(*ctx_.ReadFile("/over/f"), "both");
  EXPECT_EQ(*ctx_.ReadFile("/over/d/g"), "both");
  EXPECT_EQ((*ctx_.Stat("/over/f")).nlink, 3u);
  EXPECT_EQ((*ctx_.Walk("/over/f")).dentry->inode(), (*ctx_.Walk("/over/d/f2")).dentry->inode());
}

TEST_F(OverlayTest, TmpfileAndLink) {
  RefPtr<FileDescription> f = *ctx_.Open("/over/d", kOpenTmpfile | kOpenReadWrite, 0600);
  ASSERT_EQ(*ctx_.Write(*f, "x"), 1u);
  ASSERT_OK(Link(ctx_, f->path(), ctx_.cwd_, "/over/d/named"));
  EXPECT_EQ(*ctx_.ReadFile("/over/d/named"), "x");
  EXPECT_EQ(*ctx_.List("/over/d"), (Names{"e", "g", "named"}));
}

TEST_F(OverlayTest, ManyWritersCopyUpOnce) {
  ASSERT_OK(ctx_.ns_->RemountFlags(*ctx_.Walk("/lower"), 0));
  ASSERT_OK(ctx_.WriteFile("/lower/big", std::string(1 << 20, 'x')));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      TestContext me(world_);
      RefPtr<FileDescription> f = *me.Open("/over/big", kOpenReadWrite);
      SpanBuffer b = SpanBuffer::ForWrite({"y", 1});
      EXPECT_TRUE(FilePWrite(me, *f, b, static_cast<uint64_t>(t) * 1000, 0).ok());
    });
  }
  for (std::thread& t : threads) t.join();
  std::string content = *ctx_.ReadFile("/over/big");
  EXPECT_EQ(std::count(content.begin(), content.end(), 'y'), 4);
  EXPECT_EQ(content.size(), 1u << 20);
}

TEST_F(OverlayTest, MountedByOptions) {
  for (const char* d : {"/l1", "/l2", "/u", "/w", "/m"}) ASSERT_OK(ctx_.Mkdir(d));
  ASSERT_OK(ctx_.WriteFile("/l1/a", "1"));
  ASSERT_OK(ctx_.WriteFile("/l2/a", "2"));
  ASSERT_OK(ctx_.WriteFile("/l2/b", "2"));
  EXPECT_ERRNO(overlay::MountOverlay(ctx_, "lowerdir=/l1,upperdir=/u"), kEINVAL);
  EXPECT_ERRNO(overlay::MountOverlay(ctx_, "lowerdir=/none"), kENOENT);
  EXPECT_ERRNO(overlay::MountOverlay(ctx_, "lowerdir=/l1,bogus=1"), kEINVAL);
  Result<RefPtr<FileSystem>> fs =
      overlay::MountOverlay(ctx_, "lowerdir=/l1:/l2,upperdir=/u,workdir=/w");
  ASSERT_OK(fs);
  EXPECT_EQ((*fs)->MountOptions(), "lowerdir=/l1:/l2,upperdir=/u,workdir=/w");
  ASSERT_OK(ctx_.ns_->Add(*fs, *ctx_.Walk("/m"), 0, "overlay"));
  EXPECT_EQ(*ctx_.ReadFile("/m/a"), "1");
  EXPECT_EQ(*ctx_.List("/m"), (Names{"a", "b"}));
  EXPECT_ERRNO(ctx_.Stat("/u/new"), kENOENT);
  ASSERT_OK(ctx_.WriteFile("/m/new", "n"));
  EXPECT_EQ(*ctx_.ReadFile("/u/new"), "n");  // Not hidden by the name remembered as missing.
  ASSERT_OK(ctx_.Unlink("/m/b"));
  EXPECT_EQ((*ctx_.Stat("/u/b")).mode & kModeType, kModeChar);
  Result<RefPtr<FileSystem>> ro = overlay::MountOverlay(ctx_, "lowerdir=/l1:/l2");
  ASSERT_OK(ro);
  ASSERT_OK(ctx_.Mkdir("/ro"));
  ASSERT_OK(ctx_.ns_->Add(*ro, *ctx_.Walk("/ro"), 0, "overlay"));
  EXPECT_ERRNO(ctx_.WriteFile("/ro/a", "x"), kEROFS);
  EXPECT_EQ(*ctx_.ReadFile("/ro/b"), "2");
}

TEST_F(OverlayTest, NoSpaceLeavesThingsAsTheyWere) {
  ASSERT_OK(ctx_.ns_->RemountFlags(*ctx_.Walk("/lower"), 0));
  ASSERT_OK(ctx_.WriteFile("/lower/huge", std::string(20 << 20, 'x')));
  EXPECT_ERRNO(Chmod(ctx_, *ctx_.Walk("/over/huge"), 0600), kENOSPC);
  EXPECT_EQ((*ctx_.Stat("/over/huge")).mode & 0777, 0644u);
  ASSERT_OK(ctx_.WriteFile("/over/small", "fits"));
}

}  // namespace
}  // namespace caisson::vfs
