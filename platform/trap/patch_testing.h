// For tests of patching: one address space that is the test's own. A thread of the test plays the
// guest, another the sentry.
#ifndef CAISSON_PLATFORM_TRAP_PATCH_TESTING_H_
#define CAISSON_PLATFORM_TRAP_PATCH_TESTING_H_

#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "base/check.h"
#include "base/unique_fd.h"
#include "platform/trap/patch_set.h"
#include "platform/trap/slot.h"

namespace caisson::platform::trap {

// The trampoline, in executable memory of the test.
inline const Trampoline& TestTrampoline() {
  static const Trampoline trampoline = [] {
    constexpr size_t kSize = 8192;
    void* p = mmap(nullptr, kSize, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    auto* g = new Xbyak::CodeGenerator(kSize, p);
    auto futex = [g](int op, uint32_t value) {
      g->lea(g->rdi, g->ptr[g->rbx + offsetof(Slot, state)]);
      g->mov(g->esi, op);
      g->mov(g->edx, value);
      g->xor_(g->r10d, g->r10d);
      g->mov(g->eax, SYS_futex);
      g->syscall();
    };
    TrampolineHooks hooks;
    hooks.ring = [futex] { futex(FUTEX_WAKE, 1); };
    hooks.sleep = [futex] { futex(FUTEX_WAIT, kCall | kSleeping); };
    const Trampoline t = EmitTrampoline(*g, reinterpret_cast<uint64_t>(p), hooks);
    CHECK(Xbyak::GetError() == 0 && g->getSize() <= kSize);
    return t;
  }();
  return trampoline;
}

// A slot with its thread page, and the sentry's side of it.
class FakeThread {
 public:
  // What `serve` does with a call. Null: nobody answers.
  using Serve = std::function<void(CallRegisters&)>;
  explicit FakeThread(Serve serve, uint32_t spin_cycles = 20'000) {
    slot_ = static_cast<Slot*>(aligned_alloc(stub::kSlotSize, stub::kSlotSize));
    std::memset(static_cast<void*>(slot_), 0, stub::kSlotSize);
    page_ = static_cast<ThreadPage*>(aligned_alloc(4096, 4096));
    std::memset(static_cast<void*>(page_), 0, 4096);
    page_->spin_cycles = spin_cycles;
    slot_->minus_self = ~reinterpret_cast<uint64_t>(slot_) + 1;
    slot_->thread_page = reinterpret_cast<uint64_t>(page_);
    if (serve) sentry_ = std::thread([this, serve] { Run(serve); });
  }
  ~FakeThread() {
    stop_ = true;
    if (sentry_.joinable()) {
      syscall(SYS_futex, &slot_->state, FUTEX_WAKE, 1);
      sentry_.join();
    }
    free(static_cast<void*>(slot_));
    free(static_cast<void*>(page_));
  }
  Slot& slot() { return *slot_; }
  ThreadPage& page() { return *page_; }
  uint64_t calls() const { return calls_; }

 private:
  std::atomic<uint32_t>& state() { return *reinterpret_cast<std::atomic<uint32_t>*>(&slot_->state); }
  void Run(const Serve& serve) {
    for (int idle = 0; !stop_;) {
      const uint32_t now = state().load();
      if ((now & kTurnMask) == kCall) {
        idle = 0;
        ++calls_;
        serve(slot_->registers);
        if ((state().exchange(kGuest) & kSleeping) != 0)
          syscall(SYS_futex, &slot_->state, FUTEX_WAKE, 1);
      } else if (++idle > 2000) {
        uint32_t guest = kGuest;
        if (state().compare_exchange_strong(guest, kGuest | kParked)) {
          const timespec limit{0, 20'000'000};
          syscall(SYS_futex, &slot_->state, FUTEX_WAIT, kGuest | kParked, &limit);
          uint32_t parked = kGuest | kParked;
          state().compare_exchange_strong(parked, kGuest);
        }
        idle = 0;
      }
    }
  }

  Slot* slot_;
  ThreadPage* page_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> calls_{0};
  std::thread sentry_;
};

// For the life of this object gs of the calling thread is `base`.
class GsBase {
 public:
  explicit GsBase(const void* base) { Set(reinterpret_cast<uint64_t>(base)); }
  ~GsBase() { Set(0); }
  static void Set(uint64_t base) { asm volatile("wrgsbase %0" : : "r"(base)); }
};

// Padding that has room for a hop.
inline void Nop(Xbyak::CodeGenerator& c) {
  for (int byte : {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}) c.db(byte);
}

// A program file that is mapped, executable and private, and its patches.
class PatchTest : public ::testing::Test {
 public:
  // Away from AddressSanitizer's shadow and from where it and the kernel place things.
  static constexpr uint64_t kBase = 0x300000000000;

 protected:
  static constexpr uint64_t kOtherBase = kBase + (uint64_t{1} << 36);
  static constexpr size_t kPages = 4;

  PatchTest() : cache_(TestTrampoline()), set_(MakeSet()) {
    char path[] = "/tmp/patch_test.XXXXXX";
    file_.reset(mkostemp(path, O_CLOEXEC));
    CHECK(file_.valid());
    unlink(path);
    CHECK(ftruncate(file_.get(), kPages * kPageSize) == 0);
  }
  ~PatchTest() override {
    for (uint64_t base : {kBase, kOtherBase}) {
      munmap(reinterpret_cast<void*>(base), kPages * kPageSize);
      for (int64_t delta : {PatchImage::kDelta, -PatchImage::kDelta})
        munmap(reinterpret_cast<void*>(base + static_cast<uint64_t>(delta)), PatchImage::kStubBytes);
    }
  }

  std::unique_ptr<PatchSet> MakeSet() {
    return std::make_unique<PatchSet>(
        cache_,
        [this](absl::Span<const stub::Request> requests, absl::Span<const int> fds,
               stub::StubProcess::Outcome* outcome) -> Result<void> {
          for (const stub::Request& r : requests) {
            long fd = static_cast<long>(r.args[4]);
            if (r.number == SYS_mmap) fd = fds[static_cast<size_t>(fd) - 1];
            const long result = syscall(r.number, r.args[0], r.args[1], r.args[2], r.args[3], fd, r.args[5]);
            if (result == -1) {
              outcome->host_errno = errno;
              break;
            }
            outcome->results[outcome->executed++] = result;
            ++host_calls_;
          }
          return OkResult();
        },
        /*hot=*/1);
  }
  // What `body` emits becomes the file, from its offset `at` on.
  void Write(const std::function<void(Xbyak::CodeGenerator&)>& body, uint64_t at = 0) {
    Xbyak::CodeGenerator code(kPageSize);
    body(code);
    CHECK(pwrite(file_.get(), code.getCode(), code.getSize(), static_cast<off_t>(at)) ==
          static_cast<ssize_t>(code.getSize()));
  }
  // Changes mappings as an address space does.
  void Apply(PatchSet& set, const MapOp& op, const std::function<bool()>& change) {
    MutexLock lock(set.mu());
    set.BeforeLocked({&op, 1});
    PatchSet::Plan plan = set.PlanLocked({&op, 1});
    const bool done = change();
    for (const stub::Request& r : plan.requests) {
      const long result = syscall(r.number, r.args[0], r.args[1], r.args[2], r.args[3], plan.fds[r.args[4]], r.args[5]);
      if (result == -1) break;
      ++plan.executed;
    }
    planned_ += plan.executed;
    set.AfterLocked({&op, 1}, done ? 1 : 0, plan);
    CHECK(done);
  }
  void MapFile(PatchSet& set, uint64_t base = kBase, uint64_t length = kPages * kPageSize) {
    MapOp op{MapOp::Kind::kMapFile};
    op.protection = kProtRead | kProtExec;
    op.host_fd = file_.get();
    op.addr = GuestAddr(base);
    op.length = length;
    Apply(set, op, [&] {
      return mmap(reinterpret_cast<void*>(base), length, PROT_READ | PROT_EXEC,
                  MAP_PRIVATE | MAP_FIXED, file_.get(), 0) != MAP_FAILED;
    });
  }
  void Protect(uint64_t address, uint64_t length, int protection) {
    MapOp op{MapOp::Kind::kProtect};
    op.protection = static_cast<Protection>(protection);
    op.addr = GuestAddr(address);
    op.length = length;
    Apply(*set_, op, [&] { return mprotect(reinterpret_cast<void*>(address), length, protection) == 0; });
  }
  template <typename F>
  static F* At(uint64_t address) { return reinterpret_cast<F*>(address); }
  static std::string Bytes(uint64_t address, size_t n = 7) {
    return std::string(reinterpret_cast<const char*>(address), n);
  }

  UniqueFd file_;
  PatchCache cache_;
  int host_calls_ = 0;
  size_t planned_ = 0;  // Made right behind a mapping.
  std::unique_ptr<PatchSet> set_;
};

}  // namespace caisson::platform::trap

#endif  // CAISSON_PLATFORM_TRAP_PATCH_TESTING_H_
