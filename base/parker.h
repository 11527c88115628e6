// Where one thread sleeps until others wake it: one word, one host call on each side.
#ifndef CAISSON_BASE_PARKER_H_
#define CAISSON_BASE_PARKER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace caisson {

// One thread parks; Unpark(), Mark() and Nudge() are anybody's. Not a condition variable, since a
// sleeper that has to take the waker's lock as its first act costs both of them a second switch.
class Parker {
 public:
  enum class Outcome : uint8_t { kUnparked, kStopped, kTimedOut };
  static constexpr int64_t kNever = INT64_MAX;

  Parker() = default;
  Parker(const Parker&) = delete;
  Parker& operator=(const Parker&) = delete;

  // Until Unpark() (also one since the last Park()), until `stop()` holds, or until `deadline` (ns,
  // CLOCK_MONOTONIC). Whoever makes `stop()` true calls Nudge() afterwards, both sequentially
  // consistent. No mark is left behind.
  template <typename Stop>
  Outcome Park(int64_t deadline, Stop stop) {
    for (bool timed_out = false;;) {
      uint32_t word = kNone;
      if (!word_.compare_exchange_strong(word, kSleeping) && word == kMarked) {
        word_.exchange(kNone);
        return Outcome::kUnparked;
      }
      if (stop()) return End(Outcome::kStopped);
      if (timed_out) return End(Outcome::kTimedOut);
      timed_out = !Sleep(deadline);
    }
  }

  // While one of these lives on the calling thread, the sleepers that the thread unparks are rung only when
  // the outermost of them ends: for who holds a lock that they would meet if they ran at once, which costs
  // both of them two switches.
  class Later {
   public:
    Later() : outer_(t_later) {
      if (outer_ == nullptr) t_later = this;
    }
    ~Later() {
      if (outer_ != nullptr) return;
      t_later = nullptr;
      for (size_t i = 0; i < n_; ++i) RingWord(words_[i]);
    }
    Later(const Later&) = delete;
    Later& operator=(const Later&) = delete;

   private:
    friend class Parker;
    static constexpr size_t kMax = 16;
    Later* const outer_;
    size_t n_ = 0;
    const void* words_[kMax];
  };

  void Unpark() {
    const void* word = Mark();
    Later* later = t_later;
    if (word == nullptr) return;
    if (later == nullptr || later->n_ == Later::kMax) RingWord(word);
    else later->words_[later->n_++] = word;
  }
  // Unpark() in two steps, so that the second can be taken without the locks of the first: Mark()
  // is the last that touches this object, Ring() only names its address.
  const void* Mark() { return word_.exchange(kMarked) == kSleeping ? &word_ : nullptr; }
  static void Ring(const void* word) {
    if (word != nullptr) RingWord(word);
  }
  // Lets Park() look at its `stop` again.
  void Nudge() {
    uint32_t word = kSleeping;
    if (word_.compare_exchange_strong(word, kNone)) RingWord(&word_);
  }

 private:
  static constexpr uint32_t kNone = 0, kMarked = 1, kSleeping = 2;

  // What came in the last moment is left out: nobody asks for it any more.
  Outcome End(Outcome outcome) {
    return word_.exchange(kNone) == kMarked && outcome == Outcome::kTimedOut ? Outcome::kUnparked
                                                                             : outcome;
  }
  bool Sleep(int64_t deadline);
  static void RingWord(const void* word);

  inline static constinit thread_local Later* t_later = nullptr;
  std::atomic<uint32_t> word_{kNone};
};

}  // namespace caisson

#endif  // CAISSON_BASE_PARKER_H_
