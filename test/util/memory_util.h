// Pages to point system calls at, good ones and hostile ones.
#ifndef CAISSON_TEST_UTIL_MEMORY_UTIL_H_
#define CAISSON_TEST_UTIL_MEMORY_UTIL_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

namespace caisson::test {

constexpr size_t kPage = 4096;

// A mapping that is unmapped when the object goes.
class Mapping {
 public:
  explicit Mapping(size_t bytes, int protection = PROT_READ | PROT_WRITE,
                   int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1, off_t offset = 0)
      : bytes_(bytes), start_(mmap(nullptr, bytes, protection, flags, fd, offset)) {}
  ~Mapping() {
    if (ok()) munmap(start_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  bool ok() const { return start_ != MAP_FAILED; }
  char* get() const { return static_cast<char*>(start_); }
  size_t size() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(start_);
  }
  volatile char& operator[](size_t i) const { return get()[i]; }

 private:
  size_t bytes_;
  void* start_;
};

// Memory that parent and children share.
class SharedMapping : public Mapping {
 public:
  explicit SharedMapping(size_t bytes = kPage)
      : Mapping(bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS) {}
};

// One accessible page followed by one that is not: `At(n)` is the address of the last `n`
// accessible bytes.
class GuardedPage {
 public:
  GuardedPage() : pages_(2 * kPage) { mprotect(pages_.get() + kPage, kPage, PROT_NONE); }
  char* At(size_t bytes) const { return pages_.get() + kPage - bytes; }
  char* guard() const { return pages_.get() + kPage; }

 private:
  Mapping pages_;
};

// An address no user mapping can have, in the kernel's half; and one not even canonical.
inline void* const kKernelAddress = reinterpret_cast<void*>(0xffff800000001000);
inline void* const kNonCanonicalAddress = reinterpret_cast<void*>(0x0000800000001000 << 4);
// So high that adding any length wraps.
inline void* const kWrappingAddress = reinterpret_cast<void*>(-16L);

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_MEMORY_UTIL_H_
