#include "vfs/testing/test_context.h"

#include <algorithm>
#include <cstring>

#include "vfs/tmpfs/filesystem.h"

namespace caisson::vfs::testing {

TestWorld::TestWorld(RefPtr<FileSystem> root) : user_ns_(MakeRef<auth::UserNamespace>()) {
  if (root == nullptr) root = tmpfs::TmpfsFileSystem::New("mode=755").value();
  ns_ = MountNamespace::New(std::move(root), 0, "root");
}
TestWorld::~TestWorld() = default;

TestContext::TestContext(TestWorld& world)
    : ns_(world.ns()), root_(ns_->root()), cwd_(root_), user_ns_(world.user_ns()) {
  BecomeRoot();
}
TestContext::~TestContext() = default;

void TestContext::BecomeRoot() {
  creds_ = MakeRef<auth::Credentials>(user_ns_);
  creds_->permitted = creds_->effective = auth::kAllCapabilities;
}

void TestContext::BecomeUser(uint32_t uid, uint32_t gid, std::vector<uint32_t> groups) {
  creds_ = MakeRef<auth::Credentials>(user_ns_);
  creds_->ruid = creds_->euid = creds_->suid = creds_->fsuid = uid;
  creds_->rgid = creds_->egid = creds_->sgid = creds_->fsgid = gid;
  std::sort(groups.begin(), groups.end());
  creds_->groups = std::move(groups);
}

Result<void> TestContext::Block(int64_t deadline) {
  MutexLock lock(mu_);
  while (!woken_ && !interrupted_) {
    if (deadline == time::kNever) {
      cv_.Wait(mu_);
    } else if (!cv_.WaitUntil(mu_, deadline)) {
      return Errno::kETIMEDOUT;
    }
  }
  if (interrupted_) return Errno::kERESTARTSYS;
  woken_ = false;
  return {};
}

void TestContext::Wake() {
  MutexLock lock(mu_);
  woken_ = true;
  cv_.Broadcast();
}

void TestContext::Interrupt() {
  MutexLock lock(mu_);
  interrupted_ = true;
  cv_.Broadcast();
}

Result<void> TestContext::CopyInBytes(GuestAddr from, absl::Span<char> to) {
  if (from.is_null()) return Errno::kEFAULT;
  memcpy(to.data(), reinterpret_cast<const void*>(from.value), to.size());
  return {};
}

Result<void> TestContext::CopyOutBytes(GuestAddr to, absl::Span<const char> from) {
  if (to.is_null()) return Errno::kEFAULT;
  memcpy(reinterpret_cast<void*>(to.value), from.data(), from.size());
  return {};
}

Result<RefPtr<FileDescription>> TestContext::Open(absl::string_view path, uint32_t flags,
                                                  FileMode mode) {
  return vfs::Open(*this, cwd_, path, flags, mode);
}
Result<VfsPath> TestContext::Walk(absl::string_view path, bool follow) {
  WalkOptions options;
  options.follow_last = follow;
  return vfs::Walk(*this, cwd_, path, options);
}
Result<Attributes> TestContext::Stat(absl::string_view path, bool follow) {
  VfsPath at = TRY(Walk(path, follow));
  return vfs::Stat(*this, at);
}
Result<void> TestContext::Mkdir(absl::string_view path, FileMode mode) {
  return vfs::Mkdir(*this, cwd_, path, mode);
}
Result<void> TestContext::Rename(absl::string_view from, absl::string_view to, uint32_t flags) {
  return vfs::Rename(*this, cwd_, from, cwd_, to, flags);
}
Result<void> TestContext::Symlink(absl::string_view target, absl::string_view path) {
  return vfs::Symlink(*this, cwd_, path, target);
}
Result<void> TestContext::Link(absl::string_view from, absl::string_view to) {
  VfsPath source = TRY(Walk(from, false));
  return vfs::Link(*this, source, cwd_, to);
}
Result<void> TestContext::Unlink(absl::string_view path) {
  return vfs::Unlink(*this, cwd_, path);
}
Result<void> TestContext::Rmdir(absl::string_view path) { return vfs::Rmdir(*this, cwd_, path); }

Result<void> TestContext::WriteFile(absl::string_view path, absl::string_view content,
                                    FileMode mode) {
  RefPtr<FileDescription> file =
      TRY(Open(path, kOpenWriteOnly | kOpenCreate | kOpenTruncate, mode));
  size_t n = TRY(Write(*file, content));
  if (n != content.size()) return Errno::kENOSPC;
  return {};
}

Result<std::string> TestContext::ReadFile(absl::string_view path) {
  RefPtr<FileDescription> file = TRY(Open(path));
  std::string all;
  for (;;) {
    std::string piece = TRY(Read(*file, 65536));
    if (piece.empty()) return all;
    all += piece;
  }
}

Result<size_t> TestContext::Write(FileDescription& file, absl::string_view content) {
  SpanBuffer buffer = SpanBuffer::ForWrite(absl::Span<const char>(content.data(), content.size()));
  return FileWrite(*this, file, buffer, 0);
}

Result<std::string> TestContext::Read(FileDescription& file, size_t bytes) {
  std::string out(bytes, '\0');
  SpanBuffer buffer(absl::Span<char>(&out[0], out.size()));
  size_t n = TRY(FileRead(*this, file, buffer, 0));
  out.resize(n);
  return out;
}

Result<std::vector<std::string>> TestContext::List(absl::string_view path) {
  class Sink : public DirectorySink {
   public:
    bool Add(absl::string_view name, uint64_t, FileMode, int64_t) override {
      if (name != "." && name != "..") names.emplace_back(name);
      return true;
    }
    std::vector<std::string> names;
  } sink;
  RefPtr<FileDescription> dir = TRY(Open(path, kOpenDirectory));
  TRY(dir->Iterate(*this, sink));
  std::sort(sink.names.begin(), sink.names.end());
  return sink.names;
}

}  // namespace caisson::vfs::testing
