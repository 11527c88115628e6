// Random mmap, munmap, mprotect and mremap against a model that is one record a page.
#include <map>
#include <random>
#include <string>

#include "abi/mman.h"
#include "gtest/gtest.h"
#include "platform/fake/fake_platform.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/testing/fake_vfs.h"

namespace caisson::mm {
namespace {

constexpr uint64_t kBase = 0x10'0000'0000;
constexpr uint64_t kPages = 64;

struct Page {
  uint32_t protection;
  uint32_t content;  // First word.
};

class ModelTest : public ::testing::TestWithParam<int> {
 protected:
  GuestAddr At(uint64_t page) { return GuestAddr(kBase + page * kPageSize); }

  void CheckAll(int step) {
    std::map<uint64_t, uint32_t> seen;
    const MemoryManager::VmaInfo* last = nullptr;
    auto vmas = mm_->Vmas();
    for (const auto& vma : vmas) {
      ASSERT_TRUE(last == nullptr || last->range.end <= vma.range.start) << step;
      for (GuestAddr a = vma.range.start; a < vma.range.end; a = a + kPageSize)
        seen[(a.value - kBase) / kPageSize] = vma.protection;
      last = &vma;
    }
    ASSERT_EQ(seen.size(), model_.size()) << step;
    ASSERT_EQ(mm_->totals().virtual_bytes, model_.size() * kPageSize) << step;
    for (uint64_t page = 0; page < kPages; ++page) {
      auto it = model_.find(page);
      auto& space = static_cast<platform::fake::FakeAddressSpace&>(mm_->address_space());
      bool host = space.ProtectionAt(At(page)).has_value();
      if (it == model_.end()) {
        ASSERT_FALSE(host) << step << " page " << page;
        ASSERT_EQ(seen.count(page), 0u) << step;
        continue;
      }
      ASSERT_EQ(seen[page], it->second.protection) << step << " page " << page;
      ASSERT_TRUE(host);
      uint32_t word = 0;
      bool readable = mm_->CopyIn(At(page), {reinterpret_cast<char*>(&word), 4}).ok();
      ASSERT_EQ(readable, it->second.protection != 0) << step << " page " << page;
      if (readable) {
        ASSERT_EQ(word, it->second.content) << step << " page " << page;
      }
    }
  }
  bool Free(uint64_t page, uint64_t n) {
    auto it = model_.lower_bound(page);
    return it == model_.end() || it->first >= page + n;
  }
  bool Whole(uint64_t page, uint64_t n) {
    for (uint64_t i = page; i < page + n; ++i) {
      if (model_.count(i) == 0) return false;
    }
    return true;
  }
  void Drop(uint64_t page, uint64_t n) {
    model_.erase(model_.lower_bound(page), model_.lower_bound(page + n));
  }

  platform::fake::FakePlatform platform_;
  testing::TestSharedMemory shared_;
  testing::TestContext ctx_;
  RefPtr<MemoryManager> mm_ = MemoryManager::New(platform_, &shared_).value();
  std::map<uint64_t, Page> model_;
};

TEST_P(ModelTest, AgreesWithAPageArray) {
  std::mt19937 random(GetParam());
  Limits limits;
  for (int step = 0; step < 3000; ++step) {
    uint64_t page = random() % kPages, n = 1 + random() % std::min<uint64_t>(8, kPages - page);
    uint32_t protection = random() % 4;
    switch (random() % 6) {
      case 0: {
        MmapArgs args;
        args.addr = At(page);
        args.length = n * kPageSize;
        args.protection = protection;
        args.flags =
            kMapAnonymous | kMapPrivate | (random() % 2 == 0 ? kMapFixed : kMapFixedNoreplace);
        bool free = Free(page, n);
        Result<GuestAddr> got = mm_->Mmap(ctx_, args, limits);
        ASSERT_EQ(got.ok(), free || (args.flags & kMapFixed) != 0) << step;
        if (!got.ok()) break;
        Drop(page, n);
        for (uint64_t i = page; i < page + n; ++i) model_[i] = {protection, 0};
        break;
      }
      case 1:
        ASSERT_TRUE(mm_->Munmap(At(page), n * kPageSize).ok()) << step;
        Drop(page, n);
        break;
      case 2: {
        bool ok = mm_->Mprotect(At(page), n * kPageSize, protection, limits).ok();
        ASSERT_EQ(ok, Whole(page, n)) << step;
        for (uint64_t i = page; i < page + n && model_.count(i) != 0; ++i)
          model_[i].protection = protection;
        break;
      }
      case 3: {
        uint32_t word = static_cast<uint32_t>(random());
        bool ok = mm_->CopyOut(At(page), {reinterpret_cast<char*>(&word), 4}).ok();
        bool writable = model_.count(page) != 0 && (model_[page].protection & 2) != 0;
        ASSERT_EQ(ok, writable) << step;
        if (ok) model_[page].content = word;
        break;
      }
      default: {
        // Moves to a fixed place, growing or shrinking.
        uint64_t m = 1 + random() % 8, to = random() % (kPages - 8);
        Result<GuestAddr> got =
            mm_->Mremap(At(page), n * kPageSize, m * kPageSize,
                        abi::kMremapMaymove | abi::kMremapFixed, At(to), limits);
        if (model_.count(page) == 0) {
          ASSERT_EQ(got.error(), Errno::kEFAULT) << step;
          break;
        }
        if (to < page + n && page < to + m) {
          ASSERT_EQ(got.error(), Errno::kEINVAL) << step;
          break;
        }
        // The target is unmapped and what shrinks is cut off, whatever comes then.
        Drop(to, m);
        if (n > m) {
          Drop(page + m, n - m);
          n = m;
        }
        if (!got.ok()) {
          // Not within one VMA: whether it is, only the mm's merging rules know.
          ASSERT_EQ(got.error(), Errno::kEFAULT) << step;
          break;
        }
        ASSERT_TRUE(Whole(page, n)) << step;
        uint32_t moved_protection = model_[page].protection;
        std::vector<Page> moved;
        for (uint64_t i = 0; i < n; ++i) moved.push_back(model_[page + i]);
        Drop(page, n);
        for (uint64_t i = 0; i < m; ++i)
          model_[to + i] = i < n ? moved[i] : Page{moved_protection, 0};
        break;
      }
    }
    CheckAll(step);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, ::testing::Range(0, 6));

}  // namespace
}  // namespace caisson::mm
