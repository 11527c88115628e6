// Slots that are used again: what one stub has left in them is nothing that the next one can read.
#include "platform/stub/slots.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace caisson::platform::stub {
namespace {

bool IsZero(const void* from, size_t size) {
  const char* bytes = static_cast<const char*>(from);
  return std::all_of(bytes, bytes + size, [](char c) { return c == 0; });
}

class SlotCacheTest : public ::testing::Test {
 protected:
  // As if a stub had had them.
  Slots Used() {
    SlotPair pair = cache_.Make().value();
    SlotCache::Sent(pair.sentry);
    return std::move(pair.sentry);
  }
  SlotCache cache_;
};

TEST_F(SlotCacheTest, NothingIsLeftOfTheStubBefore) {
  Slots first = Used();
  const void* control = first.control();
  // All that a stub with one guest thread can write to.
  std::memset(first.result_mapping.get(), 'x', kSlotAddr - kResultAddr + 64 * kSlotSize);
  std::memset(static_cast<char*>(first.result_mapping.get()) + kResultSize - kPageSize, 'x', kPageSize);
  std::memset(first.control(), 'x', 2 * kPageSize);
  std::memset(first.waiters(), 'x', kPageSize);
  cache_.Keep(std::move(first));
  const Slots second = Used();
  ASSERT_EQ(second.control(), control) << "they are not used again";
  EXPECT_TRUE(IsZero(second.control(), kControlSize));
  EXPECT_TRUE(IsZero(second.result_mapping.get(), kResultSize));
}

TEST_F(SlotCacheTest, ThoseOfStubsWithMoreThreadsAreNotUsedAgain) {
  Slots first = Used();
  std::memset(first.thread_page(1), 'x', 1);
  cache_.Keep(std::move(first));
  const Slots second = Used();
  EXPECT_TRUE(IsZero(second.control(), kControlSize));
}

TEST_F(SlotCacheTest, StillNobodyButTheSentryCanWriteToTheControlPages) {
  cache_.Keep(Used());
  const SlotPair pair = cache_.Make().value();
  EXPECT_EQ(mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, pair.sentry.control_fd.get(), 0), MAP_FAILED);
}

TEST_F(SlotCacheTest, AFewAreKept) {
  std::vector<Slots> slots;
  for (int i = 0; i < 20; ++i) slots.push_back(Used());
  for (Slots& s : slots) cache_.Keep(std::move(s));
  for (int i = 0; i < 20; ++i) {
    const SlotPair pair = cache_.Make().value();
    EXPECT_NE(pair.sentry.control(), nullptr);
    EXPECT_TRUE(pair.sentry.socket.valid() && pair.stub_socket.valid());
  }
}

}  // namespace
}  // namespace caisson::platform::stub
