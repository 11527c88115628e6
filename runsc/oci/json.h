// A JSON value as a plain tree, and its parser and writer. No exception leaves this interface:
// parse.cc holds the JSON library.
#ifndef CAISSON_RUNSC_OCI_JSON_H_
#define CAISSON_RUNSC_OCI_JSON_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace caisson::oci {

// Documents larger or deeper than this are refused before anything is built from them.
constexpr size_t kMaxJsonBytes = 16u << 20;
constexpr int kMaxJsonDepth = 64;

class Json {
 public:
  using ArrayType = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using ObjectType = std::vector<Member>;  // In document order.

  Json() = default;
  Json(bool v) : rep_(v) {}                             // NOLINT(google-explicit-constructor)
  Json(int v) : Json(static_cast<int64_t>(v)) {}        // NOLINT(google-explicit-constructor)
  Json(unsigned v) : rep_(static_cast<uint64_t>(v)) {}  // NOLINT(google-explicit-constructor)
  Json(uint64_t v) : rep_(v) {}                         // NOLINT(google-explicit-constructor)
  Json(double v) : rep_(v) {}                           // NOLINT(google-explicit-constructor)
  Json(std::string v) : rep_(std::move(v)) {}           // NOLINT(google-explicit-constructor)
  Json(const char* v) : rep_(std::string(v)) {}         // NOLINT(google-explicit-constructor)
  Json(absl::string_view v) : rep_(std::string(v)) {}   // NOLINT(google-explicit-constructor)
  // A number that is not negative is always held unsigned.
  Json(int64_t v) {  // NOLINT(google-explicit-constructor)
    if (v < 0)
      rep_ = v;
    else
      rep_ = static_cast<uint64_t>(v);
  }
  static Json Object() {
    Json j;
    j.rep_ = ObjectType();
    return j;
  }
  static Json Array() {
    Json j;
    j.rep_ = ArrayType();
    return j;
  }
  static Json Strings(const std::vector<std::string>& values);

  bool is_null() const { return std::holds_alternative<std::monostate>(rep_); }
  bool is_object() const { return std::holds_alternative<ObjectType>(rep_); }
  bool is_array() const { return std::holds_alternative<ArrayType>(rep_); }
  bool is_string() const { return std::holds_alternative<std::string>(rep_); }
  // null, false, 0, "", [] and {}: what a Go program writes for "not set".
  bool is_empty() const;
  // "a string", "an object": for error messages.
  absl::string_view TypeName() const;

  // Null where the value has another type.
  const bool* AsBool() const { return std::get_if<bool>(&rep_); }
  const int64_t* AsNegative() const { return std::get_if<int64_t>(&rep_); }
  const uint64_t* AsUnsigned() const { return std::get_if<uint64_t>(&rep_); }
  const double* AsDouble() const { return std::get_if<double>(&rep_); }
  const std::string* AsString() const { return std::get_if<std::string>(&rep_); }
  const ArrayType* AsArray() const { return std::get_if<ArrayType>(&rep_); }
  ArrayType* AsArray() { return std::get_if<ArrayType>(&rep_); }
  const ObjectType* AsObject() const { return std::get_if<ObjectType>(&rep_); }
  ObjectType* AsObject() { return std::get_if<ObjectType>(&rep_); }

  // Member `key` of an object, the last one if there are several; null where there is none.
  const Json* Find(absl::string_view key) const;
  // Only on objects and arrays, respectively.
  Json& Set(absl::string_view key, Json value);  // Replaces, or appends. Returns *this.
  Json& Append(Json value);                      // Returns *this.

  // Compact if `indent` is empty, else one member a line. Bytes that are not UTF-8 become U+FFFD.
  std::string ToText(absl::string_view indent = "") const;

 private:
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, ArrayType, ObjectType>
      rep_;
};

// Errors: "line 3: ..." for what is not JSON, too large, too deep or has several values.
absl::StatusOr<Json> ParseJson(absl::string_view text);

}  // namespace caisson::oci

#endif  // CAISSON_RUNSC_OCI_JSON_H_
