// Matchers for what a system call returns through libc: -1 and errno, or a value.
#ifndef CAISSON_TEST_UTIL_SYSCALL_MATCHERS_H_
#define CAISSON_TEST_UTIL_SYSCALL_MATCHERS_H_

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include <ostream>
#include <string>
#include <type_traits>

#include "gmock/gmock-matchers.h"
#include "gtest/gtest.h"

namespace caisson::test {

// "EBADF (9)" for the errnos that tests name, else the number and strerror.
std::string ErrnoText(int error);

// "exited with 3" or "killed by signal 9 (Killed)", for a wait(2) status.
std::string StatusText(int status);

// errno is read first, before gtest has printed anything. It is saved because a failed
// EXPECT in the same line may change it.
MATCHER(SyscallSucceeds, negation ? "fails" : "succeeds") {
  if (arg == static_cast<std::decay_t<decltype(arg)>>(-1)) {
    *result_listener << "with errno " << ErrnoText(errno);
    return false;
  }
  return true;
}

// `value` may be a plain value or a matcher.
template <typename M>
class SucceedsWithValueMatcher {
 public:
  using is_gtest_matcher = void;
  explicit SucceedsWithValueMatcher(M value) : value_(std::move(value)) {}
  template <typename T>
  bool MatchAndExplain(const T& arg, std::ostream* os) const {
    if (arg == static_cast<T>(-1)) {
      if (os != nullptr) *os << "with errno " << ErrnoText(errno);
      return false;
    }
    testing::Matcher<long> inner = testing::MatcherCast<long>(value_);
    return inner.Matches(static_cast<long>(arg));
  }
  void DescribeTo(std::ostream* os) const {
    *os << "succeeds with a value that ";
    testing::MatcherCast<long>(value_).DescribeTo(os);
  }
  void DescribeNegationTo(std::ostream* os) const {
    *os << "does not succeed with a value that ";
    testing::MatcherCast<long>(value_).DescribeTo(os);
  }

 private:
  M value_;
};

template <typename M>
SucceedsWithValueMatcher<M> SyscallSucceedsWithValue(M value) {
  return SucceedsWithValueMatcher<M>(std::move(value));
}

class FailsWithErrnoMatcher {
 public:
  using is_gtest_matcher = void;
  explicit FailsWithErrnoMatcher(int error, int other) : error_(error), other_(other) {}
  template <typename T>
  bool MatchAndExplain(const T& arg, std::ostream* os) const {
    const int actual = errno;
    if (arg != static_cast<T>(-1)) {
      if (os != nullptr) *os << "which succeeded";
      return false;
    }
    if (os != nullptr) *os << "with errno " << ErrnoText(actual);
    return actual == error_ || actual == other_;
  }
  void DescribeTo(std::ostream* os) const { *os << "fails with errno " << Text(); }
  void DescribeNegationTo(std::ostream* os) const { *os << "does not fail with errno " << Text(); }

 private:
  std::string Text() const {
    return other_ == error_ ? ErrnoText(error_) : ErrnoText(error_) + " or " + ErrnoText(other_);
  }
  int error_;
  int other_;
};

inline FailsWithErrnoMatcher SyscallFailsWithErrno(int error) {
  return FailsWithErrnoMatcher(error, error);
}
// For the few calls of which Linux file systems return either.
inline FailsWithErrnoMatcher SyscallFailsWithEither(int error, int other) {
  return FailsWithErrnoMatcher(error, other);
}

// For wait(2) statuses, such as InChild() returns.
MATCHER_P(ExitsWith, code, "exits with " + std::to_string(code)) {
  *result_listener << StatusText(arg);
  return WIFEXITED(arg) && WEXITSTATUS(arg) == code;
}
MATCHER_P(DiesOf, signal, "is killed by signal " + std::to_string(signal)) {
  *result_listener << StatusText(arg);
  return WIFSIGNALED(arg) && WTERMSIG(arg) == signal;
}

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_SYSCALL_MATCHERS_H_
