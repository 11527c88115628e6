// Checked reading and writing of messages.
#ifndef CAISSON_GOFER_PROTOCOL_CODEC_H_
#define CAISSON_GOFER_PROTOCOL_CODEC_H_

#include <cstring>
#include <string>
#include <type_traits>

#include "absl/strings/string_view.h"
#include "gofer/protocol/messages.h"

namespace caisson::gofer {

// A cursor over received bytes, which it borrows. Every step says whether there was enough.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : rest_(bytes) {}
  template <typename T>
  [[nodiscard]] bool Take(T* out) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (rest_.size() < sizeof(T)) return false;
    memcpy(out, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return true;
  }
  [[nodiscard]] bool TakeBytes(size_t n, absl::string_view* out) {
    if (rest_.size() < n) return false;
    *out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return true;
  }
  absl::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  absl::string_view rest_;
};

// Appends to a message; the header's place is made first and filled in last.
class Writer {
 public:
  template <typename T>
  void Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void PutBytes(absl::string_view bytes) { bytes_.append(bytes.data(), bytes.size()); }
  template <typename T>
  void Overwrite(size_t at, const T& value) {
    memcpy(bytes_.data() + at, &value, sizeof(T));
  }
  size_t size() const { return bytes_.size(); }
  absl::string_view bytes() const { return bytes_; }
  void Truncate(size_t n) { bytes_.resize(n); }

 private:
  std::string bytes_;
};

// Whether `name` can be one component that is no step up or nowhere.
inline bool IsValidName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxName && name != "." && name != ".." &&
         memchr(name.data(), '/', name.size()) == nullptr &&
         memchr(name.data(), '\0', name.size()) == nullptr;
}

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_PROTOCOL_CODEC_H_
