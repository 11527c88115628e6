#include "sentry/loader/elf.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/io_buffer.h"

namespace caisson::loader {

namespace {
constexpr uint64_t kMaxHeaders = 65536;  // Linux load_elf_phdrs(), ELF_MIN_ALIGN at most.

uint32_t ProtectionOf(const abi::Elf64ProgramHeader& segment) {
  uint32_t protection = 0;
  if ((segment.flags & abi::kPfR) != 0) protection |= platform::kProtRead;
  if ((segment.flags & abi::kPfW) != 0) protection |= platform::kProtWrite;
  if ((segment.flags & abi::kPfX) != 0) protection |= platform::kProtExec;
  return protection;
}
}  // namespace

Result<void> ReadExactly(vfs::CallContext& ctx, vfs::FileDescription& file, uint64_t offset,
                         absl::Span<char> to) {
  if (offset > INT64_MAX - to.size()) return Errno::kEIO;
  size_t done = 0;
  while (done < to.size()) {
    SpanBuffer buffer(to.subspan(done));
    size_t n = TRY(file.PRead(ctx, buffer, offset + done, 0));
    if (n == 0) return Errno::kEIO;
    done += n;
  }
  return {};
}

Result<ElfFile> ReadElf(vfs::CallContext& ctx, RefPtr<vfs::FileDescription> file) {
  ElfFile elf;
  elf.file = std::move(file);
  char* raw = reinterpret_cast<char*>(&elf.header);
  if (!ReadExactly(ctx, *elf.file, 0, {raw, sizeof(elf.header)}).ok()) return Errno::kENOEXEC;
  const abi::Elf64Header& h = elf.header;
  if (memcmp(h.ident, "\177ELF", 4) != 0 || h.ident[4] != abi::kElfClass64 ||
      h.ident[5] != abi::kElfData2Lsb)
    return Errno::kENOEXEC;
  if (h.type != abi::kElfTypeExec && h.type != abi::kElfTypeDyn) return Errno::kENOEXEC;
  if (h.machine != abi::kElfMachineX86_64) return Errno::kENOEXEC;
  if (h.phentsize != sizeof(abi::Elf64ProgramHeader)) return Errno::kENOEXEC;
  uint64_t size = uint64_t{h.phnum} * sizeof(abi::Elf64ProgramHeader);
  if (size == 0 || size > kMaxHeaders) return Errno::kENOEXEC;
  elf.segments.resize(h.phnum);
  TRY(ReadExactly(ctx, *elf.file, h.phoff, {reinterpret_cast<char*>(elf.segments.data()), size}));
  return elf;
}

Result<std::string> ReadInterpreterPath(vfs::CallContext& ctx, const ElfFile& elf) {
  for (const abi::Elf64ProgramHeader& segment : elf.segments) {
    if (segment.type != abi::kPtInterp) continue;
    if (segment.filesz > vfs::kPathMax || segment.filesz < 2) return Errno::kENOEXEC;
    std::string path(segment.filesz, '\0');
    TRY(ReadExactly(ctx, *elf.file, segment.offset, absl::MakeSpan(path)));
    if (path.back() != '\0') return Errno::kENOEXEC;
    path.resize(strlen(path.c_str()));
    return path;
  }
  return std::string();
}

Result<AddrRange> LoadExtent(const ElfFile& elf, uint64_t task_size) {
  uint64_t low = ~uint64_t{0}, high = 0;
  for (const abi::Elf64ProgramHeader& segment : elf.segments) {
    if (segment.type != abi::kPtLoad) continue;
    if (segment.filesz > segment.memsz || segment.memsz > task_size ||
        segment.vaddr > task_size - segment.memsz)
      return Errno::kEINVAL;
    low = std::min(low, PageRoundDown(segment.vaddr));
    high = std::max(high, segment.vaddr + segment.memsz);
  }
  if (low >= high) return Errno::kEINVAL;
  return AddrRange{GuestAddr(low), GuestAddr(PageRoundUp(high))};
}

uint64_t MaxAlignment(const ElfFile& elf) {
  uint64_t alignment = kPageSize;
  for (const abi::Elf64ProgramHeader& segment : elf.segments) {
    if (segment.type != abi::kPtLoad) continue;
    // "Skip non-power of two alignments" (Linux maximum_alignment()).
    if (segment.align != 0 && (segment.align & (segment.align - 1)) == 0)
      alignment = std::max(alignment, segment.align);
  }
  return alignment;
}

void ImagePlan::Put(Piece piece) {
  const AddrRange range = piece.mapping.range;
  if (range.empty()) return;
  std::vector<Piece> kept;
  for (Piece& old : pieces_) {
    const AddrRange was = old.mapping.range;
    if (!was.overlaps(range)) {
      kept.push_back(std::move(old));
      continue;
    }
    if (was.start < range.start) {
      Piece left = old;
      left.mapping.range.end = range.start;
      left.clear_from = 0;  // It was in the last page, which is gone.
      kept.push_back(std::move(left));
    }
    if (was.end > range.end) {
      Piece right = old;
      right.mapping.range.start = range.end;
      right.mapping.offset += range.end - was.start;
      kept.push_back(std::move(right));
    }
  }
  pieces_ = std::move(kept);
  pieces_.push_back(std::move(piece));
}

void ImagePlan::AddAnonymous(AddrRange range, uint32_t protection, bool grows_down) {
  if (read_implies_exec_ && (protection & platform::kProtRead) != 0)
    protection |= platform::kProtExec;
  Piece piece;
  piece.mapping.range = range;
  piece.mapping.protection = protection;
  piece.mapping.grows_down = grows_down;
  Put(std::move(piece));
}

void ImagePlan::Add(mm::ImageMapping mapping) {
  Piece piece;
  piece.mapping = std::move(mapping);
  Put(std::move(piece));
}

Result<void> ImagePlan::Add(const ElfFile& elf, uint64_t bias) {
  for (const abi::Elf64ProgramHeader& segment : elf.segments) {
    if (segment.type != abi::kPtLoad) continue;
    // Sums were checked by LoadExtent() and by the choice of the bias.
    const uint64_t address = segment.vaddr + bias;
    const uint64_t in_page = address % kPageSize;
    const uint64_t start = address - in_page;
    uint32_t protection = ProtectionOf(segment);
    if (read_implies_exec_ && (protection & platform::kProtRead) != 0)
      protection |= platform::kProtExec;
    uint64_t file_end = start;  // Where zero memory begins.
    if (segment.filesz != 0) {
      if (segment.offset < in_page || (segment.offset - in_page) % kPageSize != 0)
        return Errno::kEINVAL;
      file_end = PageRoundUp(address + segment.filesz);
      if (segment.offset - in_page > INT64_MAX - (file_end - start)) return Errno::kEINVAL;
      Piece piece;
      piece.mapping.range = {GuestAddr(start), GuestAddr(file_end)};
      piece.mapping.protection = protection;
      piece.mapping.file = elf.file;
      piece.mapping.offset = segment.offset - in_page;
      // Linux padzero(): tried on read-only segments too, where it fails and does not matter.
      if (segment.memsz > segment.filesz && (protection & platform::kProtWrite) != 0 &&
          address + segment.filesz != file_end)
        piece.clear_from = address + segment.filesz;
      Put(std::move(piece));
    }
    uint64_t memory_end = PageRoundUp(address + segment.memsz);
    if (segment.memsz > segment.filesz && memory_end > file_end) {
      // Linux elf_load(): writable whatever the segment says, executable if it says so.
      AddAnonymous({GuestAddr(file_end), GuestAddr(memory_end)},
                   platform::kProtRead | platform::kProtWrite | (protection & platform::kProtExec),
                   false);
    }
  }
  return {};
}

bool ImagePlan::Overlaps(AddrRange range) const {
  return std::any_of(pieces_.begin(), pieces_.end(),
                     [&](const Piece& p) { return p.mapping.range.overlaps(range); });
}

std::vector<mm::ImageMapping> ImagePlan::Mappings() const {
  std::vector<mm::ImageMapping> out;
  for (const Piece& piece : pieces_) out.push_back(piece.mapping);
  return out;
}

std::vector<AddrRange> ImagePlan::Clears() const {
  std::vector<AddrRange> out;
  for (const Piece& piece : pieces_) {
    if (piece.clear_from != 0)
      out.push_back({GuestAddr(piece.clear_from), piece.mapping.range.end});
  }
  return out;
}

}  // namespace caisson::loader
