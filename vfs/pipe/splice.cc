#include "vfs/pipe/splice.h"

#include <algorithm>
#include <utility>

#include "vfs/operations.h"
#include "vfs/pipe/pipe_file.h"

namespace caisson::vfs {
namespace {

constexpr int kSigpipe = 13;
constexpr size_t kMaxStep = kPipeDefaultMaxCapacity;  // Bytes in flight at a time.

template <typename F>
auto MaybeWait(CallContext& ctx, WaitQueue* queue, EventMask mask, bool wait, F attempt)
    -> decltype(attempt()) {
  if (!wait || queue == nullptr) return attempt();
  return WaitUntil(ctx, *queue, mask, time::kNever, attempt);
}

Errno Broken(CallContext& ctx) {
  ctx.SendSignal(kSigpipe);
  return Errno::kEPIPE;
}

Result<size_t> ReserveRoom(CallContext& ctx, PipeFile& out, size_t want, bool wait) {
  Pipe& pipe = out.pipe();
  Result<size_t> room = MaybeWait(ctx, &pipe.queue(), kWritable, wait,
                                  [&] { return pipe.Reserve(std::min(want, kMaxStep)); });
  if (!room.ok() && room.error() == Errno::kEPIPE) return Broken(ctx);
  return room;
}

Result<size_t> PipeToPipe(CallContext& ctx, PipeFile& in, PipeFile& out, size_t length, bool wait) {
  for (;;) {
    // Room first: what is taken can then always be stored.
    size_t room = TRY(ReserveRoom(ctx, out, length, wait));
    PipeChunks chunks;
    Result<size_t> taken = in.pipe().TakeChunks(std::min(room, length), &chunks);
    // A packet becomes plain bytes where it would cost more room than was set aside.
    for (PipeChunk& chunk : chunks) chunk.packet = false;
    out.pipe().Commit(room, std::move(chunks));
    if (taken.ok() || taken.error() != Errno::kEAGAIN || !wait) return taken;
    TRY(WaitUntil(ctx, in.pipe().queue(), kReadable, time::kNever, [&]() -> Result<void> {
      if (in.Readiness(kReadable) == 0) return Errno::kEAGAIN;
      return {};
    }));
  }
}

Result<size_t> PipeToFile(CallContext& ctx, PipeFile& in, FileDescription& out, uint64_t* offset,
                          size_t length, bool wait) {
  PipeChunks chunks;
  TRY(MaybeWait(ctx, &in.pipe().queue(), kReadable, wait, [&] {
    return in.pipe().TakeChunks(std::min(length, kMaxStep), &chunks);
  }));
  size_t done = 0, used = 0;
  Result<size_t> wrote = size_t{0};
  for (PipeChunk& chunk : chunks) {
    while (chunk.length != 0) {
      wrote = MaybeWait(ctx, out.EventQueue(), kWritable, wait && !out.nonblocking(), [&] {
        SpanBuffer from(absl::Span<char>(chunk.data(), chunk.length));
        return offset != nullptr ? FilePWrite(ctx, out, from, *offset + done, 0)
                                 : FileWrite(ctx, out, from, 0);
      });
      if (!wrote.ok() || *wrote == 0) break;
      chunk.offset += *wrote;
      chunk.length -= *wrote;
      done += *wrote;
    }
    if (chunk.length != 0) break;
    ++used;
  }
  if (used < chunks.size()) {
    PipeChunks rest;
    for (size_t i = used; i < chunks.size(); ++i) rest.push_back(std::move(chunks[i]));
    in.pipe().ReturnChunks(std::move(rest));
  }
  if (done == 0 && !wrote.ok()) return wrote;
  if (offset != nullptr) *offset += done;
  return done;
}

Result<size_t> FileToPipe(CallContext& ctx, FileDescription& in, uint64_t* offset, PipeFile& out,
                          size_t length, bool wait) {
  for (;;) {
    size_t room = TRY(ReserveRoom(ctx, out, length, wait));
    PipeChunks chunks;
    size_t done = 0;
    Result<size_t> got = size_t{0};
    while (done < room) {
      PipeChunk chunk{std::unique_ptr<char[]>(new char[kPipePage]), 0, 0, false};
      SpanBuffer to(absl::Span<char>(chunk.data(), std::min(room - done, kPipePage)));
      got = offset != nullptr ? FilePRead(ctx, in, to, *offset + done, 0)
                              : FileRead(ctx, in, to, 0);
      if (!got.ok() || *got == 0) break;
      chunk.length = *got;
      done += *got;
      bool whole = *got == kPipePage;
      chunks.push_back(std::move(chunk));
      // A short read of something that waits for events says that no more is there now.
      if (!whole) break;
    }
    out.pipe().Commit(room, std::move(chunks));
    if (done != 0) {
      if (offset != nullptr) *offset += done;
      return done;
    }
    WaitQueue* queue = in.EventQueue();
    if (got.ok() || got.error() != Errno::kEAGAIN || !wait || in.nonblocking() || queue == nullptr)
      return got;
    TRY(WaitUntil(ctx, *queue, kReadable, time::kNever, [&]() -> Result<void> {
      if (in.Readiness(kReadable) == 0) return Errno::kEAGAIN;
      return {};
    }));
  }
}

}  // namespace

// Linux fs/splice.c, do_splice().
Result<size_t> Splice(CallContext& ctx, FileDescription& in, uint64_t* in_offset,
                      FileDescription& out, uint64_t* out_offset, size_t length, uint32_t flags) {
  if ((flags & ~kSpliceAllFlags) != 0) return Errno::kEINVAL;
  if (!in.readable() || !out.writable()) return Errno::kEBADF;
  PipeFile* from = AsPipe(in);
  PipeFile* to = AsPipe(out);
  if (from == nullptr && to == nullptr) return Errno::kEINVAL;
  if ((from != nullptr && in_offset != nullptr) || (to != nullptr && out_offset != nullptr))
    return Errno::kESPIPE;
  if (length == 0) return size_t{0};
  bool nonblock = (flags & kSpliceNonblock) != 0;
  if (from != nullptr && to != nullptr) {
    if (&from->pipe() == &to->pipe()) return Errno::kEINVAL;
    return PipeToPipe(ctx, *from, *to, length, !nonblock && !in.nonblocking() && !out.nonblocking());
  }
  // Offsets stay below 2^63 with what is moved.
  for (uint64_t* offset : {in_offset, out_offset}) {
    if (offset == nullptr) continue;
    if (*offset > INT64_MAX) return Errno::kEINVAL;
    length = std::min<uint64_t>(length, INT64_MAX - *offset);
  }
  if (from != nullptr) {
    if ((out.flags() & kOpenAppend) != 0) return Errno::kEINVAL;
    return PipeToFile(ctx, *from, out, out_offset, length, !nonblock && !in.nonblocking());
  }
  return FileToPipe(ctx, in, in_offset, *to, length, !nonblock && !out.nonblocking());
}

Result<size_t> Tee(CallContext& ctx, FileDescription& in, FileDescription& out, size_t length,
                   uint32_t flags) {
  if ((flags & ~kSpliceAllFlags) != 0) return Errno::kEINVAL;
  if (!in.readable() || !out.writable()) return Errno::kEBADF;
  PipeFile* from = AsPipe(in);
  PipeFile* to = AsPipe(out);
  if (from == nullptr || to == nullptr || &from->pipe() == &to->pipe()) return Errno::kEINVAL;
  if (length == 0) return size_t{0};
  bool wait = (flags & kSpliceNonblock) == 0 && !in.nonblocking() && !out.nonblocking();
  for (;;) {
    size_t room = TRY(ReserveRoom(ctx, *to, length, wait));
    PipeChunks chunks;
    Result<size_t> copied = from->pipe().CopyChunks(std::min(room, length), &chunks);
    for (PipeChunk& chunk : chunks) chunk.packet = false;
    to->pipe().Commit(room, std::move(chunks));
    if (copied.ok() || copied.error() != Errno::kEAGAIN || !wait) return copied;
    TRY(WaitUntil(ctx, from->pipe().queue(), kReadable, time::kNever, [&]() -> Result<void> {
      if (from->Readiness(kReadable) == 0) return Errno::kEAGAIN;
      return {};
    }));
  }
}

}  // namespace caisson::vfs
