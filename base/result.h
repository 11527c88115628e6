// Result<T>: a value, or the errno that the guest is to see.
#ifndef CAISSON_BASE_RESULT_H_
#define CAISSON_BASE_RESULT_H_

#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/errno.h"

namespace caisson {

// A T or an Errno. Converts implicitly from both, so `return Errno::kENOENT;` and `return value;`
// read as in a kernel. value() of a failed result is a CHECK failure.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(Errno error) : rep_(std::in_place_index<1>, error) {}  // NOLINT(google-explicit-constructor)
  template <typename U = T,
            typename = std::enable_if_t<std::is_constructible_v<T, U&&> &&
                                        std::is_convertible_v<U&&, T> &&
                                        !std::is_same_v<std::decay_t<U>, Result> &&
                                        !std::is_same_v<std::decay_t<U>, Errno>>>
  Result(U&& value)  // NOLINT(google-explicit-constructor)
      : rep_(std::in_place_index<0>, std::forward<U>(value)) {}

  bool ok() const { return rep_.index() == 0; }
  // The errno of a failed result.
  Errno error() const {
    CHECK(!ok());
    return std::get<1>(rep_);
  }
  T& value() & {
    CHECK(ok());
    return std::get<0>(rep_);
  }
  const T& value() const& {
    CHECK(ok());
    return std::get<0>(rep_);
  }
  T&& value() && {
    CHECK(ok());
    return std::get<0>(std::move(rep_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T value_or(T other) const& { return ok() ? std::get<0>(rep_) : std::move(other); }

 private:
  std::variant<T, Errno> rep_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Errno error) : error_(error) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return !error_.has_value(); }
  Errno error() const {
    CHECK(!ok());
    return *error_;
  }
  void value() const { CHECK(ok()); }

 private:
  std::optional<Errno> error_;
};

inline Result<void> OkResult() { return {}; }

namespace internal {
template <typename T>
T TakeValue(Result<T>&& r) {
  return std::move(r).value();
}
inline void TakeValue(Result<void>&&) {}
}  // namespace internal

}  // namespace caisson

// TRY(expr): the value of a Result, or a return of its errno from the enclosing function. It is a
// whole statement or a whole initializer of a value, never part of a larger expression.
#define TRY(...)                                           \
  ({                                                       \
    auto try_result_ = (__VA_ARGS__);                      \
    if (!try_result_.ok()) return try_result_.error();     \
    ::caisson::internal::TakeValue(std::move(try_result_)); \
  })

#endif  // CAISSON_BASE_RESULT_H_
