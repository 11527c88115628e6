// The first stack of a program: strings, pointers and the auxiliary vector (System V ABI, Initial
// Process Stack; Linux fs/binfmt_elf.c, create_elf_tables()).
#ifndef CAISSON_SENTRY_LOADER_STACK_H_
#define CAISSON_SENTRY_LOADER_STACK_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/guest_addr.h"
#include "base/result.h"

namespace caisson::loader {

// What execve(2) allows for arguments and environment: E2BIG past 128 KiB a string, or past a
// quarter of the stack limit (at least 128 KiB, at most 6 MiB) for all strings and pointers.
Result<void> CheckArguments(const std::vector<std::string>& argv,
                            const std::vector<std::string>& envp, const std::string& path,
                            uint64_t stack_limit);

struct StackContents {
  std::string bytes;  // From `pointer` to the top.
  GuestAddr pointer;  // 16-byte aligned.
  GuestAddr arg_start, arg_end, env_start, env_end;
  std::string auxv;
};

// `auxv` lacks what only the stack knows (AT_RANDOM, AT_EXECFN, AT_PLATFORM) and AT_NULL: these are
// put at its end. `shift`: bytes of random displacement below the strings.
StackContents BuildStack(GuestAddr top, const std::vector<std::string>& argv,
                         const std::vector<std::string>& envp, const std::string& path,
                         std::vector<std::pair<uint64_t, uint64_t>> auxv, const char (&random)[16],
                         uint64_t shift);

}  // namespace caisson::loader

#endif  // CAISSON_SENTRY_LOADER_STACK_H_
