// Bytes that a read delivers or a write brings: guest memory, or the sentry's own.
#ifndef CAISSON_BASE_IO_BUFFER_H_
#define CAISSON_BASE_IO_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/types/span.h"
#include "base/result.h"

namespace caisson {

// A cursor over a sequence of bytes that may be guest memory. File implementations see guest
// buffers only as this. Not thread-safe.
//
// Put() and Take() move the cursor by what they return. They return fewer bytes than asked when
// the end is reached or a later part of guest memory faults, and EFAULT when nothing at all could
// be moved because the first byte faults. No lock that a fault could need may be held
// (docs/style.md, Locks); file systems copy through a bounce buffer where they need their lock.
class IoBuffer {
 public:
  virtual ~IoBuffer() = default;

  size_t remaining() const { return size_ - position_; }
  size_t position() const { return position_; }
  // Stores `from` at the cursor (a read's direction).
  Result<size_t> Put(absl::Span<const char> from) {
    return Move(from.size(), [&](size_t at, size_t n) { return DoPut(at, from.data(), n); });
  }
  // Fetches into `to` from the cursor (a write's direction).
  Result<size_t> Take(absl::Span<char> to) {
    return Move(to.size(), [&](size_t at, size_t n) { return DoTake(at, to.data(), n); });
  }
  // Put() of as much as goes in one copy, for a `from` that may be a mapping whose pages vanish: the copy
  // ends short then. 0: not possible here, or memory of either side was not there.
  size_t PutByHost(absl::Span<const char> from) {
    const size_t done = DoPutByHost(position_, from.data(), std::min(from.size(), remaining()));
    position_ += done;
    return done;
  }
  // Moves the cursor on by `bytes`, which were moved through Direct().
  void Skip(size_t bytes) {
    CHECK(bytes <= remaining());
    position_ += bytes;
  }
  // Moves the cursor back by `bytes`, which must not exceed position(): what was taken could not
  // be used.
  void Rewind(size_t bytes) {
    CHECK(bytes <= position_);
    position_ -= bytes;
  }
  // Ends the buffer `bytes` after the cursor, for implementations that limit a transfer.
  void Truncate(size_t bytes) { size_ = std::min(size_, position_ + bytes); }
  // Sentry memory behind the whole rest of the buffer, or an empty span if it is guest memory.
  virtual absl::Span<char> Direct() { return {}; }

 protected:
  explicit IoBuffer(size_t size) : size_(size) {}
  virtual Result<size_t> DoPut(size_t at, const char* from, size_t n) = 0;
  virtual Result<size_t> DoTake(size_t at, char* to, size_t n) = 0;
  virtual size_t DoPutByHost(size_t at, const char* from, size_t n) { return 0; }

 private:
  template <typename F>
  Result<size_t> Move(size_t want, F f) {
    size_t n = std::min(want, remaining());
    if (n == 0) return size_t{0};
    size_t done = TRY(f(position_, n));
    position_ += done;
    return done;
  }
  size_t size_;
  size_t position_ = 0;
};

// An IoBuffer over the sentry's own memory, borrowed.
class SpanBuffer final : public IoBuffer {
 public:
  explicit SpanBuffer(absl::Span<char> span) : IoBuffer(span.size()), data_(span.data()) {}
  // For writes only: a Put() into it would be a bug.
  static SpanBuffer ForWrite(absl::Span<const char> span) {
    return SpanBuffer(absl::Span<char>(const_cast<char*>(span.data()), span.size()));
  }
  absl::Span<char> Direct() override { return {data_ + position(), remaining()}; }

 protected:
  Result<size_t> DoPut(size_t at, const char* from, size_t n) override {
    memcpy(data_ + at, from, n);
    return n;
  }
  Result<size_t> DoTake(size_t at, char* to, size_t n) override {
    memcpy(to, data_ + at, n);
    return n;
  }

 private:
  char* data_;
};

}  // namespace caisson

#endif  // CAISSON_BASE_IO_BUFFER_H_
