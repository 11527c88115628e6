// Address spaces with patched call sites, on the platforms that patch: state and registers of threads
// in patched calls, forks, mappings that change.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "platform/testing/testing.h"

namespace caisson::platform {
namespace {

using Code = Xbyak::CodeGenerator;

constexpr uint32_t kCall = 135;
constexpr GuestAddr kText(0x20000000);

class PatchedSpaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (TestPlatformName() == "ptrace") GTEST_SKIP() << "does not patch";
  }

  // A file that is a program: `body` at its start.
  UniqueFd Program(const std::function<void(Code&)>& body) {
    char path[] = "/tmp/patched_space_test.XXXXXX";
    UniqueFd fd(mkostemp(path, O_CLOEXEC));
    unlink(path);
    std::string code = Assemble(body);
    code.resize(2 * kPageSize);
    CHECK(pwrite(fd.get(), code.data(), code.size(), 0) == static_cast<ssize_t>(code.size()));
    return fd;
  }
  Registers Start(AddressSpace& space, int fd) {
    Registers regs = Load(space, [](Code& c) { c.ud2(); });
    const MapOp op = MapFile(kText, 2 * kPageSize, kProtRead | kProtExec, fd, false);
    CHECK(space.Apply({&op, 1}).ok());
    regs.rip = kText.value;
    return regs;
  }
  // What is really in the stub's memory.
  static uint8_t HostByte(AddressSpace& space, uint64_t address) {
    uint8_t byte = 0;
    iovec local{&byte, 1}, remote{reinterpret_cast<void*>(address), 1};
    CHECK(process_vm_readv(space.host_pid(), &local, 1, &remote, 1, 0) == 1);
    return byte;
  }
  static uint8_t GuestByte(AddressSpace& space, uint64_t address) {
    char byte = 0;
    CHECK(space.CopyIn(GuestAddr(address), {&byte, 1}) == 1);
    return static_cast<uint8_t>(byte);
  }
};

// A loop of calls; rbx counts them.
void CallLoop(Code& c) {
  Xbyak::Label loop;
  c.L(loop);
  c.mov(c.edi, c.ebx);
  c.mov(c.eax, kCall);
  c.syscall();
  c.add(c.rbx, c.rax);
  c.jmp(loop);
}
constexpr uint64_t kSite = 2;  // Of CallLoop(): its mov.

// A signal's frame needs the extended state of a thread in a patched call; a restart makes it again.
TEST_F(PatchedSpaceTest, FpStateRestartsAndNewRegistersInAPatchedCall) {
  UniqueFd fd = Program(CallLoop);
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Start(*space, fd.get());
  std::vector<char> fp(TestPlatform().fp_state_size());
  for (uint64_t i = 0; i < 300; ++i) {
    ASSERT_EQ(RunGuest(*context, *space, regs).kind, Event::Kind::kSyscall);
    ASSERT_EQ(regs.rdi, i);
    switch (i % 4) {
      case 0:
        ASSERT_TRUE(context->GetFpState(absl::MakeSpan(fp)).ok());
        fp[160] = static_cast<char>(i);  // xmm0.
        fp[512] |= 3;
        ASSERT_TRUE(context->SetFpState(fp).ok());
        break;
      case 1:
        ASSERT_TRUE(context->GetFpState(absl::MakeSpan(fp)).ok());
        ASSERT_EQ(fp[160], static_cast<char>(i - 1));
        break;
      case 2:  // As the run loop restarts a call.
        regs.rip -= 2;
        ASSERT_EQ(RunGuest(*context, *space, regs).kind, Event::Kind::kSyscall);
        ASSERT_EQ(regs.rax, kCall);
        ASSERT_EQ(regs.rdi, i);
        break;
      default:  // Elsewhere, with other registers, as a signal handler is entered.
        context->FullRegisters(regs);
        regs.rip = kText.value;
        regs.rbx = i;
        ASSERT_EQ(RunGuest(*context, *space, regs).kind, Event::Kind::kSyscall);
        ASSERT_EQ(regs.rdi, i);
    }
    regs.rax = 1;
  }
}

TEST_F(PatchedSpaceTest, ForksAndNewSpacesStartPatchedAndApart) {
  UniqueFd fd = Program(CallLoop);
  auto space = NewSpace();
  auto context = TestPlatform().NewContext();
  Registers regs = Start(*space, fd.get());
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(RunGuest(*context, *space, regs).kind, Event::Kind::kSyscall);
    regs.rax = 1;
  }
  Result<std::unique_ptr<AddressSpace>> child = space->Fork();
  ASSERT_TRUE(child.ok());
  auto other = NewSpace();
  Registers other_regs = Start(*other, fd.get());
  EXPECT_EQ(HostByte(**child, kText.value + kSite), 0xe9);
  EXPECT_EQ(HostByte(*other, kText.value + kSite), 0xe9);
  // One writes to its text; the others do not see it.
  const char number = 96;
  EXPECT_EQ(space->CopyOutForced(kText + kSite + 1, {&number, 1}), 1u);
  EXPECT_EQ(HostByte(*space, kText.value + kSite), 0xb8);
  EXPECT_EQ(GuestByte(*space, kText.value + kSite + 1), 96);
  ASSERT_EQ(RunGuest(*context, *space, regs).kind, Event::Kind::kSyscall);  // The one under way.
  ASSERT_EQ(RunGuest(*context, *space, regs).kind, Event::Kind::kSyscall);
  EXPECT_EQ(regs.rax, 96u);
  auto child_context = TestPlatform().NewContext();
  auto other_context = TestPlatform().NewContext();
  Registers child_regs = regs;
  child_regs.rip = kText.value;
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(RunGuest(*child_context, **child, child_regs).kind, Event::Kind::kSyscall);
    ASSERT_EQ(child_regs.rax, kCall);
    ASSERT_EQ(RunGuest(*other_context, *other, other_regs).kind, Event::Kind::kSyscall);
    ASSERT_EQ(other_regs.rax, kCall);
    child_regs.rax = other_regs.rax = 1;
  }
}

TEST_F(PatchedSpaceTest, ThreadsShareASiteAndMappingsChangeMeanwhile) {
  UniqueFd fd = Program(CallLoop);
  auto space = NewSpace();
  Registers start = Start(*space, fd.get());
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> guests;
  for (int t = 0; t < 3; ++t) {
    guests.emplace_back([&] {
      auto context = TestPlatform().NewContext();
      Registers regs = start;
      for (uint64_t i = 0; !stop; ++i) {
        const Event event = RunGuest(*context, *space, regs);
        if (event.kind != Event::Kind::kSyscall || regs.rax != kCall || regs.rdi != (i & 0xffffffff)) {
          ++wrong;
          break;
        }
        regs.rax = 1;
      }
      context->Detach();
    });
  }
  const MapOp again = MapFile(kText, kPageSize, kProtRead | kProtExec, fd.get(), false);
  const MapOp protect = Simple(MapOp::Kind::kProtect, kText, kPageSize, kProtRead | kProtExec);
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(space->Apply({i % 2 == 0 ? &protect : &again, 1}).ok());
    usleep(300);
  }
  stop = true;
  for (std::thread& guest : guests) guest.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace caisson::platform
