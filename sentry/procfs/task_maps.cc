// /proc/PID/maps, smaps, smaps_rollup, numa_maps (Linux fs/proc/task_mmu.c).
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sentry/procfs/task_files.h"
#include "vfs/operations.h"

namespace caisson::procfs {
namespace {

using Vma = mm::MemoryManager::VmaInfo;
constexpr size_t kNameColumn = 73;

std::string NameOf(CallContext& ctx, const Vma& vma) {
  if (!vma.name.empty()) return vma.name;
  if (!vma.file) return "";
  std::string name;
  if (vma.file->path()) name = vfs::PathName(vma.file->path(), ctx.root());
  if (name.empty()) name = vma.file->Describe();
  return Escape(name, "\n");
}

void AppendHeader(std::string* out, CallContext& ctx, const Vma& vma, absl::string_view name) {
  vfs::DeviceNumber dev;
  uint64_t ino = 0;
  if (vma.file && vma.file->inode() != nullptr) {
    if (Result<vfs::Attributes> attr = vma.file->GetAttributes(ctx); attr.ok()) {
      dev = attr->dev;
      ino = attr->ino;
    }
  }
  const size_t start = out->size();
  Append(out, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ",
         static_cast<unsigned long long>(vma.range.start.value),
         static_cast<unsigned long long>(vma.range.end.value),
         (vma.protection & 1) != 0 ? 'r' : '-', (vma.protection & 2) != 0 ? 'w' : '-',
         (vma.protection & 4) != 0 ? 'x' : '-', vma.shared ? 's' : 'p',
         static_cast<unsigned long long>(vma.offset), dev.major, dev.minor,
         static_cast<unsigned long long>(ino));
  if (!name.empty()) {
    const size_t width = out->size() - start;
    if (width < kNameColumn) out->append(kNameColumn - width, ' ');
    out->append(name.data(), name.size());
  }
  *out += '\n';
}

// Bytes of one mapping, or of all. What several processes map counts fully in Pss, since nobody
// tells how many they are.
struct Figures {
  uint64_t size = 0, resident = 0, shared_clean = 0, shared_dirty = 0, private_clean = 0,
           private_dirty = 0, anonymous = 0, locked = 0;
  void Add(const Figures& o) {
    size += o.size;
    resident += o.resident;
    shared_clean += o.shared_clean;
    shared_dirty += o.shared_dirty;
    private_clean += o.private_clean;
    private_dirty += o.private_dirty;
    anonymous += o.anonymous;
    locked += o.locked;
  }
};

Figures Measure(mm::MemoryManager& mm, const Vma& vma) {
  Figures f;
  f.size = vma.range.length();
  constexpr uint64_t kPages = 65536;
  // Reserved space (a sanitizer's shadow is 16 TiB) would take minutes to look through.
  constexpr uint64_t kMaxMeasured = uint64_t{16} << 30;
  std::vector<uint8_t> pages;
  if (f.size > kMaxMeasured || vma.protection == 0) return f;
  for (GuestAddr at = vma.range.start; at < vma.range.end;) {
    const uint64_t bytes = std::min(vma.range.end - at, kPages * kPageSize);
    pages.assign(bytes / kPageSize, 0);
    const absl::Span<uint8_t> span(pages.data(), pages.size());
    if (!mm.address_space().PageStates(at, span).ok()) break;
    for (uint8_t p : pages) {
      if ((p & platform::kPageResident) == 0) continue;
      f.resident += kPageSize;
      const bool file = (p & platform::kPageOfFile) != 0, shared = (p & platform::kPageExclusive) == 0;
      // A shared mapping's pages may have been written, through any of its mappings.
      const bool dirty = !file || (vma.shared && (vma.protection & 2) != 0);
      (shared ? (dirty ? f.shared_dirty : f.shared_clean)
              : (dirty ? f.private_dirty : f.private_clean)) += kPageSize;
      if (!file) f.anonymous += kPageSize;
    }
    at = at + bytes;
  }
  if (vma.locked) f.locked = f.resident;
  return f;
}

void AppendFigures(std::string* out, const Figures& f, bool rollup) {
  auto kb = [out](const char* name, uint64_t bytes) {
    Append(out, "%-16s%8llu kB\n", name, static_cast<unsigned long long>(bytes >> 10));
  };
  if (!rollup) {
    kb("Size:", f.size);
    kb("KernelPageSize:", kPageSize);
    kb("MMUPageSize:", kPageSize);
  }
  kb("Rss:", f.resident);
  kb("Pss:", f.resident);
  kb("Pss_Dirty:", f.private_dirty + f.shared_dirty);
  if (rollup) {
    kb("Pss_Anon:", f.anonymous);
    kb("Pss_File:", f.resident - f.anonymous);
    kb("Pss_Shmem:", 0);
  }
  kb("Shared_Clean:", f.shared_clean);
  kb("Shared_Dirty:", f.shared_dirty);
  kb("Private_Clean:", f.private_clean);
  kb("Private_Dirty:", f.private_dirty);
  kb("Referenced:", f.resident);
  kb("Anonymous:", f.anonymous);
  kb("KSM:", 0);
  kb("LazyFree:", 0);
  kb("AnonHugePages:", 0);
  kb("ShmemPmdMapped:", 0);
  kb("FilePmdMapped:", 0);
  kb("Shared_Hugetlb:", 0);
  kb("Private_Hugetlb:", 0);
  kb("Swap:", 0);
  kb("SwapPss:", 0);
  kb("Locked:", f.locked);
}

}  // namespace

Result<std::string> ReadMaps(CallContext& ctx, MmObject& o) {
  std::string out;
  if (!o.mm()) return out;
  for (const Vma& vma : o.mm()->Vmas()) AppendHeader(&out, ctx, vma, NameOf(ctx, vma));
  return out;
}

Result<std::string> ReadSmaps(CallContext& ctx, MmObject& o) {
  std::string out;
  if (!o.mm()) return out;
  for (const Vma& vma : o.mm()->Vmas()) {
    AppendHeader(&out, ctx, vma, NameOf(ctx, vma));
    AppendFigures(&out, Measure(*o.mm(), vma), false);
    out += "THPeligible:           0\nVmFlags:";
    auto flag = [&](bool set, const char* name) {
      if (set) absl::StrAppend(&out, " ", name);
    };
    flag((vma.protection & 1) != 0, "rd");
    flag((vma.protection & 2) != 0, "wr");
    flag((vma.protection & 4) != 0, "ex");
    flag(vma.shared, "sh");
    out += " mr mw me";
    flag(vma.shared, "ms");
    flag(vma.grows_down, "gd");
    flag(vma.locked, "lo");
    out += " \n";
  }
  return out;
}

Result<std::string> ReadSmapsRollup(CallContext& ctx, MmObject& o) {
  std::string out;
  if (!o.mm()) return Errno::kESRCH;
  Vma all;
  all.range = AddrRange{};
  Figures sum;
  for (const Vma& vma : o.mm()->Vmas()) {
    if (all.range.empty()) all.range.start = vma.range.start;
    all.range.end = vma.range.end;
    sum.Add(Measure(*o.mm(), vma));
  }
  AppendHeader(&out, ctx, all, "[rollup]");
  AppendFigures(&out, sum, true);
  return out;
}

Result<std::string> ReadNumaMaps(CallContext& ctx, MmObject& o) {
  std::string out;
  if (!o.mm()) return out;
  for (const Vma& vma : o.mm()->Vmas()) {
    Append(&out, "%08llx default", static_cast<unsigned long long>(vma.range.start.value));
    const std::string name = NameOf(ctx, vma);
    if (vma.file) absl::StrAppend(&out, " file=", Escape(name, " \t\n\\"));
    else if (name == "[heap]") out += " heap";
    else if (name == "[stack]") out += " stack";
    const uint64_t pages = Measure(*o.mm(), vma).resident / kPageSize;
    if (pages != 0)
      absl::StrAppend(&out, vma.file ? " mapped=" : " anon=", pages, " N0=", pages,
                      " kernelpagesize_kB=4");
    out += '\n';
  }
  return out;
}

}  // namespace caisson::procfs
