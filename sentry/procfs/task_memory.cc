// /proc/PID/auxv, cmdline, environ, mem: a task's memory, read through its mm.
#include <algorithm>

#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

constexpr size_t kChunk = 64 << 10;
// What execve(2) may have put there at most (bprm's three quarters of the stack limit, 6 MiB), and
// what prctl(PR_SET_MM) may claim.
constexpr uint64_t kMaxArea = 8 << 20;

// What of [start, end) can be read from its start on.
std::string CopyArea(mm::MemoryManager& mm, GuestAddr start, GuestAddr end) {
  std::string out;
  if (end <= start) return out;
  const uint64_t size = std::min(end - start, kMaxArea);
  while (out.size() < size) {
    const size_t at = out.size();
    const size_t want = std::min<uint64_t>(kChunk, size - at);
    out.resize(at + want);
    const size_t got = mm.CopyInForced(start + at, absl::Span<char>(out.data() + at, want));
    out.resize(at + got);
    if (got < want) break;
  }
  return out;
}

// /proc/PID/mem: the mm as of open(2). Positions are addresses, also above 2^63.
class MemFile final : public vfs::FileDescription {
 public:
  MemFile(const vfs::OpenArgs& args, vfs::Inode& inode, RefPtr<mm::MemoryManager> mm)
      : FileDescription(vfs::FileKind::kGenerated, args.path, RefPtr<vfs::Inode>(&inode),
                        args.flags),
        mm_(std::move(mm)) {}

  Result<size_t> PRead(CallContext&, IoBuffer& to, uint64_t offset, uint32_t) override {
    return Transfer(offset, to, [&](char* chunk, uint64_t at, size_t n) -> Result<size_t> {
      const size_t got = mm_->CopyInForced(GuestAddr(at), absl::Span<char>(chunk, n));
      if (got == 0) return Errno::kEIO;
      return to.Put({chunk, got});
    });
  }
  Result<size_t> PWrite(CallContext&, IoBuffer& from, uint64_t offset, uint32_t) override {
    return Transfer(offset, from, [&](char* chunk, uint64_t at, size_t n) -> Result<size_t> {
      const size_t taken = TRY(from.Take(absl::Span<char>(chunk, n)));
      const size_t put = mm_->CopyOutForced(GuestAddr(at), absl::Span<const char>(chunk, taken));
      if (put == 0) return Errno::kEIO;
      return put;
    });
  }
  Result<size_t> Read(CallContext& ctx, IoBuffer& to, uint32_t rwf) override {
    MutexLock lock(mu_);
    const size_t n = TRY(PRead(ctx, to, position_, rwf));
    position_ += n;
    return n;
  }
  Result<size_t> Write(CallContext& ctx, IoBuffer& from, uint32_t rwf) override {
    MutexLock lock(mu_);
    const size_t n = TRY(PWrite(ctx, from, position_, rwf));
    position_ += n;
    return n;
  }
  // mem_lseek().
  Result<int64_t> Seek(CallContext&, int64_t offset, int whence) override {
    MutexLock lock(mu_);
    if (whence != 0 && whence != 1) return Errno::kEINVAL;
    position_ = static_cast<uint64_t>(offset) + (whence == 1 ? position_ : 0);
    return static_cast<int64_t>(position_);
  }

 private:
  template <typename F>
  Result<size_t> Transfer(uint64_t offset, IoBuffer& buffer, F step) {
    if (!mm_) return size_t{0};
    std::string chunk(std::min(kChunk, buffer.remaining()), '\0');
    size_t total = 0;
    while (buffer.remaining() != 0) {
      const size_t n = std::min(chunk.size(), buffer.remaining());
      if (offset + total < offset || offset + total + n < offset) break;
      Result<size_t> done = step(chunk.data(), offset + total, n);
      if (!done.ok()) {
        if (total == 0) return done;
        break;
      }
      total += *done;
      if (*done < n) break;
    }
    return total;
  }

  const RefPtr<mm::MemoryManager> mm_;
  Mutex mu_;  // Held across guest memory accesses, as Linux's f_pos_lock.
  uint64_t position_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace

Result<std::string> ReadAuxv(CallContext&, MmObject& o) {
  return o.mm() ? o.mm()->layout().auxv : std::string();
}

Result<std::string> ReadEnviron(CallContext&, MmObject& o) {
  if (!o.mm()) return std::string();
  const mm::MemoryManager::Layout l = o.mm()->layout();
  return CopyArea(*o.mm(), l.env_start, l.env_end);
}

// get_mm_cmdline(): a program that has overwritten the end of its arguments (setproctitle(3)) may
// have gone on into its environment; then all is shown up to the first NUL.
Result<std::string> ReadCmdline(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  RefPtr<mm::MemoryManager> mm = task->mm_ref();
  if (!mm) return std::string();
  const mm::MemoryManager::Layout l = mm->layout();
  if (l.arg_start >= l.arg_end) return std::string();
  std::string text = CopyArea(*mm, l.arg_start, l.arg_end);
  if (text.size() != l.arg_end - l.arg_start || text.empty() || text.back() == '\0') return text;
  if (l.env_start == l.arg_end && l.env_end > l.env_start)
    text += CopyArea(*mm, l.env_start, l.env_end);
  const size_t end = text.find('\0');
  if (end != std::string::npos) text.resize(end + 1);
  return text;
}

Result<RefPtr<vfs::FileDescription>> OpenMem(CallContext& ctx, TaskObject& o,
                                             const vfs::OpenArgs& args, vfs::Inode& inode) {
  RefPtr<Task> task = TRY(o.Get());
  TRY(MayInspect(ctx, *task));
  return RefPtr<vfs::FileDescription>(MakeRef<MemFile>(args, inode, task->mm_ref()));
}

}  // namespace caisson::procfs
