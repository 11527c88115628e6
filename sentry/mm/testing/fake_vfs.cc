#include "sentry/mm/testing/fake_vfs.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "time/clock.h"
#include "vfs/inode.h"

namespace caisson::mm::testing {

namespace {

class TestFileSystem final : public vfs::FileSystem {
 public:
  TestFileSystem() : vfs::FileSystem("test") {}
  RefPtr<vfs::Inode> root() override { return nullptr; }
  Result<vfs::FsStatistics> Statistics(vfs::CallContext&) override { return Errno::kENOSYS; }
};

class TestInode final : public vfs::Inode {
 public:
  explicit TestInode(vfs::FileSystem& fs) : vfs::Inode(fs, vfs::kModeRegular) {}
  Result<vfs::Attributes> GetAttributes(vfs::CallContext&) override { return Errno::kEIO; }
  Result<RefPtr<vfs::FileDescription>> Open(vfs::CallContext&, const vfs::OpenArgs&) override {
    return Errno::kEIO;
  }
};

RefPtr<vfs::Inode> NewInode() {
  auto fs = MakeRef<TestFileSystem>();
  return MakeRef<TestInode>(*fs);
}

}  // namespace

TestContext::TestContext(int32_t tid)
    : tid_(tid), creds_(MakeRef<auth::Credentials>(MakeRef<auth::UserNamespace>())) {}

vfs::MountNamespace& TestContext::mount_namespace() const { abort(); }

Result<void> TestContext::Block(int64_t deadline) {
  MutexLock lock(mu_);
  blocked_ = true;
  changed_.Broadcast();
  Result<void> result;
  while (!woken_) {
    if (interrupted_) {
      result = Errno::kERESTARTSYS;
      break;
    }
    if (deadline == time::kNever) {
      changed_.Wait(mu_);
    } else if (!changed_.WaitUntil(mu_, deadline) && !woken_) {
      result = Errno::kETIMEDOUT;
      break;
    }
  }
  woken_ = false;
  return result;
}

void TestContext::Wake() {
  MutexLock lock(mu_);
  woken_ = true;
  changed_.Broadcast();
}

void TestContext::Interrupt() {
  MutexLock lock(mu_);
  interrupted_ = true;
  changed_.Broadcast();
}

void TestContext::AwaitBlocked() {
  MutexLock lock(mu_);
  while (!blocked_) changed_.Wait(mu_);
}

TestFile::TestFile(int host_fd, uint32_t flags)
    : vfs::FileDescription(vfs::FileKind::kRegular, {}, NewInode(), flags), fd_(host_fd) {}

RefPtr<TestFile> TestFile::Memory(absl::string_view content, uint32_t flags) {
  int fd = memfd_create("test", MFD_CLOEXEC);
  CHECK(fd >= 0);
  CHECK(write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  return MakeRef<TestFile>(fd, flags);
}

Result<size_t> TestFile::PRead(vfs::CallContext&, IoBuffer& to, uint64_t offset, uint32_t) {
  absl::Span<char> direct = to.Direct();
  ssize_t n = pread(fd_.get(), direct.data(), direct.size(), static_cast<off_t>(offset));
  if (n < 0) return Errno::kEIO;
  return TRY(to.Put({direct.data(), static_cast<size_t>(n)}));
}

Result<vfs::HostMapping> TestFile::Map(vfs::CallContext&, uint64_t offset, uint64_t, bool, bool) {
  vfs::HostMapping mapping;
  mapping.host_fd = fd_.get();
  mapping.offset = offset;
  mapping.writable = writable();
  return mapping;
}

Result<RefPtr<vfs::FileDescription>> TestSharedMemory::NewSharedAnonymous(vfs::CallContext&,
                                                                          uint64_t length) {
  RefPtr<TestFile> file = TestFile::Memory("");
  CHECK(ftruncate(file->host_fd(), static_cast<off_t>(length)) == 0);
  return RefPtr<vfs::FileDescription>(std::move(file));
}

}  // namespace caisson::mm::testing
