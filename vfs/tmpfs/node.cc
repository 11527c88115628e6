#include "vfs/tmpfs/node.h"

#include "absl/strings/match.h"
#include "time/clock.h"
#include "vfs/atime.h"
#include "vfs/permission.h"

namespace caisson::vfs::tmpfs {
namespace {

// Linux charges user attributes to the inode limit; here each inode has a bound of its own.
constexpr uint64_t kMaxXattrBytes = 128 << 10;

uint64_t XattrPages(uint64_t bytes) { return (bytes + 4095) / 4096; }

bool SupportedXattr(absl::string_view name) {
  return absl::StartsWith(name, "user.") || absl::StartsWith(name, "trusted.") ||
         absl::StartsWith(name, "security.");
}

}  // namespace

Timestamp Now() { return Timestamp::FromNanoseconds(time::RealtimeNow()); }

Node::Node(TmpfsFileSystem& fs, FileMode mode, uint32_t uid, uint32_t gid)
    : Inode(fs, mode),
      fs_(fs),
      mode_(mode),
      uid_(uid),
      gid_(gid),
      nlink_(1),
      ino_(fs.NextInodeNumber()),
      btime_(Now()) {
  atime_ = mtime_ = ctime_ = btime_;
}

Node::~Node() {
  fs_.UnchargePages(XattrPages(xattr_bytes_));
  fs_.UnchargeInode();
}

Attributes Node::AttributesLocked() {
  Attributes attr;
  attr.ino = ino_;
  attr.mode = mode_;
  attr.nlink = nlink_;
  attr.uid = uid_;
  attr.gid = gid_;
  attr.dev = fs_.device();
  attr.atime = atime_;
  attr.mtime = mtime_;
  attr.ctime = ctime_;
  attr.btime = btime_;
  FillLocked(attr);
  return attr;
}

Result<Attributes> Node::GetAttributes(CallContext& ctx) {
  MutexLock lock(mu_);
  return AttributesLocked();
}

Result<void> Node::CheckPermission(CallContext& ctx, AccessMask access) {
  return CheckAccess(ctx.creds(), mode_.load(std::memory_order_relaxed),
                     uid_.load(std::memory_order_relaxed), gid_.load(std::memory_order_relaxed),
                     access);
}

Result<void> Node::SetAttributes(CallContext& ctx, const struct SetAttributes& change) {
  const Timestamp now = Now();
  MutexLock lock(mu_);
  if (change.mode) TRY(CheckModeLocked(*change.mode));
  if (change.size) TRY(ResizeLocked(*change.size));
  if (change.mode) mode_ = type() | (*change.mode & kModePermissions);
  if (change.uid) uid_ = *change.uid;
  if (change.gid) gid_ = *change.gid;
  if (change.atime) atime_ = change.atime->now ? now : change.atime->at;
  if (change.mtime) mtime_ = change.mtime->now ? now : change.mtime->at;
  ctime_ = now;
  return {};
}

Result<void> Node::ResizeLocked(uint64_t) { return Errno::kEINVAL; }

Result<RefPtr<FileDescription>> Node::Open(CallContext& ctx, const OpenArgs& args) {
  return is_link() ? Errno::kELOOP : Errno::kENXIO;
}

void Node::AddLinks(int change) {
  MutexLock lock(mu_);
  nlink_ = static_cast<uint32_t>(static_cast<int64_t>(nlink_) + change);
  ctime_ = Now();
}

uint32_t Node::links() const {
  MutexLock lock(mu_);
  return nlink_;
}

void Node::TouchAtime(const FileDescription& file) {
  const Timestamp now = Now();
  MutexLock lock(mu_);
  Attributes attr;
  attr.mode = mode_;
  attr.atime = atime_;
  attr.mtime = mtime_;
  attr.ctime = ctime_;
  if (AtimeNeedsUpdate(file, attr, now)) atime_ = now;
}

Result<std::string> Node::GetXattr(CallContext& ctx, absl::string_view name) {
  if (!SupportedXattr(name)) return Errno::kEOPNOTSUPP;
  MutexLock lock(mu_);
  auto it = xattrs_.find(std::string(name));
  if (it == xattrs_.end()) return Errno::kENODATA;
  return it->second;
}

Result<void> Node::SetXattr(CallContext& ctx, absl::string_view name, absl::string_view value,
                            int flags) {
  if (!SupportedXattr(name)) return Errno::kEOPNOTSUPP;
  std::string key(name);
  MutexLock lock(mu_);
  auto it = xattrs_.find(key);
  if (it == xattrs_.end() && (flags & kXattrReplace) != 0) return Errno::kENODATA;
  if (it != xattrs_.end() && (flags & kXattrCreate) != 0) return Errno::kEEXIST;
  uint64_t bytes = xattr_bytes_ + value.size();
  bytes = it == xattrs_.end() ? bytes + name.size() : bytes - it->second.size();
  if (bytes > kMaxXattrBytes) return Errno::kENOSPC;
  const uint64_t old_pages = XattrPages(xattr_bytes_), new_pages = XattrPages(bytes);
  if (new_pages > old_pages && !fs_.ChargePages(new_pages - old_pages)) return Errno::kENOSPC;
  if (new_pages < old_pages) fs_.UnchargePages(old_pages - new_pages);
  xattr_bytes_ = bytes;
  if (key == "security.capability") has_capabilities_.store(true, std::memory_order_release);
  xattrs_[std::move(key)] = std::string(value);
  ctime_ = Now();
  return {};
}

Result<std::vector<std::string>> Node::ListXattr(CallContext& ctx) {
  std::vector<std::string> names;
  MutexLock lock(mu_);
  for (const auto& [name, value] : xattrs_) names.push_back(name);
  return names;
}

Result<void> Node::RemoveXattr(CallContext& ctx, absl::string_view name) {
  if (!SupportedXattr(name)) return Errno::kEOPNOTSUPP;
  MutexLock lock(mu_);
  auto it = xattrs_.find(std::string(name));
  if (it == xattrs_.end()) return Errno::kENODATA;
  const uint64_t bytes = xattr_bytes_ - it->first.size() - it->second.size();
  fs_.UnchargePages(XattrPages(xattr_bytes_) - XattrPages(bytes));
  xattr_bytes_ = bytes;
  xattrs_.erase(it);
  if (name == "security.capability") has_capabilities_.store(false, std::memory_order_release);
  ctime_ = Now();
  return {};
}

}  // namespace caisson::vfs::tmpfs
