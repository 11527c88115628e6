#include "sentry/vdso/vdso.h"

#include <dlfcn.h>
#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#include <cstring>

#include "gtest/gtest.h"
#include "vfs/testing/test_context.h"

namespace caisson::vdso {
namespace {

// The files as a guest has them mapped, here.
class Mapped {
 public:
  explicit Mapped(const Files& files) : length_(kPageSize + files.image_length) {
    base_ = static_cast<char*>(
        mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    Put(*files.data, base_, kPageSize, PROT_READ);
    Put(*files.image, image(), files.image_length, PROT_READ | PROT_EXEC);
  }
  ~Mapped() { munmap(base_, length_); }
  char* image() const { return base_ + kPageSize; }
  template <typename F>
  F* function(const char* name) const {
    const uint64_t offset = FindSymbol(image(), name);
    CHECK(offset != 0);
    return reinterpret_cast<F*>(image() + offset);
  }

 private:
  void Put(vfs::FileDescription& file, char* at, size_t length, int protection) {
    Result<vfs::HostMapping> mapping = file.Map(context_, 0, length, false, false);
    CHECK(mapping.ok());
    CHECK(mmap(at, length, protection, MAP_PRIVATE | MAP_FIXED, mapping->host_fd, 0) == at);
  }
  vfs::testing::TestWorld world_;
  vfs::testing::TestContext context_{world_};
  const size_t length_;
  char* base_;
};

AddrRange HostVdso() {
  const uint64_t start = getauxval(AT_SYSINFO_EHDR);
  return {GuestAddr(start), GuestAddr(start + 2 * kPageSize)};
}

int64_t Ns(const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }

int64_t Here(clockid_t clock) {
  timespec t;
  CHECK(clock_gettime(clock, &t) == 0);
  return Ns(t);
}

TEST(VdsoTest, ImageIsOneSegmentWithoutRelocations) {
  Elf64_Ehdr header;
  memcpy(&header, Image().data(), sizeof(header));
  EXPECT_EQ(memcmp(header.e_ident, ELFMAG, SELFMAG), 0);
  int loads = 0;
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    memcpy(&segment, Image().data() + header.e_phoff + i * sizeof(segment), sizeof(segment));
    if (segment.p_type == PT_LOAD) {
      ++loads;
      EXPECT_EQ(segment.p_flags, static_cast<uint32_t>(PF_R | PF_X));
      EXPECT_EQ(segment.p_vaddr, 0u);
    }
    if (segment.p_type != PT_DYNAMIC) continue;
    for (size_t at = 0; at < segment.p_filesz; at += sizeof(Elf64_Dyn)) {
      Elf64_Dyn entry;
      memcpy(&entry, Image().data() + segment.p_offset + at, sizeof(entry));
      for (int64_t tag : {DT_REL, DT_RELA, DT_JMPREL, DT_NEEDED, DT_TEXTREL})
        EXPECT_NE(entry.d_tag, tag);
    }
  }
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(FindSymbol(Image().data(), "__vdso_nothing"), 0u);
}

TEST(VdsoTest, AddsTheNamespacesOffsets) {
  constexpr int64_t kDay = int64_t{86'400} * 1'000'000'000;
  for (AddrRange host : {HostVdso(), AddrRange{}}) {
    Result<Vdso> vdso = Vdso::New(host);
    ASSERT_TRUE(vdso.ok());
    // Without the host's functions the system call answers, where the sentry adds its offset.
    const int64_t add = host.empty() ? 0 : kDay + 1, less = host.empty() ? 0 : -999'999'999;
    Mapped mapped(*vdso->ForOffsets(kDay + 1, -999'999'999));
    auto* get = mapped.function<int(clockid_t, timespec*)>("__vdso_clock_gettime");
    for (auto [clock, offset] : {std::pair{CLOCK_REALTIME, int64_t{0}}, {CLOCK_MONOTONIC, add},
                                 {CLOCK_MONOTONIC_COARSE, add}, {CLOCK_BOOTTIME, less}}) {
      for (int round = 0; round < 100; ++round) {
        timespec now;
        const int64_t before = Here(clock);
        ASSERT_EQ(get(clock, &now), 0);
        const int64_t after = Here(clock);
        ASSERT_LT(static_cast<uint64_t>(now.tv_nsec), 1'000'000'000u);
        EXPECT_LE(before + offset, Ns(now));
        EXPECT_GE(after + offset, Ns(now));
      }
    }
    timespec now;
    EXPECT_NE(get(-77, &now), 0);
    EXPECT_EQ(get(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    unsigned cpu = ~0u;
    EXPECT_EQ((mapped.function<long(unsigned*, unsigned*, void*)>("__vdso_getcpu")(&cpu, nullptr, nullptr)), 0);
    EXPECT_LT(cpu, 65'536u);
    EXPECT_GE(mapped.function<time_t(time_t*)>("__vdso_time")(nullptr), Here(CLOCK_REALTIME_COARSE) / 1'000'000'000 - 1);
    EXPECT_EQ((mapped.function<int(clockid_t, timespec*)>("__vdso_clock_getres")(CLOCK_MONOTONIC, &now)), 0);
  }
}

TEST(VdsoTest, FilesAreSealed) {
  Result<Vdso> vdso = Vdso::New({});
  ASSERT_TRUE(vdso.ok());
  Files files = *vdso->ForOffsets(0, 0);
  vfs::testing::TestWorld world;
  vfs::testing::TestContext context(world);
  EXPECT_FALSE(files.image->Map(context, 0, kPageSize, true, false).ok());
  Result<vfs::HostMapping> mapping = files.image->Map(context, 0, kPageSize, false, false);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, mapping->host_fd, 0),
            MAP_FAILED);
}

}  // namespace
}  // namespace caisson::vdso
