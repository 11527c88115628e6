#include <errno.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>

#include "gofer/server/session.h"

namespace caisson::gofer {

// The *xattr(2) calls take no O_PATH descriptor, so the object is named through the working
// directory, /proc/self/fd: the magic link leads to it, be it a symbolic link itself.
int Session::Xattr(Op op, Reader& in, Reply& out) {
  XattrRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &found); error != 0) return error;
  absl::string_view name_bytes, value;
  if (!in.TakeBytes(request.name_length, &name_bytes) || request.value_length > kMaxXattr ||
      !in.TakeBytes(request.value_length, &value) || !in.empty() || request.reserved != 0 ||
      request.reserved1 != 0)
    return EINVAL;
  std::string name(name_bytes);
  if (op != Op::kListXattr && (name.empty() || name.size() > kMaxName)) return ERANGE;
  if (name.find('\0') != std::string::npos) return EINVAL;
  FdName file(found.object->fd.get());
  if (op == Op::kSetXattr || op == Op::kRemoveXattr) {
    if (config_.read_only) return EROFS;
    if (op == Op::kRemoveXattr)
      return removexattr(file.c_str(), name.c_str()) != 0 ? errno : 0;
    if ((request.flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return EINVAL;
    return setxattr(file.c_str(), name.c_str(), value.data(), value.size(),
                    static_cast<int>(request.flags)) != 0
               ? errno
               : 0;
  }
  std::unique_ptr<char[]> buffer(new char[kMaxXattr]);
  ssize_t n = op == Op::kListXattr
                  ? listxattr(file.c_str(), buffer.get(), kMaxXattr)
                  : getxattr(file.c_str(), name.c_str(), buffer.get(), kMaxXattr);
  if (n < 0) return errno;
  out.body.PutBytes(absl::string_view(buffer.get(), n));
  return 0;
}

}  // namespace caisson::gofer
