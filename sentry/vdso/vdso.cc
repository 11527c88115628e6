#include "sentry/vdso/vdso.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "base/unique_fd.h"

// The file that guest/ is built to (CMakeLists.txt).
asm(".pushsection .rodata\n"
    ".global caisson_vdso_image, caisson_vdso_image_end\n"
    "caisson_vdso_image: .incbin \"" CAISSON_VDSO_IMAGE "\"\n"
    "caisson_vdso_image_end:\n"
    ".popsection\n");
extern "C" const char caisson_vdso_image[], caisson_vdso_image_end[];

namespace caisson::vdso {
namespace {

// Contents that never change.
class SealedFile final : public vfs::FileDescription {
 public:
  static Result<RefPtr<vfs::FileDescription>> New(absl::string_view content) {
    UniqueFd fd(memfd_create("vdso", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd.valid()) return errno == EMFILE ? Errno::kEMFILE : Errno::kENOMEM;
    if (ftruncate(fd.get(), static_cast<off_t>(PageRoundUp(content.size()))) != 0 ||
        pwrite(fd.get(), content.data(), content.size(), 0) !=
            static_cast<ssize_t>(content.size()) ||
        fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
      return Errno::kENOMEM;
    return RefPtr<vfs::FileDescription>(MakeRef<SealedFile>(std::move(fd)));
  }
  explicit SealedFile(UniqueFd fd)
      : FileDescription(vfs::FileKind::kOther, {}, nullptr, vfs::kOpenReadOnly),
        fd_(std::move(fd)) {}

  Result<vfs::HostMapping> Map(vfs::CallContext&, uint64_t offset, uint64_t, bool shared,
                               bool) override {
    if (shared) return Errno::kEACCES;
    vfs::HostMapping mapping;
    mapping.host_fd = fd_.get();
    mapping.offset = offset;
    return mapping;
  }
  Result<vfs::Attributes> GetAttributes(vfs::CallContext&) override { return vfs::Attributes{}; }

 private:
  const UniqueFd fd_;
};

template <typename T>
T At(const char* image, uint64_t offset) {
  T value;
  memcpy(&value, image + offset, sizeof(value));
  return value;
}

}  // namespace

absl::string_view Image() {
  return {caisson_vdso_image,
          static_cast<size_t>(caisson_vdso_image_end - caisson_vdso_image)};
}

uint64_t FindSymbol(const char* image, absl::string_view name) {
  const auto header = At<Elf64_Ehdr>(image, 0);
  uint64_t dynamic = 0;
  for (int i = 0; i < header.e_phnum; ++i) {
    const auto segment = At<Elf64_Phdr>(image, header.e_phoff + i * sizeof(Elf64_Phdr));
    if (segment.p_type == PT_DYNAMIC) dynamic = segment.p_vaddr;
  }
  if (dynamic == 0) return 0;
  uint64_t symbols = 0, strings = 0, hash = 0;
  for (Elf64_Dyn entry; (entry = At<Elf64_Dyn>(image, dynamic)).d_tag != DT_NULL;
       dynamic += sizeof(entry)) {
    if (entry.d_tag == DT_SYMTAB) symbols = entry.d_un.d_ptr;
    if (entry.d_tag == DT_STRTAB) strings = entry.d_un.d_ptr;
    if (entry.d_tag == DT_GNU_HASH) hash = entry.d_un.d_ptr;
  }
  if (symbols == 0 || strings == 0 || hash == 0) return 0;
  // DT_GNU_HASH: bucket count, first symbol, Bloom filter words, its shift; then filter, buckets
  // and, from the first symbol on, a word each whose lowest bit ends a chain.
  const auto buckets = At<uint32_t>(image, hash), first = At<uint32_t>(image, hash + 4),
             filter = At<uint32_t>(image, hash + 8);
  const uint64_t chains = hash + 16 + 8 * filter + 4 * buckets;
  for (uint32_t b = 0; b < buckets; ++b) {
    uint32_t index = At<uint32_t>(image, hash + 16 + 8 * filter + 4 * b);
    if (index < first) continue;
    for (;; ++index) {
      const auto symbol = At<Elf64_Sym>(image, symbols + index * sizeof(Elf64_Sym));
      if (symbol.st_shndx != SHN_UNDEF && name == image + strings + symbol.st_name)
        return symbol.st_value;
      if ((At<uint32_t>(image, chains + 4 * (index - first)) & 1) != 0) break;
    }
  }
  return 0;
}

Result<Vdso> Vdso::New(AddrRange host) {
  Vdso vdso;
  // Guests have the same image as we.
  const auto* ours = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  if (ours != nullptr && !host.empty()) {
    auto find = [&](absl::string_view name) {
      const uint64_t offset = FindSymbol(ours, name);
      return offset == 0 || offset >= host.length() ? 0 : host.start.value + offset;
    };
    vdso.functions_.clock_gettime = find("__vdso_clock_gettime");
    vdso.functions_.gettimeofday = find("__vdso_gettimeofday");
    vdso.functions_.time = find("__vdso_time");
    vdso.functions_.clock_getres = find("__vdso_clock_getres");
    vdso.functions_.getcpu = find("__vdso_getcpu");
  }
  vdso.image_ = TRY(SealedFile::New(Image()));
  vdso.image_length_ = PageRoundUp(Image().size());
  return vdso;
}

Result<Files> Vdso::ForOffsets(int64_t monotonic, int64_t boottime) const {
  VdsoData data = functions_;
  for (int clock : {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE})
    data.offsets[clock] = monotonic;
  for (int clock : {CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM}) data.offsets[clock] = boottime;
  Files files;
  files.image = image_;
  files.image_length = image_length_;
  files.data =
      TRY(SealedFile::New({reinterpret_cast<const char*>(&data), sizeof(data)}));
  return files;
}

}  // namespace caisson::vdso
