// An address space on the fake platform, for the tests of this folder.
#ifndef CAISSON_SENTRY_MM_TESTING_MM_TEST_H_
#define CAISSON_SENTRY_MM_TESTING_MM_TEST_H_

#include <string>
#include <utility>

#include "abi/mman.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "platform/fake/fake_platform.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/testing/fake_vfs.h"

namespace caisson::mm::testing {

using platform::fake::FakeAddressSpace;
using platform::fake::FakePlatform;

inline constexpr uint32_t kRead = 1, kWrite = 2, kExec = 4, kReadWrite = 3;
inline constexpr uint64_t kBase = 0x10'0000'0000;
inline constexpr uint64_t kTop = FakeAddressSpace::kRange.end.value;

class MmTest : public ::testing::Test {
 protected:
  MmTest() : mm_(MemoryManager::New(platform_, &shared_).value()) {
    mm_->SetMmapBase(GuestAddr(kTop / 2));
  }

  Result<GuestAddr> Map(uint64_t at, uint64_t pages, uint32_t protection, uint32_t flags,
                        RefPtr<vfs::FileDescription> file = nullptr, uint64_t offset = 0) {
    MmapArgs args;
    args.addr = GuestAddr(at);
    args.length = pages * kPageSize;
    args.protection = protection;
    args.flags = flags | (file ? 0 : kMapAnonymous);
    args.file = std::move(file);
    args.offset = offset;
    return mm_->Mmap(ctx_, args, limits_);
  }
  GuestAddr Fixed(uint64_t page, uint64_t pages, uint32_t protection = kReadWrite,
                  uint32_t flags = kMapPrivate) {
    return Map(kBase + page * kPageSize, pages, protection, flags | kMapFixed).value();
  }
  void Put(GuestAddr at, absl::string_view text) {
    ASSERT_TRUE(mm_->CopyOut(at, {text.data(), text.size()}).ok());
  }
  std::string Get(GuestAddr at, size_t n) { return Get(*mm_, at, n); }
  std::string Get(MemoryManager& mm, GuestAddr at, size_t n) {
    std::string out(n, '?');
    out.resize(mm.CopyInPartial(at, absl::MakeSpan(out)));
    return out;
  }
  // "start+pages prot" of each VMA above kBase, in pages from there.
  std::string Shape() {
    std::string out;
    for (const auto& v : mm_->Vmas()) {
      if (v.range.start.value < kBase) continue;
      absl::StrAppend(&out, (v.range.start.value - kBase) / kPageSize, "+",
                      v.range.length() / kPageSize, v.protection & 1 ? "r" : "-",
                      v.protection & 2 ? "w" : "-", v.protection & 4 ? "x" : "-",
                      v.shared ? "s" : "p", " ");
    }
    return out;
  }
  MemoryManager::FaultSignal Fault(uint64_t at, platform::Access access = platform::Access::kWrite,
                                   int signo = abi::kSigsegv, uint64_t stack_limit = 8 << 20) {
    platform::Event event;
    event.kind = platform::Event::Kind::kFault;
    event.signo = signo;
    event.address = at;
    event.access = access;
    return mm_->HandleFault(event, stack_limit);
  }

  FakeAddressSpace& space() { return static_cast<FakeAddressSpace&>(mm_->address_space()); }

  FakePlatform platform_;
  TestSharedMemory shared_;
  TestContext ctx_;
  Limits limits_;
  RefPtr<MemoryManager> mm_;
};

template <typename T>
Errno ErrorOf(const Result<T>& r) {
  return r.ok() ? Errno{0} : r.error();
}

}  // namespace caisson::mm::testing

#endif  // CAISSON_SENTRY_MM_TESTING_MM_TEST_H_
