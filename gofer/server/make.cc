// Requests that make, move and remove names.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/server/session.h"

namespace caisson::gofer {

namespace {

// A checked component as a C string.
bool CopyName(absl::string_view name, char (&out)[kMaxName + 1]) {
  if (!IsValidName(name)) return false;
  memcpy(out, name.data(), name.size());
  out[name.size()] = '\0';
  return true;
}

int BadName(absl::string_view name) { return name.size() > kMaxName ? ENAMETOOLONG : EINVAL; }

// With nobody but the owner let in until the owner is right.
uint32_t FirstMode(const MakeRequest& request, uint32_t gofer_uid) {
  return request.uid == gofer_uid ? request.mode & 01777 : request.mode & 0700;
}

}  // namespace

// Gives what `fd` (may be O_PATH) is the owner and mode that were asked for and reads it back. A
// host process may see it between; a guest hears of it only after.
int Session::FinishNewFile(int fd, const MakeRequest& request, WireAttributes* attr) {
  if (int error = StatAt(fd, "", attr); error != 0) return error;
  bool changed = false;
  if (attr->uid != request.uid || attr->gid != request.gid) {
    if (fchownat(fd, "", request.uid, request.gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
      return errno;
    changed = true;
  }
  if (TypeOf(*attr) != S_IFLNK && (changed || (attr->mode & 07777) != (request.mode & 07777))) {
    if (fchmodat(config_.proc_self_fd, FdName(fd).c_str(), request.mode & 07777, 0) != 0)
      return errno;
    changed = true;
  }
  return changed ? StatAt(fd, "", attr) : 0;
}

void Session::After(const Object& directory, WireAttributes* attr) {
  if (FreshAttributes(directory, attr) != 0) *attr = {};
}

int Session::Make(Op op, Reader& in, Reply& out) {
  MakeRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = LocateDirectory(request.directory, in, &out, &found); error != 0) return error;
  absl::string_view name_bytes, target_bytes;
  if (!in.TakeBytes(request.name_length, &name_bytes) || request.target_length > kMaxPath ||
      !in.TakeBytes(request.target_length, &target_bytes) || !in.empty())
    return EINVAL;
  if (config_.read_only) return EROFS;
  char name[kMaxName + 1] = ".";
  if (op != Op::kTmpfile && !CopyName(name_bytes, name)) return BadName(name_bytes);
  const int directory = found.object->fd.get();
  const uint32_t type = request.mode & S_IFMT;
  const uint32_t mode = FirstMode(request, geteuid());
  ChildReply reply = {};
  UniqueFd child;
  int error = 0;
  bool ours = false;  // What is at the name is what this request made.
  switch (op) {
    case Op::kCreate:
    case Op::kTmpfile: {
      open_how how = {};
      how.flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_LARGEFILE;
      how.flags |= op == Op::kCreate ? O_CREAT | O_EXCL : O_TMPFILE;
      how.mode = mode;
      how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
      long opened = syscall(SYS_openat2, directory, name, &how, sizeof(how));
      if (opened < 0) return errno;
      child.reset(static_cast<int>(opened));
      break;
    }
    case Op::kMkdir:
      if (mkdirat(directory, name, mode) != 0) return errno;
      break;
    case Op::kMknod:
      // As mknod(2) answers who may not: no device of the host's is ever made, and a call that the
      // gofer's filter denies would end the sandbox.
      if (type == S_IFCHR || type == S_IFBLK) return EPERM;
      if (type != S_IFIFO && type != S_IFSOCK) return EINVAL;
      if (mknodat(directory, name, type | mode, 0) != 0) return errno;
      break;
    case Op::kSymlink: {
      std::string target(target_bytes);
      if (target.empty() || target.find('\0') != std::string::npos) return EINVAL;
      if (symlinkat(target.c_str(), directory, name) != 0) return errno;
      break;
    }
    default: return EINVAL;
  }
  if (op == Op::kCreate || op == Op::kTmpfile) {
    ours = op == Op::kCreate;
    error = FinishNewFile(child.get(), request, &reply.attributes);
    if (error == 0) {
      // The handle pins the inode by a descriptor of its own: O_PATH, so that it is no writer.
      int path_fd = openat(config_.proc_self_fd, FdName(child.get()).c_str(), O_PATH | O_CLOEXEC);
      if (path_fd >= 0) {
        reply.handle = handles_.Insert(MakeRef<Object>(
            UniqueFd(path_fd), uint32_t{S_IFREG}, reply.attributes.dev, reply.attributes.ino));
      }
      out.owned_fd = std::move(child);
      out.fd = out.owned_fd.get();
    }
  } else {
    error = OpenComponent(directory, name, false, &child);
    if (error == 0) error = StatAt(child.get(), "", &reply.attributes);
    // Somebody else may have replaced it meanwhile: then it is not ours to change.
    uint32_t wanted = op == Op::kMkdir ? S_IFDIR : op == Op::kSymlink ? S_IFLNK : type;
    if (error == 0 && TypeOf(reply.attributes) != wanted) error = EEXIST;
    ours = error == 0;
    if (error == 0) error = FinishNewFile(child.get(), request, &reply.attributes);
  }
  if (error != 0) {
    if (ours) unlinkat(directory, name, op == Op::kMkdir ? AT_REMOVEDIR : 0);
    return error;
  }
  After(*found.object, &reply.directory);
  out.body.Put(reply);
  return 0;
}

int Session::Link(Reader& in, Reply& out) {
  LinkRequest request;
  Located object, directory;
  absl::string_view name_bytes;
  char name[kMaxName + 1];
  if (!in.Take(&request)) return EINVAL;
  if (int error = Locate(request.object, in, &out, &object); error != 0) return error;
  if (int error = LocateDirectory(request.directory, in, nullptr, &directory); error != 0)
    return error;
  if (!in.TakeBytes(request.name_length, &name_bytes) || !in.empty()) return EINVAL;
  if (config_.read_only) return EROFS;
  if (!CopyName(name_bytes, name)) return BadName(name_bytes);
  if (object.object->type == S_IFDIR) return EPERM;
  // AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH in the first user namespace.
  if (linkat(config_.proc_self_fd, FdName(object.object->fd.get()).c_str(),
             directory.object->fd.get(), name, AT_SYMLINK_FOLLOW) != 0)
    return errno;
  ChildReply reply = {};
  if (int error = FreshAttributes(*object.object, &reply.attributes); error != 0) return error;
  After(*directory.object, &reply.directory);
  out.body.Put(reply);
  return 0;
}

int Session::Unlink(Reader& in, Reply& out) {
  UnlinkRequest request;
  Located found;
  absl::string_view name_bytes;
  char name[kMaxName + 1];
  if (!in.Take(&request)) return EINVAL;
  if (int error = LocateDirectory(request.directory, in, &out, &found); error != 0) return error;
  if (!in.TakeBytes(request.name_length, &name_bytes) || !in.empty() ||
      (request.flags & ~(kUnlinkDirectory | kUnlinkKeep)) != 0)
    return EINVAL;
  if (config_.read_only) return EROFS;
  if (!CopyName(name_bytes, name)) return BadName(name_bytes);
  const int directory = found.object->fd.get();
  RefPtr<Object> victim;
  WireAttributes attr;
  if ((request.flags & kUnlinkKeep) != 0) {
    if (int error = Lookup(directory, name, &victim, &attr); error != 0) return error;
  }
  if (unlinkat(directory, name, (request.flags & kUnlinkDirectory) != 0 ? AT_REMOVEDIR : 0) != 0)
    return errno;
  ChildReply reply = {};
  if (victim && FreshAttributes(*victim, &reply.attributes) == 0)
    reply.handle = handles_.Insert(std::move(victim));
  After(*found.object, &reply.directory);
  out.body.Put(reply);
  return 0;
}

int Session::Rename(Reader& in, Reply& out) {
  RenameRequest request;
  Located from, to;
  absl::string_view old_bytes, new_bytes;
  char old_name[kMaxName + 1], new_name[kMaxName + 1];
  if (!in.Take(&request)) return EINVAL;
  if (int error = LocateDirectory(request.old_directory, in, &out, &from); error != 0) return error;
  if (int error = LocateDirectory(request.new_directory, in, nullptr, &to); error != 0)
    return error;
  if (!in.TakeBytes(request.old_name_length, &old_bytes) ||
      !in.TakeBytes(request.new_name_length, &new_bytes) || !in.empty() ||
      (request.flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0)
    return EINVAL;
  if (config_.read_only) return EROFS;
  if (!CopyName(old_bytes, old_name)) return BadName(old_bytes);
  if (!CopyName(new_bytes, new_name)) return BadName(new_bytes);
  RefPtr<Object> victim;
  WireAttributes attr;
  if (request.keep_victim != 0 && request.flags == 0) {
    int error = Lookup(to.object->fd.get(), new_name, &victim, &attr);
    if (error != 0 && error != ENOENT) return error;
  }
  if (renameat2(from.object->fd.get(), old_name, to.object->fd.get(), new_name, request.flags) != 0)
    return errno;
  RenameReply reply = {};
  // If the host moved it on already, the client learns that from its watch.
  if (StatAt(to.object->fd.get(), new_name, &reply.moved) != 0) reply.moved = {};
  if (victim) reply.victim_handle = handles_.Insert(std::move(victim));
  After(*from.object, &reply.old_directory);
  After(*to.object, &reply.new_directory);
  out.body.Put(reply);
  return 0;
}

}  // namespace caisson::gofer
