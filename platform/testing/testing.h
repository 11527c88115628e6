// For tests of platforms: machine code in a guest address space.
#ifndef CAISSON_PLATFORM_TESTING_TESTING_H_
#define CAISSON_PLATFORM_TESTING_TESTING_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "base/check.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "platform/platform.h"

namespace caisson::platform {

inline constexpr GuestAddr kCode(0x400000);
inline constexpr GuestAddr kData(0x500000);
inline constexpr GuestAddr kStackTop(0x700000);
inline constexpr uint64_t kDataSize = 0x10000;
inline constexpr Protection kReadWrite = kProtRead | kProtWrite;

// The platform that the environment variable CAISSON_TEST_PLATFORM names: ptrace (default), trap, or
// trap-notify-off.
Result<std::unique_ptr<Platform>> OpenTestPlatform(bool proc_view = true);
std::string TestPlatformName();
// The code that it has at stub::kBlobAddr.
std::string TestBlobCode();

// One for the test program: it forks before there are threads.
inline Platform& TestPlatform() {
  static Platform* platform = [] {
    SetLogTarget(2, LogFormat::kText, LogLevel::kWarning);
    Result<std::unique_ptr<Platform>> opened = OpenTestPlatform();
    CHECK(opened.ok());
    (*opened)->OnConfined();
    return std::move(opened).value().release();
  }();
  return *platform;
}

inline std::unique_ptr<AddressSpace> NewSpace() {
  Result<std::unique_ptr<AddressSpace>> space = TestPlatform().NewAddressSpace();
  CHECK(space.ok());
  return std::move(space).value();
}

inline MapOp MapAnonymous(GuestAddr addr, uint64_t length, Protection protection) {
  MapOp op{MapOp::Kind::kMapAnonymous};
  op.addr = addr;
  op.length = length;
  op.protection = protection;
  return op;
}

inline MapOp MapFile(GuestAddr addr, uint64_t length, Protection protection, int fd, bool shared,
                     uint64_t offset = 0) {
  MapOp op = MapAnonymous(addr, length, protection);
  op.kind = MapOp::Kind::kMapFile;
  op.host_fd = fd;
  op.shared = shared;
  op.offset = offset;
  return op;
}

inline MapOp Simple(MapOp::Kind kind, GuestAddr addr, uint64_t length,
                    Protection protection = kProtNone) {
  MapOp op = MapAnonymous(addr, length, protection);
  op.kind = kind;
  return op;
}

// Assembles what `body` emits, for address kCode.
inline std::string Assemble(const std::function<void(Xbyak::CodeGenerator&)>& body) {
  Xbyak::CodeGenerator code(4096);
  body(code);
  code.ready();
  return std::string(reinterpret_cast<const char*>(code.getCode()), code.getSize());
}

// Maps code, data and a stack, and returns the registers to start with.
inline Registers Load(AddressSpace& space,
                      const std::function<void(Xbyak::CodeGenerator&)>& body) {
  const std::string code = Assemble(body);
  const MapOp ops[] = {
      MapAnonymous(kCode, 0x1000, kReadWrite | kProtExec),
      MapAnonymous(kData, kDataSize, kReadWrite),
      MapAnonymous(kStackTop - 0x10000, 0x10000, kReadWrite),
  };
  CHECK(space.Apply(ops).ok());
  CHECK(space.CopyOut(kCode, code) == code.size());
  Registers regs{};
  regs.rip = kCode.value;
  regs.rsp = kStackTop.value - 64;
  regs.cs = 0x33;
  regs.ss = 0x2b;
  regs.eflags = 0x202;
  return regs;
}

// Puts `code` at kCode from a file, filled up with no-operations to `size` bytes: from a file on disk, since memfds
// are not patched.
inline UniqueFd LoadFromFile(AddressSpace& space, std::string code, size_t size = 0x1000) {
  char name[] = "/var/tmp/caisson_test.XXXXXX";
  UniqueFd file(mkostemp(name, O_CLOEXEC));
  CHECK(file.valid());
  unlink(name);
  code.resize(size, '\x90');
  CHECK(write(file.get(), code.data(), size) == static_cast<ssize_t>(size));
  CHECK(space.Apply({MapFile(kCode, size, kProtRead | kProtExec, file.get(), false)}).ok());
  return file;
}

// Makes call `number` for ever; rdi counts.
inline void CallForEver(Xbyak::CodeGenerator& c, uint32_t number) {
  Xbyak::Label again;
  c.L(again);
  c.inc(c.rdi);
  c.mov(c.eax, number);
  c.syscall();
  c.jmp(again);
}

// Interrupts `context`, at ever other moments, as long as it lives.
class Interrupter {
 public:
  explicit Interrupter(Context& context)
      : thread_([this, &context] {
          for (int i = 0; !stop_.load(); ++i) {
            context.Interrupt();
            for (int spin = 0; spin < i % 97 * 50; ++spin) asm volatile("");
            if (i % 8 == 0) usleep(50);
          }
        }) {}
  ~Interrupter() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Runs until something other than an interrupt happens.
inline Event RunGuest(Context& context, AddressSpace& space, Registers& regs) {
  for (;;) {
    Event event = context.Switch(space, regs);
    if (event.kind != Event::Kind::kInterrupted) return event;
  }
}

}  // namespace caisson::platform

#endif  // CAISSON_PLATFORM_TESTING_TESTING_H_
