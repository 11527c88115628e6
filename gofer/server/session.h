// One connection of the gofer: decodes requests and answers them.
#ifndef CAISSON_GOFER_SERVER_SESSION_H_
#define CAISSON_GOFER_SERVER_SESSION_H_

#include <atomic>
#include <string>

#include "absl/strings/string_view.h"
#include "gofer/protocol/codec.h"
#include "gofer/server/handle_table.h"

namespace caisson::gofer {

struct SessionConfig {
  bool read_only = false;
  bool is_file = false;
  int proc_self_fd = -1;  // Borrowed. Also the working directory of the process.
  size_t max_handles = 1024;
};

// A reply being made. Handlers append the body and may set the rest.
struct Reply {
  ReplyHeader header = {};
  Writer body;  // Behind the room for the header.
  UniqueFd owned_fd;
  int fd = -1;  // To donate: owned_fd, or one that the session keeps.
};

// Requests of one connection may be handled by several threads at once.
//
// The peer is hostile: lengths, names, handles and flags are checked, nothing waits for anything
// but the host's file system, symbolic links are never followed and only regular files and
// directories are ever opened.
class Session {
 public:
  Session(UniqueFd socket, RefPtr<Object> root, const SessionConfig& config);

  // Receives and answers until the peer is gone or breaks the framing. Runs in each thread.
  void Run();

 private:
  // An object that a Locator led to.
  struct Located {
    RefPtr<Object> object;
    WireAttributes attributes;      // If `fresh`.
    bool fresh = false;
  };

  // Handlers return 0 or an errno. `in` is behind the RequestHeader.
  int Dispatch(Op op, Reader& in, Reply& out);
  int Attach(Reader& in, Reply& out);
  int Walk(Reader& in, Reply& out);
  int Open(Reader& in, Reply& out);
  int Make(Op op, Reader& in, Reply& out);
  int Link(Reader& in, Reply& out);
  int Unlink(Reader& in, Reply& out);
  int Rename(Reader& in, Reply& out);
  int GetAttributes(Reader& in, Reply& out);
  int SetAttributes(Reader& in, Reply& out);
  int ReadLink(Reader& in, Reply& out);
  int ReadDirectory(Reader& in, Reply& out);
  int Statfs(Reader& in, Reply& out);
  int Xattr(Op op, Reader& in, Reply& out);
  int Sync(Reader& in, Reply& out);
  void Release(Reader& in);

  // Takes the locator's path off `in` and finds the object; does what its flags ask, with the
  // result in out.header unless `out` is null.
  int Locate(const Locator& locator, Reader& in, Reply* out, Located* found);
  // As above, for a directory.
  int LocateDirectory(const Locator& locator, Reader& in, Reply* out, Located* found);
  // O_PATH of one checked component.
  int OpenComponent(int directory, absl::string_view name, bool must_be_directory, UniqueFd* fd);
  int Lookup(int directory, absl::string_view name, RefPtr<Object>* object, WireAttributes* attr);
  // Opens what `object` is again, with access. Its type was checked to make that harmless.
  int Reopen(const Object& object, int flags, UniqueFd* fd);
  int FreshAttributes(const Object& object, WireAttributes* attr);
  // Of a directory after a change in it; a failure is not the request's.
  void After(const Object& directory, WireAttributes* attr);
  int FinishNewFile(int fd, const MakeRequest& request, WireAttributes* attr);

  const UniqueFd socket_;
  const SessionConfig config_;
  const RefPtr<Object> root_;
  const UniqueFd inotify_;  // Invalid: the host has no more to give.
  HandleTable handles_;
  std::atomic<bool> complained_{false};
};

// "123", a name in /proc/self/fd.
class FdName {
 public:
  explicit FdName(int fd);
  const char* c_str() const { return text_; }

 private:
  char text_[12];
};

// statx(2) in the protocol's form; `name` "" is the descriptor itself. 0 or an errno.
int StatAt(int fd, const char* name, WireAttributes* attr);
uint32_t TypeOf(const WireAttributes& attr);

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_SERVER_SESSION_H_
