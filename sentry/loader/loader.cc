#include "sentry/loader/loader.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "sentry/loader/elf.h"
#include "sentry/loader/stack.h"
#include "vfs/path_walk.h"

namespace caisson::loader {

namespace {

// Linux arch/x86 values: how many bits of what is random.
constexpr int kMmapRandomBits = 28;              // Pages.
constexpr uint64_t kStackRandomMask = 0x3fffff;  // Pages.
constexpr uint64_t kBrkRandom = 32 << 20;
constexpr uint64_t kMinStackGap = 128 << 20;
constexpr uint64_t kStackExtra = 128 << 10;

// What one exec needs, in one call of the host.
class Random {
 public:
  explicit Random(bool enabled) : enabled_(enabled) {
    // Up to 256 bytes always come whole (getrandom(2)).
    CHECK(getrandom(bytes_, sizeof(bytes_), 0) == static_cast<ssize_t>(sizeof(bytes_)));
  }
  // 64 random bits, or 0 without randomization.
  uint64_t Next() { return enabled_ ? Bits() : 0; }
  uint64_t Bits() {
    uint64_t value = 0;
    Fill(&value, sizeof(value));
    return value;
  }
  void Fill(void* to, size_t size) {
    CHECK(size <= sizeof(bytes_) - used_);
    std::memcpy(to, bytes_ + used_, size);
    used_ += size;
  }

 private:
  const bool enabled_;
  char bytes_[128];
  size_t used_ = 0;
};

struct Placement {
  uint64_t task_end;
  uint64_t stack_top;
  uint64_t mmap_base;
  uint64_t dyn_base;  // ELF_ET_DYN_BASE, randomized.
};

// Linux arch/x86/mm/mmap.c, mmap_base(), and fs/binfmt_elf.c, randomize_stack_top().
Placement Place(AddrRange guest, uint64_t stack_limit, Random& random) {
  Placement p;
  p.task_end = guest.end.value;
  uint64_t stack_random = (random.Next() & kStackRandomMask) * kPageSize;
  p.stack_top = PageRoundDown(p.task_end - kPageSize - stack_random);
  uint64_t gap = std::min(stack_limit, p.task_end / 6 * 5);
  gap = std::min(gap + (kStackRandomMask + 1) * kPageSize + 256 * kPageSize, p.task_end / 6 * 5);
  gap = std::max(gap, kMinStackGap);
  uint64_t mmap_random = (random.Next() & ((uint64_t{1} << kMmapRandomBits) - 1)) * kPageSize;
  p.mmap_base = PageRoundDown(p.task_end - gap - std::min(mmap_random, p.task_end / 16));
  uint64_t dyn_random = (random.Next() & ((uint64_t{1} << kMmapRandomBits) - 1)) * kPageSize;
  p.dyn_base = PageRoundDown(p.task_end / 3 * 2) + std::min(dyn_random, p.task_end / 16);
  return p;
}

// The bias that puts `extent` directly below `top`, aligned. ENOMEM if it does not fit.
Result<uint64_t> BiasBelow(uint64_t top, uint64_t bottom, AddrRange extent, uint64_t alignment) {
  if (extent.length() > top || top - extent.length() < bottom) return Errno::kENOMEM;
  // The bias, not the address, is a multiple of the alignment.
  uint64_t start = top - extent.length();
  uint64_t bias = start - extent.start.value;  // Wraps if the extent starts above: as meant.
  uint64_t aligned = bias & ~(alignment - 1);
  if (start < bottom + (bias - aligned)) return Errno::kENOMEM;
  return aligned;
}

bool Contains(AddrRange guest, AddrRange extent, uint64_t bias) {
  uint64_t start = extent.start.value + bias, end = extent.end.value + bias;
  return start < end && start >= guest.start.value && end <= guest.end.value;
}

struct MainImage {
  uint64_t bias = 0;
  uint64_t start_code = ~uint64_t{0}, end_code = 0, start_data = 0, end_data = 0, brk = 0;
  uint64_t phdr = 0;
};

MainImage Describe(const ElfFile& elf, uint64_t bias) {
  MainImage image;
  image.bias = bias;
  for (const abi::Elf64ProgramHeader& s : elf.segments) {
    if (s.type != abi::kPtLoad) continue;
    uint64_t start = s.vaddr + bias, file_end = start + s.filesz;
    if ((s.flags & abi::kPfX) != 0) {
      image.start_code = std::min(image.start_code, start);
      image.end_code = std::max(image.end_code, file_end);
    }
    image.start_data = std::max(image.start_data, start);
    image.end_data = std::max(image.end_data, file_end);
    image.brk = std::max(image.brk, start + s.memsz);
    // The headers are wherever a segment brought them.
    if (s.offset <= elf.header.phoff && elf.header.phoff - s.offset < s.filesz)
      image.phdr = elf.header.phoff - s.offset + start;
  }
  if (image.start_code == ~uint64_t{0}) image.start_code = 0;
  return image;
}

bool StackIsExecutable(const ElfFile& elf) {
  // Without PT_GNU_STACK an x86-64 program's stack is not executable (Linux asm/elf.h).
  bool executable = false;
  for (const abi::Elf64ProgramHeader& s : elf.segments) {
    if (s.type == abi::kPtGnuStack) executable = (s.flags & abi::kPfX) != 0;
  }
  return executable;
}

std::string CommOf(const std::string& path) {
  std::string name = path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
  return name.substr(0, 15);
}

}  // namespace

namespace {

// Somewhere above the stack, as Linux has it (vdso_addr()), or below what is already where
// libraries go. Returns the image's address.
Result<uint64_t> AddVdso(ImagePlan& plan, const LoadArgs& args, const Placement& place,
                         uint64_t mmap_top, Random& random) {
  const uint64_t length = kPageSize + args.vdso.image_length;
  const uint64_t room = place.task_end - kPageSize - place.stack_top;
  uint64_t at = 0;
  if (room >= length) {
    at = place.stack_top + random.Next() % ((room - length) / kPageSize + 1) * kPageSize;
  } else {
    at = mmap_top - length;
  }
  const GuestAddr data(at), image(at + kPageSize);
  mm::ImageMapping mapping;
  mapping.range = {data, image};
  mapping.protection = platform::kProtRead;
  mapping.file = args.vdso.data;
  mapping.name = "[vvar]";
  mapping.never_writable = true;
  if (plan.Overlaps({data, GuestAddr(at + length)})) return Errno::kENOMEM;
  plan.Add(mapping);
  mapping.range = {image, GuestAddr(at + length)};
  mapping.protection = platform::kProtRead | platform::kProtExec;
  mapping.file = args.vdso.image;
  mapping.name = "[vdso]";
  mapping.never_writable = false;
  plan.Add(std::move(mapping));
  return image.value;
}

// would_dump(): what cannot be read shall not be so in memory either, nor by those who are root only in a
// namespace that does not have its owner.
// An owner that cannot be learnt is nobody's.
void NoteReadability(vfs::CallContext& ctx, vfs::Inode& inode, PreparedImage* image) {
  if (vfs::MayAccess(ctx, inode, vfs::kMayRead).ok()) return;
  image->readable = false;
  const Result<vfs::Attributes> attr = inode.GetAttributes(ctx);
  const auth::UserNamespace* ns = image->user_ns.get();
  while (ns->parent() != nullptr && !(attr.ok() && ns->MapsUid(attr->uid) && ns->MapsGid(attr->gid)))
    ns = ns->parent();
  image->user_ns = RefPtr<const auth::UserNamespace>(ns);
}

}  // namespace

Result<PreparedImage> PrepareImage(vfs::CallContext& ctx, platform::Platform& platform,
                                   const LoadArgs& args, const Program& program) {
  TRY(CheckArguments(program.argv, args.envp, args.path, args.stack_limit));
  ElfFile elf = TRY(ReadElf(ctx, program.file));
  const AddrRange guest = platform.guest_range();
  const std::string interpreter_path = TRY(ReadInterpreterPath(ctx, elf));
  ElfFile interpreter;
  WriteDenial interpreter_denial;
  PreparedImage prepared;
  prepared.user_ns = ctx.creds().user_ns;
  NoteReadability(ctx, *program.file->inode(), &prepared);
  if (!interpreter_path.empty()) {
    RefPtr<vfs::FileDescription> file = TRY(args.open(interpreter_path));
    NoteReadability(ctx, *file->inode(), &prepared);
    interpreter_denial = WriteDenial(file->inode_ref());
    // load_elf_binary(): a bad interpreter is the library's fault.
    Result<ElfFile> read = ReadElf(ctx, file);
    if (!read.ok()) return Errno::kELIBBAD;
    interpreter = *std::move(read);
  }

  Random random((args.personality & abi::kAddrNoRandomize) == 0);
  const Placement place = Place(guest, args.stack_limit, random);
  const bool implies_exec = (args.personality & abi::kReadImpliesExec) != 0;
  ImagePlan plan(implies_exec);

  // The program. One with an interpreter is a PIE; one without may be the interpreter itself, run
  // by hand, and goes where libraries go, out of the break's way.
  const AddrRange extent = TRY(LoadExtent(elf, place.task_end));
  const uint64_t alignment = MaxAlignment(elf);
  if (alignment > place.task_end) return Errno::kENOMEM;
  uint64_t mmap_top = place.mmap_base;
  uint64_t bias = 0;
  if (elf.is_dyn() && interpreter.file) {
    bias = (place.dyn_base & ~(alignment - 1)) - extent.start.value;
  } else if (elf.is_dyn()) {
    bias = TRY(BiasBelow(mmap_top, guest.start.value, extent, alignment));
    mmap_top = extent.start.value + bias;
  }
  if (!Contains(guest, extent, bias)) {
    return elf.is_dyn()                 ? Errno::kENOMEM
           : extent.start < guest.start ? Errno::kEPERM
                                        : Errno::kENOMEM;
  }
  TRY(plan.Add(elf, bias));
  MainImage image = Describe(elf, bias);
  uint64_t entry = elf.header.entry + bias;

  uint64_t interpreter_base = 0;
  if (interpreter.file) {
    AddrRange part = TRY(LoadExtent(interpreter, place.task_end));
    uint64_t interpreter_bias = 0;
    if (interpreter.is_dyn()) {
      uint64_t align = MaxAlignment(interpreter);
      if (align > place.task_end) return Errno::kENOMEM;
      interpreter_bias = TRY(BiasBelow(mmap_top, guest.start.value, part, align));
      AddrRange there{GuestAddr(part.start.value + interpreter_bias),
                      GuestAddr(part.end.value + interpreter_bias)};
      if (plan.Overlaps(there)) {
        // A fixed program sits where libraries go: below it.
        interpreter_bias =
            TRY(BiasBelow(extent.start.value + bias, guest.start.value, part, align));
      }
    }
    if (!Contains(guest, part, interpreter_bias)) return Errno::kENOMEM;
    AddrRange there{GuestAddr(part.start.value + interpreter_bias),
                    GuestAddr(part.end.value + interpreter_bias)};
    if (plan.Overlaps(there)) return Errno::kEINVAL;
    TRY(plan.Add(interpreter, interpreter_bias));
    if (interpreter.is_dyn()) mmap_top = PageRoundDown(there.start.value);
    interpreter_base = interpreter_bias;
    entry = interpreter.header.entry + interpreter_bias;
  }
  if (entry >= place.task_end) return Errno::kEINVAL;

  std::vector<std::pair<uint64_t, uint64_t>> auxv;
  if (args.vdso.image)
    auxv.push_back({abi::kAtSysinfoEhdr, TRY(AddVdso(plan, args, place, mmap_top, random))});

  // The stack, with what execve(2) gives it at first.
  auxv.push_back({abi::kAtMinsigstksz, platform.min_signal_stack()});
  auxv.push_back({abi::kAtHwcap, args.hwcap});
  auxv.push_back({abi::kAtPagesz, kPageSize});
  auxv.push_back({abi::kAtClktck, 100});
  auxv.push_back({abi::kAtPhdr, image.phdr});
  auxv.push_back({abi::kAtPhent, sizeof(abi::Elf64ProgramHeader)});
  auxv.push_back({abi::kAtPhnum, elf.header.phnum});
  auxv.push_back({abi::kAtBase, interpreter_base});
  auxv.push_back({abi::kAtFlags, 0});
  auxv.push_back({abi::kAtEntry, elf.header.entry + bias});
  auxv.push_back({abi::kAtUid, args.uid});
  auxv.push_back({abi::kAtEuid, args.euid});
  auxv.push_back({abi::kAtGid, args.gid});
  auxv.push_back({abi::kAtEgid, args.egid});
  auxv.push_back({abi::kAtSecure, args.secure ? uint64_t{1} : uint64_t{0}});
  // wrfsbase in guest code would bypass what the platform knows of fs (docs/platform.md 11).
  auxv.push_back({abi::kAtHwcap2, args.hwcap2 & ~abi::kHwcap2FsGsBase});
  char random_bytes[16];
  random.Fill(random_bytes, sizeof(random_bytes));
  StackContents stack = BuildStack(GuestAddr(place.stack_top), program.argv, args.envp, args.path,
                                   std::move(auxv), random_bytes, random.Next() % 8192);
  uint64_t used = place.stack_top - PageRoundDown(stack.pointer.value);
  uint64_t stack_size =
      std::max(used, std::min(used + kStackExtra, PageRoundDown(args.stack_limit)));
  AddrRange stack_range{GuestAddr(place.stack_top - stack_size), GuestAddr(place.stack_top)};
  if (plan.Overlaps(stack_range)) return Errno::kENOMEM;
  uint32_t stack_protection = platform::kProtRead | platform::kProtWrite;
  if (StackIsExecutable(elf)) stack_protection |= platform::kProtExec;
  plan.AddAnonymous(stack_range, stack_protection, true);

  uint64_t brk = PageRoundUp(image.brk);
  if (elf.is_dyn() && !interpreter.file && (args.personality & abi::kAddrNoRandomize) == 0)
    brk = place.dyn_base;
  brk += PageRoundDown(random.Next() % kBrkRandom);
  mm::MemoryManager::Layout& layout = prepared.layout;
  layout.start_code = GuestAddr(image.start_code);
  layout.end_code = GuestAddr(image.end_code);
  layout.start_data = GuestAddr(image.start_data);
  layout.end_data = GuestAddr(image.end_data);
  layout.start_brk = GuestAddr(brk);
  layout.start_stack = stack.pointer;
  layout.arg_start = stack.arg_start;
  layout.arg_end = stack.arg_end;
  layout.env_start = stack.env_start;
  layout.env_end = stack.env_end;
  layout.auxv = std::move(stack.auxv);
  prepared.entry = GuestAddr(entry);
  prepared.stack_pointer = stack.pointer;
  prepared.comm = CommOf(args.path);
  prepared.mappings = plan.Mappings();
  prepared.clears = plan.Clears();
  prepared.stack_bytes = std::move(stack.bytes);
  prepared.mmap_base = GuestAddr(place.mmap_base);
  prepared.stack_limit = args.stack_limit;
  prepared.executable = program.file;
  prepared.interpreter_denial = std::move(interpreter_denial);
  return prepared;
}

Result<void> MapPrepared(vfs::CallContext& ctx, const PreparedImage& image, mm::MemoryManager& mm) {
  TRY(mm.MapImage(ctx, image.mappings));
  static constexpr char kZeros[kPageSize] = {};
  for (const AddrRange& clear : image.clears)
    TRY(mm.CopyOut(clear.start, absl::Span<const char>(kZeros, clear.length())));
  TRY(mm.CopyOut(image.stack_pointer, image.stack_bytes));
  mm.SetMmapBase(image.mmap_base);
  mm.set_stack_limit(image.stack_limit);
  mm.SetLayout(image.layout);
  mm.InitBreak(image.layout.start_brk);
  mm.SetExecutable(image.executable);
  return {};
}

Result<LoadedImage> LoadImage(vfs::CallContext& ctx, platform::Platform& platform,
                              const LoadArgs& args, const Program& program) {
  PreparedImage image = TRY(PrepareImage(ctx, platform, args, program));
  LoadedImage loaded;
  loaded.mm = TRY(mm::MemoryManager::New(platform, args.shared_memory));
  if (!image.readable) loaded.mm->set_dumpable(0);
  loaded.mm->set_user_ns(image.user_ns);
  TRY(MapPrepared(ctx, image, *loaded.mm));
  loaded.entry = image.entry;
  loaded.stack_pointer = image.stack_pointer;
  loaded.comm = std::move(image.comm);
  return loaded;
}

}  // namespace caisson::loader
