// Typed access to the members of a JSON object, remembering the first error with its path.
#ifndef CAISSON_RUNSC_OCI_READER_H_
#define CAISSON_RUNSC_OCI_READER_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runsc/oci/json.h"

namespace caisson::oci {

// A member that is absent or null leaves its output as it is. After the first error the readers of
// one document do nothing more; `error` tells. Strings with a NUL byte are refused: they would end
// early wherever the host takes them.
class Reader {
 public:
  Reader(const Json& value, std::string path, absl::Status& error)
      : value_(value), path_(std::move(path)), error_(error) {
    if (!value.is_object()) Fail("", absl::StrCat("expected an object, got ", value.TypeName()));
  }

  void Get(absl::string_view key, std::string& out);
  void Get(absl::string_view key, bool& out);
  void Get(absl::string_view key, std::vector<std::string>& out);
  void Get(absl::string_view key, std::vector<uint32_t>& out);
  template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
  void Get(absl::string_view key, T& out) {
    const Json* v = Member(key);
    if (v != nullptr) Number(*v, Path(key), out);
  }
  template <typename T>
  void Get(absl::string_view key, std::optional<T>& out) {
    if (Member(key) == nullptr) return;
    T value{};
    Get(key, value);
    if (error_.ok()) out = std::move(value);
  }
  // An object whose values are strings, in document order.
  void GetMap(absl::string_view key, std::vector<std::pair<std::string, std::string>>& out);
  void Object(absl::string_view key, const std::function<void(Reader&)>& read);
  void Each(absl::string_view key, const std::function<void(Reader&)>& read);

  void Fail(absl::string_view key, absl::string_view what);
  bool Has(absl::string_view key) const;

 private:
  const Json* Member(absl::string_view key) const;
  std::string Path(absl::string_view key) const;
  void FailAt(const std::string& path, absl::string_view what);
  bool String(const Json& v, const std::string& path, std::string& out);

  template <typename T>
  void Number(const Json& v, const std::string& path, T& out) {
    using Limits = std::numeric_limits<T>;
    uint64_t u = 0;
    int64_t n = 0;
    bool fits = false;
    if (const uint64_t* p = v.AsUnsigned()) {
      u = *p;
      fits = u <= static_cast<uint64_t>(Limits::max());
      if (fits) out = static_cast<T>(u);
    } else if (const int64_t* q = v.AsNegative()) {
      n = *q;
      fits = std::is_signed_v<T> && n >= static_cast<int64_t>(Limits::min());
      if (fits) out = static_cast<T>(n);
    }
    if (!fits) {
      FailAt(path,
             absl::StrCat("expected a whole number from ",
                          std::is_signed_v<T> ? static_cast<int64_t>(Limits::min()) : 0, " to ",
                          static_cast<uint64_t>(Limits::max()), ", got ", Describe(v)));
    }
  }
  static std::string Describe(const Json& v);

  const Json& value_;
  const std::string path_;
  absl::Status& error_;
};

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_READER_H_
