#include "sentry/loader/stack.h"

#include <algorithm>
#include <cstring>

#include "abi/elf.h"

namespace caisson::loader {

namespace {
constexpr uint64_t kMaxString = 128 << 10;  // MAX_ARG_STRLEN, the NUL included.
constexpr uint64_t kMaxTotal = 6 << 20;     // Three quarters of _STK_LIM.
constexpr uint64_t kMinTotal = 128 << 10;   // ARG_MAX.
constexpr char kPlatform[] = "x86_64";
}  // namespace

Result<void> CheckArguments(const std::vector<std::string>& argv,
                            const std::vector<std::string>& envp, const std::string& path,
                            uint64_t stack_limit) {
  // Linux fs/exec.c, bprm_stack_limits().
  uint64_t limit = std::max(std::min(kMaxTotal, stack_limit / 4), kMinTotal);
  uint64_t pointers = (std::max<uint64_t>(argv.size(), 1) + envp.size()) * 8;
  if (limit <= pointers) return Errno::kE2BIG;
  uint64_t total = pointers + path.size() + 1;
  for (const std::vector<std::string>* list : {&argv, &envp}) {
    for (const std::string& s : *list) {
      if (s.size() + 1 > kMaxString) return Errno::kE2BIG;
      total += s.size() + 1;
      if (total > limit) return Errno::kE2BIG;
    }
  }
  if (total > limit) return Errno::kE2BIG;
  return {};
}

StackContents BuildStack(GuestAddr top, const std::vector<std::string>& argv,
                         const std::vector<std::string>& envp, const std::string& path,
                         std::vector<std::pair<uint64_t, uint64_t>> auxv, const char (&random)[16],
                         uint64_t shift) {
  StackContents out;
  // From the top down: a null pointer, the path, environment, arguments; then platform name,
  // random bytes; then, aligned, auxiliary vector, pointers, argc.
  uint64_t argument_bytes = 0, environment_bytes = 0;
  for (const std::string& s : argv) argument_bytes += s.size() + 1;
  for (const std::string& s : envp) environment_bytes += s.size() + 1;
  uint64_t path_at = top.value - 8 - (path.size() + 1);
  uint64_t env_at = path_at - environment_bytes;
  uint64_t arg_at = env_at - argument_bytes;
  uint64_t at = (arg_at - shift) & ~uint64_t{15};
  at -= sizeof(kPlatform);
  const uint64_t platform_at = at;
  at -= sizeof(random);
  const uint64_t random_at = at;

  auxv.push_back({abi::kAtRandom, random_at});
  auxv.push_back({abi::kAtExecfn, path_at});
  auxv.push_back({abi::kAtPlatform, platform_at});
  auxv.push_back({abi::kAtNull, 0});
  uint64_t words = 1 + argv.size() + 1 + envp.size() + 1 + 2 * auxv.size();
  const uint64_t pointer = (at - words * 8) & ~uint64_t{15};

  out.bytes.assign(top.value - pointer, '\0');
  auto put = [&](uint64_t where, const void* from, size_t n) {
    memcpy(&out.bytes[where - pointer], from, n);
  };
  uint64_t cursor = pointer;
  auto put_word = [&](uint64_t word) {
    put(cursor, &word, sizeof(word));
    cursor += sizeof(word);
  };
  put_word(argv.size());
  uint64_t string_at = arg_at;
  for (const std::vector<std::string>* list : {&argv, &envp}) {
    for (const std::string& s : *list) {
      put_word(string_at);
      put(string_at, s.c_str(), s.size() + 1);
      string_at += s.size() + 1;
    }
    put_word(0);
  }
  const uint64_t auxv_at = cursor;
  for (const auto& [type, value] : auxv) {
    put_word(type);
    put_word(value);
  }
  out.auxv = out.bytes.substr(auxv_at - pointer, cursor - auxv_at);
  put(random_at, random, sizeof(random));
  put(platform_at, kPlatform, sizeof(kPlatform));
  put(path_at, path.c_str(), path.size() + 1);

  out.pointer = GuestAddr(pointer);
  out.arg_start = GuestAddr(arg_at);
  out.arg_end = out.env_start = GuestAddr(env_at);
  out.env_end = GuestAddr(path_at);
  return out;
}

}  // namespace caisson::loader
