// A CallContext for unit tests, over a namespace whose root is a fresh tmpfs.
#ifndef CAISSON_VFS_TESTING_TEST_CONTEXT_H_
#define CAISSON_VFS_TESTING_TEST_CONTEXT_H_

#include <string>
#include <vector>

#include "base/mutex.h"
#include "vfs/call_context.h"
#include "vfs/file_description.h"
#include "vfs/mount.h"
#include "vfs/operations.h"

namespace caisson::vfs::testing {

// What several contexts of one test share: a "kernel" with one mount namespace.
class TestWorld {
 public:
  // Over `root`, or a tmpfs of mode 0755 without limits.
  explicit TestWorld(RefPtr<FileSystem> root = nullptr);
  ~TestWorld();
  const RefPtr<MountNamespace>& ns() const { return ns_; }
  RefPtr<auth::UserNamespace> user_ns() const { return user_ns_; }

 private:
  RefPtr<auth::UserNamespace> user_ns_;
  RefPtr<MountNamespace> ns_;
};

// One caller: root with all capabilities until told otherwise. Block() really sleeps; Interrupt()
// makes it fail as a pending signal would.
class TestContext final : public CallContext {
 public:
  explicit TestContext(TestWorld& world);
  ~TestContext() override;

  const auth::Credentials& creds() const override { return *creds_; }
  VfsPath root() const override { return root_; }
  VfsPath cwd() const override { return cwd_; }
  MountNamespace& mount_namespace() const override { return *ns_; }
  FileMode umask() const override { return umask_; }
  uint64_t file_size_limit() const override { return file_size_limit_; }
  uint64_t open_file_limit() const override { return open_file_limit_; }
  int32_t tgid() const override { return tgid_; }
  int32_t tid() const override { return tgid_; }
  Result<void> Block(int64_t deadline) override;
  void Wake() override;
  void SendSignal(int signo, bool to_group) override { signals_.push_back(signo); }
  // "Guest memory" is the process's own: an address is a pointer; null faults.
  Result<void> CopyInBytes(GuestAddr from, absl::Span<char> to) override;
  Result<void> CopyOutBytes(GuestAddr to, absl::Span<const char> from) override;

  // Becomes an ordinary user without capabilities.
  void BecomeUser(uint32_t uid, uint32_t gid, std::vector<uint32_t> groups = {});
  void BecomeRoot();
  void Interrupt();

  // Shorthand on paths from cwd.
  Result<RefPtr<FileDescription>> Open(absl::string_view path, uint32_t flags = 0,
                                       FileMode mode = 0644);
  Result<VfsPath> Walk(absl::string_view path, bool follow = true);
  Result<Attributes> Stat(absl::string_view path, bool follow = true);
  Result<void> Mkdir(absl::string_view path, FileMode mode = 0755);
  Result<void> Rename(absl::string_view from, absl::string_view to, uint32_t flags = 0);
  Result<void> Symlink(absl::string_view target, absl::string_view path);
  Result<void> Link(absl::string_view from, absl::string_view to);
  Result<void> Unlink(absl::string_view path);
  Result<void> Rmdir(absl::string_view path);
  // Makes or replaces a file with `content`.
  Result<void> WriteFile(absl::string_view path, absl::string_view content, FileMode mode = 0644);
  Result<std::string> ReadFile(absl::string_view path);
  Result<size_t> Write(FileDescription& file, absl::string_view content);
  Result<std::string> Read(FileDescription& file, size_t bytes);
  Result<std::vector<std::string>> List(absl::string_view path);  // Sorted, without . and ..
  std::string PathName(const VfsPath& path) { return vfs::PathName(path, root_); }

  RefPtr<auth::Credentials> mutable_creds() { return creds_; }
  RefPtr<MountNamespace> ns_;
  VfsPath root_, cwd_;
  FileMode umask_ = 022;
  uint64_t file_size_limit_ = ~uint64_t{0};
  uint64_t open_file_limit_ = ~uint64_t{0};
  int32_t tgid_ = 1;
  std::vector<int> signals_;

 private:
  RefPtr<auth::UserNamespace> user_ns_;
  RefPtr<auth::Credentials> creds_;
  Mutex mu_;
  CondVar cv_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  bool interrupted_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace caisson::vfs::testing

// For Results in tests.
#define ASSERT_OK(expr)                                                           \
  do {                                                                            \
    auto ok_result = (expr);                                                      \
    ASSERT_TRUE(ok_result.ok()) << #expr << ": "                                  \
                                << ::caisson::ErrnoName(ok_result.error());       \
  } while (false)
#define EXPECT_ERRNO(expr, e)                                                     \
  do {                                                                            \
    auto errno_result = (expr);                                                   \
    EXPECT_FALSE(errno_result.ok()) << #expr << " succeeded, not " << #e;         \
    if (!errno_result.ok()) {                                                     \
      EXPECT_EQ(::caisson::ErrnoName(errno_result.error()),                       \
                ::caisson::ErrnoName(::caisson::Errno::e)) << #expr;              \
    }                                                                             \
  } while (false)

#endif  // CAISSON_VFS_TESTING_TEST_CONTEXT_H_
