// Patched copies of program files, shared by all processes that map the file.
#ifndef CAISSON_PLATFORM_TRAP_PATCH_IMAGE_H_
#define CAISSON_PLATFORM_TRAP_PATCH_IMAGE_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "absl/types/span.h"
#include "base/guest_addr.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/stub/slots.h"
#include "platform/trap/patch_scan.h"
#include "platform/trap/trampoline.h"

namespace caisson::platform::trap {

// A memfd with the site stubs of one file first and then patched copies of its pages. Everything in
// it is independent of where the file is mapped, but for one thing: the stubs are mapped at `delta`
// bytes from where the file's first byte is (or would be).
//
// A page that is in use never changes: another site in it makes another copy. Where a thread may be on its
// way from a site to its hop (patch_scan.h) when the page is unpatched, the hops must stay: then there is a
// copy with nothing but them as well. Nobody but this object can write the memfd (F_SEAL_FUTURE_WRITE).
// Thread-safe.
class PatchImage {
 public:
  static constexpr size_t kStubBytes = 8 * kPageSize;
  static constexpr size_t kMaxPages = 1024;
  // Sites beyond this file offset are out of a jump's reach.
  static constexpr uint64_t kMaxFileOffset = uint64_t{240} << 20;
  static constexpr int64_t kDelta = 0x70000000;

  struct Page {
    uint64_t file_offset;
    uint64_t image_offset;
  };
  struct Site {
    uint64_t file_offset;  // Of its `syscall` instruction.
    uint32_t number;       // That it loads; with a hop, that it was found with.
    bool hop = false;      // The number is known when it is called.
    size_t carried = 0;    // SitePlan's.
  };
  struct Stub {
    Site site;
    uint64_t offset;
  };
  // In the stub of a site with a hop: its own `syscall` instruction, for calls that are not the
  // trampoline's; in [kEscapedAt, kEscapedEnd) the call has been made.
  static constexpr uint64_t kEscape = 20, kEscapedAt = 22, kEscapedEnd = 34;

  // `source`: the file, read page by page; outlives this. Errors: those of memfd_create(2).
  static Result<std::unique_ptr<PatchImage>> Create(int source, int64_t delta,
                                                    const Trampoline& trampoline);

  int fd() const { return fd_.get(); }
  int64_t delta() const { return delta_; }
  // Patches the site, or finds it patched; returns its page's newest copy. Errors: ENOENT if it
  // cannot be patched, ENOSPC if the image is full.
  Result<Page> AddSite(const Site& site) ABSL_LOCKS_EXCLUDED(mu_);
  // The newest copies of the patched pages in [from, to), in order.
  std::vector<Page> Pages(uint64_t from, uint64_t to) const ABSL_LOCKS_EXCLUDED(mu_);
  // The newest copy of a page that has nothing but hops, if it has any.
  std::optional<uint64_t> WithHopsOnly(uint64_t page) const ABSL_LOCKS_EXCLUDED(mu_);
  // Puts the file's bytes over those of patches in `bytes`, which are the file's from `from` on.
  void Overlay(uint64_t from, absl::Span<char> bytes) const ABSL_LOCKS_EXCLUDED(mu_);
  // The site whose stub, or record in it, has the byte at `offset` of the stubs; whose hop is at
  // this offset of the file.
  Result<Stub> SiteOfStub(uint64_t offset) const ABSL_LOCKS_EXCLUDED(mu_);
  Result<Stub> SiteOfHop(uint64_t file_offset) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  PatchImage(int source, int64_t delta, UniqueFd fd, stub::SharedMapping mapping)
      : source_(source), delta_(delta), fd_(std::move(fd)), mapping_(std::move(mapping)) {}
  char* At(uint64_t image_offset) { return static_cast<char*>(mapping_.get()) + image_offset; }
  struct Copies {
    uint64_t newest = 0, hops = 0;  // Image offsets; 0: none.
  };
  struct Edit {
    uint8_t size;
    std::array<char, kJumpSize> original;
  };
  // `carried`: the site's instructions of that name.
  uint64_t AddStubLocked(const Site& site, absl::Span<const char> carried) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // As AddStubLocked(), at `stub`.
  void EmitStub(const Site& site, absl::Span<const char> carried, uint64_t stub);
  void EmitHopStub(const Site& site, uint64_t stub);
  uint64_t AddPageLocked(const char* page) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int source_;
  const int64_t delta_;
  const UniqueFd fd_;
  const stub::SharedMapping mapping_;
  mutable Mutex mu_;  // Innermost.
  std::map<uint64_t, Copies> pages_ ABSL_GUARDED_BY(mu_);         // By file offset.
  std::set<uint64_t> sites_ ABSL_GUARDED_BY(mu_);                 // File offsets.
  std::map<uint64_t, uint64_t> hops_ ABSL_GUARDED_BY(mu_);        // File offset to stub.
  std::map<uint64_t, Edit> edits_ ABSL_GUARDED_BY(mu_);           // By file offset.
  std::vector<Stub> stubs_ ABSL_GUARDED_BY(mu_);                  // By index.
  size_t used_pages_ ABSL_GUARDED_BY(mu_) = kStubBytes / kPageSize;
};

// A program file as it was at one time, and its images: one with stubs above it, one below.
class PatchFile {
 public:
  PatchFile(UniqueFd fd, const Trampoline& trampoline)
      : fd_(std::move(fd)), trampoline_(trampoline) {}
  int fd() const { return fd_.get(); }
  // Null if there is none yet and `make` is not set, or if it cannot be made.
  PatchImage* image(bool above, bool make) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const UniqueFd fd_;
  const Trampoline& trampoline_;
  Mutex mu_;  // Before PatchImage::mu_.
  std::unique_ptr<PatchImage> images_[2] ABSL_GUARDED_BY(mu_);
};

// All files that may be patched. Thread-safe.
class PatchCache {
 public:
  // `trampoline`: empty (begin 0) if nothing is to be patched.
  explicit PatchCache(const Trampoline& trampoline);
  const Trampoline& trampoline() const { return trampoline_; }
  bool enabled() const { return trampoline_.begin != 0; }
  // Null for what is not a file of the host's: a memfd can be written through other mappings
  // without a trace.
  std::shared_ptr<PatchFile> Get(int fd) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // Device, inode, size, modification, change.
  using Key = std::tuple<dev_t, ino_t, off_t, int64_t, int64_t>;
  static constexpr size_t kMaxFiles = 128;

  const Trampoline trampoline_;
  dev_t memory_device_ = 0;  // Of memfds.
  Mutex mu_;                 // Before PatchFile::mu_.
  std::map<Key, std::shared_ptr<PatchFile>> files_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_PATCH_IMAGE_H_
