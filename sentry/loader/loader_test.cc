#include "sentry/loader/loader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>

#include "abi/elf.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "platform/fake/fake_platform.h"
#include "sentry/loader/stack.h"
#include "sentry/mm/testing/fake_vfs.h"

namespace caisson::loader {
namespace {

using mm::testing::TestContext;
using mm::testing::TestFile;

template <typename T>
Errno ErrorOf(const Result<T>& r) {
  return r.ok() ? Errno{0} : r.error();
}

std::string ReadHost(const char* path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return "";
  struct stat st;
  fstat(fd, &st);
  std::string out(st.st_size, '\0');
  CHECK(read(fd, out.data(), out.size()) == st.st_size);
  close(fd);
  return out;
}

// A small program of our own: headers, code and data of a given shape.
struct Segment {
  uint32_t flags;
  uint64_t offset, vaddr, filesz, memsz;
};
std::string MakeElf(uint16_t type, std::vector<Segment> segments, uint64_t entry,
                    std::string interpreter = "") {
  std::string out(0x4000, '\xaa');
  abi::Elf64Header h = {};
  memcpy(h.ident, "\177ELF\2\1\1", 7);
  h.type = type;
  h.machine = abi::kElfMachineX86_64;
  h.version = 1;
  h.entry = entry;
  h.phoff = sizeof(h);
  h.phentsize = sizeof(abi::Elf64ProgramHeader);
  std::vector<abi::Elf64ProgramHeader> headers;
  if (!interpreter.empty()) {
    memcpy(&out[0x800], interpreter.c_str(), interpreter.size() + 1);
    headers.push_back(
        {abi::kPtInterp, 4, 0x800, 0, 0, interpreter.size() + 1, interpreter.size() + 1, 1});
  }
  for (const Segment& s : segments)
    headers.push_back({abi::kPtLoad, s.flags, s.offset, s.vaddr, s.vaddr, s.filesz, s.memsz, 4096});
  h.phnum = headers.size();
  memcpy(&out[0], &h, sizeof(h));
  if (!headers.empty())
    memcpy(&out[sizeof(h)], headers.data(), headers.size() * sizeof(headers[0]));
  return out;
}

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() {
    args_.path = "/bin/prog";
    args_.argv = {"prog", "arg"};
    args_.envp = {"A=1", "B=2"};
    args_.open = [this](const std::string& path) -> Result<RefPtr<vfs::FileDescription>> {
      auto it = files_.find(path);
      if (it == files_.end()) return Errno::kENOENT;
      if (Result<void> r = it->second->inode()->DenyWrites(); !r.ok()) return r.error();
      return RefPtr<vfs::FileDescription>(it->second);
    };
  }
  void Use(absl::string_view content) { args_.file = TestFile::Memory(content); }
  Result<LoadedImage> Load() {
    Program program = TRY(Resolve(ctx_, args_));
    return LoadImage(ctx_, platform_, args_, program);
  }
  template <typename T>
  T Read(mm::MemoryManager& mm, uint64_t at) {
    T value = {};
    EXPECT_TRUE(mm.CopyIn(GuestAddr(at), {reinterpret_cast<char*>(&value), sizeof(T)}).ok());
    return value;
  }

  platform::fake::FakePlatform platform_;
  TestContext ctx_;
  LoadArgs args_;
  std::map<std::string, RefPtr<TestFile>> files_;
};

constexpr Segment kCode{abi::kPfR | abi::kPfX, 0, 0x400000, 0x1000, 0x1000};
constexpr Segment kData{abi::kPfR | abi::kPfW, 0x1000, 0x601000, 0x100, 0x3000};

TEST_F(LoaderTest, StaticProgramIsMappedAndItsBssIsZero) {
  Use(MakeElf(abi::kElfTypeExec, {kCode, kData}, 0x400100));
  LoadedImage image = Load().value();
  EXPECT_EQ(image.entry.value, 0x400100u);
  EXPECT_EQ(image.comm, "prog");
  EXPECT_EQ(Read<uint8_t>(*image.mm, 0x6010ff), 0xaa);
  EXPECT_EQ(Read<uint8_t>(*image.mm, 0x601100), 0);
  EXPECT_EQ(Read<uint8_t>(*image.mm, 0x603fff), 0);
  EXPECT_FALSE(image.mm->CopyOut(GuestAddr(0x400000), {"x", 1}).ok());
  EXPECT_TRUE(image.mm->CopyOut(GuestAddr(0x601000), {"x", 1}).ok());
  // Code, file part of the data, its zero part, and the stack: nothing is mapped twice.
  auto& space = static_cast<platform::fake::FakeAddressSpace&>(image.mm->address_space());
  EXPECT_EQ(space.TakeLog().size(), 4u);
  auto layout = image.mm->layout();
  EXPECT_EQ(layout.start_code.value, 0x400000u);
  EXPECT_EQ(layout.end_data.value, 0x601100u);
  EXPECT_GE(layout.start_brk.value, 0x604000u);
  EXPECT_TRUE(image.mm->executable() == args_.file.get());
}

TEST_F(LoaderTest, StackHoldsArgumentsAndAuxiliaryVector) {
  Use(MakeElf(abi::kElfTypeExec, {kCode}, 0x400100));
  args_.uid = 7;
  args_.secure = true;
  args_.hwcap2 = 3;
  args_.vdso = vdso::Vdso::New({})->ForOffsets(0, 0).value();
  LoadedImage image = Load().value();
  uint64_t sp = image.stack_pointer.value;
  EXPECT_EQ(sp % 16, 0u);
  mm::MemoryManager& mm = *image.mm;
  auto word = [&](int i) { return Read<uint64_t>(mm, sp + 8 * i); };
  auto text = [&](uint64_t at) { return mm.CopyInString(GuestAddr(at), 100).value(); };
  EXPECT_EQ(word(0), 2u);
  EXPECT_EQ(text(word(1)), "prog");
  EXPECT_EQ(text(word(2)), "arg");
  EXPECT_EQ(word(3), 0u);
  EXPECT_EQ(text(word(4)), "A=1");
  EXPECT_EQ(text(word(5)), "B=2");
  EXPECT_EQ(word(6), 0u);
  std::map<uint64_t, uint64_t> auxv;
  for (int i = 7; word(i) != abi::kAtNull; i += 2) {
    EXPECT_EQ(auxv.count(word(i)), 0u);
    auxv[word(i)] = word(i + 1);
  }
  EXPECT_EQ(auxv[abi::kAtPhdr], 0x400040u);
  EXPECT_EQ(auxv[abi::kAtPhnum], 1u);
  EXPECT_EQ(auxv[abi::kAtPhent], 56u);
  EXPECT_EQ(auxv[abi::kAtPagesz], 4096u);
  EXPECT_EQ(auxv[abi::kAtEntry], 0x400100u);
  EXPECT_EQ(auxv[abi::kAtUid], 7u);
  EXPECT_EQ(auxv[abi::kAtSecure], 1u);
  EXPECT_EQ(auxv[abi::kAtClktck], 100u);
  EXPECT_EQ(auxv[abi::kAtHwcap2], 1u);
  EXPECT_EQ(text(auxv[abi::kAtSysinfoEhdr] + 1).substr(0, 3), "ELF");
  EXPECT_EQ(auxv[abi::kAtMinsigstksz], 2048u);
  EXPECT_EQ(text(auxv[abi::kAtExecfn]), "/bin/prog");
  EXPECT_EQ(text(auxv[abi::kAtPlatform]), "x86_64");
  Read<uint64_t>(mm, auxv[abi::kAtRandom] + 8);
  auto layout = mm.layout();
  EXPECT_EQ(text(layout.arg_start.value), "prog");
  EXPECT_EQ(layout.arg_end - layout.arg_start, 9u);
  EXPECT_EQ(layout.env_end - layout.env_start, 8u);
  EXPECT_EQ(layout.auxv.size(), (auxv.size() + 1) * 16);
  bool stack = false, vdso = false;
  for (const auto& vma : mm.Vmas()) {
    stack |= vma.name == "[stack]" && vma.range.contains(image.stack_pointer);
    vdso |= vma.name == "[vdso]";
  }
  EXPECT_TRUE(stack);
  EXPECT_TRUE(vdso);
}

TEST_F(LoaderTest, PieGetsAnInterpreterAndItsEntry) {
  Segment pie{abi::kPfR | abi::kPfX, 0, 0, 0x1000, 0x1000};
  Use(MakeElf(abi::kElfTypeDyn, {pie}, 0x200, "/lib/ld.so"));
  files_["/lib/ld.so"] = TestFile::Memory(MakeElf(abi::kElfTypeDyn, {pie}, 0x300));
  args_.personality = abi::kAddrNoRandomize;
  LoadedImage image = Load().value();
  auto vmas = image.mm->Vmas();
  ASSERT_EQ(vmas.size(), 3u);
  EXPECT_EQ(image.entry.value, vmas[1].range.start.value + 0x300);
  // Without randomization always in the same place.
  EXPECT_EQ(Load().value().entry, image.entry);
  // The interpreter may be written again, the program not while it runs.
  EXPECT_TRUE(files_["/lib/ld.so"]->inode()->AddWriter().ok());
  EXPECT_EQ(ErrorOf(args_.file->inode()->AddWriter()), Errno::kETXTBSY);
}

TEST_F(LoaderTest, MissingOrBadInterpreter) {
  Segment pie{abi::kPfR | abi::kPfX, 0, 0, 0x1000, 0x1000};
  Use(MakeElf(abi::kElfTypeDyn, {pie}, 0x200, "/lib/ld.so"));
  EXPECT_EQ(ErrorOf(Load()), Errno::kENOENT);
  files_["/lib/ld.so"] = TestFile::Memory("not a library");
  EXPECT_EQ(ErrorOf(Load()), Errno::kELIBBAD);
}

TEST_F(LoaderTest, LaterSegmentsLieOnEarlierOnes) {
  Segment over{abi::kPfR | abi::kPfW, 0x2000, 0x602000, 0x1000, 0x1000};
  std::string elf = MakeElf(abi::kElfTypeExec, {kCode, kData, over}, 0x400100);
  Use(elf);
  LoadedImage image = Load().value();
  EXPECT_EQ(Read<uint8_t>(*image.mm, 0x601200), 0);
  EXPECT_EQ(Read<uint8_t>(*image.mm, 0x602000), 0xaa);
  EXPECT_EQ(Read<uint8_t>(*image.mm, 0x603000), 0);
}

TEST_F(LoaderTest, ImpossibleSegmentsAreRefused) {
  auto expect = [&](Segment s, Errno e) {
    Use(MakeElf(abi::kElfTypeExec, {s}, 0x400100));
    EXPECT_EQ(ErrorOf(Load()), e);
  };
  expect({4, 0, 0x400000, 0x2000, 0x1000}, Errno::kEINVAL);
  expect({4, 0, ~uint64_t{0} - 0xfff, 0x1000, 0x1000}, Errno::kEINVAL);
  expect({4, 0, 0x400000, 0, ~uint64_t{0}}, Errno::kEINVAL);
  expect({4, 0x10, 0x400000, 0x100, 0x100}, Errno::kEINVAL);
  expect({4, 0x7ffffffffffff000, 0x400000, 0x2000, 0x2000}, Errno::kEINVAL);
  expect({4, 0, 0, 0x1000, 0x1000}, Errno::kEPERM);
  Use(MakeElf(abi::kElfTypeExec, {}, 0x400100));
  EXPECT_EQ(ErrorOf(Load()), Errno::kENOEXEC);
}

TEST_F(LoaderTest, ScriptsAreResolvedAsBinfmtScript) {
  files_["/bin/sh"] = TestFile::Memory(MakeElf(abi::kElfTypeExec, {kCode}, 0x400100));
  auto argv = [&](absl::string_view script) {
    Use(script);
    Result<Program> p = Resolve(ctx_, args_);
    return p.ok() ? p.value().argv : std::vector<std::string>{std::string(ErrnoName(p.error()))};
  };
  using V = std::vector<std::string>;
  EXPECT_EQ(argv("#!/bin/sh\necho"), (V{"/bin/sh", "/bin/prog", "arg"}));
  EXPECT_EQ(argv("#! \t/bin/sh -e -u \t\n"), (V{"/bin/sh", "-e -u", "/bin/prog", "arg"}));
  EXPECT_EQ(argv("#!/bin/sh"), (V{"/bin/sh", "/bin/prog", "arg"}));
  EXPECT_EQ(argv("#!\n"), V{"ENOEXEC"});
  EXPECT_EQ(argv("#!   "), V{"ENOENT"});  // An empty path: the file ends there.
  EXPECT_EQ(argv("#!/nowhere\n"), V{"ENOENT"});
  EXPECT_EQ(argv("echo hello"), V{"ENOEXEC"});
  EXPECT_EQ(argv(""), V{"ENOEXEC"});
  // A path cut off at 256 bytes is refused, an argument is cut.
  EXPECT_EQ(argv("#!/" + std::string(300, 'a') + "\n"), V{"ENOEXEC"});
  EXPECT_EQ(argv("#!/bin/sh " + std::string(300, 'a') + "\n")[1].size(), 245u);
}

TEST_F(LoaderTest, ScriptsNestFiveDeep) {
  files_["/bin/sh"] = TestFile::Memory(MakeElf(abi::kElfTypeExec, {kCode}, 0x400100));
  for (int i = 1; i <= 5; ++i)
    files_[absl::StrCat("/s", i)] =
        TestFile::Memory(i == 1 ? "#!/bin/sh\n" : absl::StrCat("#!/s", i - 1, "\n"));
  Use("#!/s4\n");
  EXPECT_EQ(Resolve(ctx_, args_).value().argv.size(), 7u);
  Use("#!/s5\n");
  EXPECT_EQ(ErrorOf(Resolve(ctx_, args_)), Errno::kELOOP);
  for (auto& [path, file] : files_) EXPECT_TRUE(file->inode()->AddWriter().ok()) << path;
}

TEST_F(LoaderTest, ArgumentsAreLimited) {
  EXPECT_EQ(ErrorOf(CheckArguments({std::string(128 << 10, 'a')}, {}, "p", 8 << 20)),
            Errno::kE2BIG);
  EXPECT_TRUE(CheckArguments({std::string((128 << 10) - 1, 'a')}, {}, "p", 8 << 20).ok());
  std::vector<std::string> many(21, std::string(100000, 'a'));
  EXPECT_EQ(ErrorOf(CheckArguments(many, {}, "p", 8 << 20)), Errno::kE2BIG);
  many.resize(20);
  EXPECT_TRUE(CheckArguments({}, many, "p", 8 << 20).ok());
  many.resize(2);
  EXPECT_EQ(ErrorOf(CheckArguments(many, {}, "p", 4096)), Errno::kE2BIG);
}

TEST_F(LoaderTest, HostProgramsLoadAndMutationsNeverBreakTheLoader) {
  std::mt19937 random(7);
  int loaded = 0;
  for (const char* path : {"/bin/busybox", "/bin/true", "/proc/self/exe"}) {
    std::string original = ReadHost(path);
    if (original.empty()) continue;
    files_.clear();
    std::string interpreter = ReadHost("/lib64/ld-linux-x86-64.so.2");
    if (!interpreter.empty()) files_["/lib64/ld-linux-x86-64.so.2"] = TestFile::Memory(interpreter);
    Use(original);
    EXPECT_TRUE(Load().ok()) << path;
    // Only what the loader looks at need be changed: headers.
    auto file = TestFile::Memory(original);
    args_.file = file;
    static constexpr uint64_t kValues[] = {0,
                                           1,
                                           0xfff,
                                           0x1000,
                                           0x7fffffff,
                                           0xffffffff,
                                           0x7fffffffffff,
                                           uint64_t{1} << 44,
                                           uint64_t{1} << 63,
                                           ~uint64_t{0},
                                           ~uint64_t{0} - 0xfff};
    for (int i = 0; i < 1500; ++i) {
      std::string head = original.substr(0, 64 + 56 * 14);
      for (int n = 1 + random() % 3; n > 0; --n) {
        size_t at = random() % head.size();
        if (random() % 2 == 0) {
          head[at] = static_cast<char>(random());
        } else {
          at = std::min(at & ~size_t{7}, head.size() - 8);
          memcpy(&head[at], &kValues[random() % std::size(kValues)], 8);
        }
      }
      CHECK(pwrite(file->host_fd(), head.data(), head.size(), 0) ==
            static_cast<ssize_t>(head.size()));
      Result<LoadedImage> image = Load();
      if (!image.ok()) continue;
      ++loaded;
      for (const auto& vma : image.value().mm->Vmas())
        ASSERT_TRUE(platform_.guest_range().contains(vma.range));
      ASSERT_EQ(image.value().stack_pointer.value % 16, 0u);
    }
  }
  EXPECT_GT(loaded, 100);
}

}  // namespace
}  // namespace caisson::loader
