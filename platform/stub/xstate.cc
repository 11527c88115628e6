#include "platform/stub/xstate.h"

#include <cpuid.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"

namespace caisson::platform::stub {
namespace {

constexpr uint64_t kX87 = 1, kSse = 2;
constexpr uint64_t kAmx = (uint64_t{1} << 17) | (uint64_t{1} << 18);
constexpr size_t kLegacySize = 512, kHeaderSize = 64;
constexpr size_t kMxcsr = 24, kMxcsrMask = 28;
constexpr uint16_t kInitialFcw = 0x037f;
constexpr uint32_t kInitialMxcsr = 0x1f80;
constexpr uint32_t kInitialPkru = 0x55555554;  // Linux arch/x86/mm/pkeys.c: only key 0.

__attribute__((target("xsave"))) uint64_t ReadXcr0() { return _xgetbv(0); }

__attribute__((target("fxsr"))) uint32_t ReadMxcsrMask() {
  alignas(16) char area[kLegacySize];
  std::memset(area, 0, sizeof(area));
  _fxsave64(area);
  uint32_t mask;
  std::memcpy(&mask, area + kMxcsrMask, sizeof(mask));
  return mask == 0 ? 0xffbf : mask;
}

// Where feature `bit` is in the standard layout.
size_t FeatureOffset(int bit, size_t* size) {
  unsigned a, b, c, d;
  __cpuid_count(0xd, bit, a, b, c, d);
  *size = a;
  return b;
}

XstateInfo Detect() {
  XstateInfo info;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (1u << 27)) == 0) return info;  // OSXSAVE
  const uint64_t xcr0 = ReadXcr0();
  info.features = xcr0 & ~kAmx;
  info.size = kLegacySize + kHeaderSize;
  for (int bit = 2; bit < 63; ++bit) {
    if ((info.features >> bit & 1) == 0) continue;
    size_t size;
    const size_t offset = FeatureOffset(bit, &size);
    info.size = std::max(info.size, offset + size);
    if (uint64_t{1} << bit == kPkru) info.pkru_offset = offset;
  }
  __cpuid_count(0xd, 0, a, b, c, d);
  info.host_size = std::max<size_t>(b, info.size);
  info.mxcsr_mask = ReadMxcsrMask();
  __cpuid_count(0xd, 1, a, b, c, d);
  info.knows_in_use = (a & 4) != 0;
  return info;
}

}  // namespace

const XstateInfo& HostXstate() {
  static const XstateInfo info = Detect();
  return info;
}

void CopyXstate(absl::Span<char> to, absl::Span<const char> from) {
  struct Component {
    size_t offset = 0, size = 0;
  };
  static const std::array<Component, 63> components = [] {
    std::array<Component, 63> all{};
    for (int bit = 2; bit < 63; ++bit) {
      if ((HostXstate().features >> bit & 1) == 0) continue;
      Component& c = all[static_cast<size_t>(bit)];
      c.offset = FeatureOffset(bit, &c.size);
    }
    return all;
  }();
  CHECK(std::min(to.size(), from.size()) >= HostXstate().size);
  std::memcpy(to.data(), from.data(), kLegacySize + kHeaderSize);
  asm volatile("" : : : "memory");  // What follows uses the copy.
  uint64_t present;
  std::memcpy(&present, to.data() + kLegacySize, sizeof(present));
  for (present &= HostXstate().features & ~(kX87 | kSse); present != 0; present &= present - 1) {
    const Component& c = components[static_cast<size_t>(__builtin_ctzll(present))];
    std::memcpy(to.data() + c.offset, from.data() + c.offset, c.size);
  }
}

void InitialXstate(absl::Span<char> out) {
  const XstateInfo& info = HostXstate();
  CHECK(out.size() >= info.size);
  std::memset(out.data(), 0, out.size());
  std::memcpy(&out[0], &kInitialFcw, sizeof(kInitialFcw));
  std::memcpy(&out[kMxcsr], &kInitialMxcsr, sizeof(kInitialMxcsr));
  std::memcpy(&out[kMxcsrMask], &info.mxcsr_mask, sizeof(info.mxcsr_mask));
  uint64_t present = kX87 | kSse;
  if (info.pkru_offset != 0) {
    // The kernel takes an absent PKRU for 0, which is not what a new program has.
    std::memcpy(&out[info.pkru_offset], &kInitialPkru, sizeof(kInitialPkru));
    present |= kPkru;
  }
  std::memcpy(&out[kLegacySize], &present, sizeof(present));
}

bool XstateIsValid(absl::Span<const char> state) {
  const XstateInfo& info = HostXstate();
  if (state.size() != info.size) return false;
  uint64_t header[kHeaderSize / 8];
  std::memcpy(header, &state[kLegacySize], sizeof(header));
  if ((header[0] & ~info.features) != 0) return false;
  for (size_t i = 1; i < kHeaderSize / 8; ++i) {
    if (header[i] != 0) return false;
  }
  uint32_t mxcsr;
  std::memcpy(&mxcsr, &state[kMxcsr], sizeof(mxcsr));
  return (mxcsr & ~info.mxcsr_mask) == 0;
}

bool DeniesOwnMemory(absl::Span<const char> state) {
  const size_t offset = HostXstate().pkru_offset;
  if (offset == 0) return false;
  uint64_t present;
  std::memcpy(&present, &state[kLegacySize], sizeof(present));
  if ((present & kPkru) == 0 || state.size() < offset + sizeof(kInitialPkru)) return false;
  uint32_t rights;
  std::memcpy(&rights, &state[offset], sizeof(rights));
  return (rights & 3) != 0;
}

void SanitizeXstate(absl::Span<char> state) {
  // Bytes 464 to 511 are the software's: the kernel has left its feature mask there.
  constexpr size_t kSoftware = 464;
  std::memset(&state[kSoftware], 0, kLegacySize - kSoftware);
  uint64_t present;
  std::memcpy(&present, &state[kLegacySize], sizeof(present));
  present &= HostXstate().features;
  std::memcpy(&state[kLegacySize], &present, sizeof(present));
}

uint64_t MinSignalStack() {
  // Linux arch/x86/kernel/signal.c, init_sigframe_size(): the frame, its padding, and the extended
  // state with its trailing magic word, aligned to 64.
  constexpr uint64_t kFrame = 440, kFramePadding = 16, kMagic2 = 4, kAlign = 64;
  return (kFrame + kFramePadding + HostXstate().size + kMagic2 + kAlign + 15) / 16 * 16;
}

}  // namespace caisson::platform::stub
