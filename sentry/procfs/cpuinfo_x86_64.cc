// /proc/cpuinfo from CPUID: guest code runs on this processor and sees the same bits.
#include <cpuid.h>

#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "sentry/procfs/root_files.h"

namespace caisson::procfs {
namespace {

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf Cpuid(uint32_t leaf, uint32_t sub = 0) {
  Leaf l;
  if (__get_cpuid_count(leaf, sub, &l.eax, &l.ebx, &l.ecx, &l.edx) == 0) return {};
  return l;
}

// Names of bits 0 to 31, separated by spaces, "-" for a bit that Linux does not show
// (arch/x86/include/asm/cpufeatures.h, in the order of its words).
void AppendFlags(std::string* out, uint32_t bits, absl::string_view names) {
  for (int bit = 0; bit < 32 && !names.empty(); ++bit) {
    const size_t end = std::min(names.find(' '), names.size());
    if ((bits >> bit & 1) != 0 && names.substr(0, end) != "-")
      absl::StrAppend(out, out->empty() ? "" : " ", names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
}

constexpr char kLeaf1Edx[] =
    "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts "
    "acpi mmx fxsr sse sse2 ss ht tm ia64 pbe";
constexpr char kLeaf1Ecx[] =
    "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid "
    "dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor";
constexpr char kExt1Edx[] =
    "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm "
    "3dnowext 3dnow";
constexpr char kExt1Ecx[] =
    "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop "
    "skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc "
    "perfctr_llc mwaitx - -";
constexpr char kLeaf7Ebx[] =
    "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a avx512f "
    "avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd "
    "sha_ni avx512bw avx512vl";
constexpr char kLeafD1Eax[] = "xsaveopt xsavec xgetbv1 xsaves xfd";
constexpr char kLeaf71Eax[] =
    "- - - - avx_vnni avx512_bf16 - cmpccxadd - - fzrm fsrs fsrc - - - - - - - - amx_fp16 - "
    "avx_ifma - - lam - - - - -";
constexpr char kExt8Ebx[] =
    "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp - - - - "
    "- - - amd_ppin amd_ssbd virt_ssbd - cppc - - - -";
constexpr char kLeaf7Ecx[] =
    "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni "
    "avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - "
    "movdiri movdir64b enqcmd - -";
constexpr char kLeaf7Edx[] =
    "- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect - md_clear - - - serialize - "
    "tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 - - flush_l1d "
    "arch_capabilities - -";

std::string Flags() {
  std::string out;
  const Leaf l1 = Cpuid(1), l7 = Cpuid(7), e1 = Cpuid(0x80000001), e7 = Cpuid(0x80000007);
  AppendFlags(&out, l1.edx, kLeaf1Edx);
  AppendFlags(&out, e1.edx, kExt1Edx);
  if ((e7.edx & 0x100) != 0) out += " constant_tsc";
  out += " rep_good nopl xtopology";
  if ((e7.edx & 0x100) != 0) out += " nonstop_tsc";
  out += " cpuid";
  AppendFlags(&out, l1.ecx, kLeaf1Ecx);
  AppendFlags(&out, e1.ecx, kExt1Ecx);
  AppendFlags(&out, l7.ebx, kLeaf7Ebx);
  AppendFlags(&out, Cpuid(0xd, 1).eax, kLeafD1Eax);
  AppendFlags(&out, Cpuid(7, 1).eax, kLeaf71Eax);
  AppendFlags(&out, Cpuid(0x80000008).ebx, kExt8Ebx);
  AppendFlags(&out, l7.ecx, kLeaf7Ecx);
  AppendFlags(&out, l7.edx, kLeaf7Edx);
  return out;
}

std::string Vendor() {
  const Leaf l = Cpuid(0);
  char text[13] = {};
  memcpy(text, &l.ebx, 4);
  memcpy(text + 4, &l.edx, 4);
  memcpy(text + 8, &l.ecx, 4);
  return text;
}

std::string ModelName() {
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Leaf l = Cpuid(0x80000002 + i);
    memcpy(text + 16 * i, &l, 16);
  }
  std::string name(absl::StripAsciiWhitespace(text));
  return name.empty() ? "unknown" : name;
}

// Counts for a fifth of a millisecond: about one part in 2,000.
double MeasuredMegahertz() {
  constexpr int64_t kWindow = 200'000;
  unsigned aux;
  const int64_t start = time::MonotonicNow();
  const uint64_t first = __builtin_ia32_rdtscp(&aux);
  int64_t now;
  do now = time::MonotonicNow();
  while (now - start < kWindow);
  return static_cast<double>(__builtin_ia32_rdtscp(&aux) - first) * 1e3 /
         static_cast<double>(now - start);
}

// The time stamp counter's rate: of leaf 15H or 16H, a hypervisor's leaf, the model's name, else as
// measured.
double Megahertz(const std::string& model) {
  if (const Leaf l = Cpuid(0x15); l.eax != 0 && l.ebx != 0 && l.ecx != 0)
    return static_cast<double>(l.ecx) / 1e6 * l.ebx / l.eax;
  if (const Leaf l = Cpuid(0x16); (l.eax & 0xffff) != 0) return l.eax & 0xffff;
  if ((Cpuid(1).ecx >> 31 & 1) != 0) {
    // __get_cpuid_count() refuses leaves above the basic maximum.
    Leaf l;
    __cpuid(0x40000000, l.eax, l.ebx, l.ecx, l.edx);
    if (l.eax >= 0x40000010) {
      __cpuid(0x40000010, l.eax, l.ebx, l.ecx, l.edx);
      if (l.eax != 0) return l.eax / 1e3;
    }
  }
  if (const size_t at = model.find("@ "); at != std::string::npos) {
    const double ghz = strtod(model.c_str() + at + 2, nullptr);
    if (ghz > 0) return ghz * 1000;
  }
  return MeasuredMegahertz();
}

uint32_t CacheKb() {
  uint32_t largest = 0;
  const uint32_t leaf = Vendor() == "AuthenticAMD" ? 0x8000001d : 4;
  for (uint32_t i = 0; i < 8; ++i) {
    const Leaf l = Cpuid(leaf, i);
    if ((l.eax & 0x1f) == 0) break;
    const uint64_t size = uint64_t{(l.ebx >> 22) + 1} * ((l.ebx >> 12 & 0x3ff) + 1) *
                          ((l.ebx & 0xfff) + 1) * (uint64_t{l.ecx} + 1);
    largest = std::max(largest, static_cast<uint32_t>(size >> 10));
  }
  return largest;
}

}  // namespace

Result<std::string> ReadCpuinfo(CallContext&, KernelObject& o) {
  const Leaf l1 = Cpuid(1), sizes = Cpuid(0x80000008);
  uint32_t family = l1.eax >> 8 & 0xf, model = l1.eax >> 4 & 0xf;
  if (family == 6 || family == 15) model |= l1.eax >> 12 & 0xf0;
  if (family == 15) family += l1.eax >> 20 & 0xff;
  const std::string vendor = Vendor(), name = ModelName(), flags = Flags();
  const double mhz = Megahertz(name);
  const uint32_t cpus = CpuCount(o.kernel()), cache = CacheKb();
  const uint32_t physical = (sizes.eax & 0xff) != 0 ? sizes.eax & 0xff : 36;
  const uint32_t virtual_bits = (sizes.eax >> 8 & 0xff) != 0 ? sizes.eax >> 8 & 0xff : 48;
  std::string out;
  for (uint32_t i = 0; i < cpus; ++i) {
    Append(&out,
           "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %s\n", i,
           vendor.c_str(), family, model, name.c_str());
    Append(&out, "stepping\t: %u\nmicrocode\t: 0x1\ncpu MHz\t\t: %.3f\n", l1.eax & 0xf, mhz);
    if (cache != 0) Append(&out, "cache size\t: %u KB\n", cache);
    Append(&out,
           "physical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\ncpu cores\t: %u\napicid\t\t: %u\n"
           "initial apicid\t: %u\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %u\nwp\t\t: yes\n",
           cpus, i, cpus, i, i, Cpuid(0).eax);
    absl::StrAppend(&out, "flags\t\t: ", flags, "\nbugs\t\t:\n");
    Append(&out,
           "bogomips\t: %.2f\nclflush size\t: %u\ncache_alignment\t: %u\n"
           "address sizes\t: %u bits physical, %u bits virtual\npower management:\n\n",
           2 * mhz, (l1.ebx >> 8 & 0xff) * 8, (l1.ebx >> 8 & 0xff) * 8, physical, virtual_bits);
  }
  return out;
}

}  // namespace caisson::procfs
