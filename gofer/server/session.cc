#include "gofer/server/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "base/log.h"
#include "gofer/protocol/channel.h"
#include "gofer/server/cpu_follower.h"

namespace caisson::gofer {

namespace {

// What makes a cached name or attribute doubtful. With IN_EXCL_UNLINK, files that have no name any
// more are silent.
constexpr uint32_t kWatchMask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB |
                                IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF | IN_EXCL_UNLINK |
                                IN_ONLYDIR;

bool IsKnown(uint16_t op) { return op >= 1 && op <= kLastOp; }

}  // namespace

FdName::FdName(int fd) {
  char digits[12];
  int n = 0, m = 0;
  do {
    digits[n++] = static_cast<char>('0' + fd % 10);
    fd /= 10;
  } while (fd > 0);
  while (n > 0) text_[m++] = digits[--n];
  text_[m] = '\0';
}

Session::Session(UniqueFd socket, RefPtr<Object> root, const SessionConfig& config)
    : socket_(std::move(socket)),
      config_(config),
      root_(root),
      inotify_(config.is_file ? -1 : inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      handles_(std::move(root), config.max_handles) {}

void Session::Run() {
  std::unique_ptr<char[]> buffer(new char[kMaxMessage]);
  CpuFollower follower;
  for (;;) {
    ssize_t n = ReceivePacket(socket_.get(), buffer.get(), kMaxMessage, nullptr);
    if (n == 0) return;
    absl::string_view bytes(buffer.get(), n > 0 ? n : 0);
    Reader in(bytes);
    RequestHeader header;
    if (n < 0 || !in.Take(&header) || header.size != bytes.size() ||
        !IsKnown(header.op)) {
      // Once only: the peer shall not fill the log.
      if (!complained_.exchange(true, std::memory_order_relaxed))
        LOG_WARNING("gofer: a malformed message of ", n, " bytes was dropped");
      // The sockets are sequenced packets, so the next message is not affected; an error on the
      // socket itself ends the connection.
      if (n < 0 && n != -EMSGSIZE) return;
      continue;
    }
    Op op = static_cast<Op>(header.op);
    if (op == Op::kRelease) {
      Release(in);
      continue;
    }
    Reply out;
    out.body.Put(out.header);
    int error = Dispatch(op, in, out);
    if (error != 0) {
      out.body.Truncate(sizeof(ReplyHeader));
      out.fd = -1;
    }
    out.header.id = header.id;
    out.header.error = error;
    if (out.fd >= 0) out.header.flags |= kReplyDescriptor;
    out.header.size = static_cast<uint32_t>(out.body.size());
    out.body.Overwrite(0, out.header);
    int sent = SendPacket(socket_.get(), out.body.bytes(), out.fd);
    if (sent != 0) return;
    follower.OnAnswered(header.cpu);
  }
}

int Session::Dispatch(Op op, Reader& in, Reply& out) {
  switch (op) {
    case Op::kAttach: return Attach(in, out);
    case Op::kWalk: return Walk(in, out);
    case Op::kOpen: return Open(in, out);
    case Op::kCreate:
    case Op::kMkdir:
    case Op::kMknod:
    case Op::kSymlink:
    case Op::kTmpfile: return Make(op, in, out);
    case Op::kLink: return Link(in, out);
    case Op::kUnlink: return Unlink(in, out);
    case Op::kRename: return Rename(in, out);
    case Op::kGetAttributes: return GetAttributes(in, out);
    case Op::kSetAttributes: return SetAttributes(in, out);
    case Op::kReadLink: return ReadLink(in, out);
    case Op::kReadDirectory: return ReadDirectory(in, out);
    case Op::kStatfs: return Statfs(in, out);
    case Op::kGetXattr:
    case Op::kSetXattr:
    case Op::kListXattr:
    case Op::kRemoveXattr: return Xattr(op, in, out);
    case Op::kSync: return Sync(in, out);
    case Op::kRelease: break;
  }
  return EINVAL;
}

int Session::Attach(Reader& in, Reply& out) {
  AttachRequest request;
  if (!in.Take(&request) || !in.empty()) return EINVAL;
  if (request.version != kProtocolVersion) return EPROTO;
  AttachReply reply = {};
  reply.version = kProtocolVersion;
  if (config_.read_only) reply.flags |= kAttachReadOnly;
  if (config_.is_file) reply.flags |= kAttachIsFile;
  reply.max_handles = static_cast<uint32_t>(handles_.limit());
  if (int error = FreshAttributes(*root_, &reply.root); error != 0) return error;
  out.header.handle = kRootHandle;
  out.body.Put(reply);
  out.fd = inotify_.get();
  return 0;
}

void Session::Release(Reader& in) {
  ReleaseRequest request;
  if (!in.Take(&request) || request.handle_count > kMaxRelease ||
      request.watch_count > kMaxRelease)
    return;
  for (uint32_t i = 0; i < request.handle_count; ++i) {
    uint64_t handle;
    if (!in.Take(&handle)) return;
    handles_.Release(handle);
  }
  for (uint32_t i = 0; i < request.watch_count; ++i) {
    int32_t watch;
    if (!in.Take(&watch)) return;
    if (inotify_.valid() && watch >= 0) inotify_rm_watch(inotify_.get(), watch);
  }
}

int Session::OpenComponent(int directory, absl::string_view name, bool must_be_directory,
                           UniqueFd* fd) {
  if (!IsValidName(name)) return name.size() > kMaxName ? ENAMETOOLONG : EINVAL;
  char text[kMaxName + 1];
  memcpy(text, name.data(), name.size());
  text[name.size()] = '\0';
  open_how how = {};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC | (must_be_directory ? O_DIRECTORY : 0);
  // No RESOLVE_NO_XDEV: what the host has mounted below the root belongs to it.
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  // What is moved out of the directory just after it was found there gives EXDEV: the name is looked at again.
  constexpr int kMaxTries = 64;
  for (int tries = 0; tries < kMaxTries; ++tries) {
    long opened = syscall(SYS_openat2, directory, text, &how, sizeof(how));
    if (opened < 0 && errno == EXDEV) continue;
    if (opened < 0) return errno;
    fd->reset(static_cast<int>(opened));
    return 0;
  }
  return ENOENT;
}

int Session::Lookup(int directory, absl::string_view name, RefPtr<Object>* object,
                    WireAttributes* attr) {
  UniqueFd fd;
  if (int error = OpenComponent(directory, name, false, &fd); error != 0) return error;
  if (int error = StatAt(fd.get(), "", attr); error != 0) return error;
  *object = MakeRef<Object>(std::move(fd), TypeOf(*attr), attr->dev, attr->ino);
  return 0;
}

int Session::Locate(const Locator& locator, Reader& in, Reply* out, Located* found) {
  absl::string_view path;
  if (locator.path_length > kMaxPath || locator.reserved != 0 ||
      (locator.flags & ~(kLocateKeep | kLocateWatch)) != 0 ||
      !in.TakeBytes(locator.path_length, &path))
    return EINVAL;
  RefPtr<Object> base = handles_.Get(locator.handle);
  if (!base) return ESTALE;
  // With an expected identity, "not there" is not to be mistaken for the operation's own ENOENT.
  const bool expected = locator.dev != 0 || locator.ino != 0;
  found->fresh = false;
  if (path.empty()) {
    found->object = std::move(base);
  } else {
    int directory = base->fd.get();
    UniqueFd step;
    size_t slash;
    while ((slash = path.find('/')) != absl::string_view::npos) {
      UniqueFd next;
      if (int error = OpenComponent(directory, path.substr(0, slash), true, &next); error != 0)
        return expected && (error == ENOENT || error == ENOTDIR) ? ESTALE : error;
      step = std::move(next);
      directory = step.get();
      path.remove_prefix(slash + 1);
    }
    if (int error = Lookup(directory, path, &found->object, &found->attributes); error != 0)
      return expected && (error == ENOENT || error == ENOTDIR) ? ESTALE : error;
    found->fresh = true;
  }
  const Object& object = *found->object;
  if (expected && (object.dev != locator.dev || object.ino != locator.ino)) return ESTALE;
  if (out == nullptr) return 0;
  if (locator.path_length == 0) {
    out->header.handle = locator.handle;
  } else if ((locator.flags & kLocateKeep) != 0) {
    out->header.handle = handles_.Insert(found->object);
  }
  if ((locator.flags & kLocateWatch) != 0 && inotify_.valid() && object.type == S_IFDIR) {
    // By the name in the working directory, which is /proc/self/fd.
    int watch = inotify_add_watch(inotify_.get(), FdName(object.fd.get()).c_str(), kWatchMask);
    if (watch >= 0) {
      out->header.watch = watch;
      out->header.flags |= kReplyWatched;
      found->fresh = false;  // What was learnt before the watch may have changed unseen.
    }
  }
  return 0;
}

int Session::LocateDirectory(const Locator& locator, Reader& in, Reply* out, Located* found) {
  if (int error = Locate(locator, in, out, found); error != 0) return error;
  return found->object->type == S_IFDIR ? 0 : ENOTDIR;
}

int Session::Reopen(const Object& object, int flags, UniqueFd* fd) {
  if (object.type == S_IFDIR) {
    open_how how = {};
    how.flags = static_cast<uint64_t>(flags) | O_DIRECTORY | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    long opened = syscall(SYS_openat2, object.fd.get(), ".", &how, sizeof(how));
    if (opened < 0) return errno;
    fd->reset(static_cast<int>(opened));
    return 0;
  }
  if (object.type != S_IFREG) return ENXIO;
  int opened = openat(config_.proc_self_fd, FdName(object.fd.get()).c_str(),
                      flags | O_CLOEXEC | O_NOCTTY | O_LARGEFILE);
  if (opened < 0) return errno;
  fd->reset(opened);
  return 0;
}

}  // namespace caisson::gofer
