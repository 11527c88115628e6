#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/server/session.h"

namespace caisson::gofer {

namespace {

constexpr size_t kEntriesBuffer = 8192;

struct HostDirent {
  uint64_t ino;
  int64_t off;
  uint16_t reclen;
  uint8_t type;
  char name[];
};

}  // namespace

int Session::Walk(Reader& in, Reply& out) {
  WalkRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = LocateDirectory(request.directory, in, &out, &found); error != 0) return error;
  absl::string_view path;
  if (request.path_length == 0 || request.path_length > kMaxPath ||
      !in.TakeBytes(request.path_length, &path) || !in.empty())
    return EINVAL;
  WalkReply reply = {};
  size_t at = out.body.size();
  out.body.Put(reply);
  int directory = found.object->fd.get();
  UniqueFd step;
  while (!path.empty() && reply.count < kMaxWalk) {
    size_t slash = std::min(path.find('/'), path.size());
    WireAttributes attr;
    UniqueFd next;
    int error = OpenComponent(directory, path.substr(0, slash), false, &next);
    if (error == 0) error = StatAt(next.get(), "", &attr);
    if (error != 0) {
      if (reply.count == 0) return error;
      reply.error = error;
      break;
    }
    out.body.Put(attr);
    ++reply.count;
    step = std::move(next);
    directory = step.get();
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (TypeOf(attr) != S_IFDIR) break;
  }
  out.body.Overwrite(at, reply);
  return 0;
}

int Session::ReadDirectory(Reader& in, Reply& out) {
  ReadDirectoryRequest request;
  Located found;
  if (!in.Take(&request)) return EINVAL;
  if (int error = LocateDirectory(request.directory, in, &out, &found); error != 0) return error;
  if (!in.empty() || request.cookie > INT64_MAX) return EINVAL;
  Object& directory = *found.object;
  ReadDirectoryReply reply = {};
  if (int error = FreshAttributes(directory, &reply.self); error != 0) return error;
  size_t at = out.body.size();
  out.body.Put(reply);
  reply.next_cookie = request.cookie;

  MutexLock lock(directory.mu);
  if (request.cookie == 0) directory.stream.reset();
  if (!directory.stream.valid()) {
    if (int error = Reopen(directory, O_RDONLY, &directory.stream); error != 0) return error;
    directory.stream_cookie = 0;
  }
  const int fd = directory.stream.get();
  if (directory.stream_cookie != request.cookie &&
      lseek(fd, static_cast<off_t>(request.cookie), SEEK_SET) < 0)
    return errno;
  alignas(8) char buffer[kEntriesBuffer];
  bool full = false;
  while (!full) {
    long n = syscall(SYS_getdents64, fd, buffer, sizeof(buffer));
    if (n < 0) return errno;
    if (n == 0) {
      reply.end = 1;
      break;
    }
    for (long i = 0; i < n;) {
      auto* entry = reinterpret_cast<HostDirent*>(buffer + i);
      i += entry->reclen;
      absl::string_view name(entry->name);
      if (IsValidName(name)) {
        if (out.body.size() + sizeof(DirectoryEntry) + name.size() > kMaxMessage) {
          full = true;
          break;
        }
        DirectoryEntry wire = {};
        int error = StatAt(fd, entry->name, &wire.attributes);
        if (error != ENOENT) {
          if (error != 0) {
            wire.attributes = {};
            wire.attributes.ino = entry->ino;
          }
          wire.name_length = static_cast<uint16_t>(name.size());
          wire.type = entry->type;
          out.body.Put(wire);
          out.body.PutBytes(name);
          ++reply.count;
        }
      }
      reply.next_cookie = static_cast<uint64_t>(entry->off);
    }
  }
  // With a full reply the host's position is behind what was passed on: ~0 makes the next request
  // seek. Some file systems use 0 as no position at all and others as the last one; `end` decides.
  directory.stream_cookie = full ? ~uint64_t{0} : reply.next_cookie;
  if (reply.end != 0) directory.stream.reset();
  out.body.Overwrite(at, reply);
  return 0;
}

}  // namespace caisson::gofer
