#include "base/bpf.h"

#include <linux/bpf_common.h>
#include <linux/filter.h>

#include <cstring>
#include <vector>

#include "base/check.h"

namespace caisson::bpf {
namespace {

constexpr int kScratchWords = BPF_MEMWORDS;

// Codes that seccomp_check_filter() passes; all others are EINVAL (BPF_MOD among them).
bool IsKnownCode(uint16_t code) {
  switch (code) {
    case BPF_LD | BPF_W | BPF_ABS:
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_ALU | BPF_ADD | BPF_K:
    case BPF_ALU | BPF_ADD | BPF_X:
    case BPF_ALU | BPF_SUB | BPF_K:
    case BPF_ALU | BPF_SUB | BPF_X:
    case BPF_ALU | BPF_MUL | BPF_K:
    case BPF_ALU | BPF_MUL | BPF_X:
    case BPF_ALU | BPF_DIV | BPF_K:
    case BPF_ALU | BPF_DIV | BPF_X:
    case BPF_ALU | BPF_AND | BPF_K:
    case BPF_ALU | BPF_AND | BPF_X:
    case BPF_ALU | BPF_OR | BPF_K:
    case BPF_ALU | BPF_OR | BPF_X:
    case BPF_ALU | BPF_XOR | BPF_K:
    case BPF_ALU | BPF_XOR | BPF_X:
    case BPF_ALU | BPF_LSH | BPF_K:
    case BPF_ALU | BPF_LSH | BPF_X:
    case BPF_ALU | BPF_RSH | BPF_K:
    case BPF_ALU | BPF_RSH | BPF_X:
    case BPF_ALU | BPF_NEG:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX:
    case BPF_JMP | BPF_JA:
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_X: return true;
    default: return false;
  }
}

// The checks that need one instruction and its place only.
bool IsValidInstruction(const Instruction& insn, size_t pc, size_t length) {
  if (!IsKnownCode(insn.code)) return false;
  switch (insn.code) {
    case BPF_LD | BPF_W | BPF_ABS: return insn.k < sizeof(SeccompData) && (insn.k & 3) == 0;
    case BPF_ALU | BPF_DIV | BPF_K: return insn.k != 0;
    case BPF_ALU | BPF_LSH | BPF_K:
    case BPF_ALU | BPF_RSH | BPF_K: return insn.k < 32;
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX: return insn.k < kScratchWords;
    case BPF_JMP | BPF_JA: return insn.k < length - pc - 1;
    default: break;
  }
  if (BPF_CLASS(insn.code) == BPF_JMP) {
    return pc + insn.jump_true + 1 < length && pc + insn.jump_false + 1 < length;
  }
  return true;
}

// No path may load a scratch word that it has not stored (check_load_and_stores()). Jumps only go
// forward, so one pass knows, for each instruction, what every path to it has stored.
bool LoadsOnlyStoredWords(absl::Span<const Instruction> program) {
  std::vector<uint16_t> stored(program.size(), 0xffff);
  uint16_t valid = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const Instruction& insn = program[pc];
    valid &= stored[pc];
    switch (insn.code) {
      case BPF_ST:
      case BPF_STX: valid |= static_cast<uint16_t>(1u << insn.k); break;
      case BPF_LD | BPF_MEM:
      case BPF_LDX | BPF_MEM:
        if ((valid & (1u << insn.k)) == 0) return false;
        break;
      case BPF_JMP | BPF_JA:
        stored[pc + 1 + insn.k] &= valid;
        valid = 0xffff;
        break;
      default:
        if (BPF_CLASS(insn.code) == BPF_JMP) {
          stored[pc + 1 + insn.jump_true] &= valid;
          stored[pc + 1 + insn.jump_false] &= valid;
          valid = 0xffff;
        }
        break;
    }
  }
  return true;
}

uint32_t Alu(uint16_t operation, uint32_t a, uint32_t b) {
  switch (operation) {
    case BPF_ADD: return a + b;
    case BPF_SUB: return a - b;
    case BPF_MUL: return a * b;
    case BPF_DIV: return a / b;  // The caller has excluded 0.
    case BPF_AND: return a & b;
    case BPF_OR: return a | b;
    case BPF_XOR: return a ^ b;
    case BPF_LSH: return a << (b & 31);
    case BPF_RSH: return a >> (b & 31);
    default: return -a;  // BPF_NEG.
  }
}

bool Holds(uint16_t comparison, uint32_t a, uint32_t b) {
  switch (comparison) {
    case BPF_JEQ: return a == b;
    case BPF_JGT: return a > b;
    case BPF_JGE: return a >= b;
    default: return (a & b) != 0;  // BPF_JSET.
  }
}

}  // namespace

bool IsValidSeccompProgram(absl::Span<const Instruction> program) {
  if (program.empty() || program.size() > kMaxInstructions) return false;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    if (!IsValidInstruction(program[pc], pc, program.size())) return false;
  }
  return BPF_CLASS(program.back().code) == BPF_RET && LoadsOnlyStoredWords(program);
}

uint32_t RunSeccompProgram(absl::Span<const Instruction> program, const SeccompData& data) {
  uint32_t a = 0;
  uint32_t x = 0;
  uint32_t scratch[kScratchWords] = {};
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const Instruction& insn = program[pc];
    const uint32_t operand = BPF_SRC(insn.code) == BPF_X ? x : insn.k;
    switch (BPF_CLASS(insn.code)) {
      case BPF_LD:
        if (BPF_MODE(insn.code) == BPF_ABS) {
          memcpy(&a, reinterpret_cast<const char*>(&data) + insn.k, sizeof(a));
        } else if (BPF_MODE(insn.code) == BPF_LEN) {
          a = sizeof(SeccompData);
        } else {
          a = BPF_MODE(insn.code) == BPF_MEM ? scratch[insn.k] : insn.k;
        }
        break;
      case BPF_LDX:
        if (BPF_MODE(insn.code) == BPF_LEN) {
          x = sizeof(SeccompData);
        } else {
          x = BPF_MODE(insn.code) == BPF_MEM ? scratch[insn.k] : insn.k;
        }
        break;
      case BPF_ST: scratch[insn.k] = a; break;
      case BPF_STX: scratch[insn.k] = x; break;
      case BPF_ALU:
        // A division by an X of 0 ends the program with 0 (bpf_convert_filter()).
        if (BPF_OP(insn.code) == BPF_DIV && operand == 0) return kRetKillThread;
        a = Alu(BPF_OP(insn.code), a, operand);
        break;
      case BPF_JMP:
        if (BPF_OP(insn.code) == BPF_JA) {
          pc += insn.k;
        } else {
          pc += Holds(BPF_OP(insn.code), a, operand) ? insn.jump_true : insn.jump_false;
        }
        break;
      case BPF_RET: return BPF_RVAL(insn.code) == BPF_A ? a : insn.k;
      default:  // BPF_MISC.
        if (BPF_MISCOP(insn.code) == BPF_TAX) {
          x = a;
        } else {
          a = x;
        }
        break;
    }
  }
  CHECK(false);  // A valid program ends with a return.
  return kRetKillProcess;
}

}  // namespace caisson::bpf
