#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gofer/server/session.h"

namespace caisson::gofer {

namespace {

constexpr int kMaxLockFiles = 1024;

int SetLock(int fd, int type, const LockRequest& request) {
  struct flock lock = {};
  lock.l_type = static_cast<short>(type);
  lock.l_whence = SEEK_SET;
  lock.l_start = request.start;
  lock.l_len = request.length;
  return fcntl(fd, F_OFD_SETLK, &lock) != 0 ? errno : 0;
}

}  // namespace

// Each owner has up to two descriptions: one for reading, and one for writing once it asks for an
// exclusive lock, since opening for writing makes overlayfs copy the file. A range is exclusive on
// the second only; shared locks of both agree with each other.
int Session::Lock(Reader& in, Reply& out) {
  LockRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  // The descriptions live as long as the handle.
  if (request.object.path_length != 0) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  if (!in.empty() || request.owner == 0 || request.type > kLockNone ||
      request.command > kLockForgetOwner || request.start < 0 || request.length < 0 ||
      request.start > INT64_MAX - request.length)
    return EINVAL;
  Object& object = *found.object;
  if (object.type != S_IFREG) return ENXIO;

  MutexLock lock(object.mu);
  if (request.command == kLockForgetOwner) {
    auto it = object.lock_files.find(request.owner);
    if (it == object.lock_files.end()) return 0;
    lock_files_ -= it->second.read.valid() + it->second.write.valid();
    object.lock_files.erase(it);
    return 0;
  }
  bool exclusive = request.type == kLockExclusive && request.command == kLockSet;
  if (request.type == kLockNone && !object.lock_files.contains(request.owner)) return 0;
  Object::LockFiles& files = object.lock_files[request.owner];
  UniqueFd& wanted = exclusive ? files.write : files.read;
  if (!wanted.valid() && !(files.write.valid() && !exclusive)) {
    if (exclusive && config_.read_only) return EROFS;
    if (lock_files_.load(std::memory_order_relaxed) >= kMaxLockFiles) return ENOLCK;
    if (int error = Reopen(object, exclusive ? O_RDWR : O_RDONLY, &wanted); error != 0)
      return error;
    ++lock_files_;
  }
  if (request.command == kLockTest) {
    // F_OFD_GETLK; an exclusive lock can be asked about through a description for reading.
    struct flock test = {};
    test.l_type = request.type == kLockExclusive ? F_WRLCK : F_RDLCK;
    test.l_whence = SEEK_SET;
    test.l_start = request.start;
    test.l_len = request.length;
    int fd = files.write.valid() ? files.write.get() : files.read.get();
    if (fcntl(fd, F_OFD_GETLK, &test) != 0) return errno;
    LockRequest reply = request;
    reply.type = test.l_type == F_WRLCK   ? kLockExclusive
                 : test.l_type == F_RDLCK ? kLockShared
                                          : kLockNone;
    reply.start = test.l_start;
    reply.length = test.l_len;
    out.body.Put(reply);
    return 0;
  }
  switch (request.type) {
    case kLockNone:
      if (files.read.valid()) SetLock(files.read.get(), F_UNLCK, request);
      return files.write.valid() ? SetLock(files.write.get(), F_UNLCK, request) : 0;
    case kLockShared:
      return SetLock(files.write.valid() ? files.write.get() : files.read.get(), F_RDLCK, request);
    default: {
      if (files.read.valid()) SetLock(files.read.get(), F_UNLCK, request);
      int error = SetLock(files.write.get(), F_WRLCK, request);
      // Linux differs: a shared lock of the range is lost to a refused upgrade on the host only;
      // the sentry's own table still has it.
      return error;
    }
  }
}

}  // namespace caisson::gofer
