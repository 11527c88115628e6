// Intrusive reference counts for what Linux counts.
#ifndef CAISSON_BASE_REF_H_
#define CAISSON_BASE_REF_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/check.h"

namespace caisson {

// Base of reference-counted objects: `class Inode : public RefCounted<Inode>`. Starts at one
// reference, which MakeRef() hands out. T's destructor must be reachable by RefCounted<T> (public,
// or a friend) and virtual if T has subclasses.
template <typename T>
class RefCounted {
 public:
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void IncRef() const {
    // Relaxed: a new reference is made from one that exists.
    uint32_t old = refs_.fetch_add(1, std::memory_order_relaxed);
    CHECK(old != 0 && old < UINT32_MAX / 2);
  }
  // Takes a reference unless the count has already reached zero (for weak tables, under the
  // lock that the destructor takes to leave the table).
  bool TryIncRef() const {
    uint32_t old = refs_.load(std::memory_order_relaxed);
    while (old != 0) {
      if (refs_.compare_exchange_weak(old, old + 1, std::memory_order_acquire,
                                      std::memory_order_relaxed))
        return true;
    }
    return false;
  }
  void DecRef() const {
    // Release so that our writes are seen by the deleter; acquire so that it sees all of them.
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      static_cast<const T*>(this)->OnLastRelease();
      delete static_cast<const T*>(this);
    }
  }
  // A T with its own (public, not virtual) OnLastRelease() is told before its most derived
  // destructor runs, when the count is zero: virtual calls still work, TryIncRef() fails.
  void OnLastRelease() const {}
  // A moment's value, for link counts in traces and tests only.
  uint32_t ref_count() const { return refs_.load(std::memory_order_relaxed); }

 protected:
  RefCounted() = default;
  ~RefCounted() = default;

  // For types that end their objects themselves (a DecRef() of their own hides the one above):
  // gives up a reference; true if it was the last and the caller must delete the object.
  bool DropRef() const { return refs_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

 private:
  mutable std::atomic<uint32_t> refs_{1};
};

// A counted reference. Null when default-made or moved from.
template <typename T>
class RefPtr {
 public:
  RefPtr() = default;
  RefPtr(std::nullptr_t) {}  // NOLINT(google-explicit-constructor)
  // Takes a new reference on `p`, which may be null.
  explicit RefPtr(T* p) : p_(p) {
    if (p_ != nullptr) p_->IncRef();
  }
  RefPtr(const RefPtr& o) : RefPtr(o.p_) {}
  RefPtr(RefPtr&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <typename U, typename = std::enable_if_t<std::is_convertible_v<U*, T*>>>
  RefPtr(const RefPtr<U>& o) : RefPtr(o.get()) {}  // NOLINT(google-explicit-constructor)
  template <typename U, typename = std::enable_if_t<std::is_convertible_v<U*, T*>>>
  RefPtr(RefPtr<U>&& o) noexcept : p_(o.Release()) {}  // NOLINT(google-explicit-constructor)
  ~RefPtr() { reset(); }
  RefPtr& operator=(RefPtr o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }

  // Takes over a reference that the caller owns.
  static RefPtr Adopt(T* p) {
    RefPtr r;
    r.p_ = p;
    return r;
  }
  // Gives the reference up to the caller.
  [[nodiscard]] T* Release() { return std::exchange(p_, nullptr); }
  void reset() {
    if (T* p = std::exchange(p_, nullptr)) p->DecRef();
  }
  T* get() const { return p_; }
  T& operator*() const { return *p_; }
  T* operator->() const { return p_; }
  explicit operator bool() const { return p_ != nullptr; }
  friend bool operator==(const RefPtr& a, const RefPtr& b) { return a.p_ == b.p_; }
  friend bool operator==(const RefPtr& a, const T* b) { return a.p_ == b; }

 private:
  T* p_ = nullptr;
};

template <typename T, typename... Args>
RefPtr<T> MakeRef(Args&&... args) {
  return RefPtr<T>::Adopt(new T(std::forward<Args>(args)...));
}

// Down-cast without RTTI; the caller knows the type by other means.
template <typename T, typename U>
RefPtr<T> StaticRefCast(const RefPtr<U>& p) {
  return RefPtr<T>(static_cast<T*>(p.get()));
}

}  // namespace caisson

#endif  // CAISSON_BASE_REF_H_
