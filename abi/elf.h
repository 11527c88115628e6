// ELF64 as execve(2) reads it (System V ABI, chapters 4 and 5; elf(5)).
#ifndef CAISSON_ABI_ELF_H_
#define CAISSON_ABI_ELF_H_

#include <cstddef>
#include <cstdint>

namespace caisson::abi {

struct Elf64Header {
  uint8_t ident[16];
  uint16_t type;
  uint16_t machine;
  uint32_t version;
  uint64_t entry;
  uint64_t phoff;
  uint64_t shoff;
  uint32_t flags;
  uint16_t ehsize;
  uint16_t phentsize;
  uint16_t phnum;
  uint16_t shentsize;
  uint16_t shnum;
  uint16_t shstrndx;
};
static_assert(sizeof(Elf64Header) == 64);
static_assert(offsetof(Elf64Header, phoff) == 32);
static_assert(offsetof(Elf64Header, phentsize) == 54);

struct Elf64ProgramHeader {
  uint32_t type;
  uint32_t flags;
  uint64_t offset;
  uint64_t vaddr;
  uint64_t paddr;
  uint64_t filesz;
  uint64_t memsz;
  uint64_t align;
};
static_assert(sizeof(Elf64ProgramHeader) == 56);
static_assert(offsetof(Elf64ProgramHeader, memsz) == 40);

inline constexpr uint8_t kElfClass64 = 2;
inline constexpr uint8_t kElfData2Lsb = 1;
inline constexpr uint16_t kElfTypeExec = 2;
inline constexpr uint16_t kElfTypeDyn = 3;
inline constexpr uint16_t kElfMachineX86_64 = 62;

inline constexpr uint32_t kPtLoad = 1;
inline constexpr uint32_t kPtInterp = 3;
inline constexpr uint32_t kPtPhdr = 6;
inline constexpr uint32_t kPtGnuStack = 0x6474e551;
inline constexpr uint32_t kPfX = 1;
inline constexpr uint32_t kPfW = 2;
inline constexpr uint32_t kPfR = 4;

// Auxiliary vector (getauxval(3)).
inline constexpr uint64_t kAtNull = 0;
inline constexpr uint64_t kAtPhdr = 3;
inline constexpr uint64_t kAtPhent = 4;
inline constexpr uint64_t kAtPhnum = 5;
inline constexpr uint64_t kAtPagesz = 6;
inline constexpr uint64_t kAtBase = 7;
inline constexpr uint64_t kAtFlags = 8;
inline constexpr uint64_t kAtEntry = 9;
inline constexpr uint64_t kAtUid = 11;
inline constexpr uint64_t kAtEuid = 12;
inline constexpr uint64_t kAtGid = 13;
inline constexpr uint64_t kAtEgid = 14;
inline constexpr uint64_t kAtPlatform = 15;
inline constexpr uint64_t kAtHwcap = 16;
inline constexpr uint64_t kAtClktck = 17;
inline constexpr uint64_t kAtSecure = 23;
inline constexpr uint64_t kAtRandom = 25;
inline constexpr uint64_t kAtHwcap2 = 26;
inline constexpr uint64_t kAtExecfn = 31;
inline constexpr uint64_t kAtSysinfoEhdr = 33;
inline constexpr uint64_t kAtMinsigstksz = 51;
// AT_HWCAP2 of x86: bit 0 ring 3 MWAIT, bit 1 FSGSBASE (asm/hwcap2.h).
inline constexpr uint64_t kHwcap2Ring3Mwait = 1;
inline constexpr uint64_t kHwcap2FsGsBase = 2;

// personality(2).
inline constexpr uint32_t kAddrNoRandomize = 0x0040000;
inline constexpr uint32_t kMmapPageZero = 0x0100000;
inline constexpr uint32_t kAddrCompatLayout = 0x0200000;
inline constexpr uint32_t kReadImpliesExec = 0x0400000;

}  // namespace caisson::abi

#endif  // CAISSON_ABI_ELF_H_
