// CHECK stays on in release: a broken invariant ends this sandbox, loudly. Nothing that a guest
// does may reach one.
#ifndef CAISSON_BASE_CHECK_H_
#define CAISSON_BASE_CHECK_H_

namespace caisson::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}

#define CHECK(cond)                                                                      \
  do {                                                                                   \
    if (__builtin_expect(!(cond), 0))                                                    \
      ::caisson::internal::CheckFailed(__FILE__, __LINE__, #cond);                       \
  } while (false)

#endif  // CAISSON_BASE_CHECK_H_
