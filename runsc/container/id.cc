#include "runsc/container/id.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace caisson::runsc {

absl::Status ValidateId(absl::string_view id) {
  constexpr size_t kMaxId = 255;  // NAME_MAX.
  if (id.empty()) return absl::InvalidArgumentError("the container id is empty");
  bool good = id.size() <= kMaxId && id != "." && id != "..";
  for (char c : id) {
    good &= absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '+' ||
            c == '-' || c == '.';
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("invalid container id \"", absl::CHexEscape(id.substr(0, 300)),
                   "\": letters, digits and _ + - . only, at most ", kMaxId, " of them"));
}

}  // namespace caisson::runsc
