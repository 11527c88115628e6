#include "platform/trap/patch_set.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "platform/stub/layout.h"
#include "platform/trap/patch_scan.h"

namespace caisson::platform::trap {
namespace {

using stub::Request;
using stub::RequestKind;

constexpr uint64_t kNoReplace = 0x100000;  // MAP_FIXED_NOREPLACE.
constexpr uint64_t kStubFd = stub::kStubSocket + 1;

Request Map(uint64_t address, uint64_t length, uint64_t protection, uint64_t flags, uint64_t fd,
            uint64_t offset) {
  return {RequestKind::kSyscall, SYS_mmap,
          {address, length, protection, MAP_PRIVATE | flags, fd, offset}, 0};
}

// The range of `op` where mappings end or change.
std::pair<uint64_t, uint64_t> Range(const MapOp& op) {
  const uint64_t length =
      op.kind == MapOp::Kind::kRemap ? std::max(op.length, op.old_length) : op.length;
  return {op.addr.value, op.addr.value + length};
}

}  // namespace

PatchSet::PatchSet(PatchCache& cache, Runner run, uint8_t hot)
    : cache_(cache), run_(std::move(run)), hot_(hot), on_(cache.enabled()) {}

bool PatchSet::RunLocked(absl::Span<const Request> requests, absl::Span<const int> fds) {
  while (!requests.empty()) {
    const size_t n = std::min(requests.size(), stub::kMaxRequests);
    stub::StubProcess::Outcome outcome;
    if (!run_(requests.first(n), fds, &outcome).ok() || outcome.executed != n) return false;
    for (size_t i = 0; i < n; ++i) {
      const bool map = requests[i].number == SYS_mmap;
      if (static_cast<uint64_t>(outcome.results[i]) != (map ? requests[i].args[0] : 0)) return false;
    }
    requests.remove_prefix(n);
  }
  return true;
}

void PatchSet::BeforeLocked(absl::Span<const MapOp> ops) {
  if (regions_.empty()) return;
  for (const MapOp& op : ops) {
    if (op.kind == MapOp::Kind::kAdvise || op.kind == MapOp::Kind::kPopulate) continue;
    const auto [from, to] = Range(op);
    FreeStubPlaceLocked(from, to);
    if (op.kind == MapOp::Kind::kProtect || op.kind == MapOp::Kind::kRemap) RestoreLocked(from, to, op.kind == MapOp::Kind::kRemap);
    if (op.kind == MapOp::Kind::kRemap)
      FreeStubPlaceLocked(op.new_addr.value, op.new_addr.value + op.length);
  }
}

bool PatchSet::IsPatchableMapping(const MapOp& op) const {
  return op.kind == MapOp::Kind::kMapFile && !op.shared && !op.follows_file &&
         op.protection == (kProtRead | kProtExec) && op.addr.value >= op.offset;
}

PatchSet::Plan PatchSet::PlanLocked(absl::Span<const MapOp> ops) {
  Plan plan;
  if (!on_.load(std::memory_order_relaxed)) return plan;
  for (size_t i = 0; i < ops.size(); ++i) {
    const MapOp& op = ops[i];
    if (!IsPatchableMapping(op)) continue;
    std::shared_ptr<PatchFile> file = plan.files[i] = cache_.Get(op.host_fd);
    PatchImage* image = file == nullptr ? nullptr : file->image(/*above=*/true, /*make=*/false);
    if (image == nullptr) continue;
    const std::vector<PatchImage::Page> pages = image->Pages(op.offset, op.offset + op.length);
    auto placed = std::make_shared<Placed>();
    placed->bias = op.addr.value - op.offset;
    placed->image = image;
    placed->stubs = placed->bias + static_cast<uint64_t>(PatchImage::kDelta);
    bool simple = !pages.empty() && stub::kGuestRange.contains(AddrRange{
        GuestAddr(placed->stubs), GuestAddr(placed->stubs + PatchImage::kStubBytes)});
    // A file that is there already, or will be by then, has its stubs.
    for (const std::shared_ptr<Placed>& p : placed_) simple = simple && p->file != file;
    for (const Plan::Item& item : plan.items) simple = simple && item.placed->file != file;
    if (!simple) continue;
    placed->file = std::move(file);
    plan.items.push_back({i, plan.requests.size(), placed});
    plan.requests.push_back(Map(placed->stubs, PatchImage::kStubBytes, PROT_READ | PROT_EXEC,
                                MAP_FIXED | kNoReplace, plan.fds.size(), 0));
    const size_t before = plan.requests.size();
    NotePagesLocked(op.addr.value, {op.addr.value + op.length, op.protection, placed}, pages, &plan.requests);
    for (size_t r = before; r < plan.requests.size(); ++r) plan.requests[r].args[4] = plan.fds.size();
    plan.fds.push_back(image->fd());
    // Before a thread can be there. If it comes to nothing, these were looked at in vain.
    Widen(stub_ranges_, placed->stubs, placed->stubs + PatchImage::kStubBytes);
    Widen(ranges_, op.addr.value, op.addr.value + op.length);
    active_.store(true, std::memory_order_relaxed);
  }
  return plan;
}

void PatchSet::AfterLocked(absl::Span<const MapOp> ops, size_t done, const Plan& plan) {
  if (!on_.load(std::memory_order_relaxed)) return;
  // A failed one changes nothing, as far as we know: copies may still be in place.
  for (size_t i = 0; i < std::min(done, ops.size()); ++i) {
    const MapOp& op = ops[i];
    if (op.kind == MapOp::Kind::kAdvise || op.kind == MapOp::Kind::kPopulate) continue;
    if (!regions_.empty()) {
      const auto [from, to] = Range(op);
      RemoveLocked(from, to);
      if (op.kind == MapOp::Kind::kRemap)
        RemoveLocked(op.new_addr.value, op.new_addr.value + op.length);
    }
    if (!IsPatchableMapping(op)) continue;
    std::shared_ptr<Placed> planned;
    for (const Plan::Item& item : plan.items) {
      // Of copies that were not mapped it may be believed that they are: so with MapPagesLocked().
      if (item.op == i && item.first < plan.executed) planned = item.placed;
    }
    auto known = plan.files.find(i);
    AddLocked(op, known != plan.files.end() ? known->second : cache_.Get(op.host_fd), std::move(planned));
  }
  DropUnusedLocked();
}

void PatchSet::AddLocked(const MapOp& op, std::shared_ptr<PatchFile> file, std::shared_ptr<Placed> planned) {
  if (planned != nullptr) {
    placed_.push_back(planned);
    regions_[op.addr.value] = {op.addr.value + op.length, op.protection, std::move(planned)};
    return;
  }
  if (file == nullptr) return;
  const uint64_t bias = op.addr.value - op.offset;
  std::shared_ptr<Placed> placed;
  for (const std::shared_ptr<Placed>& p : placed_) {
    if (p->file == file && p->bias == bias) placed = p;
  }
  if (placed == nullptr) {
    placed = std::make_shared<Placed>();
    placed->file = std::move(file);
    placed->bias = bias;
    placed_.push_back(placed);
  }
  const uint64_t start = op.addr.value;
  Region& region = regions_[start];
  region = {start + op.length, op.protection, placed};
  // What others have found hot is patched from the start.
  PatchImage* image = placed->file->image(/*above=*/true, /*make=*/false);
  if (image == nullptr) image = placed->file->image(/*above=*/false, /*make=*/false);
  if (image == nullptr || image->Pages(op.offset, op.offset + op.length).empty()) return;
  if (!PlaceStubsLocked(*placed)) return;
  MapPagesLocked(start, region, placed->image->Pages(op.offset, op.offset + op.length));
}

// Finds a place for the stubs, above or below.
bool PatchSet::PlaceStubsLocked(Placed& placed) {
  if (placed.image != nullptr) return true;
  if (placed.off) return false;
  for (bool above : {true, false}) {
    const uint64_t at = placed.bias + static_cast<uint64_t>(above ? PatchImage::kDelta
                                                                  : -PatchImage::kDelta);
    if (!stub::kGuestRange.contains(
            AddrRange{GuestAddr(at), GuestAddr(at + PatchImage::kStubBytes)}))
      continue;
    PatchImage* image = placed.file->image(above, /*make=*/true);
    if (image == nullptr) break;
    const Request request = Map(at, PatchImage::kStubBytes, PROT_READ | PROT_EXEC,
                                MAP_FIXED | kNoReplace, kStubFd, 0);
    const int fds[] = {image->fd()};
    if (!RunLocked({&request, 1}, fds)) continue;
    placed.image = image;
    placed.stubs = at;
    Widen(stub_ranges_, at, at + PatchImage::kStubBytes);
    return true;
  }
  placed.off = true;
  return false;
}

// What maps copies of pages in place of the file's.
void PatchSet::NotePagesLocked(uint64_t start, const Region& region,
                               absl::Span<const PatchImage::Page> pages,
                               std::vector<Request>* requests) {
  Placed& placed = *region.placed;
  const size_t before = requests->size();
  for (const PatchImage::Page& page : pages) {
    const uint64_t at = placed.bias + page.file_offset;
    if (at < start || at >= region.end) continue;
    placed.pages[page.file_offset] = page.image_offset;
    if (requests->size() > before) {
      Request& last = requests->back();
      if (last.args[0] + last.args[1] == at && last.args[5] + last.args[1] == page.image_offset) {
        last.args[1] += kPageSize;
        continue;
      }
    }
    requests->push_back(Map(at, kPageSize, region.protection, MAP_FIXED, kStubFd, page.image_offset));
  }
}

// Maps copies of pages in place of the file's.
bool PatchSet::MapPagesLocked(uint64_t start, const Region& region,
                              absl::Span<const PatchImage::Page> pages) {
  Placed& placed = *region.placed;
  std::vector<Request> requests;
  NotePagesLocked(start, region, pages, &requests);
  if (requests.empty()) return true;
  Widen(ranges_, start, region.end);
  active_.store(true, std::memory_order_relaxed);
  const int fds[] = {placed.image->fd()};
  return RunLocked(requests, fds);
}

bool PatchSet::Patch(uint64_t ip, uint32_t number) {
  const uint64_t site = ip - 2;
  MutexLock lock(mu_);
  if (!on_.load(std::memory_order_relaxed)) return false;
  auto it = regions_.upper_bound(site);
  if (it == regions_.begin()) return false;
  --it;
  if (site >= it->second.end) return false;
  Placed& placed = *it->second.placed;
  const uint64_t offset = site - placed.bias;
  if (!IsPatchableCall(number) || !PlaceStubsLocked(placed)) return false;
  Result<PatchImage::Page> page = placed.image->AddSite({offset, number, false});
  if (!page.ok()) return false;
  auto mapped = placed.pages.find(page->file_offset);
  // It is patched, and traps all the same: the guest uses gs.
  if (mapped != placed.pages.end() && mapped->second == page->image_offset) return false;
  return MapPagesLocked(it->first, it->second, {&*page, 1});
}

// Maps the file's own pages where copies may be, or what is the same but for the hops that threads
// may be about to reach. If that fails the guest goes on with the copies.
void PatchSet::RestoreLocked(uint64_t from, uint64_t to, bool moved) {
  for (auto it = regions_.begin(); it != regions_.end() && it->first < to; ++it) {
    const Region& region = it->second;
    Placed& placed = *region.placed;
    const uint64_t start = std::max(from, it->first), end = std::min(to, region.end);
    if (start >= end) continue;
    std::vector<Request> requests;
    auto page = placed.pages.lower_bound(start - placed.bias);
    PatchImage* image = ImageOf(placed);
    while (page != placed.pages.end() && page->first < end - placed.bias) {
      std::optional<uint64_t> hops;
      if (!moved && image != nullptr) hops = image->WithHopsOnly(page->first);
      requests.push_back(Map(placed.bias + page->first, kPageSize, region.protection, MAP_FIXED,
                             hops ? kStubFd + 1 : kStubFd, hops.value_or(page->first)));
      page = placed.pages.erase(page);
    }
    if (requests.empty()) continue;
    const int fds[] = {placed.file->fd(), image != nullptr ? image->fd() : placed.file->fd()};
    if (!RunLocked(requests, fds)) LOG_WARNING("a patched page was not restored");
  }
}

void PatchSet::ResetLocked() {
  regions_.clear();
  placed_.clear();
  for (std::atomic<uint8_t>& heat : heat_) heat.store(0, std::memory_order_relaxed);
  for (SeenRanges* ranges : {&ranges_, &stub_ranges_}) {
    for (SeenRange& range : *ranges) {
      range.from.store(~uint64_t{0}, std::memory_order_relaxed);
      range.to.store(0, std::memory_order_relaxed);
    }
  }
  active_.store(false, std::memory_order_relaxed);
  on_.store(cache_.enabled(), std::memory_order_relaxed);
}

void PatchSet::ForgetLocked(uint64_t from, uint64_t to) {
  if (regions_.empty()) return;
  from = PageRoundDown(from);
  to = PageRoundUp(to);
  RestoreLocked(from, to);
  RemoveLocked(from, to);
  DropUnusedLocked();
}

void PatchSet::RemoveLocked(uint64_t from, uint64_t to) {
  auto it = regions_.upper_bound(from);
  if (it != regions_.begin()) --it;
  while (it != regions_.end() && it->first < to) {
    const uint64_t start = it->first;
    const Region region = it->second;
    if (region.end <= from) {
      ++it;
      continue;
    }
    it = regions_.erase(it);
    std::map<uint64_t, uint64_t>& pages = region.placed->pages;
    pages.erase(pages.lower_bound(std::max(start, from) - region.placed->bias),
                pages.lower_bound(std::min(region.end, to) - region.placed->bias));
    if (start < from) regions_[start] = {from, region.protection, region.placed};
    if (region.end > to) it = regions_.insert({to, {region.end, region.protection, region.placed}}).first;
  }
}

// The guest is about to use [from, to), where there may be stubs.
void PatchSet::FreeStubPlaceLocked(uint64_t from, uint64_t to) {
  for (const std::shared_ptr<Placed>& placed : placed_) {
    if (placed->image != nullptr && placed->stubs < to && placed->stubs + PatchImage::kStubBytes > from)
      TurnOffLocked(*placed);
  }
}

void PatchSet::TurnOffLocked(Placed& placed) {
  placed.off = true;
  if (placed.image == nullptr) return;
  for (const auto& [start, region] : regions_) {
    if (region.placed.get() == &placed) RestoreLocked(start, region.end);
  }
  // Threads may still be in the stubs, or have been interrupted there: these go when the guest maps
  // something else there, or with the address space.
  placed.image = nullptr;
}

// Stubs of files that are no longer mapped.
void PatchSet::DropUnusedLocked() {
  for (size_t i = 0; i < placed_.size();) {
    Placed& placed = *placed_[i];
    if (placed_[i].use_count() > 1) {
      ++i;
      continue;
    }
    if (placed.image != nullptr) {
      const Request request{RequestKind::kSyscall, SYS_munmap,
                            {placed.stubs, PatchImage::kStubBytes}, 0};
      if (!RunLocked({&request, 1}, {})) LOG_DEBUG("stubs of an unmapped file stay");
    }
    placed_.erase(placed_.begin() + static_cast<ptrdiff_t>(i));
  }
}

void PatchSet::CopyFrom(const PatchSet& parent) {
  MutexLock lock(mu_);
  on_.store(parent.on_.load());
  active_.store(parent.active_.load());
  std::map<const Placed*, std::shared_ptr<Placed>> copies;
  for (const std::shared_ptr<Placed>& p : parent.placed_)
    placed_.push_back(copies[p.get()] = std::make_shared<Placed>(*p));
  for (const auto& [start, region] : parent.regions_)
    regions_[start] = {region.end, region.protection, copies[region.placed.get()]};
  for (auto [to, from] : {std::pair{&ranges_, &parent.ranges_}, {&stub_ranges_, &parent.stub_ranges_}}) {
    for (size_t i = 0; i < to->size(); ++i) {
      (*to)[i].from.store((*from)[i].from.load());
      (*to)[i].to.store((*from)[i].to.load());
    }
  }
  for (size_t i = 0; i < heat_.size(); ++i) heat_[i].store(parent.heat_[i].load());
}

void PatchSet::Disable() {
  MutexLock lock(mu_);
  if (!on_.exchange(false)) return;
  for (const std::shared_ptr<Placed>& placed : placed_) TurnOffLocked(*placed);
}

const PatchSet::Placed* PatchSet::PlacedAtStubLocked(uint64_t address) const {
  for (const std::shared_ptr<Placed>& placed : placed_) {
    if (placed->stubs != 0 && address - placed->stubs < PatchImage::kStubBytes) return placed.get();
  }
  return nullptr;
}

// Also of one that is not patched any more, and in whose stubs threads may still be.
PatchImage* PatchSet::ImageOf(const Placed& placed) const {
  if (placed.image != nullptr || placed.stubs == 0) return placed.image;
  return placed.file->image(placed.stubs > placed.bias, /*make=*/false);
}

// The site whose stub or hop is at `address`.
Result<PatchImage::Stub> PatchSet::FindLocked(uint64_t address, const Placed** placed) const {
  PatchImage* image;
  *placed = PlacedAtStubLocked(address);
  if (*placed != nullptr) {
    image = ImageOf(**placed);
    if (image != nullptr) return image->SiteOfStub(address - (*placed)->stubs);
  }
  auto it = regions_.upper_bound(address);
  if (it == regions_.begin() || address >= (--it)->second.end) return Errno::kENOENT;
  *placed = it->second.placed.get();
  image = ImageOf(**placed);
  if (image == nullptr) return Errno::kENOENT;
  return image->SiteOfHop(address - (*placed)->bias);
}

uint64_t PatchSet::BehindSiteSlow(uint64_t ip) const {
  MutexLock lock(mu_);
  const Placed* placed = PlacedAtStubLocked(ip);
  PatchImage* image = placed == nullptr ? nullptr : ImageOf(*placed);
  if (image == nullptr) return ip;
  Result<PatchImage::Stub> stub = image->SiteOfStub(ip - placed->stubs);
  if (!stub.ok() || !stub->site.hop || ip - placed->stubs - stub->offset != PatchImage::kEscapedAt)
    return ip;
  return placed->bias + stub->site.file_offset + kSyscallSize;
}

PatchSet::Place PatchSet::Locate(Registers& regs, const CallRegisters& slot,
                                 uint64_t* escape) const {
  const Trampoline& t = cache_.trampoline();
  const uint64_t rip = regs.rip;
  const auto in = [rip](uint64_t from, uint64_t to) { return rip >= from && rip < to; };
  if (escape != nullptr) *escape = 0;
  if (in(t.copy_in, t.committed) || in(t.any_saved, t.any_end) || in(t.finish, t.restore))
    return Place::kSaved;
  if (in(t.committed, t.end)) return Place::kCommitted;
  if (in(t.answered, t.answered_end)) {
    if (rip >= t.answered_swapped) regs.rsp = slot.rsp;
    regs.rip = regs.rcx;
    regs.r11 = regs.eflags;
    return Place::kAnswered;
  }
  const bool inside = in(t.begin, t.answered_end), any = in(t.any, t.any_saved);
  if (!inside && !MayBeIn(ranges_, rip, rip + 1) && !MayBeIn(stub_ranges_, rip, rip + 1))
    return Place::kElsewhere;
  MutexLock lock(mu_);
  const Placed* placed;
  const uint64_t address = any ? regs.rcx : inside ? regs.r11 : rip;
  Result<PatchImage::Stub> stub = FindLocked(address, &placed);
  if (!stub.ok()) return Place::kElsewhere;
  const uint64_t site = placed->bias + stub->site.file_offset;
  if (!stub->site.hop) {
    if (in(t.call_swapped, t.copy_in)) regs.rsp = slot.rsp;
    // What the stub carries is at the site too: it is gone on with there.
    const uint64_t carried = stub->site.carried, done = address - placed->stubs - stub->offset;
    regs.rip = inside ? site : site - carried + std::min(done, carried);
    regs.rax = stub->site.number;
    return Place::kBefore;
  }
  const uint64_t code = placed->stubs + stub->offset;
  if (in(code + PatchImage::kEscapedAt, code + PatchImage::kEscapedEnd)) {
    regs.rip = regs.rcx = site + kSyscallSize;
    return Place::kAnswered;
  }
  if (any && rip >= t.any_swapped) regs.rsp = slot.rsp;
  if (any && rip >= t.any_rax) regs.rax = slot.rax;
  regs.rip = site;
  if (escape != nullptr) *escape = code + PatchImage::kEscape;
  return Place::kBefore;
}

void PatchSet::Widen(SeenRanges& ranges, uint64_t start, uint64_t end) {
  for (SeenRange& range : ranges) {
    const uint64_t from = range.from.load(std::memory_order_relaxed);
    const uint64_t to = range.to.load(std::memory_order_relaxed);
    if (from <= start && end <= to) break;
    if (from < to && &range != &ranges.back()) continue;
    range.from.store(std::min(from, start), std::memory_order_relaxed);
    range.to.store(std::max(to, end), std::memory_order_release);
    break;
  }
}

bool PatchSet::MayBeIn(const SeenRanges& ranges, uint64_t from, uint64_t to) const {
  if (!active()) return false;
  for (const SeenRange& range : ranges) {
    const uint64_t end = range.to.load(std::memory_order_acquire);
    if (end == 0) break;
    if (from < end && to > range.from.load(std::memory_order_relaxed)) return true;
  }
  return false;
}

void PatchSet::OverlaySlow(uint64_t from, absl::Span<char> bytes) const {
  const uint64_t to = from + bytes.size();
  MutexLock lock(mu_);
  for (const auto& [start, region] : regions_) {
    const Placed& placed = *region.placed;
    if (start >= to) break;
    PatchImage* image = ImageOf(placed);
    if (region.end <= from || image == nullptr) continue;
    const uint64_t low = std::max(from, start), high = std::min(to, region.end);
    image->Overlay(low - placed.bias, bytes.subspan(low - from, high - low));
  }
}

}  // namespace caisson::platform::trap
