// Loads programs: ELF64 (static, PIE, with an interpreter) and #! scripts (execve(2), Linux
// fs/binfmt_elf.c, fs/binfmt_script.c).
#ifndef CAISSON_SENTRY_LOADER_LOADER_H_
#define CAISSON_SENTRY_LOADER_LOADER_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vdso/vdso.h"
#include "vfs/call_context.h"
#include "vfs/file_description.h"

namespace caisson::loader {

struct LoadArgs {
  RefPtr<vfs::FileDescription> file;  // From vfs::OpenForExec.
  std::string path;                   // As given to execve: script argument and AT_EXECFN.
  std::vector<std::string> argv;
  std::vector<std::string> envp;
  uint64_t stack_limit = 8 << 20;  // RLIMIT_STACK; arguments may take a quarter of it.
  uint32_t personality = 0;        // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC.
  // Ids for the auxiliary vector after set-id handling, as the guest's namespace shows them; the
  // caller decides `secure` (AT_SECURE).
  uint32_t uid = 0, euid = 0, gid = 0, egid = 0;
  bool secure = false;
  uint64_t hwcap = 0, hwcap2 = 0;
  vdso::Files vdso;  // Of the caller's time namespace; without an image the program gets none.
  // Behind MAP_SHARED | MAP_ANONYMOUS of the new address space; may be null in tests.
  mm::SharedMemoryFactory* shared_memory = nullptr;
  // Opens an interpreter (script or PT_INTERP) with permission checks, as OpenForExec: writes to
  // it are denied, which the loader undoes (Inode::AllowWrites) when it is done with the file.
  std::function<Result<RefPtr<vfs::FileDescription>>(const std::string& path)> open;
};

// Holds a denial of writes that vfs::OpenForExec made, and gives it back.
class WriteDenial {
 public:
  WriteDenial() = default;
  explicit WriteDenial(RefPtr<vfs::Inode> inode) : inode_(std::move(inode)) {}
  WriteDenial(WriteDenial&& o) noexcept = default;
  WriteDenial& operator=(WriteDenial&& o) noexcept {
    std::swap(inode_, o.inode_);
    return *this;
  }
  ~WriteDenial() {
    if (inode_) inode_->AllowWrites();
  }

 private:
  RefPtr<vfs::Inode> inode_;
};

// The program that Resolve() found behind scripts, before its image is loaded: the caller derives
// set-id credentials from `file` and then calls LoadImage.
struct Program {
  RefPtr<vfs::FileDescription> file;
  std::vector<std::string> argv;  // With interpreters and script path put in front.
  std::string exec_path;          // Of the ELF file (AT_EXECFN keeps the original path).
  // Of `file` if Resolve() opened it; the caller's args.file stays the caller's. The new mm has a
  // denial of its own.
  WriteDenial denial;
};

// Follows #! lines, at most 5 deep. Errors: ENOEXEC, ELOOP, EACCES, ENOENT, E2BIG, and the
// opener's.
Result<Program> Resolve(vfs::CallContext& ctx, const LoadArgs& args);

// What is to be mapped and stored, and where: all that can be known of an image without memory.
struct PreparedImage {
  GuestAddr entry;          // First instruction (the interpreter's, if any).
  GuestAddr stack_pointer;  // 16-byte aligned, argc at the top.
  std::string comm;         // Last component of the path, 15 bytes at most.

  // For MapPrepared().
  std::vector<mm::ImageMapping> mappings;
  std::vector<AddrRange> clears;
  std::string stack_bytes;
  mm::MemoryManager::Layout layout;
  GuestAddr mmap_base;
  uint64_t stack_limit = 0;
  RefPtr<vfs::FileDescription> executable;
  // Whether the caller may read the program and its interpreter; else who runs them is not dumpable, and open only to
  // those who are privileged in `user_ns` (would_dump()): the caller's namespace, or one above it that has the owners.
  bool readable = true;
  RefPtr<const auth::UserNamespace> user_ns;
  WriteDenial interpreter_denial;
};

// Reads and checks the image and its interpreter, and places them, stack, break and vDSO. Every
// field of the file is checked: a hostile ELF gives ENOEXEC or what Linux gives. Errors: ENOEXEC,
// ENOMEM, E2BIG, EIO, ELIBBAD, EACCES.
Result<PreparedImage> PrepareImage(vfs::CallContext& ctx, platform::Platform& platform,
                                   const LoadArgs& args, const Program& program);
// Into an address space that is new. Errors: ENOMEM, EIO, EFAULT, and what mmap(2) of the files returns.
Result<void> MapPrepared(vfs::CallContext& ctx, const PreparedImage& image, mm::MemoryManager& mm);

struct LoadedImage {
  RefPtr<mm::MemoryManager> mm;
  GuestAddr entry;
  GuestAddr stack_pointer;
  std::string comm;
};

// All of it, with a new address space.
Result<LoadedImage> LoadImage(vfs::CallContext& ctx, platform::Platform& platform,
                              const LoadArgs& args, const Program& program);

}  // namespace caisson::loader

#endif  // CAISSON_SENTRY_LOADER_LOADER_H_
