// The buffer behind pipes and FIFOs (pipe(7)).
#ifndef CAISSON_VFS_PIPE_PIPE_H_
#define CAISSON_VFS_PIPE_PIPE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "auth/user_counts.h"
#include "base/io_buffer.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "base/wait_queue.h"

namespace caisson::vfs {

class CallContext;

inline constexpr size_t kPipePage = 4096;
inline constexpr size_t kPipeBuf = 4096;  // PIPE_BUF: writes up to this are atomic.
inline constexpr size_t kPipeDefaultCapacity = 16 * kPipePage;
inline constexpr size_t kPipeDefaultMaxCapacity = 1 << 20;  // /proc/sys/fs/pipe-max-size.
inline constexpr uint64_t kPipeUserPages = 16384;            // /proc/sys/fs/pipe-user-pages-soft.

// A run of bytes within one page. Owned by whoever holds it.
struct PipeChunk {
  std::unique_ptr<char[]> page;
  uint32_t offset = 0;
  uint32_t length = 0;
  bool packet = false;  // Written with O_DIRECT: one read takes it whole.

  const char* data() const { return page.get() + offset; }
  char* data() { return page.get() + offset; }
};
using PipeChunks = absl::InlinedVector<PipeChunk, 16>;

// A queue of chunks with counted readers and writers. Thread-safe. Nothing blocks: EAGAIN, and the
// caller waits on queue(). Guest memory is never touched under mu_: bytes go through pages that
// belong to nobody else at that moment. Capacity is counted in bytes, but a packet costs a page.
class Pipe : public RefCounted<Pipe> {
 public:
  Pipe() = default;
  // Its capacity counts against the caller's user, who gets a small one where there are many
  // (fs.pipe-user-pages-soft; Linux alloc_pipe_info()).
  explicit Pipe(const CallContext& ctx);

  // Up to the buffer's length, or one packet, whose rest is lost. 0 if empty without writers.
  Result<size_t> Read(IoBuffer& to);
  // All or nothing up to kPipeBuf; else what fits if at least a page is free. Errors: EAGAIN,
  // EPIPE without readers (the caller sends SIGPIPE), EFAULT.
  Result<size_t> Write(IoBuffer& from, bool packets);

  // For splice(2). Removes up to `max` bytes from the front. EAGAIN if there is nothing and a
  // writer may come; an empty result at the end of file.
  Result<size_t> TakeChunks(size_t max, PipeChunks* out);
  // Puts back what TakeChunks() removed and could not be used.
  void ReturnChunks(PipeChunks chunks);
  // Sets room for up to `want` bytes aside. EAGAIN if less than a page is free, EPIPE.
  Result<size_t> Reserve(size_t want);
  // Ends a reservation of `reserved` bytes; `chunks` hold no more than that.
  void Commit(size_t reserved, PipeChunks chunks);
  // tee(2): copies of up to `max` bytes from the front, which stay.
  Result<size_t> CopyChunks(size_t max, PipeChunks* out);

  // The other end at the moment at which an end was added.
  struct Partner {
    bool there;      // Somebody had it open.
    uint64_t opens;  // How often it had been opened.
  };
  Partner AddReader();
  Partner AddWriter();
  void RemoveReader();
  void RemoveWriter();
  int readers() const ABSL_LOCKS_EXCLUDED(mu_);
  int writers() const ABSL_LOCKS_EXCLUDED(mu_);
  // How often the pipe was opened for reading (writing): a FIFO's open waits for a change.
  uint64_t reader_opens() const ABSL_LOCKS_EXCLUDED(mu_);
  uint64_t writer_opens() const ABSL_LOCKS_EXCLUDED(mu_);

  // `no_writer_yet`: the value of writer_opens() at which a lack of writers is no hang-up (a FIFO
  // opened for reading with O_NONBLOCK); ~0 for none.
  EventMask ReadReadiness(uint64_t no_writer_yet) const;
  EventMask WriteReadiness() const;
  WaitQueue& queue() { return queue_; }

  size_t bytes() const;  // FIONREAD.
  size_t capacity() const;
  // Errors: EBUSY if more than that is held, EPERM past the user's pages. `capacity` is a power of
  // two of pages.
  Result<void> SetCapacity(const CallContext& ctx, size_t capacity);

 private:
  size_t FreeLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    size_t used = charged_ + reserved_;
    return used >= capacity_ ? 0 : capacity_ - used;
  }
  std::unique_ptr<char[]> NewPageLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FreePageLocked(std::unique_ptr<char[]> page) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PopFrontLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AppendBytesLocked(const char* from, size_t n, bool packet) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AppendChunkLocked(PipeChunk chunk) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<size_t> ReadSmall(IoBuffer& to);
  Result<size_t> WriteSmall(IoBuffer& from, bool packet);

  mutable Mutex mu_;
  std::deque<PipeChunk> chunks_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<char[]>> spare_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  size_t charged_ ABSL_GUARDED_BY(mu_) = 0;   // bytes_, with packets counted as pages.
  size_t reserved_ ABSL_GUARDED_BY(mu_) = 0;
  size_t capacity_ ABSL_GUARDED_BY(mu_) = kPipeDefaultCapacity;
  auth::UserCharge pages_ ABSL_GUARDED_BY(mu_);
  int readers_ ABSL_GUARDED_BY(mu_) = 0;
  int writers_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t reader_opens_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t writer_opens_ ABSL_GUARDED_BY(mu_) = 0;
  WaitQueue queue_;  // Of both directions; notified outside mu_.
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_PIPE_PIPE_H_
