// A guest address space as the sentry sees it (Linux mm_struct): the tree of VMAs says what each
// range means, and the platform makes it real.
#ifndef CAISSON_SENTRY_MM_MEMORY_MANAGER_H_
#define CAISSON_SENTRY_MM_MEMORY_MANAGER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "auth/credentials.h"
#include "base/guest_addr.h"
#include "base/memory_headroom.h"
#include "base/io_buffer.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"
#include "platform/platform.h"
#include "vfs/file_description.h"

namespace caisson::mm {

// MAP_* of mmap(2), Linux's values.
inline constexpr uint32_t kMapShared = 0x01;
inline constexpr uint32_t kMapPrivate = 0x02;
inline constexpr uint32_t kMapSharedValidate = 0x03;
inline constexpr uint32_t kMapTypeMask = 0x0f;
inline constexpr uint32_t kMapFixed = 0x10;
inline constexpr uint32_t kMapAnonymous = 0x20;
inline constexpr uint32_t kMap32Bit = 0x40;
inline constexpr uint32_t kMapGrowsdown = 0x100;
inline constexpr uint32_t kMapDenywrite = 0x800;
inline constexpr uint32_t kMapLocked = 0x2000;
inline constexpr uint32_t kMapNoreserve = 0x4000;
inline constexpr uint32_t kMapPopulate = 0x8000;
inline constexpr uint32_t kMapNonblock = 0x10000;
inline constexpr uint32_t kMapStack = 0x20000;
inline constexpr uint32_t kMapHugetlb = 0x40000;
inline constexpr uint32_t kMapSync = 0x80000;
inline constexpr uint32_t kMapFixedNoreplace = 0x100000;

// What the caller's limits allow, all in bytes (RLIMIT_AS, DATA, STACK, MEMLOCK).
struct Limits {
  uint64_t address_space = ~uint64_t{0};
  uint64_t data = ~uint64_t{0};
  uint64_t stack = 8 << 20;
  uint64_t memlock = ~uint64_t{0};
  bool memlock_unlimited = false;  // CAP_IPC_LOCK.
};

// Makes the objects behind MAP_SHARED | MAP_ANONYMOUS; vfs/tmpfs implements it. Thread-safe.
class SharedMemoryFactory {
 public:
  virtual ~SharedMemoryFactory() = default;
  // A zeroed, unlinked file of `length` bytes whose Map() gives a memfd. It should have an inode:
  // futexes in it are keyed by that. Errors: ENOMEM, ENOSPC, ENFILE.
  virtual Result<RefPtr<vfs::FileDescription>> NewSharedAnonymous(vfs::CallContext& ctx,
                                                                  uint64_t length) = 0;
  // The same for a System V segment, which is shown as `name` ("/SYSV00000000 (deleted)").
  virtual Result<RefPtr<vfs::FileDescription>> NewSegment(vfs::CallContext& ctx,
                                                          absl::string_view name, uint64_t length) {
    return NewSharedAnonymous(ctx, length);
  }
  // Of what the address spaces' memory counts against; null: nobody can tell. Outlives them.
  virtual MemoryHeadroom* headroom() { return nullptr; }
};

// Something that counts its mappings (a System V segment). All VMAs that come from one Mmap() hold
// the same object; when the last of them is gone so is the reference.
class MappedObject : public RefCounted<MappedObject> {
 public:
  virtual ~MappedObject() = default;
  // What the child's VMAs hold after fork(2).
  virtual RefPtr<MappedObject> Fork() = 0;
};

struct MmapArgs {
  GuestAddr addr;
  uint64_t length = 0;
  uint32_t protection = 0;            // PROT_*, PROT_GROWSDOWN excluded.
  uint32_t flags = 0;                 // MAP_*.
  RefPtr<vfs::FileDescription> file;  // Null if MAP_ANONYMOUS.
  uint64_t offset = 0;                // Bytes.
  std::string name;                   // For /proc/PID/maps: "[stack]"; else the file's.
  bool special = false;  // Not merged, split, remapped or unmapped by the guest's mremap.
  RefPtr<MappedObject> object;
  bool never_writable = false;  // mprotect(PROT_WRITE) is EACCES (shmat(SHM_RDONLY)).
};

// One mapping of a new program: private, at a fixed place that nothing overlaps.
struct ImageMapping {
  AddrRange range;
  uint32_t protection = 0;
  RefPtr<vfs::FileDescription> file;  // Null: zero memory.
  uint64_t offset = 0;                // Bytes, page-aligned.
  bool grows_down = false;            // The stack.
  std::string name;                   // For /proc/PID/maps, in place of the file's: "[vdso]".
  bool never_writable = false;        // mprotect(PROT_WRITE) is EACCES.
};

// Copies between guest and sentry memory with faults that the VMAs can repair repaired (stack
// growth). Errors: EFAULT. Thread-safe.
class GuestMemory {
 public:
  virtual ~GuestMemory() = default;
  // All or EFAULT. CopyOut may have stored a prefix when it fails, as copy_to_user().
  virtual Result<void> CopyIn(GuestAddr from, absl::Span<char> to) = 0;
  virtual Result<void> CopyOut(GuestAddr to, absl::Span<const char> from) = 0;
  // As much as possible; 0 if the first byte faults.
  virtual size_t CopyInPartial(GuestAddr from, absl::Span<char> to) = 0;
  virtual size_t CopyOutPartial(GuestAddr to, absl::Span<const char> from) = 0;
  // CopyOutPartial() of a `from` that may be a mapping whose pages vanish: the copy ends there.
  virtual size_t CopyOutByHost(GuestAddr to, absl::Span<const char> from) = 0;
  // A string up to its NUL (not included), which may be `max` bytes long without the NUL: for a
  // path that is kPathMax - 1. Errors: EFAULT; ENAMETOOLONG if it is longer.
  virtual Result<std::string> CopyInString(GuestAddr from, size_t max) = 0;
};

struct IoVec {
  GuestAddr base;
  uint64_t length;
};
// An IoBuffer over guest memory. The vector was checked (IOV_MAX, total below 2^63).
class GuestIoBuffer final : public IoBuffer {
 public:
  GuestIoBuffer(GuestMemory& memory, GuestAddr base, uint64_t length);
  GuestIoBuffer(GuestMemory& memory, std::vector<IoVec> vec);

 protected:
  Result<size_t> DoPut(size_t at, const char* from, size_t n) override;
  size_t DoPutByHost(size_t at, const char* from, size_t n) override;
  Result<size_t> DoTake(size_t at, char* to, size_t n) override;

 private:
  template <typename F>
  Result<size_t> ForEach(size_t at, size_t n, F f);
  GuestMemory& memory_;
  std::vector<IoVec> vec_;
};

// Thread-safe. One lock (mu_) is held across tree changes and the platform's work (docs/platform.md
// 18: host operation first, tree second). Copies take it only to repair a fault.
class MemoryManager : public RefCounted<MemoryManager>, public GuestMemory {
 public:
  // A new, empty address space. `platform` and `shared_memory` outlive it and its forks; without
  // `shared_memory`, shared anonymous mappings fail with ENODEV.
  static Result<RefPtr<MemoryManager>> New(platform::Platform& platform,
                                           SharedMemoryFactory* shared_memory = nullptr);
  ~MemoryManager() override;
  // fork(2): a copy-on-write clone; MADV_DONTFORK and WIPEONFORK ranges as Linux.
  Result<RefPtr<MemoryManager>> Fork();

  // execve(2): an empty one in this one's address space, which this one loses: it may only be
  // destroyed then. Null if that cannot be (AddressSpace::BeginProgram()); nothing has changed then.
  // The caller has the only reference, and calls MapImage() first.
  RefPtr<MemoryManager> Replace();
  // For who has the only reference and is about to drop it: no guest code can run here any more.
  std::unique_ptr<platform::AddressSpace> TakeSpace() && { return std::move(space_); }

  platform::AddressSpace& address_space() { return *space_; }

  // The system calls, arguments as the guest gave them (this checks them). Errors: theirs.
  Result<GuestAddr> Mmap(vfs::CallContext& ctx, const MmapArgs& args, const Limits& limits);
  Result<void> Munmap(GuestAddr addr, uint64_t length);
  Result<void> Mprotect(GuestAddr addr, uint64_t length, uint32_t protection, const Limits& limits,
                        bool read_implies_exec = false);
  Result<GuestAddr> Mremap(GuestAddr addr, uint64_t old_length, uint64_t new_length, uint32_t flags,
                           GuestAddr new_addr, const Limits& limits);
  Result<void> Madvise(GuestAddr addr, uint64_t length, int advice);
  // Returns the break after the call (brk(2)'s raw return: unchanged on failure).
  GuestAddr Brk(GuestAddr addr, const Limits& limits);
  Result<void> Msync(vfs::CallContext& ctx, GuestAddr addr, uint64_t length, int flags);
  Result<void> Mincore(GuestAddr addr, uint64_t length, GuestAddr vec);
  Result<void> Mlock(GuestAddr addr, uint64_t length, bool on_fault, const Limits& limits);
  Result<void> Munlock(GuestAddr addr, uint64_t length);
  // shmdt(2): unmaps what is left of the Mmap() with a MappedObject that began at `addr`, and
  // returns that object. Errors: EINVAL.
  Result<RefPtr<MappedObject>> Detach(GuestAddr addr);
  Result<void> MlockAll(int flags, const Limits& limits);
  Result<void> MunlockAll();

  // prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME): the name was checked; empty for none. Errors: EINVAL,
  // ENOMEM, EBADF for a range with file mappings.
  Result<void> SetAnonymousName(GuestAddr addr, uint64_t length, const std::string& name);

  // Maps a program's segments into a new address space, in one platform request. Limits do not
  // apply. Errors: Map()'s; EINVAL for overlaps; ENOMEM.
  Result<void> MapImage(vfs::CallContext& ctx, absl::Span<const ImageMapping> mappings);

  // Mappings of `from` become mappings of `to`, at the same offsets. Errors: Map()'s, ENOMEM.
  Result<void> ReplaceFile(vfs::CallContext& ctx, const vfs::FileDescription& from,
                           const RefPtr<vfs::FileDescription>& to);

  // A fault that the platform could not serve. Ok: repaired, run on. Else the signal to send.
  struct FaultSignal {
    bool repaired = false;
    int signo = 0;  // SIGSEGV or SIGBUS.
    int code = 0;   // SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR.
  };
  FaultSignal HandleFault(const platform::Event& event, uint64_t stack_limit);

  // GuestMemory.
  Result<void> CopyIn(GuestAddr from, absl::Span<char> to) override;
  Result<void> CopyOut(GuestAddr to, absl::Span<const char> from) override;
  size_t CopyInPartial(GuestAddr from, absl::Span<char> to) override;
  size_t CopyOutPartial(GuestAddr to, absl::Span<const char> from) override;
  size_t CopyOutByHost(GuestAddr to, absl::Span<const char> from) override {
    return CopyOutPartial(to, from);
  }
  Result<std::string> CopyInString(GuestAddr from, size_t max) override;
  // Whether one mapping covers all of it and allows writing. Another thread may change that at once.
  bool MayWrite(GuestAddr to, uint64_t length) const;
  // For ptrace and /proc/PID/mem: regardless of protection, as FOLL_FORCE.
  size_t CopyInForced(GuestAddr from, absl::Span<char> to);
  size_t CopyOutForced(GuestAddr to, absl::Span<const char> from);
  // Atomics, faulting the page in first. Errors: EFAULT.
  Result<uint32_t> Load32(GuestAddr addr);
  Result<uint32_t> CompareExchange32(GuestAddr addr, uint32_t expected, uint32_t desired);

  // What a futex at `addr` is keyed by: for a shared mapping the object and the offset in it, else
  // this mm and the address. Errors: EFAULT if unmapped.
  struct FutexKey {
    const void* object = nullptr;  // Inode or mm; kept alive by `hold`.
    uint64_t offset = 0;
    RefPtr<vfs::Inode> hold;
    RefPtr<vfs::FileDescription> hold_file;  // For an object without inode.
    friend bool operator==(const FutexKey& a, const FutexKey& b) {
      return a.object == b.object && a.offset == b.offset;
    }
  };
  Result<FutexKey> GetFutexKey(GuestAddr addr, bool private_hint);

  // Set by the loader and prctl(PR_SET_MM).
  struct Layout {
    GuestAddr start_code, end_code, start_data, end_data, start_brk, start_stack;
    GuestAddr arg_start, arg_end, env_start, env_end;
    std::string auxv;  // As /proc/PID/auxv shows it.
  };
  void SetLayout(const Layout& layout);
  Layout layout() const;
  // Places the break's start (the loader; page-aligned).
  void InitBreak(GuestAddr start);
  void SetMmapBase(GuestAddr top);
  // RLIMIT_STACK for stacks that grow under the sentry's own copies; HandleFault() updates it.
  void set_stack_limit(uint64_t bytes);
  // The executable: writes to it are denied (Inode::DenyWrites) while this mm or a fork of it
  // lives. No effect on denials that the caller holds.
  void SetExecutable(RefPtr<vfs::FileDescription> file);
  RefPtr<vfs::FileDescription> executable() const;
  // PR_SET_DUMPABLE: 0, 1 or 2.
  int dumpable() const;
  void set_dumpable(int value);
  // Where one must be privileged to look into it if it is not dumpable (Linux mm->user_ns): the namespace of the last
  // exec, or one above it that has the owners of what could not be read. Null, if none was set: the root namespace.
  // Set before others can see this mm; Fork() passes it on, unshare(2) and setns(2) do not change it.
  const auth::UserNamespace* user_ns() const;
  void set_user_ns(RefPtr<const auth::UserNamespace> ns);
  // Dumpable, or `who` has CAP_SYS_PTRACE there.
  bool IsOpenTo(const auth::Credentials& who) const;

  // For /proc: one entry a VMA, in address order.
  struct VmaInfo {
    AddrRange range;
    uint32_t protection = 0;
    bool shared = false;
    bool locked = false;
    bool grows_down = false;
    uint64_t offset = 0;
    RefPtr<vfs::FileDescription> file;
    std::string name;
  };
  std::vector<VmaInfo> Vmas() const;
  struct Totals {
    uint64_t virtual_bytes = 0, peak_virtual = 0, data = 0, stack = 0, exec = 0, locked = 0,
             shared_virtual = 0;
  };
  Totals totals() const;

 private:
  class Impl;
  MemoryManager(std::unique_ptr<platform::AddressSpace> space, std::unique_ptr<Impl> impl);
  std::unique_ptr<platform::AddressSpace> space_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace caisson::mm

#endif  // CAISSON_SENTRY_MM_MEMORY_MANAGER_H_
