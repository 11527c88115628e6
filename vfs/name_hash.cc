#include "vfs/name_hash.h"

#include <sys/random.h>

namespace caisson::vfs {
namespace {

uint64_t RandomWord() {
  uint64_t word = 0;
  if (getrandom(&word, sizeof(word), 0) != sizeof(word))
    word = reinterpret_cast<uint64_t>(&word) * 0x9E3779B97F4A7C15;  // Where the stack happens to be.
  return word | 1;
}

}  // namespace

const uint64_t kNameHashKey[2] = {RandomWord(), RandomWord()};

}  // namespace caisson::vfs
