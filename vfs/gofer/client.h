// Calls to the gofer, from any number of threads at once.
#ifndef CAISSON_VFS_GOFER_CLIENT_H_
#define CAISSON_VFS_GOFER_CLIENT_H_

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/protocol/codec.h"

namespace caisson::vfs {

struct GoferReply {
  caisson::gofer::ReplyHeader header = {};
  std::string body;
  UniqueFd fd;  // Not yet checked to be what was asked for.
  // The error that the gofer answered. ESTALE means that the object is not where it was.
  Result<void> status() const;
};

// One connection. The gofer may be hostile: replies are matched by id and bounded; what is in
// them the caller checks. Thread-safe.
//
// There is no reader thread: of the threads that wait, one receives for all and hands over when it
// has its own answer, so a call that is alone costs two host calls and one wake-up.
class GoferClient {
 public:
  explicit GoferClient(UniqueFd socket);

  // `message` is a whole request: its header is filled in here. Errors: EIO once the connection is
  // gone or the gofer broke the protocol.
  Result<GoferReply> Call(caisson::gofer::Op op, caisson::gofer::Writer& message)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Sends a request that has no reply. False, and nothing sent, if that would wait.
  bool Post(caisson::gofer::Op op, caisson::gofer::Writer& message);
  bool broken() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Pending {
    GoferReply reply;
    bool done = false;
    bool waiting = false;
    CondVar cv;
  };
  void ReceiveOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void BreakLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const UniqueFd socket_;
  mutable Mutex mu_;  // Innermost. Not held while sending or receiving.
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool receiving_ ABSL_GUARDED_BY(mu_) = false;
  bool broken_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<uint64_t, Pending*> pending_ ABSL_GUARDED_BY(mu_);
  const std::unique_ptr<char[]> buffer_;  // Belongs to the thread that set receiving_.
};

// A request: room for its header, then what the caller puts.
inline caisson::gofer::Writer NewGoferMessage() {
  caisson::gofer::Writer w;
  w.Put(caisson::gofer::RequestHeader{});
  return w;
}

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_CLIENT_H_
