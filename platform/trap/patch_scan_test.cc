#include "platform/trap/patch_scan.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cstring>
#include <string>

namespace caisson::platform::trap {
namespace {

// `before`, then mov eax, `number`; syscall, with the `syscall` at `at` of a page.
std::string Page(size_t at, uint32_t number, const std::string& before = "") {
  std::string page(4096, '\x90');
  page[at - 5] = '\xb8';
  std::memcpy(&page[at - 4], &number, 4);
  page[at] = '\x0f';
  page[at + 1] = '\x05';
  page.replace(at - 5 - before.size(), before.size(), before);
  return page;
}

TEST(PatchScanTest, FindsTheMovBeforeTheCall) {
  EXPECT_TRUE(IsPatchableSite(Page(100, 39), 100, 39));
  EXPECT_TRUE(IsPatchableSite(Page(5, 39), 5, 39));
  EXPECT_TRUE(IsPatchableSite(Page(4094, 39), 4094, 39));
}

TEST(PatchScanTest, AnotherNumberThanTheOneCalledIsNoSite) {
  EXPECT_FALSE(IsPatchableSite(Page(100, 39), 100, 40));
}

TEST(PatchScanTest, PagesAndShortInputsAreBounds) {
  const std::string page = Page(100, 39);
  EXPECT_FALSE(IsPatchableSite(page, 4, 39));
  EXPECT_FALSE(IsPatchableSite(page, 0, 39));
  EXPECT_FALSE(IsPatchableSite(page, 4095, 39));
  EXPECT_FALSE(IsPatchableSite(page, 5000, 39));
  EXPECT_FALSE(IsPatchableSite(absl::Span<const char>(page.data(), 101), 100, 39));
  EXPECT_FALSE(IsPatchableSite({}, 0, 39));
}

TEST(PatchScanTest, OtherInstructionsAreRefused) {
  // mov r8d, 39; mov r8, ...; mov ax with a prefix; xor edi, edi ends with ff, which is fine.
  for (const char* before : {"\x41", "\x49", "\x48", "\x66", "\x0f"})
    EXPECT_FALSE(IsPatchableSite(Page(100, 39, before), 100, 39)) << int(before[0]);
  EXPECT_TRUE(IsPatchableSite(Page(100, 39, "\x31\xff"), 100, 39));
  // mov dword [rbp - 0x48], 39 and mov dword [rsp - 0x48], 39: b8 is their displacement.
  EXPECT_FALSE(IsPatchableSite(Page(100, 39, "\xc7\x45"), 100, 39));
  EXPECT_FALSE(IsPatchableSite(Page(100, 39, "\xc7\x44\x24"), 100, 39));
  // cmp dword [rax - 0x47ffff01], 300.
  EXPECT_FALSE(IsPatchableSite(Page(100, 300, std::string("\x81\xb8\xff\x00\x00", 5)), 100, 300));
}

TEST(PatchScanTest, TheCallInstructionStays) {
  std::string page = Page(100, 39);
  PatchSite(absl::MakeSpan(&page[0], page.size()), 100, 0x12345678);
  EXPECT_EQ(page.substr(95, 7), "\xe9\x78\x56\x34\x12\x0f\x05");
  EXPECT_FALSE(IsPatchableSite(page, 100, 39));
}

TEST(PatchScanTest, CallsThatDoNotComeBackAreNotPatched) {
  for (int number : {SYS_clone, SYS_vfork, SYS_fork, SYS_execve, SYS_exit, SYS_rt_sigreturn, 512,
                      0x40000001})
    EXPECT_FALSE(IsPatchableCall(static_cast<uint32_t>(number))) << number;
  EXPECT_TRUE(IsPatchableCall(SYS_read));
}

}  // namespace
}  // namespace caisson::platform::trap
