// Regular files of tmpfs, and memfds.
#ifndef CAISSON_VFS_TMPFS_REGULAR_FILE_H_
#define CAISSON_VFS_TMPFS_REGULAR_FILE_H_

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "base/io_buffer.h"
#include "base/unique_fd.h"
#include "vfs/tmpfs/node.h"

namespace caisson::vfs::tmpfs {

// F_SEAL_* of fcntl(2).
inline constexpr uint32_t kSealSeal = 1, kSealShrink = 2, kSealGrow = 4, kSealWrite = 8,
                          kSealFutureWrite = 16, kSealExec = 32;

// Data is in sentry memory while the file is small and not mapped, else in a memfd of its own,
// whose host size is always the file's size; it never goes back. Pages are charged to the file
// system as they come to hold data: exactly by our own count while the file has no holes
// (`dense_`), else by asking the host. Thread-safe.
class RegularFile final : public Node {
 public:
  static constexpr size_t kSmall = size_t{256} << 10;  // Bytes kept in sentry memory at most.

  RegularFile(TmpfsFileSystem& fs, FileMode mode, uint32_t uid, uint32_t gid,
              uint32_t seals = kSealSeal);
  ~RegularFile() override;

  Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) override;
  Result<void> AddSeals(uint32_t seals) override;
  Result<uint32_t> GetSeals() override;

  // Bytes at `offset`; 0 at the end.
  Result<size_t> Read(absl::Span<char> to, uint64_t offset);
  // The same for a large read, as far as it can be one copy by the host; the rest, also where there is an
  // error to tell, is for Read().
  size_t ReadByHost(IoBuffer& to, uint64_t offset);
  // `offset` is null for an append; *at is where it was written. A short write is a value.
  // Errors: ENOSPC, EPERM (seals), EFBIG.
  Result<size_t> Write(absl::Span<const char> from, const uint64_t* offset, uint64_t* at);
  Result<void> Allocate(CallContext& ctx, int mode, uint64_t offset, uint64_t length);
  // SEEK_DATA and SEEK_HOLE. Errors: ENXIO.
  Result<int64_t> SeekExtent(int64_t offset, bool hole);
  // A host descriptor with the file's bytes, that the file keeps open. Errors: EPERM (seals).
  Result<int> HostFd(bool for_shared_writing);
  bool SealedAgainstWrites();
  uint64_t size() const { return size_.load(std::memory_order_acquire); }

 protected:
  void FillLocked(Attributes& attr) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> ResizeLocked(uint64_t size) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> CheckModeLocked(FileMode mode) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

 private:
  // Moves the data to a memfd. Errors: ENOMEM, ENOSPC, EIO.
  Result<void> MakeHostFileLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<size_t> WriteSmallLocked(absl::Span<const char> from, uint64_t offset)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<size_t> WriteHostLocked(absl::Span<const char> from, uint64_t offset)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<size_t> WriteHolesLocked(absl::Span<const char> from, uint64_t offset)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The holes of [start, end), to whole pages; some of them where there are very many. To the host a page that was
  // allocated and not written yet is a hole too.
  struct Range {
    uint64_t start, end;
  };
  std::vector<Range> HolesLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Charges what data in [start, end) may need at most; where less is left [start, Reservation::end), and where nothing
  // is left one page, whether or not it is there. SettleLocked() comes when the host has done its work.
  struct Reservation {
    uint64_t end = 0;
    bool paid = true;     // Else:
    uint64_t unpaid = 0;  // where the page is that was not charged,
    uint64_t pages = 0;   // and what the host held before.
  };
  std::optional<Reservation> ReserveLocked(uint64_t start, uint64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Charges what the host holds. False: a page that was not paid for was new; it is gone again.
  bool SettleLocked(const Reservation& reserved) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint64_t HostPagesLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Result<void> PunchHoleLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Gives [start, end) of the host's file its pages, releasing mu_ meanwhile. Undone on failure.
  Result<void> AllocateHostLocked(CallContext& ctx, uint64_t start, uint64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // For who changes data, size or seals, or gives guests a way to.
  void AwaitAllocationLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    while (allocating_) allocated_.Wait(mu_);
  }
  // Sets the charge to what the host file holds.
  void SyncChargeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool GrowSmallLocked(size_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // The data while host_fd_ is -1: bytes past small_size_ are zero.
  std::unique_ptr<char[]> small_ ABSL_GUARDED_BY(mu_);
  size_t small_capacity_ ABSL_GUARDED_BY(mu_) = 0;
  size_t small_size_ ABSL_GUARDED_BY(mu_) = 0;
  UniqueFd memfd_ ABSL_GUARDED_BY(mu_);
  // The same descriptor for readers, who need no lock: published with release once it is whole.
  std::atomic<int> host_fd_{-1};
  std::atomic<uint64_t> size_{0};  // Changed under mu_, with release.
  uint64_t charged_ ABSL_GUARDED_BY(mu_) = 0;  // Pages.
  bool dense_ ABSL_GUARDED_BY(mu_) = true;
  bool shared_for_writing_ ABSL_GUARDED_BY(mu_) = false;  // Since a guest had it mapped so first.
  // A fallocate(2) is at work: who would change the file waits for it, as for Linux's i_rwsem; who
  // reads does not.
  bool allocating_ ABSL_GUARDED_BY(mu_) = false;
  CondVar allocated_;
  bool in_windows_ ABSL_GUARDED_BY(mu_) = false;  // WindowCache may have views of it.
  uint32_t seals_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_REGULAR_FILE_H_
