#include "vfs/pipe/pipe.h"

#include "vfs/call_context.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/guest_addr.h"

namespace caisson::vfs {
namespace {

constexpr size_t kSparePages = 4;

size_t Charge(const PipeChunk& chunk) { return chunk.packet ? kPipePage : chunk.length; }

}  // namespace

std::unique_ptr<char[]> Pipe::NewPageLocked() {
  if (spare_.empty()) return std::unique_ptr<char[]>(new char[kPipePage]);
  std::unique_ptr<char[]> page = std::move(spare_.back());
  spare_.pop_back();
  return page;
}

void Pipe::FreePageLocked(std::unique_ptr<char[]> page) {
  if (spare_.size() < kSparePages) spare_.push_back(std::move(page));
}

void Pipe::PopFrontLocked() {
  FreePageLocked(std::move(chunks_.front().page));
  chunks_.pop_front();
}

void Pipe::AppendBytesLocked(const char* from, size_t n, bool packet) {
  bytes_ += n;
  if (!packet && !chunks_.empty() && !chunks_.back().packet) {
    PipeChunk& last = chunks_.back();
    size_t part = std::min<size_t>(n, kPipePage - last.offset - last.length);
    memcpy(last.data() + last.length, from, part);
    last.length += part;
    charged_ += part;
    from += part;
    n -= part;
  }
  while (n != 0) {
    PipeChunk chunk{NewPageLocked(), 0, static_cast<uint32_t>(std::min(n, kPipePage)), packet};
    memcpy(chunk.data(), from, chunk.length);
    from += chunk.length;
    n -= chunk.length;
    charged_ += Charge(chunk);
    chunks_.push_back(std::move(chunk));
  }
}

void Pipe::AppendChunkLocked(PipeChunk chunk) {
  // A chunk that fits the last page is copied there, so that many small ones do not hold a page
  // each.
  if (!chunk.packet && !chunks_.empty() && !chunks_.back().packet &&
      chunk.length <= kPipePage - chunks_.back().offset - chunks_.back().length) {
    AppendBytesLocked(chunk.data(), chunk.length, false);
    FreePageLocked(std::move(chunk.page));
    return;
  }
  bytes_ += chunk.length;
  charged_ += Charge(chunk);
  chunks_.push_back(std::move(chunk));
}

Result<size_t> Pipe::ReadSmall(IoBuffer& to) {
  __attribute__((uninitialized)) char bounce[kPipePage];
  size_t want = to.remaining(), got = 0;
  bool room_made;
  {
    MutexLock lock(mu_);
    if (chunks_.empty()) {
      if (writers_ == 0) return size_t{0};
      return Errno::kEAGAIN;
    }
    size_t free_before = FreeLocked();
    if (chunks_.front().packet) {
      PipeChunk& chunk = chunks_.front();
      got = std::min<size_t>(want, chunk.length);
      memcpy(bounce, chunk.data(), got);
      bytes_ -= chunk.length;
      charged_ -= kPipePage;
      PopFrontLocked();
    } else {
      while (got < want && !chunks_.empty() && !chunks_.front().packet) {
        PipeChunk& chunk = chunks_.front();
        size_t part = std::min<size_t>(want - got, chunk.length);
        memcpy(bounce + got, chunk.data(), part);
        got += part;
        chunk.offset += part;
        chunk.length -= part;
        if (chunk.length == 0) PopFrontLocked();
      }
      bytes_ -= got;
      charged_ -= got;
    }
    room_made = free_before < kPipePage && FreeLocked() >= kPipePage;
  }
  Result<size_t> put = to.Put({bounce, got});
  size_t delivered = put.ok() ? *put : 0;
  if (delivered < got) {
    // Guest memory faulted: the rest stays in the pipe, as with Linux fs/pipe.c, pipe_read().
    PipeChunk rest{std::unique_ptr<char[]>(new char[kPipePage]), 0,
                   static_cast<uint32_t>(got - delivered), false};
    memcpy(rest.data(), bounce + delivered, rest.length);
    PipeChunks back;
    back.push_back(std::move(rest));
    ReturnChunks(std::move(back));
  }
  if (room_made) queue_.Notify(kWritable);
  return put;
}

Result<size_t> Pipe::Read(IoBuffer& to) {
  if (to.remaining() == 0) return size_t{0};
  if (to.remaining() <= kPipePage) return ReadSmall(to);
  PipeChunks chunks;
  size_t taken = TRY(TakeChunks(to.remaining(), &chunks));
  if (taken == 0) return size_t{0};
  size_t done = 0;
  Result<size_t> failed = size_t{0};
  size_t used = 0;
  for (PipeChunk& chunk : chunks) {
    Result<size_t> put = to.Put({chunk.data(), chunk.length});
    size_t n = put.ok() ? *put : 0;
    done += n;
    chunk.offset += n;
    chunk.length -= n;
    if (!put.ok()) failed = put;
    if (chunk.length != 0) break;
    ++used;
  }
  if (used < chunks.size()) {
    PipeChunks back;
    for (size_t i = used; i < chunks.size(); ++i) back.push_back(std::move(chunks[i]));
    ReturnChunks(std::move(back));
    if (done == 0) return failed;
  }
  if (used != 0) {
    MutexLock lock(mu_);
    for (size_t i = 0; i < used && spare_.size() < kSparePages; ++i)
      FreePageLocked(std::move(chunks[i].page));
  }
  return done;
}

Result<size_t> Pipe::WriteSmall(IoBuffer& from, bool packet) {
  if (readers() == 0) return Errno::kEPIPE;
  __attribute__((uninitialized)) char bounce[kPipePage];
  size_t n = TRY(from.Take({bounce, from.remaining()}));
  {
    MutexLock lock(mu_);
    Errno failed = readers_ == 0 ? Errno::kEPIPE : Errno::kEAGAIN;
    if (readers_ == 0 || FreeLocked() < (packet ? kPipePage : n)) {
      from.Rewind(n);
      return failed;
    }
    AppendBytesLocked(bounce, n, packet);
  }
  queue_.Notify(kReadable);
  return n;
}

Result<size_t> Pipe::Write(IoBuffer& from, bool packets) {
  if (from.remaining() == 0) return size_t{0};
  if (from.remaining() <= kPipeBuf) return WriteSmall(from, packets);
  // A packet pays for a whole page; longer writes become several packets.
  size_t want = from.remaining();
  size_t reserved = TRY(Reserve(packets ? PageRoundUp(want) : want));
  size_t limit = packets ? std::min(want, PageRoundDown(reserved)) : reserved;
  PipeChunks chunks;
  size_t done = 0;
  Result<size_t> taken = size_t{0};
  while (done < limit) {
    PipeChunk chunk{nullptr, 0, static_cast<uint32_t>(std::min(limit - done, kPipePage)), packets};
    {
      MutexLock lock(mu_);
      chunk.page = NewPageLocked();
    }
    taken = from.Take({chunk.data(), chunk.length});
    size_t n = taken.ok() ? *taken : 0;
    bool whole = n == chunk.length;
    chunk.length = n;
    done += n;
    if (n != 0) chunks.push_back(std::move(chunk));
    if (!whole) break;
  }
  Commit(reserved, std::move(chunks));
  if (done == 0) return taken;
  return done;
}

Result<size_t> Pipe::TakeChunks(size_t max, PipeChunks* out) {
  size_t got = 0;
  bool room_made;
  {
    MutexLock lock(mu_);
    if (chunks_.empty()) {
      if (writers_ == 0) return size_t{0};
      return Errno::kEAGAIN;
    }
    size_t free_before = FreeLocked();
    while (got < max && !chunks_.empty()) {
      PipeChunk& chunk = chunks_.front();
      if (chunk.packet && got != 0) break;
      if (chunk.length <= max - got || chunk.packet) {
        bytes_ -= chunk.length;
        charged_ -= Charge(chunk);
        chunk.length = std::min<size_t>(chunk.length, max - got);
        got += chunk.length;
        bool packet = chunk.packet;
        out->push_back(std::move(chunk));
        chunks_.pop_front();
        if (packet) break;
        continue;
      }
      PipeChunk part{NewPageLocked(), 0, static_cast<uint32_t>(max - got), false};
      memcpy(part.data(), chunk.data(), part.length);
      chunk.offset += part.length;
      chunk.length -= part.length;
      bytes_ -= part.length;
      charged_ -= part.length;
      got += part.length;
      out->push_back(std::move(part));
    }
    room_made = free_before < kPipePage && FreeLocked() >= kPipePage;
  }
  if (room_made) queue_.Notify(kWritable);
  return got;
}

void Pipe::ReturnChunks(PipeChunks chunks) {
  {
    MutexLock lock(mu_);
    for (size_t i = chunks.size(); i-- > 0;) {
      if (chunks[i].length == 0) continue;
      bytes_ += chunks[i].length;
      charged_ += Charge(chunks[i]);
      chunks_.push_front(std::move(chunks[i]));
    }
  }
  queue_.Notify(kReadable);
}

Result<size_t> Pipe::CopyChunks(size_t max, PipeChunks* out) {
  MutexLock lock(mu_);
  if (chunks_.empty()) {
    if (writers_ == 0) return size_t{0};
    return Errno::kEAGAIN;
  }
  size_t got = 0;
  for (const PipeChunk& chunk : chunks_) {
    if (got == max || (chunk.packet && got != 0)) break;
    PipeChunk copy{NewPageLocked(), 0,
                   static_cast<uint32_t>(std::min<size_t>(chunk.length, max - got)), chunk.packet};
    memcpy(copy.data(), chunk.data(), copy.length);
    got += copy.length;
    out->push_back(std::move(copy));
    if (chunk.packet) break;
  }
  return got;
}

Result<size_t> Pipe::Reserve(size_t want) {
  MutexLock lock(mu_);
  if (readers_ == 0) return Errno::kEPIPE;
  size_t free = FreeLocked();
  if (free < std::min(want, kPipePage)) return Errno::kEAGAIN;
  size_t reserved = std::min(want, free);
  reserved_ += reserved;
  return reserved;
}

void Pipe::Commit(size_t reserved, PipeChunks chunks) {
  bool some = !chunks.empty();
  bool room_made;
  {
    MutexLock lock(mu_);
    size_t free_before = FreeLocked();
    reserved_ -= reserved;
    for (PipeChunk& chunk : chunks) AppendChunkLocked(std::move(chunk));
    room_made = free_before < kPipePage && FreeLocked() >= kPipePage;
  }
  if (some) queue_.Notify(kReadable);
  if (room_made) queue_.Notify(kWritable);
}

Pipe::Partner Pipe::AddReader() {
  Partner writers;
  {
    MutexLock lock(mu_);
    ++readers_;
    ++reader_opens_;
    writers = {writers_ != 0, writer_opens_};
  }
  queue_.Notify(kWritable);
  return writers;
}

Pipe::Partner Pipe::AddWriter() {
  Partner readers;
  {
    MutexLock lock(mu_);
    ++writers_;
    ++writer_opens_;
    readers = {readers_ != 0, reader_opens_};
  }
  queue_.Notify(kReadable);
  return readers;
}

void Pipe::RemoveReader() {
  bool last;
  PipeChunks discarded;
  {
    MutexLock lock(mu_);
    last = --readers_ == 0;
    if (readers_ == 0 && writers_ == 0) {
      chunks_.clear();
      spare_.clear();
      bytes_ = charged_ = 0;
      capacity_ = kPipeDefaultCapacity;
    }
  }
  if (last) queue_.Notify(kEventErr | kWritable);
}

void Pipe::RemoveWriter() {
  bool last;
  {
    MutexLock lock(mu_);
    last = --writers_ == 0;
    if (readers_ == 0 && writers_ == 0) {
      chunks_.clear();
      spare_.clear();
      bytes_ = charged_ = 0;
      capacity_ = kPipeDefaultCapacity;
    }
  }
  if (last) queue_.Notify(kEventHup | kReadable);
}

int Pipe::readers() const {
  MutexLock lock(mu_);
  return readers_;
}
int Pipe::writers() const {
  MutexLock lock(mu_);
  return writers_;
}
uint64_t Pipe::reader_opens() const {
  MutexLock lock(mu_);
  return reader_opens_;
}
uint64_t Pipe::writer_opens() const {
  MutexLock lock(mu_);
  return writer_opens_;
}

EventMask Pipe::ReadReadiness(uint64_t no_writer_yet) const {
  MutexLock lock(mu_);
  EventMask events = chunks_.empty() ? 0 : kReadable;
  if (writers_ == 0 && writer_opens_ != no_writer_yet) events |= kEventHup;
  return events;
}

EventMask Pipe::WriteReadiness() const {
  MutexLock lock(mu_);
  EventMask events = FreeLocked() >= kPipePage ? kWritable : 0;
  if (readers_ == 0) events |= kEventErr;
  return events;
}

size_t Pipe::bytes() const {
  MutexLock lock(mu_);
  return bytes_;
}

size_t Pipe::capacity() const {
  MutexLock lock(mu_);
  return capacity_;
}

namespace {

uint64_t PageLimit(const CallContext& ctx) {
  const auth::Credentials& creds = ctx.creds();
  return creds.HasRootCapability(auth::Capability::kSysResource) ||
                 creds.HasRootCapability(auth::Capability::kSysAdmin)
             ? ~uint64_t{0}
             : kPipeUserPages;
}

}  // namespace

Pipe::Pipe(const CallContext& ctx) {
  RefPtr<auth::UserCounts> user = ctx.user_counts();
  if (!user) return;
  constexpr uint64_t kPages = kPipeDefaultCapacity / kPipePage, kFewPages = 2;
  MutexLock lock(mu_);
  uint64_t pages = kPages;
  if (!user->Add(auth::UserCounts::kPipePages, pages, PageLimit(ctx))) {
    pages = kFewPages;
    user->AddAlways(auth::UserCounts::kPipePages, pages);
    capacity_ = pages * kPipePage;
  }
  pages_ = auth::UserCharge(std::move(user), auth::UserCounts::kPipePages, pages);
}

Result<void> Pipe::SetCapacity(const CallContext& ctx, size_t capacity) {
  {
    MutexLock lock(mu_);
    if (charged_ + reserved_ > capacity) return Errno::kEBUSY;
    if (!pages_.Resize(capacity / kPipePage, PageLimit(ctx))) return Errno::kEPERM;
    capacity_ = capacity;
  }
  queue_.Notify(kWritable);
  return {};
}

}  // namespace caisson::vfs
