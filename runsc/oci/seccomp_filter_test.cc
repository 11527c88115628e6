#include "runsc/oci/seccomp_filter.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace caisson::oci {
namespace {

// Runs a filter: classic BPF as libseccomp writes it.
uint32_t Evaluate(const std::string& bpf, const seccomp_data& data) {
  std::vector<sock_filter> code(bpf.size() / sizeof(sock_filter));
  memcpy(code.data(), bpf.data(), bpf.size());
  uint32_t a = 0;
  for (size_t pc = 0; pc < code.size(); ++pc) {
    const sock_filter& i = code[pc];
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, sizeof(a));
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= i.k;
        break;
      case BPF_JMP | BPF_JA:
        pc += i.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += a == i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        pc += a > i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        pc += a >= i.k ? i.jt : i.jf;
        break;
      case BPF_RET | BPF_K:
        return i.k;
      default:
        ADD_FAILURE() << "instruction " << i.code;
        return 0;
    }
  }
  ADD_FAILURE() << "fell off the end";
  return 0;
}

uint32_t Answer(const Seccomp& seccomp, int number, std::vector<uint64_t> args = {},
                uint32_t arch = AUDIT_ARCH_X86_64) {
  absl::StatusOr<SeccompFilter> filter = CompileSeccomp(seccomp);
  EXPECT_TRUE(filter.ok()) << filter.status();
  if (!filter.ok()) return 0;
  seccomp_data data{};
  data.nr = number;
  data.arch = arch;
  for (size_t i = 0; i < args.size(); ++i) data.args[i] = args[i];
  return Evaluate(filter->bpf, data);
}

uint32_t Errno(int error) { return SECCOMP_RET_ERRNO | static_cast<uint32_t>(error); }

// An allow-list as Docker's is.
Seccomp AllowList() {
  Seccomp s;
  s.default_action = "SCMP_ACT_ERRNO";
  s.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  s.rules.push_back({{"read", "write", "openat2", "not_a_call"}, "SCMP_ACT_ALLOW", {}, {}});
  s.rules.push_back({{"personality"}, "SCMP_ACT_ALLOW", {}, {{0, 8, 0, "SCMP_CMP_EQ"}}});
  s.rules.push_back({{"clone"}, "SCMP_ACT_ALLOW", {}, {{0, 0x7e020000, 0, "SCMP_CMP_MASKED_EQ"}}});
  s.rules.push_back({{"clone3"}, "SCMP_ACT_ERRNO", ENOSYS, {}});
  return s;
}

TEST(CompileSeccompTest, ListedCallsAreAllowedOthersAreNot) {
  EXPECT_EQ(Answer(AllowList(), SYS_read), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(AllowList(), SYS_mount), Errno(EPERM));
  EXPECT_EQ(Answer(AllowList(), SYS_clone3), Errno(ENOSYS));
}

TEST(CompileSeccompTest, ArgumentsAreCompared) {
  EXPECT_EQ(Answer(AllowList(), SYS_personality, {8}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(AllowList(), SYS_personality, {9}), Errno(EPERM));
  EXPECT_EQ(Answer(AllowList(), SYS_personality, {uint64_t{1} << 32 | 8}), Errno(EPERM));
  EXPECT_EQ(Answer(AllowList(), SYS_clone, {0x11}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(AllowList(), SYS_clone, {0x10000000}), Errno(EPERM));
}

TEST(CompileSeccompTest, CallsNewerThanTheProfileAreNotThere) {
  EXPECT_EQ(Answer(AllowList(), SYS_openat2 - 1), Errno(EPERM));
  EXPECT_EQ(Answer(AllowList(), SYS_openat2 + 1), Errno(ENOSYS));
  EXPECT_EQ(Answer(AllowList(), 500), Errno(ENOSYS));
  Seccomp deny;
  deny.default_action = "SCMP_ACT_ALLOW";
  deny.rules.push_back({{"mount"}, "SCMP_ACT_ERRNO", {}, {}});
  EXPECT_EQ(Answer(deny, 500), SECCOMP_RET_ALLOW);
}

TEST(CompileSeccompTest, DefaultErrnoAndActions) {
  Seccomp s = AllowList();
  s.default_errno_ret = EACCES;
  EXPECT_EQ(Answer(s, SYS_mount), Errno(EACCES));
  s.default_action = "SCMP_ACT_KILL_PROCESS";
  EXPECT_EQ(Answer(s, SYS_mount), SECCOMP_RET_KILL_PROCESS);
  s.default_action = "SCMP_ACT_KILL";
  EXPECT_EQ(Answer(s, SYS_mount), SECCOMP_RET_KILL_THREAD);
  s.default_action = "SCMP_ACT_TRAP";
  EXPECT_EQ(Answer(s, SYS_mount) & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_TRAP);
  s.default_action = "SCMP_ACT_LOG";
  EXPECT_EQ(Answer(s, SYS_mount), SECCOMP_RET_LOG);
}

TEST(CompileSeccompTest, SeveralConditionsOnOneArgumentAreAlternatives) {
  Seccomp s = AllowList();
  s.rules.push_back(
      {{"socket"}, "SCMP_ACT_ALLOW", {}, {{0, 1, 0, "SCMP_CMP_EQ"}, {0, 2, 0, "SCMP_CMP_EQ"}}});
  EXPECT_EQ(Answer(s, SYS_socket, {1}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(s, SYS_socket, {2}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(s, SYS_socket, {3}), Errno(EPERM));
}

TEST(CompileSeccompTest, OtherArchitecturesAreKilled) {
  EXPECT_EQ(Answer(AllowList(), SYS_read, {}, AUDIT_ARCH_I386), SECCOMP_RET_KILL_PROCESS);
}

TEST(CompileSeccompTest, FlagsAreThoseOfSeccomp2) {
  Seccomp s = AllowList();
  s.flags = {"SECCOMP_FILTER_FLAG_LOG"};
  EXPECT_EQ(CompileSeccomp(s)->flags, uint32_t{SECCOMP_FILTER_FLAG_LOG});
}

TEST(CompileSeccompTest, WhatCannotBeIsRefused) {
  auto error = [](auto change) {
    Seccomp s = AllowList();
    change(s);
    return std::string(CompileSeccomp(s).status().message());
  };
  using testing::HasSubstr;
  EXPECT_THAT(error([](Seccomp& s) { s.default_action = "SCMP_ACT_NOTIFY"; }), HasSubstr("NOTIFY"));
  EXPECT_THAT(error([](Seccomp& s) { s.default_action = ""; }), HasSubstr("unknown action"));
  EXPECT_THAT(error([](Seccomp& s) { s.rules[0].action = "X"; }), HasSubstr("unknown action"));
  EXPECT_THAT(error([](Seccomp& s) { s.rules[1].args[0].op = "X"; }), HasSubstr("operator"));
  EXPECT_THAT(error([](Seccomp& s) { s.flags = {"X"}; }), HasSubstr("unknown flag"));
  EXPECT_THAT(error([](Seccomp& s) { s.architectures = {"x86"}; }), HasSubstr("architecture"));
  EXPECT_THAT(error([](Seccomp& s) { s.rules[3].errno_ret = 70000; }), HasSubstr("errnoRet"));
}

}  // namespace
}  // namespace caisson::oci
