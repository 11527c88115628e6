// A hash of names for the tables that every walk asks, inlined; and keyed, since a guest chooses
// the names and could else make them collide.
#ifndef CAISSON_VFS_NAME_HASH_H_
#define CAISSON_VFS_NAME_HASH_H_

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"

namespace caisson::vfs {

// Random, set before main().
extern const uint64_t kNameHashKey[2];

// Folded multiplication over 8 bytes at a time (as wyhash does it).
struct NameHash {
  using is_transparent = void;
  static uint64_t Mix(uint64_t a, uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  size_t operator()(absl::string_view name) const {
    const char* p = name.data();
    size_t left = name.size();
    uint64_t h = kNameHashKey[0] ^ left;
    for (; left > 8; left -= 8, p += 8) {
      uint64_t word;
      memcpy(&word, p, 8);
      h = Mix(h ^ word, kNameHashKey[1]);
    }
    uint64_t word = 0;
    memcpy(&word, p, left);
    return Mix(h ^ word, kNameHashKey[1] ^ 0x9E3779B97F4A7C15);
  }
};

struct NameEqual {
  using is_transparent = void;
  bool operator()(absl::string_view a, absl::string_view b) const { return a == b; }
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_NAME_HASH_H_
