#include "platform/trap/patch_scan.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cstring>
#include <string>

namespace caisson::platform::trap {
namespace {

bool IsPatchableSite(absl::Span<const char> page, size_t at, uint32_t number) {
  const std::optional<SitePlan> plan = PlanSite(page, at, number);
  return plan.has_value() && !plan->hop;
}

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
  PatchSite(absl::MakeSpan(&page[0], page.size()), 100, *PlanSite(page, 100, 39), 0x12345678);
  EXPECT_EQ(page.substr(95, 7), "\xe9\x78\x56\x34\x12\x0f\x05");
  EXPECT_FALSE(IsPatchableSite(page, 100, 39));
}

TEST(PatchScanTest, TheLongMovIsReplacedToo) {
  std::string page(4096, '\x90');
  const std::string code("\x48\xc7\xc0\x0e\0\0\0\x0f\x05", 9);
  page.replace(200, 9, code);
  EXPECT_TRUE(IsPatchableSite(page, 207, 14));
  EXPECT_FALSE(IsPatchableSite(page, 207, 16));
  PatchSite(absl::MakeSpan(&page[0], page.size()), 207, *PlanSite(page, 207, 14), 0x12345678);
  EXPECT_EQ(page.substr(200, 9), std::string("\xe9\x78\x56\x34\x12\0\0\x0f\x05", 9));
  page.replace(0, 8, code.substr(1));
  EXPECT_FALSE(PlanSite(page, 6, 14));
}

TEST(PatchScanTest, ARestorerIsASiteWhereUnwindersDoNotLookAtItsBytes) {
  const std::string code("\x48\xc7\xc0\x0f\0\0\0\x0f\x05", 9);
  auto with = [&](size_t at, const std::string& before) {
    std::string page(4096, '\0');
    page.replace(at, 9, code);
    page.replace(at - before.size(), before.size(), before);
    page.replace(at + 9, 8, std::string("\x0f\x1f\x84\0\0\0\0\0", 8));
    return page;
  };
  const std::string nop("\x0f\x1f\x40\0", 4), ret("\xc3\xcc\xcc", 3);
  EXPECT_TRUE(IsPatchableSite(with(160, nop), 167, SYS_rt_sigreturn));  // glibc
  EXPECT_TRUE(IsPatchableSite(with(160, ret), 167, SYS_rt_sigreturn));  // Go
  EXPECT_FALSE(PlanSite(with(160, "\x90"), 167, SYS_rt_sigreturn));     // musl
  EXPECT_FALSE(PlanSite(with(161, "\x90"), 168, SYS_rt_sigreturn));
  EXPECT_FALSE(PlanSite(with(164, nop), 171, SYS_rt_sigreturn));
  // By no other way than that: neither the short mov nor a hop.
  EXPECT_FALSE(PlanSite(Page(105, SYS_rt_sigreturn), 105, SYS_rt_sigreturn));
}

// `syscall` at 1000, and `padding` at `to`.
std::string Near(size_t to, const std::string& padding) {
  std::string page(4096, '\x55');
  page.replace(1000, 2, "\x0f\x05");
  page.replace(to, padding.size(), padding);
  return page;
}

const std::string kNop("\x0f\x1f\x84\0\0\0\0\0", 8);

TEST(PatchScanTest, AHopIsInTheUnusedBytesOfANop) {
  for (const size_t nop : {size_t{1002}, size_t{1020}, size_t{1126}, size_t{871}, size_t{990}}) {
    std::string page = Near(nop, kNop);
    const std::string before = page;
    const std::optional<SitePlan> plan = PlanSite(page, 1000, 0);
    ASSERT_TRUE(plan) << nop;
    EXPECT_TRUE(plan->hop);
    EXPECT_EQ(plan->jump, nop + 3);
    PatchSite(absl::MakeSpan(&page[0], page.size()), 1000, *plan, 0x12345678);
    EXPECT_EQ(page.substr(nop, 8), "\x0f\x1f\x84\xe9\x78\x56\x34\x12");
    EXPECT_EQ(page[1000], '\xeb');
    EXPECT_EQ(1002 + page[1001], static_cast<int>(nop + 3));
    EXPECT_FALSE(PlanSite(page, 1000, 0));
    // It is nobody else's then.
    page.replace(1000, 2, "\x0f\x05");
    EXPECT_FALSE(PlanSite(page, 1000, 0));
    page.replace(1000, 2, before.substr(1000, 2));
    page.replace(nop, 8, kNop);
    EXPECT_EQ(page, before);
  }
}

TEST(PatchScanTest, OutOfReachOrNoNopIsNoHop) {
  EXPECT_FALSE(PlanSite(Near(1127, kNop), 1000, 0));
  EXPECT_FALSE(PlanSite(Near(870, kNop), 1000, 0));
  EXPECT_FALSE(PlanSite(Near(1020, std::string("\x0f\x1f\x84\0\0\0\0\1", 8)), 1000, 0));
  EXPECT_FALSE(PlanSite(Near(1020, std::string("\x0f\x1f\x80\0\0\0\0\0", 8)), 1000, 0));
  EXPECT_FALSE(PlanSite(Near(1020, std::string("\x0f\x1f\x44\0\0", 5)), 1000, 0));
  // At a page's ends.
  std::string page(4096, '\x55');
  page.replace(4000, 2, "\x0f\x05");
  page.replace(4089, 7, kNop.substr(0, 7));
  EXPECT_FALSE(PlanSite(page, 4000, 0));
  page.replace(4088, 8, kNop);
  EXPECT_TRUE(PlanSite(page, 4000, 0));
  page = std::string(4096, '\x55');
  page.replace(10, 2, "\x0f\x05");
  page.replace(0, 5, 5, '\0');
  EXPECT_FALSE(PlanSite(page, 10, 0));
  EXPECT_FALSE(PlanSite(std::string(1, '\x0f'), 0, 0));
}

TEST(PatchScanTest, AHopIsInInt3BehindAFunction) {
  const std::string fill(6, '\xcc');
  for (const std::string& end : {std::string("\xc3"), std::string("\x0f\x0b")}) {
    const std::optional<SitePlan> plan = PlanSite(Near(1050 - end.size(), end + fill), 1000, 0);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->jump, 1050u);
  }
  EXPECT_FALSE(PlanSite(Near(1049, "\x90" + fill), 1000, 0));
  EXPECT_FALSE(PlanSite(Near(1049, "\xc3" + fill.substr(1)), 1000, 0));  // Ends at 1055.
  EXPECT_FALSE(PlanSite(Near(1051, "\xc3" + fill.substr(2)), 1000, 0));  // Four.
  // mov rax, 0xcccccccccccccccc.
  EXPECT_FALSE(PlanSite(Near(1046, "\x48\xb8" + std::string(8, '\xcc')), 1000, 0));
}

// mov eax, 202, then `between`, then the call at 100, in a page without room for a hop.
std::string Between(const std::string& between) {
  std::string page(4096, '\x90');
  page.replace(100, 2, "\x0f\x05");
  page.replace(100 - between.size(), between.size(), between);
  page.replace(95 - between.size(), 5, std::string("\xb8\xca\0\0\0", 5));
  return page;
}

TEST(PatchScanTest, InstructionsThatChangeRegistersOnlyAreCarried) {
  const std::string fit[] = {
      "\x40\x80\xf6\x81",                   // xor sil, 0x81
      "\x80\xf2\x81\x89\xd6",               // xor dl, 0x81; mov esi, edx
      "\x31\xd2",                           // xor edx, edx
      std::string("\x81\xe6\x80\0\0\0", 6),  // and esi, 0x80
      std::string("\xba\x01\0\0\0", 5),      // mov edx, 1
      "\x45\x85\xc0\x40\x0f\x95\xc6\x45\x31\xd2\xc1\xe6\x07\x40\x80\xf6\x81",  // test r8d, r8d; setne sil; ...
      "\xf7\xd6",                           // not esi
      "\x0f\xb6\xf1",                       // movzx esi, cl
      "\x48\x0f\x46\xd6",                   // cmovbe rdx, rsi
      "\x49\xd1\xe4",                       // shl r12, 1
  };
  for (const std::string& between : fit) {
    const std::string page = Between(between);
    const std::optional<SitePlan> plan = PlanSite(page, 100, 202);
    ASSERT_TRUE(plan) << &between - fit;
    EXPECT_FALSE(plan->hop);
    EXPECT_EQ(plan->carried, between.size());
    EXPECT_EQ(plan->jump, 95 - between.size());
    EXPECT_FALSE(PlanSite(page, 100, 203));
    std::string patched = page;
    PatchSite(absl::MakeSpan(&patched[0], patched.size()), 100, *plan, 0x12345678);
    EXPECT_EQ(patched.substr(95 - between.size(), 5), "\xe9\x78\x56\x34\x12");
    EXPECT_EQ(patched.substr(100 - between.size()), page.substr(100 - between.size()));
  }
}

TEST(PatchScanTest, OtherInstructionsAreNotCarried) {
  const std::string unfit[] = {
      "\x31\xc0",                                // xor eax, eax
      "\x89\xc2",                                // mov edx, eax
      "\x34\x81",                                // xor al, 0x81
      "\x80\xf4\x81",                            // xor ah, 0x81
      "\x48\x89\xe7",                            // mov rdi, rsp
      "\x48\x8b\x37",                            // mov rsi, [rdi]
      std::string("\x48\x8d\x35\0\0\0\0", 7),   // lea rsi, [rip]
      "\x66\x31\xd2",                            // xor dx, dx
      std::string("\x49\xb8\1\0\0\0\0\0\0\0", 10),  // mov r8, 1 with 64 bits
      "\x48\x87\xf7",                            // xchg rdi, rsi
      "\xeb\x10", "\x75\x10", "\xff\xd2",        // jmp, jne, call rdx
      "\xc3\xc3", "\x0f\x0b",                     // ret, ud2
      "\x90\x90",
      "\x80\xf2",                                // Its immediate would be the call.
      "\x31\xd2\x31",
      "\x40\x40\x80\xf6\x81",
      std::string(26, '\x31') ,                   // Too long, and nonsense.
  };
  for (const std::string& between : unfit) EXPECT_FALSE(PlanSite(Between(between), 100, 202)) << &between - unfit;
  std::string long_one;
  for (int i = 0; i < 13; ++i) long_one += "\x31\xd2";
  EXPECT_FALSE(PlanSite(Between(long_one), 100, 202));
  EXPECT_TRUE(PlanSite(Between(long_one.substr(2)), 100, 202));
  // Another register's `mov`, and a page's start.
  std::string page = Between("\x31\xd2");
  page[92] = '\x41';
  EXPECT_FALSE(PlanSite(page, 100, 202));
  EXPECT_FALSE(PlanSite(absl::Span<const char>(Between("\x31\xd2")).subspan(94), 6, 202));
}

TEST(PatchScanTest, CallsThatDoNotComeBackAreNotPatched) {
  for (int number : {SYS_clone, SYS_vfork, SYS_fork, SYS_execve, SYS_exit, 512,
                      0x40000001})
    EXPECT_FALSE(IsPatchableCall(static_cast<uint32_t>(number))) << number;
  EXPECT_TRUE(IsPatchableCall(SYS_read));
}

}  // namespace
}  // namespace caisson::platform::trap
