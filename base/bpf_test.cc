#include "base/bpf.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace caisson::bpf {
namespace {

using Program = std::vector<Instruction>;

Instruction Stmt(int code, uint32_t k) { return {static_cast<uint16_t>(code), 0, 0, k}; }
Instruction Jump(int code, uint32_t k, uint8_t jt, uint8_t jf) {
  return {static_cast<uint16_t>(BPF_JMP | code), jt, jf, k};
}
const Instruction kAllow = Stmt(BPF_RET | BPF_K, kRetAllow);

// Whether the host's kernel takes `program`: a child asks it.
bool HostTakes(const Program& program) {
  // A bare one: a sanitizer's fork() may start a thread in the child, which a filter that kills the
  // thread that calls would leave behind for ever.
  const pid_t child = static_cast<pid_t>(syscall(SYS_fork));
  if (child == 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    sock_fprog prog{static_cast<unsigned short>(program.size()),
                    reinterpret_cast<sock_filter*>(const_cast<Instruction*>(program.data()))};
    // The program may deny everything, so the answer comes from the kernel before it is installed:
    // an unknown flag would be refused first, hence fork and no more than exit after it.
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
    if (r == 0) syscall(SYS_exit_group, 0);  // May itself be killed: also "taken".
    syscall(SYS_exit_group, errno == EINVAL ? 1 : 2);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status)) {
    EXPECT_NE(WEXITSTATUS(status), 2);
    return WEXITSTATUS(status) == 0;
  }
  return true;
}

// Every program here returns ALLOW at its end, so that the child above can exit.
TEST(BpfValidationTest, AgreesWithTheHostOnEveryCode) {
  for (int code = 0; code < 0x200; ++code) {
    Program program = {Stmt(BPF_ST, 0), Stmt(code, 0), kAllow};
    EXPECT_EQ(IsValidSeccompProgram(program), HostTakes(program)) << "code " << code;
  }
}

TEST(BpfValidationTest, AgreesWithTheHostOnOperands) {
  const Program programs[] = {
      {},
      {Stmt(BPF_LD | BPF_IMM, 0)},
      {Stmt(BPF_LD | BPF_W | BPF_ABS, 60), kAllow},
      {Stmt(BPF_LD | BPF_W | BPF_ABS, 64), kAllow},
      {Stmt(BPF_LD | BPF_W | BPF_ABS, 2), kAllow},
      {Stmt(BPF_LD | BPF_W | BPF_ABS, 0xfffff000), kAllow},
      {Stmt(BPF_ALU | BPF_DIV | BPF_K, 0), kAllow},
      {Stmt(BPF_ALU | BPF_LSH | BPF_K, 31), kAllow},
      {Stmt(BPF_ALU | BPF_RSH | BPF_K, 32), kAllow},
      {Stmt(BPF_ST, 15), kAllow},
      {Stmt(BPF_STX, 16), kAllow},
      {Stmt(BPF_JMP | BPF_JA, 0), kAllow},
      {Stmt(BPF_JMP | BPF_JA, 1), kAllow},
      {Stmt(BPF_JMP | BPF_JA, 0xffffffff), kAllow},
      {Jump(BPF_JEQ, 0, 0, 1), kAllow, kAllow},
      {Jump(BPF_JEQ, 0, 0, 2), kAllow, kAllow},
      {Jump(BPF_JEQ, 0, 255, 0), kAllow, kAllow},
      {kAllow, Stmt(BPF_LD | BPF_IMM, 0)},
      // Scratch words: stored on one path only, and on both.
      {Jump(BPF_JEQ, 0, 0, 1), Stmt(BPF_ST, 1), Stmt(BPF_LD | BPF_MEM, 1), kAllow},
      {Jump(BPF_JEQ, 0, 0, 2), Stmt(BPF_ST, 1), Stmt(BPF_JMP | BPF_JA, 1), Stmt(BPF_ST, 1),
       Stmt(BPF_LD | BPF_MEM, 1), kAllow},
      {Stmt(BPF_LDX | BPF_MEM, 3), kAllow},
      Program(4096, kAllow),
  };
  for (const Program& program : programs) {
    EXPECT_EQ(IsValidSeccompProgram(program), HostTakes(program)) << program.size();
  }
  EXPECT_FALSE(IsValidSeccompProgram(Program(4097, kAllow)));
}

TEST(BpfValidationTest, AgreesWithTheHostOnRandomPrograms) {
  const int codes[] = {BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM, BPF_ST,           BPF_STX,
                       BPF_JMP | BPF_JA, BPF_JMP | BPF_JEQ, BPF_JMP | BPF_JSET,
                       BPF_LD | BPF_IMM, BPF_MISC | BPF_TAX, BPF_ALU | BPF_ADD};
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    Program program;
    for (int i = 0; i < 10; ++i) {
      program.push_back({static_cast<uint16_t>(codes[random() % std::size(codes)]),
                         static_cast<uint8_t>(random() % 4), static_cast<uint8_t>(random() % 4),
                         static_cast<uint32_t>(random() % 4)});
    }
    for (int i = 0; i < 3; ++i) program.push_back(kAllow);
    EXPECT_EQ(IsValidSeccompProgram(program), HostTakes(program)) << "round " << round;
  }
}

uint32_t Execute(const Program& program, const SeccompData& data = {}) {
  EXPECT_TRUE(IsValidSeccompProgram(program));
  return RunSeccompProgram(program, data);
}

TEST(BpfRunTest, LoadsEveryField) {
  SeccompData data{.number = 7, .arch = kArchX86_64, .instruction_pointer = 0x1122334455667788};
  data.args[5] = 0xaabbccdd00112233;
  const auto load = [&](uint32_t offset) {
    return Execute({Stmt(BPF_LD | BPF_W | BPF_ABS, offset), Stmt(BPF_RET | BPF_A, 0)}, data);
  };
  EXPECT_EQ(load(0), 7u);
  EXPECT_EQ(load(4), kArchX86_64);
  EXPECT_EQ(load(8), 0x55667788u);
  EXPECT_EQ(load(12), 0x11223344u);
  EXPECT_EQ(load(56), 0x00112233u);
  EXPECT_EQ(load(60), 0xaabbccddu);
  EXPECT_EQ(Execute({Stmt(BPF_LD | BPF_W | BPF_LEN, 0), Stmt(BPF_RET | BPF_A, 0)}), 64u);
}

TEST(BpfRunTest, Arithmetic) {
  const auto alu = [&](int op, uint32_t a, uint32_t b) {
    uint32_t by_k = Execute({Stmt(BPF_LD | BPF_IMM, a), Stmt(BPF_ALU | op, b), Stmt(BPF_RET | BPF_A, 0)});
    uint32_t by_x = Execute({Stmt(BPF_LD | BPF_IMM, a), Stmt(BPF_LDX | BPF_IMM, b),
                         Stmt(BPF_ALU | op | BPF_X, 0), Stmt(BPF_RET | BPF_A, 0)});
    EXPECT_EQ(by_k, by_x);
    return by_k;
  };
  EXPECT_EQ(alu(BPF_ADD, 0xffffffff, 2), 1u);
  EXPECT_EQ(alu(BPF_SUB, 1, 2), 0xffffffffu);
  EXPECT_EQ(alu(BPF_MUL, 0x10001, 0x10000), 0x10000u);
  EXPECT_EQ(alu(BPF_DIV, 0xffffffff, 16), 0x0fffffffu);
  EXPECT_EQ(alu(BPF_AND, 6, 3), 2u);
  EXPECT_EQ(alu(BPF_OR, 6, 3), 7u);
  EXPECT_EQ(alu(BPF_XOR, 6, 3), 5u);
  EXPECT_EQ(alu(BPF_LSH, 1, 31), 0x80000000u);
  EXPECT_EQ(alu(BPF_RSH, 0x80000000, 31), 1u);
  EXPECT_EQ(Execute({Stmt(BPF_LD | BPF_IMM, 1), Stmt(BPF_ALU | BPF_NEG, 0), Stmt(BPF_RET | BPF_A, 0)}),
            0xffffffffu);
  // By zero in X: the program ends with 0, whatever follows.
  EXPECT_EQ(Execute({Stmt(BPF_LDX | BPF_IMM, 0), Stmt(BPF_ALU | BPF_DIV | BPF_X, 0), kAllow}), 0u);
}

TEST(BpfRunTest, JumpsScratchAndRegisters) {
  const auto branch = [&](int op, uint32_t a, uint32_t b) {
    return Execute({Stmt(BPF_LD | BPF_IMM, a), Jump(op, b, 1, 0), Stmt(BPF_RET | BPF_K, 0), kAllow});
  };
  EXPECT_EQ(branch(BPF_JEQ, 5, 5), kRetAllow);
  EXPECT_EQ(branch(BPF_JEQ, 5, 6), 0u);
  EXPECT_EQ(branch(BPF_JGT, 0x80000000, 1), kRetAllow);  // Unsigned.
  EXPECT_EQ(branch(BPF_JGT, 5, 5), 0u);
  EXPECT_EQ(branch(BPF_JGE, 5, 5), kRetAllow);
  EXPECT_EQ(branch(BPF_JSET, 6, 2), kRetAllow);
  EXPECT_EQ(branch(BPF_JSET, 6, 1), 0u);
  EXPECT_EQ(Execute({Stmt(BPF_LD | BPF_IMM, 9), Stmt(BPF_MISC | BPF_TAX, 0), Stmt(BPF_STX, 4),
                 Stmt(BPF_LD | BPF_IMM, 0), Stmt(BPF_JMP | BPF_JA, 1), kAllow,
                 Stmt(BPF_LD | BPF_MEM, 4), Stmt(BPF_RET | BPF_A, 0)}),
            9u);
}

}  // namespace
}  // namespace caisson::bpf
