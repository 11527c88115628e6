// Parsing of an ELF64 file into a plan of mappings. Everything in the file is hostile.
#ifndef CAISSON_SENTRY_LOADER_ELF_H_
#define CAISSON_SENTRY_LOADER_ELF_H_

#include <cstdint>
#include <string>
#include <vector>

#include "abi/elf.h"
#include "base/result.h"
#include "sentry/mm/memory_manager.h"
#include "vfs/call_context.h"
#include "vfs/file_description.h"

namespace caisson::loader {

// Fills `to` from `offset`. Errors: EIO if the file ends before.
Result<void> ReadExactly(vfs::CallContext& ctx, vfs::FileDescription& file, uint64_t offset,
                         absl::Span<char> to);

struct ElfFile {
  RefPtr<vfs::FileDescription> file;
  abi::Elf64Header header;
  std::vector<abi::Elf64ProgramHeader> segments;
  bool is_dyn() const { return header.type == abi::kElfTypeDyn; }
};

// Reads and checks header and program headers. Errors: ENOEXEC; EIO for a truncated table.
Result<ElfFile> ReadElf(vfs::CallContext& ctx, RefPtr<vfs::FileDescription> file);
// PT_INTERP's path, or "" if there is none. Errors: ENOEXEC, EIO.
Result<std::string> ReadInterpreterPath(vfs::CallContext& ctx, const ElfFile& elf);

// The extent of PT_LOAD segments, page-aligned, before any bias. Errors: EINVAL if there is none
// or one is impossible (wraps, is larger in the file than in memory, exceeds `task_size`).
Result<AddrRange> LoadExtent(const ElfFile& elf, uint64_t task_size);
// The largest power-of-two p_align of PT_LOAD segments, at least a page.
uint64_t MaxAlignment(const ElfFile& elf);

// Mappings in order, later ones on top of earlier ones as MAP_FIXED puts them; and bytes to clear.
class ImagePlan {
 public:
  explicit ImagePlan(bool read_implies_exec) : read_implies_exec_(read_implies_exec) {}

  // Adds the segments of `elf`, moved by `bias`, whose extent the caller has checked to be inside
  // the guest's range. Errors: EINVAL for file offsets that no mapping can have.
  Result<void> Add(const ElfFile& elf, uint64_t bias);
  void AddAnonymous(AddrRange range, uint32_t protection, bool grows_down);
  void Add(mm::ImageMapping mapping);
  bool Overlaps(AddrRange range) const;

  std::vector<mm::ImageMapping> Mappings() const;
  // Ends of files within their last page: zeroed after mapping.
  std::vector<AddrRange> Clears() const;

 private:
  struct Piece {
    mm::ImageMapping mapping;
    uint64_t clear_from = 0;  // Not 0: [clear_from, end of the mapping) is zeroed.
  };
  void Put(Piece piece);

  const bool read_implies_exec_;
  std::vector<Piece> pieces_;
};

}  // namespace caisson::loader

#endif  // CAISSON_SENTRY_LOADER_ELF_H_
