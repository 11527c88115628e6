// Files and callers for unit tests of what lies on the mm.
#ifndef CAISSON_SENTRY_MM_TESTING_FAKE_VFS_H_
#define CAISSON_SENTRY_MM_TESTING_FAKE_VFS_H_

#include <atomic>
#include <string>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "sentry/mm/memory_manager.h"
#include "vfs/call_context.h"
#include "vfs/file_description.h"

namespace caisson::mm::testing {

// A caller that is nobody in particular. Interrupt() makes Block() fail as a signal would.
class TestContext : public vfs::CallContext {
 public:
  explicit TestContext(int32_t tid = 1);
  const auth::Credentials& creds() const override { return *creds_; }
  vfs::VfsPath root() const override { return {}; }
  vfs::VfsPath cwd() const override { return {}; }
  vfs::MountNamespace& mount_namespace() const override;
  vfs::FileMode umask() const override { return 022; }
  uint64_t file_size_limit() const override { return ~uint64_t{0}; }
  int32_t tgid() const override { return tid_; }
  int32_t tid() const override { return tid_; }
  Result<void> Block(int64_t deadline) override;
  void Wake() override;
  void SendSignal(int, bool) override {}
  Result<void> CopyInBytes(GuestAddr, absl::Span<char>) override { return Errno::kEFAULT; }
  Result<void> CopyOutBytes(GuestAddr, absl::Span<const char>) override { return Errno::kEFAULT; }

  void Interrupt();
  // Waits until a thread has been in Block().
  void AwaitBlocked();
  auth::Credentials& mutable_creds() { return *creds_; }

 private:
  const int32_t tid_;
  RefPtr<auth::Credentials> creds_;
  Mutex mu_;
  CondVar changed_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  bool interrupted_ ABSL_GUARDED_BY(mu_) = false;
  bool blocked_ ABSL_GUARDED_BY(mu_) = false;
};

// A regular file over a host descriptor.
class TestFile final : public vfs::FileDescription {
 public:
  // Takes `host_fd`. `flags`: O_RDONLY, O_RDWR, ...
  TestFile(int host_fd, uint32_t flags);
  // A memfd with that content.
  static RefPtr<TestFile> Memory(absl::string_view content, uint32_t flags = vfs::kOpenReadWrite);
  Result<size_t> PRead(vfs::CallContext& ctx, IoBuffer& to, uint64_t offset, uint32_t rwf) override;
  Result<vfs::HostMapping> Map(vfs::CallContext& ctx, uint64_t offset, uint64_t length, bool shared,
                               bool write) override;
  Result<void> Sync(vfs::CallContext&, bool) override {
    ++syncs;
    return {};
  }
  int host_fd() const { return fd_.get(); }
  std::atomic<int> syncs{0};

 private:
  UniqueFd fd_;
};

class TestSharedMemory final : public SharedMemoryFactory {
 public:
  Result<RefPtr<vfs::FileDescription>> NewSharedAnonymous(vfs::CallContext& ctx,
                                                          uint64_t length) override;
};

}  // namespace caisson::mm::testing

#endif  // CAISSON_SENTRY_MM_TESTING_FAKE_VFS_H_
