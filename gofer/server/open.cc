#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gofer/server/session.h"

namespace caisson::gofer {

int Session::Open(Reader& in, Reply& out) {
  OpenRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  if (!in.empty() || (request.flags & ~kOpenDirectIo) != 0) return EINVAL;
  int flags;
  switch (request.access) {
    case kAccessRead: flags = O_RDONLY; break;
    case kAccessWrite: flags = O_WRONLY; break;
    case kAccessRead | kAccessWrite: flags = O_RDWR; break;
    default: return EINVAL;
  }
  if (found.object->type != S_IFREG) return ENXIO;
  if (flags != O_RDONLY && config_.read_only) return EROFS;
  if ((request.flags & kOpenDirectIo) != 0) flags |= O_DIRECT;
  if (int error = Reopen(*found.object, flags, &out.owned_fd); error != 0) return error;
  WireAttributes attr;
  if (int error = FreshAttributes(*found.object, &attr); error != 0) return error;
  out.body.Put(attr);
  out.fd = out.owned_fd.get();
  return 0;
}

int Session::Sync(Reader& in, Reply& out) {
  SyncRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  if (!in.empty() || (request.flags & ~(kSyncData | kSyncFileSystem)) != 0) return EINVAL;
  UniqueFd fd;
  if (int error = Reopen(*found.object, O_RDONLY, &fd); error != 0) return error;
  if ((request.flags & kSyncFileSystem) != 0) return syncfs(fd.get()) != 0 ? errno : 0;
  int result = (request.flags & kSyncData) != 0 ? fdatasync(fd.get()) : fsync(fd.get());
  return result != 0 ? errno : 0;
}

}  // namespace caisson::gofer
