// Address spaces: mappings, copies, atomics, fork.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "platform/testing/testing.h"
#include "platform/stub/layout.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;
using Kind = Event::Kind;
using Op = MapOp::Kind;

constexpr GuestAddr kFree(0x10000000);

std::string Read(AddressSpace& space, GuestAddr from, size_t n) {
  std::string out(n, '\0');
  out.resize(space.CopyIn(from, absl::MakeSpan(&out[0], n)));
  return out;
}

// Without the terminating zero of a literal.
size_t Write(AddressSpace& space, GuestAddr to, absl::string_view text) {
  return space.CopyOut(to, text);
}

UniqueFd FileWith(absl::string_view text, uint64_t size) {
  UniqueFd fd(memfd_create("file", MFD_CLOEXEC));
  CHECK(ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  CHECK(pwrite(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return fd;
}

class MemoryTest : public ::testing::Test {
 protected:
  MemoryTest() : space_(NewSpace()) {}
  Errno Refused(const MapOp& op) {
    Result<void> result = space_->Apply({op});
    return result.ok() ? Errno{0} : result.error();
  }
  bool Map(const MapOp& op) { return space_->Apply({op}).ok(); }

  std::unique_ptr<AddressSpace> space_;
};

TEST_F(MemoryTest, ANewAddressSpaceIsEmpty) {
  // Probed in steps that cannot miss what a C library or a stack would leave.
  std::vector<uint8_t> pages(16);
  char byte;
  for (uint64_t a = 0x7ffffbff0000; a > 0x7fff00000000; a -= 0x1000000)
    ASSERT_EQ(space_->CopyIn(GuestAddr(a), absl::MakeSpan(&byte, 1)), 0u) << a;
  EXPECT_EQ(space_->CopyIn(GuestAddr(0x400000), absl::MakeSpan(&byte, 1)), 0u);
}

TEST_F(MemoryTest, AnonymousMemoryIsZeroAndWritable) {
  ASSERT_TRUE(Map(MapAnonymous(kFree, 0x2000, kReadWrite)));
  EXPECT_EQ(Read(*space_, kFree, 4), std::string(4, '\0'));
  EXPECT_EQ(Write(*space_, kFree + 0xffe, "abcd"), 4u);
  EXPECT_EQ(Read(*space_, kFree + 0xffd, 6), std::string("\0abcd\0", 6));
}

TEST_F(MemoryTest, FilesAreMappedPrivateAndShared) {
  UniqueFd file = FileWith("hello", 0x3000);
  ASSERT_TRUE(space_
                  ->Apply({MapFile(kFree, 0x1000, kReadWrite, file.get(), false),
                           MapFile(kFree + 0x10000, 0x1000, kReadWrite, file.get(), true),
                           MapFile(kFree + 0x20000, 0x1000, kProtRead, file.get(), true, 0x1000)})
                  .ok());
  EXPECT_EQ(Read(*space_, kFree, 5), "hello");
  ASSERT_EQ(Write(*space_, kFree, "J"), 1u);
  EXPECT_EQ(Read(*space_, kFree + 0x10000, 5), "hello");
  ASSERT_EQ(Write(*space_, kFree + 0x10000, "C"), 1u);
  char text[5];
  ASSERT_EQ(pread(file.get(), text, 5, 0), 5);
  EXPECT_EQ(std::string(text, 5), "Cello");
  EXPECT_EQ(Read(*space_, kFree, 5), "Jello");
  ASSERT_EQ(pwrite(file.get(), "page1", 5, 0x1000), 5);
  EXPECT_EQ(Read(*space_, kFree + 0x20000, 5), "page1");
  EXPECT_EQ(Write(*space_, kFree + 0x20000, "x"), 0u);
}

TEST_F(MemoryTest, AReadOnlyDescriptorIsNotMappedSharedAndWritable) {
  std::string path = ::testing::TempDir() + "/caisson_memory_test.XXXXXX";
  UniqueFd make(mkostemp(&path[0], O_CLOEXEC));
  ASSERT_EQ(ftruncate(make.get(), 0x1000), 0);
  UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  unlink(path.c_str());
  EXPECT_EQ(Refused(MapFile(kFree, 0x1000, kReadWrite, file.get(), true)), Errno::kEACCES);
  EXPECT_EQ(Refused(MapFile(kFree, 0x1000, kReadWrite, -1, true)), Errno::kEBADF);
  EXPECT_TRUE(Map(MapFile(kFree, 0x1000, kReadWrite, file.get(), false)));
}

TEST_F(MemoryTest, ManyFilesInOneCallLeaveNoDescriptor) {
  for (int round = 0; round < 2; ++round) {
    std::vector<UniqueFd> files;
    std::vector<MapOp> ops;
    for (int i = 0; i < 150; ++i) {
      files.push_back(FileWith(std::to_string(i), 0x1000));
      ops.push_back(MapFile(kFree + i * 0x1000, 0x1000, kProtRead, files.back().get(), true));
    }
    size_t done = 0;
    ASSERT_TRUE(space_->Apply(ops, &done).ok());
    EXPECT_EQ(done, 150u);
    for (int i = 0; i < 150; ++i)
      EXPECT_EQ(Read(*space_, kFree + i * 0x1000, std::to_string(i).size()), std::to_string(i));
  }
  const std::string path = "/proc/" + std::to_string(space_->host_pid()) + "/fd/1";
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(MemoryTest, UnmapProtectAndRemap) {
  ASSERT_TRUE(Map(MapAnonymous(kFree, 0x4000, kReadWrite)));
  ASSERT_EQ(Write(*space_, kFree + 0x1000, "data"), 4u);
  ASSERT_TRUE(Map(Simple(Op::kUnmap, kFree, 0x1000)));
  EXPECT_EQ(Read(*space_, kFree, 4), "");
  ASSERT_TRUE(Map(Simple(Op::kProtect, kFree + 0x1000, 0x1000, kProtRead)));
  EXPECT_EQ(Write(*space_, kFree + 0x1000, "x"), 0u);
  ASSERT_TRUE(Map(Simple(Op::kProtect, kFree + 0x1000, 0x1000, kProtNone)));
  EXPECT_EQ(Read(*space_, kFree + 0x1000, 4), "");
  ASSERT_TRUE(Map(Simple(Op::kProtect, kFree + 0x1000, 0x1000, kReadWrite)));
  MapOp remap = Simple(Op::kRemap, kFree + 0x1000, 0x8000);
  remap.old_length = 0x1000;
  remap.new_addr = kFree + 0x100000;
  ASSERT_TRUE(Map(remap));
  EXPECT_EQ(Read(*space_, kFree + 0x100000, 4), "data");
  EXPECT_EQ(Read(*space_, kFree + 0x1000, 4), "");
  EXPECT_EQ(Read(*space_, kFree + 0x107000, 1), std::string(1, '\0'));
  MapOp shrink = Simple(Op::kRemap, kFree + 0x100000, 0x1000);
  shrink.old_length = 0x8000;
  shrink.new_addr = shrink.addr;
  ASSERT_TRUE(Map(shrink));
  EXPECT_EQ(Read(*space_, kFree + 0x101000, 1), "");
}

TEST_F(MemoryTest, WriteOnlyMemoryCanBeReadByTheSentry) {
  ASSERT_TRUE(Map(MapAnonymous(kFree, 0x1000, kProtWrite)));
  ASSERT_EQ(Write(*space_, kFree, "x"), 1u);
  EXPECT_EQ(Read(*space_, kFree, 1), "x");
}

TEST_F(MemoryTest, AFailureTellsHowManyWereDone) {
  size_t done = 99;
  Result<void> result = space_->Apply(
      {MapAnonymous(kFree, 0x1000, kReadWrite), Simple(Op::kProtect, kFree + 0x10000, 0x1000),
       MapAnonymous(kFree + 0x20000, 0x1000, kReadWrite)},
      &done);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error(), Errno::kENOMEM);
  EXPECT_EQ(done, 1u);
  EXPECT_EQ(Read(*space_, kFree, 1).size(), 1u);
  EXPECT_EQ(Read(*space_, kFree + 0x20000, 1).size(), 0u);
}

TEST_F(MemoryTest, NothingTouchesTheReservedRange) {
  const GuestAddr end = TestPlatform().guest_range().end;
  for (GuestAddr addr : {end, end - 0x1000, GuestAddr(stub::kBlobAddr), GuestAddr(0)}) {
    for (Op kind : {Op::kMapAnonymous, Op::kUnmap, Op::kProtect, Op::kAdvise, Op::kPopulate})
      EXPECT_EQ(Refused(Simple(kind, addr, 0x2000)), Errno::kEINVAL);
  }
  EXPECT_EQ(Refused(Simple(Op::kUnmap, kFree, ~uint64_t{0xfff})), Errno::kEINVAL);
  EXPECT_EQ(Refused(Simple(Op::kUnmap, kFree, 0)), Errno::kEINVAL);
  EXPECT_EQ(Refused(Simple(Op::kUnmap, kFree + 1, 0x1000)), Errno::kEINVAL);
  ASSERT_TRUE(Map(MapAnonymous(kFree, 0x1000, kReadWrite)));
  MapOp remap = Simple(Op::kRemap, kFree, 0x1000);
  remap.old_length = 0x1000;
  remap.new_addr = GuestAddr(stub::kResultAddr);
  EXPECT_EQ(Refused(remap), Errno::kEINVAL);
  char byte = 0;
  EXPECT_EQ(space_->CopyIn(GuestAddr(stub::kBlobAddr), absl::MakeSpan(&byte, 1)), 0u);
  EXPECT_EQ(Write(*space_, GuestAddr(stub::kResultAddr), "x"), 0u);
  EXPECT_EQ(space_->CompareExchange32(GuestAddr(stub::kResultAddr), 0, 1).error(), Errno::kEFAULT);
  // Up to the last byte of the guest's range, and no further.
  ASSERT_TRUE(Map(MapAnonymous(end - 0x1000, 0x1000, kReadWrite)));
  EXPECT_EQ(Write(*space_, end - 2, "abcd"), 2u);
}

TEST_F(MemoryTest, CopiesEndExactlyWhereThePagesEnd) {
  ASSERT_TRUE(Map(MapAnonymous(kFree, 0x5000, kReadWrite)));
  ASSERT_TRUE(Map(Simple(Op::kUnmap, kFree + 0x3000, 0x1000)));
  const std::string data(0x6000, 'q');
  EXPECT_EQ(space_->CopyOut(kFree + 0x10, data), 0x2ff0u);
  EXPECT_EQ(Read(*space_, kFree + 0x20, 0x6000).size(), 0x2fe0u);
  EXPECT_EQ(Read(*space_, kFree + 0x4ffe, 100).size(), 2u);
  EXPECT_EQ(Read(*space_, kFree + 0x3000, 100).size(), 0u);
  ASSERT_TRUE(Map(Simple(Op::kProtect, kFree + 0x1000, 0x1000, kProtRead)));
  EXPECT_EQ(space_->CopyOut(kFree, data), 0x1000u);
}

TEST_F(MemoryTest, AtomicsWorkAndFault) {
  ASSERT_TRUE(Map(MapAnonymous(kFree, 0x1000, kReadWrite)));
  const uint32_t words[2] = {7, 9};
  ASSERT_EQ(space_->CopyOut(kFree, {reinterpret_cast<const char*>(words), 8}), 8u);
  EXPECT_EQ(space_->Load32(kFree).value(), 7u);
  EXPECT_EQ(space_->Load32(kFree + 4).value(), 9u);
  EXPECT_EQ(space_->Load64(kFree).value(), 0x900000007u);
  EXPECT_EQ(space_->CompareExchange32(kFree + 4, 8, 1).value(), 9u);
  EXPECT_EQ(space_->Load32(kFree + 4).value(), 9u);
  EXPECT_EQ(space_->CompareExchange32(kFree + 4, 9, 0xfffffff2).value(), 9u);
  EXPECT_EQ(space_->CompareExchange32(kFree + 4, 0xfffffff2, 1).value(), 0xfffffff2u);
  EXPECT_EQ(space_->Load32(kFree).value(), 7u);

  EXPECT_EQ(space_->Load32(kFree + 0x1000).error(), Errno::kEFAULT);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(space_->CompareExchange32(kFree + 0x1000, 0, 1).error(), Errno::kEFAULT);
  ASSERT_TRUE(Map(Simple(Op::kProtect, kFree, 0x1000, kProtRead)));
  EXPECT_EQ(space_->CompareExchange32(kFree, 7, 1).error(), Errno::kEFAULT);
  UniqueFd empty(memfd_create("empty", MFD_CLOEXEC));
  ASSERT_TRUE(Map(MapFile(kFree, 0x1000, kReadWrite, empty.get(), true)));
  EXPECT_EQ(space_->CompareExchange32(kFree, 0, 1).error(), Errno::kEFAULT);  // SIGBUS.
  EXPECT_TRUE(Map(MapAnonymous(kFree, 0x1000, kReadWrite)));
}

TEST_F(MemoryTest, ForcedCopiesWriteToPrivateMemoryOnly) {
  UniqueFd file = FileWith("text", 0x1000);
  ASSERT_TRUE(space_
                  ->Apply({MapFile(kFree, 0x1000, kProtRead | kProtExec, file.get(), false),
                           MapFile(kFree + 0x1000, 0x1000, kProtRead, file.get(), true),
                           MapAnonymous(kFree + 0x2000, 0x1000, kProtNone)})
                  .ok());
  EXPECT_EQ(space_->CopyOutForced(kFree + 3, absl::string_view("0123456789abcdef")), 16u);
  EXPECT_EQ(Read(*space_, kFree, 19), "tex0123456789abcdef");
  EXPECT_EQ(space_->CopyOutForced(kFree + 0xffe, absl::string_view("ABCD")), 2u);
  EXPECT_EQ(space_->CopyOutForced(kFree + 0x1000, "x"), 0u);
  EXPECT_EQ(space_->CopyOutForced(kFree + 0x10000, "x"), 0u);
  EXPECT_EQ(Write(*space_, kFree, "x"), 0u);  // The protection is as it was.
  char text[4];
  ASSERT_EQ(pread(file.get(), text, 4, 0), 4);
  EXPECT_EQ(std::string(text, 4), "text");
  EXPECT_TRUE(Map(Simple(Op::kUnmap, kFree, 0x3000)));  // The worker is as before.
}

TEST_F(MemoryTest, ResidencyAndAdvice) {
  constexpr uint64_t kPages = 5000;
  ASSERT_TRUE(Map(MapAnonymous(kFree, kPages * 0x1000, kReadWrite)));
  ASSERT_EQ(Write(*space_, kFree + 0x1000, "x"), 1u);
  ASSERT_EQ(Write(*space_, kFree + 4500 * 0x1000, "x"), 1u);
  std::vector<uint8_t> pages(kPages);
  ASSERT_TRUE(space_->Residency(kFree, kPages * 0x1000, absl::MakeSpan(pages)).ok());
  EXPECT_EQ(pages[0], 0);
  EXPECT_EQ(pages[1], 1);
  EXPECT_EQ(pages[4500], 1);
  MapOp advise = Simple(Op::kAdvise, kFree, 0x4000);
  advise.advice = MADV_DONTNEED;
  ASSERT_TRUE(Map(advise));
  EXPECT_EQ(Read(*space_, kFree + 0x1000, 1), std::string(1, '\0'));
  ASSERT_TRUE(Map(Simple(Op::kPopulate, kFree + 0x2000, 0x1000, kReadWrite)));
  ASSERT_TRUE(space_->Residency(kFree, 0x4000, absl::MakeSpan(pages)).ok());
  EXPECT_EQ(pages[2], 1);
  advise.advice = MADV_HWPOISON;
  EXPECT_EQ(Refused(advise), Errno::kEINVAL);
  EXPECT_FALSE(space_->Residency(kFree + 0x10000000, 0x1000, absl::MakeSpan(pages)).ok());
}

TEST_F(MemoryTest, ForkCopiesOnWriteAndSharesWhatIsShared) {
  UniqueFd file = FileWith("shared", 0x1000);
  ASSERT_TRUE(space_
                  ->Apply({MapAnonymous(kFree, 0x1000, kReadWrite),
                           MapFile(kFree + 0x1000, 0x1000, kReadWrite, file.get(), true)})
                  .ok());
  ASSERT_EQ(Write(*space_, kFree, "parent"), 6u);
  Result<std::unique_ptr<AddressSpace>> forked = space_->Fork();
  ASSERT_TRUE(forked.ok());
  AddressSpace& child = **forked;
  EXPECT_EQ(Read(child, kFree, 6), "parent");
  ASSERT_EQ(Write(child, kFree, "child!"), 6u);
  ASSERT_EQ(Write(*space_, kFree + 1, "A"), 1u);
  EXPECT_EQ(Read(child, kFree, 6), "child!");
  EXPECT_EQ(Read(*space_, kFree, 6), "pArent");
  ASSERT_EQ(Write(child, kFree + 0x1000, "SH"), 2u);
  EXPECT_EQ(Read(*space_, kFree + 0x1000, 6), "SHared");
  EXPECT_NE(child.host_pid(), space_->host_pid());
  // Each has a worker of its own.
  ASSERT_TRUE(child.Apply({Simple(Op::kUnmap, kFree, 0x1000)}).ok());
  EXPECT_EQ(Read(*space_, kFree, 6), "pArent");
  ASSERT_TRUE(Map(Simple(Op::kUnmap, kFree, 0x2000)));
  EXPECT_EQ(Read(child, kFree + 0x1000, 2), "SH");
  Result<std::unique_ptr<AddressSpace>> grandchild = child.Fork();
  ASSERT_TRUE(grandchild.ok());
  EXPECT_EQ(Read(**grandchild, kFree + 0x1000, 2), "SH");
}

TEST_F(MemoryTest, AForkedGuestRuns) {
  Registers regs = Load(*space_, [](Code& c) {
    c.syscall();
    c.mov(c.qword[c.rdi], c.rax);
    c.syscall();
  });
  regs.rdi = kData.value;
  auto parent = TestPlatform().NewContext();
  ASSERT_EQ(RunGuest(*parent, *space_, regs).kind, Kind::kSyscall);
  Result<std::unique_ptr<AddressSpace>> space = space_->Fork();
  ASSERT_TRUE(space.ok());
  auto child = TestPlatform().NewContext();
  Registers child_regs = regs;
  child_regs.rax = 0;
  regs.rax = 1234;
  ASSERT_EQ(RunGuest(*child, **space, child_regs).kind, Kind::kSyscall);
  ASSERT_EQ(RunGuest(*parent, *space_, regs).kind, Kind::kSyscall);
  EXPECT_EQ((*space)->Load64(kData).value(), 0u);
  EXPECT_EQ(space_->Load64(kData).value(), 1234u);
  child->Detach();
}

// What the guest writes to the page of results harms nobody but itself.
TEST_F(MemoryTest, AGuestThatForgesResultsGetsErrors) {
  Registers regs = Load(*space_, [](Code& c) {
    Xbyak::Label loop;
    c.L(loop);
    for (int i = 0; i < 8; ++i) c.mov(c.qword[c.rdi + i * 8], c.rax);
    c.jmp(loop);
  });
  regs.rdi = stub::kResultAddr;
  regs.rax = 1;  // "pid 1", "thread 1", "mapped at 1".
  auto context = TestPlatform().NewContext();
  std::atomic<bool> stop{false};
  std::thread guest([&] {
    while (!stop && context->Switch(*space_, regs).kind != Kind::kKilled) {
    }
    context->Detach();
  });
  for (int i = 0; i < 2000; ++i) {
    auto other = TestPlatform().NewContext();
    Result<void> prepared = other->Prepare(*space_);
    Result<void> mapped = space_->Apply({MapAnonymous(kFree, 0x1000, kReadWrite)});
    Result<std::unique_ptr<AddressSpace>> forked = space_->Fork();
    if (forked.ok()) {
      EXPECT_GT((*forked)->host_pid(), 1);
    }
    if (!prepared.ok() && !mapped.ok() && !forked.ok()) break;  // It has been killed.
  }
  stop = true;
  context->Interrupt();
  guest.join();
}

TEST_F(MemoryTest, PageStatesTellWrittenPagesFromThoseOfFiles) {
  UniqueFd file(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 4 * kPageSize), 0);
  const GuestAddr at(0x20000000);
  const MapOp map = MapFile(at, 4 * kPageSize, kReadWrite, file.get(), false);
  ASSERT_TRUE(space_->Apply({&map, 1}).ok());
  char byte = 1;
  ASSERT_EQ(space_->CopyIn(at, {&byte, 1}), 1u);
  byte = 1;
  ASSERT_EQ(space_->CopyOut(at + kPageSize, {&byte, 1}), 1u);
  uint8_t states[4];
  ASSERT_TRUE(space_->PageStates(at, absl::MakeSpan(states)).ok());
  EXPECT_EQ(states[0], kPageResident | kPageOfFile | kPageExclusive);
  EXPECT_EQ(states[1], kPageResident | kPageExclusive);
  EXPECT_EQ(states[3], 0);
  EXPECT_EQ(space_->PageStates(GuestAddr(kPageSize), absl::MakeSpan(states)).error(),
            Errno::kEINVAL);
}

TEST_F(MemoryTest, FinalUsageIsLeftBehindOnce) {
  constexpr uint64_t kSize = 16 << 20;  // The host's count is exact to a MiB or so.
  const MapOp ops[] = {MapAnonymous(GuestAddr(0x20000000), kSize, kReadWrite),
                       Simple(MapOp::Kind::kPopulate, GuestAddr(0x20000000), kSize, kReadWrite)};
  ASSERT_TRUE(space_->Apply(ops).ok());
  auto final_usage = space_->final_usage();
  AddressSpace::Usage usage;
  const AddressSpace::Usage before = space_->GetUsage();
  EXPECT_GT(before.minor_faults, 0u);
  EXPECT_FALSE(final_usage->Claim(&usage));
  space_.reset();
  ASSERT_TRUE(final_usage->Claim(&usage));
  EXPECT_GE(before.resident, kSize);
  EXPECT_GE(usage.peak + (2 << 20), kSize);
  EXPECT_GE(usage.minor_faults, before.minor_faults);
  EXPECT_FALSE(final_usage->Claim(&usage));
}

}  // namespace
}  // namespace caisson::platform
