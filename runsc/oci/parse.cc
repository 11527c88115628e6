// The one file that holds nlohmann-json; built with exceptions, none of which leave it.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "runsc/oci/json.h"

namespace caisson::oci {
namespace {

// Builds our tree from the library's events, so that depth is bounded while parsing and the
// library's own tree is never made.
class Builder {
 public:
  using number_integer_t = int64_t;
  using number_unsigned_t = uint64_t;
  using number_float_t = double;
  using string_t = std::string;
  using binary_t = nlohmann::json::binary_t;

  bool null() { return Add(Json()); }
  bool boolean(bool v) { return Add(Json(v)); }
  bool number_integer(int64_t v) { return Add(Json(v)); }
  bool number_unsigned(uint64_t v) { return Add(Json(v)); }
  bool number_float(double v, const std::string&) { return Add(Json(v)); }
  bool string(std::string& v) { return Add(Json(std::move(v))); }
  bool binary(binary_t&) { return false; }
  bool start_object(size_t) { return Push(Json::Object()); }
  bool start_array(size_t) { return Push(Json::Array()); }
  bool key(std::string& v) {
    stack_.back().key = std::move(v);
    return true;
  }
  bool end_object() { return Pop(); }
  bool end_array() { return Pop(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) {
    position_ = position;
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ...".
    error_ = e.what();
    size_t bracket = error_.find("] ");
    if (bracket != std::string::npos) error_.erase(0, bracket + 2);
    return false;
  }

  Json Take() { return std::move(root_); }
  const std::string& error() const { return error_; }

 private:
  struct Level {
    Json value;
    std::string key;
  };

  bool Add(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (Json& top = stack_.back().value; top.is_array()) {
      top.Append(std::move(value));
    } else {
      top.AsObject()->emplace_back(std::move(stack_.back().key), std::move(value));
    }
    return true;
  }
  bool Push(Json value) {
    if (stack_.size() >= kMaxJsonDepth) {
      error_ = absl::StrCat("nested more than ", kMaxJsonDepth, " deep");
      return false;
    }
    stack_.push_back({std::move(value), {}});
    return true;
  }
  bool Pop() {
    Json value = std::move(stack_.back().value);
    stack_.pop_back();
    return Add(std::move(value));
  }

  std::vector<Level> stack_;
  Json root_;
  std::string error_;
  size_t position_ = 0;
};

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text) {
  if (text.size() > kMaxJsonBytes) {
    return absl::InvalidArgumentError(absl::StrCat("larger than ", kMaxJsonBytes, " bytes"));
  }
  try {
    Builder builder;
    if (!nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &builder)) {
      return absl::InvalidArgumentError(builder.error().empty() ? "not JSON" : builder.error());
    }
    return builder.Take();
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(e.what());
  }
}

}  // namespace caisson::oci
