// What is patched in one address space.
#ifndef CAISSON_PLATFORM_TRAP_PATCH_SET_H_
#define CAISSON_PLATFORM_TRAP_PATCH_SET_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "base/guest_addr.h"
#include "base/mutex.h"
#include "base/result.h"
#include "platform/platform.h"
#include "platform/stub/stub_process.h"
#include "platform/trap/patch_image.h"
#include "platform/trap/slot.h"

namespace caisson::platform::trap {

// Only private, executable mappings of files are patched, page by page: the page's copy in a
// PatchImage is mapped in its place, at once for all threads, and the file's page is mapped back
// before anything could make a difference visible: mprotect, mremap, a debugger's write. The file's
// stubs are mapped at a fixed distance from it, where the address space is free; when the guest wants
// to use that place, its file is unpatched.
//
// The mm knows nothing of it: its own tree has the file's mapping, as before. Whoever changes mappings
// holds mu() over BeforeLocked(), the change and AfterLocked(). Otherwise thread-safe.
class PatchSet {
 public:
  // Runs host calls in the stub (StubProcess::Run).
  using Runner = std::function<Result<void>(absl::Span<const stub::Request>, absl::Span<const int>,
                                            stub::StubProcess::Outcome*)>;
  // `cache` outlives this. After `hot` traps at a site it is patched.
  PatchSet(PatchCache& cache, Runner run, uint8_t hot = kHot);

  Mutex& mu() ABSL_LOCK_RETURNED(mu_) { return mu_; }
  void BeforeLocked(absl::Span<const MapOp> ops) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What maps the stubs and copies of hot files over the mappings that `ops` make, to be run right behind
  // them and with descriptors `fds` behind theirs: else each file costs a turn of the worker.
  struct Placed;
  struct Plan {
    std::vector<stub::Request> requests;  // File mappings have the index in `fds` as descriptor.
    std::vector<int> fds;
    struct Item {
      size_t op;
      size_t first;  // Its first request, which maps the stubs.
      std::shared_ptr<Placed> placed;
    };
    std::vector<Item> items;
    std::map<size_t, std::shared_ptr<PatchFile>> files;  // Of the ops that may be patched; null: it is none.
    size_t executed = 0;  // Of the requests, filled in by who runs them.
  };
  Plan PlanLocked(absl::Span<const MapOp> ops) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `done` of them were carried out.
  void AfterLocked(absl::Span<const MapOp> ops, size_t done, const Plan& plan)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AfterLocked(absl::Span<const MapOp> ops, size_t done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    AfterLocked(ops, done, {});
  }
  // Pages in [from, to) are about to be written by force: they stay as they will be.
  void ForgetLocked(uint64_t from, uint64_t to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // As new: all that is mapped is about to be unmapped, and no thread runs.
  void ResetLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What `parent`'s stub had when it was cloned, under its lock.
  void CopyFrom(const PatchSet& parent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(parent.mu_);

  // A thread made call `number` by trap or notification; `ip` is behind its `syscall`.
  void OnTrap(uint64_t ip, uint32_t number) {
    if (!on_.load(std::memory_order_relaxed)) return;
    std::atomic<uint8_t>& heat = heat_[(ip ^ ip >> 9) % heat_.size()];
    const uint8_t count = heat.load(std::memory_order_relaxed);
    if (count == kNever) return;
    heat.store(static_cast<uint8_t>(count + 1), std::memory_order_relaxed);
    if (count + 1 >= hot_) heat.store(Patch(ip, number) ? 0 : kNever, std::memory_order_relaxed);
  }
  // Whether threads need their slot as gs base.
  bool active() const { return active_.load(std::memory_order_relaxed); }
  // Unpatches everything, for good: the guest uses gs itself, or is traced.
  void Disable() ABSL_LOCKS_EXCLUDED(mu_);

  // What a thread was doing that a signal found at regs.rip, if that is ours.
  enum class Place {
    kElsewhere,
    kBefore,     // The call has not been made: `regs` are put to its site's instruction, or to one of those
                 // before it that the stub carries.
    kSaved,      // It has not been made, and the slot's CallRegisters are the thread's registers.
    kAnswered,   // It has been answered in the stub: `regs` are put behind it.
    kCommitted,  // The sentry has it: the slot's CallRegisters are the thread's registers.
  };
  // `slot`: its slot's. `escape`, if not null, gets a `syscall` instruction that makes the call with these
  // registers when the site's own has been replaced, for who could not get beyond the site; else 0.
  Place Locate(Registers& regs, const CallRegisters& slot, uint64_t* escape = nullptr) const
      ABSL_LOCKS_EXCLUDED(mu_);
  // A call came from before `ip`: if that is the stub of a site with a hop, the address behind the site.
  uint64_t BehindSite(uint64_t ip) const {
    return MayBeIn(stub_ranges_, ip, ip + 1) ? BehindSiteSlow(ip) : ip;
  }

  // Puts the guest's own bytes over those of patches in `bytes`, copied from address `from`.
  void Overlay(uint64_t from, absl::Span<char> bytes) const {
    if (MayBeIn(ranges_, from, from + bytes.size())) OverlaySlow(from, bytes);
  }

 private:
  static constexpr uint8_t kHot = 24;
  static constexpr uint8_t kNever = 255;
  struct Region {
    uint64_t end = 0;
    Protection protection = 0;
    std::shared_ptr<Placed> placed;
  };
  using Regions = std::map<uint64_t, Region>;  // By start; they do not overlap.

  bool Patch(uint64_t ip, uint32_t number) ABSL_LOCKS_EXCLUDED(mu_);
  bool IsPatchableMapping(const MapOp& op) const;
  bool PlaceStubsLocked(Placed& placed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool MapPagesLocked(uint64_t start, const Region& region, absl::Span<const PatchImage::Page> pages)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `moved`: the pages are to be the file's own, whoever is still running there.
  void RestoreLocked(uint64_t from, uint64_t to, bool moved = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveLocked(uint64_t from, uint64_t to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `planned`: its stubs and copies are in place already.
  void AddLocked(const MapOp& op, std::shared_ptr<PatchFile> file, std::shared_ptr<Placed> planned) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NotePagesLocked(uint64_t start, const Region& region, absl::Span<const PatchImage::Page> pages,
                       std::vector<stub::Request>* requests) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FreeStubPlaceLocked(uint64_t from, uint64_t to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TurnOffLocked(Placed& placed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DropUnusedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool RunLocked(absl::Span<const stub::Request> requests, absl::Span<const int> fds)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  const Placed* PlacedAtStubLocked(uint64_t address) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  PatchImage* ImageOf(const Placed& placed) const;
  Result<PatchImage::Stub> FindLocked(uint64_t address, const Placed** placed) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint64_t BehindSiteSlow(uint64_t ip) const ABSL_LOCKS_EXCLUDED(mu_);
  void OverlaySlow(uint64_t from, absl::Span<char> bytes) const ABSL_LOCKS_EXCLUDED(mu_);

  PatchCache& cache_;
  const Runner run_;
  const uint8_t hot_;
  std::atomic<bool> on_;
  std::atomic<bool> active_{false};
  // How often a site has trapped, by a hash of its address.
  std::array<std::atomic<uint8_t>, 512> heat_{};
  // Where patches and stubs may be: looked at without the lock at each copy and call. Only grows; a range
  // that does not fit any more widens the last one.
  struct SeenRange {
    std::atomic<uint64_t> from{~uint64_t{0}}, to{0};
  };
  using SeenRanges = std::array<SeenRange, 8>;
  static void Widen(SeenRanges& ranges, uint64_t start, uint64_t end);
  bool MayBeIn(const SeenRanges& ranges, uint64_t from, uint64_t to) const;
  SeenRanges ranges_, stub_ranges_;

  mutable Mutex mu_;  // Before StubProcess::mu_ and PatchCache's.
  Regions regions_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<Placed>> placed_ ABSL_GUARDED_BY(mu_);
};

// One file at one place; shared by the parts of its mapping.
struct PatchSet::Placed {
  std::shared_ptr<PatchFile> file;
  uint64_t bias = 0;  // Address of the file's first byte.
  // The image in use and its stubs' address; null: none yet.
  PatchImage* image = nullptr;
  uint64_t stubs = 0;
  bool off = false;  // No place for stubs, or no longer.
  std::map<uint64_t, uint64_t> pages;  // Copies in place: file offset to image offset.
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_PATCH_SET_H_
