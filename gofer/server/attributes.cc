#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "gofer/server/session.h"

namespace caisson::gofer {

namespace {

WireTime ToWire(const statx_timestamp& t) { return {t.tv_sec, t.tv_nsec, 0}; }

// Whether `t` is what utimensat(2) takes; its special values have flags of their own here.
bool ToTimespec(const WireTime& t, timespec* out) {
  out->tv_sec = t.sec;
  out->tv_nsec = t.nsec;
  return t.nsec < 1'000'000'000;
}

}  // namespace

uint32_t TypeOf(const WireAttributes& attr) { return attr.mode & S_IFMT; }

int StatAt(int fd, const char* name, WireAttributes* attr) {
  struct statx st;
  if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
            STATX_BASIC_STATS | STATX_BTIME, &st) != 0)
    return errno;
  *attr = {};
  attr->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
  attr->ino = st.stx_ino;
  attr->size = st.stx_size;
  attr->blocks = st.stx_blocks;
  attr->mode = st.stx_mode;
  attr->nlink = st.stx_nlink;
  attr->uid = st.stx_uid;
  attr->gid = st.stx_gid;
  attr->block_size = st.stx_blksize;
  attr->rdev_major = st.stx_rdev_major;
  attr->rdev_minor = st.stx_rdev_minor;
  attr->has_btime = (st.stx_mask & STATX_BTIME) != 0;
  attr->atime = ToWire(st.stx_atime);
  attr->mtime = ToWire(st.stx_mtime);
  attr->ctime = ToWire(st.stx_ctime);
  if (attr->has_btime != 0) attr->btime = ToWire(st.stx_btime);
  return 0;
}

int Session::FreshAttributes(const Object& object, WireAttributes* attr) {
  return StatAt(object.fd.get(), "", attr);
}

int Session::GetAttributes(Reader& in, Reply& out) {
  ObjectRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  if (!in.empty()) return EINVAL;
  if (!found.fresh) {
    if (int error = FreshAttributes(*found.object, &found.attributes); error != 0) return error;
  }
  out.body.Put(found.attributes);
  return 0;
}

// In the order that keeps what was asked for: a change of owner or size clears set-id bits, so the
// mode comes after them, and both change times, so these come last.
int Session::SetAttributes(Reader& in, Reply& out) {
  SetAttributesRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  if (!in.empty() || (request.valid & ~kSetAll) != 0) return EINVAL;
  if (config_.read_only) return EROFS;
  const Object& object = *found.object;
  if ((request.valid & kSetSize) != 0) {
    if (object.type == S_IFDIR) return EISDIR;
    if (object.type != S_IFREG) return EINVAL;
    UniqueFd fd;
    if (int error = Reopen(object, O_WRONLY, &fd); error != 0) return error;
    if (request.size > INT64_MAX) return EINVAL;
    if (ftruncate(fd.get(), static_cast<off_t>(request.size)) != 0) return errno;
  }
  if ((request.valid & (kSetUid | kSetGid)) != 0) {
    uid_t uid = (request.valid & kSetUid) != 0 ? request.uid : static_cast<uid_t>(-1);
    gid_t gid = (request.valid & kSetGid) != 0 ? request.gid : static_cast<gid_t>(-1);
    if (fchownat(object.fd.get(), "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
      return errno;
  }
  if ((request.valid & kSetMode) != 0) {
    if (object.type == S_IFLNK) return EOPNOTSUPP;
    if (fchmodat(config_.proc_self_fd, FdName(object.fd.get()).c_str(), request.mode & 07777, 0) !=
        0)
      return errno;
  }
  if ((request.valid & (kSetAtime | kSetAtimeNow | kSetMtime | kSetMtimeNow)) != 0) {
    timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    if ((request.valid & kSetAtime) != 0 && !ToTimespec(request.atime, &times[0])) return EINVAL;
    if ((request.valid & kSetMtime) != 0 && !ToTimespec(request.mtime, &times[1])) return EINVAL;
    if ((request.valid & kSetAtimeNow) != 0) times[0] = {0, UTIME_NOW};
    if ((request.valid & kSetMtimeNow) != 0) times[1] = {0, UTIME_NOW};
    if (utimensat(object.fd.get(), "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
      return errno;
  }
  if (int error = FreshAttributes(object, &found.attributes); error != 0) return error;
  out.body.Put(found.attributes);
  return 0;
}

int Session::ReadLink(Reader& in, Reply& out) {
  ObjectRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  if (!in.empty() || found.object->type != S_IFLNK) return EINVAL;
  char target[kMaxPath + 1];
  ssize_t n = readlinkat(found.object->fd.get(), "", target, sizeof(target));
  if (n < 0) return errno;
  if (static_cast<size_t>(n) > kMaxPath) return ENAMETOOLONG;
  out.body.PutBytes(absl::string_view(target, n));
  return 0;
}

int Session::Statfs(Reader& in, Reply& out) {
  ObjectRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  if (!in.empty()) return EINVAL;
  struct statfs st;
  if (fstatfs(found.object->fd.get(), &st) != 0) return errno;
  StatfsReply reply = {};
  reply.type = static_cast<uint64_t>(st.f_type);
  reply.block_size = static_cast<uint64_t>(st.f_bsize);
  reply.blocks = st.f_blocks;
  reply.blocks_free = st.f_bfree;
  reply.blocks_available = st.f_bavail;
  reply.files = st.f_files;
  reply.files_free = st.f_ffree;
  reply.name_length = static_cast<uint64_t>(st.f_namelen);
  out.body.Put(reply);
  return 0;
}

}  // namespace caisson::gofer
