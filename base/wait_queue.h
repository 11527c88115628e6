// The one wait-queue type: poll, epoll, select, blocking reads and signal-driven I/O use it.
#ifndef CAISSON_BASE_WAIT_QUEUE_H_
#define CAISSON_BASE_WAIT_QUEUE_H_

#include <atomic>
#include <cstdint>

#include "base/mutex.h"

namespace caisson {

// poll(2) bits, as EPOLLIN and so on.
using EventMask = uint32_t;
inline constexpr EventMask kEventIn = 0x001;
inline constexpr EventMask kEventPri = 0x002;
inline constexpr EventMask kEventOut = 0x004;
inline constexpr EventMask kEventErr = 0x008;
inline constexpr EventMask kEventHup = 0x010;
inline constexpr EventMask kEventNval = 0x020;
inline constexpr EventMask kEventRdNorm = 0x040;
inline constexpr EventMask kEventRdBand = 0x080;
inline constexpr EventMask kEventWrNorm = 0x100;
inline constexpr EventMask kEventWrBand = 0x200;
inline constexpr EventMask kEventMsg = 0x400;
inline constexpr EventMask kEventRdHup = 0x2000;
inline constexpr EventMask kReadable = kEventIn | kEventRdNorm;
inline constexpr EventMask kWritable = kEventOut | kEventWrNorm;
inline constexpr EventMask kAllEvents = ~0u;

class WaitQueue;

// One registration on a WaitQueue, embedded in whoever waits. It is on at most one queue at a
// time and must have left it before it is destroyed.
class WaitEntry {
 public:
  WaitEntry() = default;
  WaitEntry(const WaitEntry&) = delete;
  WaitEntry& operator=(const WaitEntry&) = delete;

 protected:
  virtual ~WaitEntry();
  // Runs under the queue's lock, on the notifier's thread: it must not block, nor add or remove
  // entries of that queue. `events` is what happened, masked by what was asked for.
  virtual void OnEvent(EventMask events) = 0;

 private:
  friend class WaitQueue;
  WaitEntry* prev_ = nullptr;
  WaitEntry* next_ = nullptr;
  WaitQueue* queue_ = nullptr;
  EventMask mask_ = 0;
};

// Thread-safe. Notify() costs one locked instruction when nobody waits.
class WaitQueue {
 public:
  WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;
  ~WaitQueue();

  // kEventErr and kEventHup are always reported, asked for or not.
  void Add(WaitEntry& entry, EventMask mask);
  // After it returns, no OnEvent() of `entry` runs or will run. No effect if it is on no queue.
  void Remove(WaitEntry& entry);
  void Notify(EventMask events);
  bool empty() const;

 private:
  mutable Mutex mu_;  // Innermost but for other wait queues (epoll on epoll, outer first).
  WaitEntry* head_ ABSL_GUARDED_BY(mu_) = nullptr;
  WaitEntry* tail_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::atomic<uint32_t> count_{0};
};

}  // namespace caisson

#endif  // CAISSON_BASE_WAIT_QUEUE_H_
