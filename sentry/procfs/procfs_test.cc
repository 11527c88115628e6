// The tables on a kernel with tasks that never run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "abi/elf.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "netstack/sockets/sockets.h"
#include "platform/fake/fake_platform.h"
#include "sentry/ipc/namespace.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel.h"
#include "sentry/procfs/register.h"
#include "sentry/procfs/sysctl.h"
#include "vfs/testing/test_context.h"

namespace caisson::procfs {
namespace {

using kernel::Task;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class NoSyscalls final : public kernel::SyscallDispatcher {
 public:
  kernel::SyscallResult Dispatch(Task&, int) override { return Errno::kENOSYS; }
};

// A program of one page that is never run.
std::string MinimalElf() {
  std::string image(4096, '\0');
  abi::Elf64Header h = {};
  memcpy(h.ident, "\177ELF\2\1\1", 7);
  h.type = abi::kElfTypeExec;
  h.machine = abi::kElfMachineX86_64;
  h.version = 1;
  h.entry = 0x400100;
  h.phoff = sizeof(h);
  h.ehsize = sizeof(h);
  h.phentsize = sizeof(abi::Elf64ProgramHeader);
  h.phnum = 1;
  abi::Elf64ProgramHeader p = {};
  p.type = 1;   // PT_LOAD
  p.flags = 5;  // R and X.
  p.vaddr = p.paddr = 0x400000;
  p.filesz = p.memsz = 4096;
  p.align = 4096;
  memcpy(image.data(), &h, sizeof(h));
  memcpy(image.data() + sizeof(h), &p, sizeof(p));
  return image;
}

class ProcfsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    kernel::KernelConfig config;
    config.cpu_count = 4;
    config.total_memory = uint64_t{2} << 30;
    kernel_ = std::make_unique<kernel::Kernel>(std::make_unique<platform::fake::FakePlatform>(),
                                               dispatcher_, config);
    RegisterProcAndSys(*kernel_);
    container_ = MakeRef<kernel::Container>("test", 0, uint64_t{1} << 30, "");
    ASSERT_OK(admin_.Mkdir("/proc"));
    ASSERT_OK(admin_.Mkdir("/sys"));
    ASSERT_OK(admin_.WriteFile("/program", MinimalElf(), 0755));
    first_ = NewTask("first", {"first", "--flag", "two words"}, {"A=1", "B=2"});
    Mount("proc", "/proc");
    Mount("sysfs", "/sys");
  }

  void TearDown() override {
    for (const RefPtr<Task>& t : tasks_) {
      std::vector<RefPtr<Task>> members;  // A task that never ran does not leave its group.
      MutexLock lock(kernel_->tasks_mu());
      MutexLock signal_lock(t->group().signal_mu);
      std::swap(members, t->group().tasks);
      t->group().process_group.reset();
    }
    first_.reset();
    tasks_.clear();
  }

  void Mount(const char* type, const char* where) {
    auto fs = kernel_->file_system_types().Find(type)->make(*first_, type, "");
    ASSERT_OK(fs);
    auto at = admin_.Walk(where);
    ASSERT_OK(at);
    ASSERT_OK(world_.ns()->Add(*fs, *at, 0, type));
  }

  RefPtr<Task> NewTask(const std::string& comm, std::vector<std::string> argv,
                       std::vector<std::string> envp = {}, uint32_t uid = 0) {
    auto creds = MakeRef<auth::Credentials>(kernel_->root_user_ns());
    creds->ruid = creds->euid = creds->suid = creds->fsuid = uid;
    creds->rgid = creds->egid = creds->sgid = creds->fsgid = uid;
    if (uid == 0) creds->permitted = creds->effective = auth::kAllCapabilities;
    auto namespaces = MakeRef<kernel::NamespaceSet>();
    namespaces->mount = world_.ns();
    namespaces->uts = MakeRef<kernel::UtsNamespace>("host", "(none)", kernel_->root_user_ns(), true);
    namespaces->ipc = MakeRef<ipc::IpcNamespace>(kernel_->root_user_ns(), &kernel_->shared_memory(),
                                                 uint64_t{0xEFFFFFFF});
    namespaces->net = MakeRef<netstack::NetNamespace>(MakeRef<netstack::UnixFlight>(),
                                                      MakeRef<netstack::SocketFileSystem>(), 77);
    namespaces->pid_for_children = kernel_->root_pid_ns();
    namespaces->cgroup = MakeRef<kernel::CgroupNamespace>(kernel_->root_user_ns(), true);
    namespaces->time = namespaces->time_for_children =
        MakeRef<kernel::TimeNamespace>(kernel_->root_user_ns(), kernel::TimeOffsets{}, true);
    kernel::Kernel::ProcessArgs args;
    args.container = container_;
    args.creds = RefPtr<const auth::Credentials>(creds);
    args.fd_table = MakeRef<kernel::FdTable>();
    args.fs = MakeRef<kernel::FsContext>(world_.ns()->root(), world_.ns()->root(), 022);
    args.namespaces = namespaces;
    args.pid_ns = kernel_->root_pid_ns();
    args.path = "/program";
    args.argv = std::move(argv);
    args.envp = std::move(envp);
    auto task = kernel_->NewProcess(std::move(args));
    EXPECT_TRUE(task.ok());
    (*task)->set_comm(comm);
    tasks_.push_back(*task);
    return *task;
  }

  Result<std::string> Read(Task& as, const std::string& path) {
    RefPtr<vfs::FileDescription> file = TRY(vfs::Open(as, as.root(), path, 0, 0));
    std::string out;
    for (;;) {
      char chunk[1000];
      SpanBuffer buffer(absl::Span<char>(chunk, sizeof(chunk)));
      size_t n = TRY(vfs::FileRead(as, *file, buffer, 0));
      if (n == 0) return out;
      out.append(chunk, n);
    }
  }
  std::string Read(const std::string& path) {
    Result<std::string> text = Read(*first_, path);
    EXPECT_TRUE(text.ok()) << path << ": " << (text.ok() ? "" : ErrnoName(text.error()));
    return text.value_or("");
  }
  Result<void> Write(Task& as, const std::string& path, absl::string_view data) {
    RefPtr<vfs::FileDescription> file =
        TRY(vfs::Open(as, as.root(), path, vfs::kOpenWriteOnly | vfs::kOpenTruncate, 0));
    SpanBuffer buffer = SpanBuffer::ForWrite({data.data(), data.size()});
    TRY(vfs::FileWrite(as, *file, buffer, 0));
    return {};
  }
  Result<std::string> ReadLink(Task& as, const std::string& path) {
    vfs::VfsPath at = TRY(vfs::Walk(as, as.root(), path, {.follow_last = false}));
    return vfs::ReadLink(as, at);
  }

  NoSyscalls dispatcher_;
  vfs::testing::TestWorld world_;
  vfs::testing::TestContext admin_{world_};
  std::unique_ptr<kernel::Kernel> kernel_;
  RefPtr<kernel::Container> container_;
  std::vector<RefPtr<Task>> tasks_;
  RefPtr<Task> first_;
};

// Opens and reads, as root, everything there is: nothing crashes, and every file gives text or one
// of the errors that Linux's give.
class Crawler {
 public:
  Crawler(Task& task) : task_(task) {}
  void Crawl(const std::string& path, int depth) {
    auto dir = vfs::Open(task_, task_.root(), path, vfs::kOpenDirectory, 0);
    ASSERT_TRUE(dir.ok()) << path << ": " << ErrnoName(dir.error());
    struct Sink : vfs::DirectorySink {
      std::vector<std::pair<std::string, vfs::FileMode>> names;
      bool Add(absl::string_view name, uint64_t, vfs::FileMode type, int64_t) override {
        names.emplace_back(std::string(name), type);
        return true;
      }
    } sink;
    ASSERT_OK((*dir)->Iterate(task_, sink));
    for (const auto& [name, type] : sink.names) {
      if (name == "." || name == "..") continue;
      const std::string child = absl::StrCat(path, "/", name);
      auto at = vfs::Walk(task_, task_.root(), child, {.follow_last = false});
      ASSERT_TRUE(at.ok()) << child << ": " << ErrnoName(at.error());
      auto attr = vfs::Stat(task_, *at);
      ASSERT_OK(attr);
      EXPECT_EQ(attr->mode & vfs::kModeType, type) << child;
      if (type == vfs::kModeLink) {
        EXPECT_TRUE(vfs::ReadLink(task_, *at).ok()) << child;
      } else if (type == vfs::kModeDirectory) {
        if (depth > 0) Crawl(child, depth - 1);
      } else if ((attr->mode & 0444) != 0) {
        auto file = vfs::OpenPath(task_, *at, vfs::kOpenReadOnly);
        ASSERT_TRUE(file.ok()) << child << ": " << ErrnoName(file.error());
        char chunk[4096];
        SpanBuffer buffer(absl::Span<char>(chunk, sizeof(chunk)));
        auto n = vfs::FileRead(task_, **file, buffer, 0);
        if (n.ok()) ++read_;
        else EXPECT_THAT(name, ::testing::AnyOf("mem", "kmsg")) << child << ErrnoName(n.error());
      }
    }
  }
  int read() const { return read_; }

 private:
  Task& task_;
  int read_ = 0;
};

TEST_F(ProcfsTest, EveryFileCanBeRead) {
  Crawler crawler(*first_);
  crawler.Crawl("/proc", 6);
  EXPECT_GT(crawler.read(), 200);
  Crawler sys(*first_);
  sys.Crawl("/sys", 8);
  EXPECT_GT(sys.read(), 60);
}

TEST_F(ProcfsTest, CmdlineEnvironAuxvAreTheProgramsOwn) {
  EXPECT_EQ(Read("/proc/self/cmdline"), std::string("first\0--flag\0two words\0", 23));
  EXPECT_EQ(Read("/proc/1/environ"), std::string("A=1\0B=2\0", 8));
  const std::string auxv = Read("/proc/self/auxv");
  ASSERT_EQ(auxv.size() % 16, 0u);
  EXPECT_EQ(auxv.substr(auxv.size() - 16), std::string(16, '\0'));
}

TEST_F(ProcfsTest, StatHas52FieldsInLinuxOrder) {
  first_->set_comm("odd) name");
  const std::string stat = Read("/proc/1/stat");
  ASSERT_THAT(stat, StartsWith("1 (odd) name) R 0 1 1 0 -1 "));
  const size_t after = stat.rfind(')');
  std::vector<std::string> fields = absl::StrSplit(stat.substr(after + 2, stat.size() - after - 3), ' ');
  ASSERT_EQ(fields.size(), 50u);   // 3 to 52.
  EXPECT_EQ(fields[18 - 3], "20");  // priority
  EXPECT_EQ(fields[20 - 3], "1");   // num_threads
  EXPECT_EQ(fields[25 - 3], "18446744073709551615");  // rsslim
  const auto layout = first_->mm_ref()->layout();
  EXPECT_EQ(fields[28 - 3], absl::StrCat(layout.start_stack.value));
  EXPECT_EQ(fields[48 - 3], absl::StrCat(layout.arg_start.value));
  EXPECT_EQ(fields[52 - 3], "0");
}

TEST_F(ProcfsTest, StatusHasWhatProgramsParse) {
  const std::string status = Read("/proc/self/status");
  EXPECT_THAT(status, StartsWith("Name:\tfirst\nUmask:\t0022\nState:\tR (running)\nTgid:\t1\n"));
  EXPECT_THAT(status, HasSubstr("\nPid:\t1\nPPid:\t0\nTracerPid:\t0\nUid:\t0\t0\t0\t0\n"));
  EXPECT_THAT(status, HasSubstr("\nGroups:\t \nNStgid:\t1\nNSpid:\t1\n"));
  EXPECT_THAT(status, HasSubstr("\nCapEff:\t000001ffffffffff\n"));
  EXPECT_THAT(status, HasSubstr("\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n"));
  EXPECT_THAT(status, ContainsRegex("\nVmSize:\t +[0-9]+ kB\n"));
  EXPECT_THAT(status, HasSubstr("\nThreads:\t1\n"));
}

TEST_F(ProcfsTest, MapsLinesHaveTheNameInColumn73) {
  const std::vector<std::string> lines = absl::StrSplit(Read("/proc/self/maps"), '\n');
  int found = 0;
  for (const std::string& line : lines) {
    if (absl::EndsWith(line, "/program")) {
      EXPECT_EQ(line.find("/program"), 73u) << line;
      EXPECT_THAT(line, ContainsRegex("^00400000-00401000 r-xp 00000000 00:[0-9a-f]+ [0-9]+ "));
      ++found;
    }
    if (absl::EndsWith(line, "[stack]")) {
      EXPECT_EQ(line.find("[stack]"), 73u);
      ++found;
    }
  }
  EXPECT_EQ(found, 2);
}

TEST_F(ProcfsTest, CommIsWritableByTheGroupOnly) {
  ASSERT_OK(Write(*first_, "/proc/self/comm", "a name that is too long"));
  EXPECT_EQ(Read("/proc/self/comm"), "a name that is \n");
  RefPtr<Task> other = NewTask("other", {"other"});
  EXPECT_ERRNO(Write(*other, "/proc/1/comm", "stolen"), kEINVAL);
}

TEST_F(ProcfsTest, MemReadsAndWritesAtAddresses) {
  const GuestAddr arg = first_->mm_ref()->layout().arg_start;
  auto file = vfs::Open(*first_, first_->root(), "/proc/self/mem", vfs::kOpenReadWrite, 0);
  ASSERT_OK(file);
  char text[5] = {};
  SpanBuffer to(absl::Span<char>(text, 5));
  EXPECT_EQ(*vfs::FilePRead(*first_, **file, to, arg.value, 0), 5u);
  EXPECT_EQ(std::string(text, 5), "first");
  SpanBuffer from = SpanBuffer::ForWrite({"FIRST", 5});
  EXPECT_EQ(*vfs::FilePWrite(*first_, **file, from, arg.value, 0), 5u);
  EXPECT_THAT(Read("/proc/self/cmdline"), StartsWith("FIRST"));
  SpanBuffer nowhere(absl::Span<char>(text, 5));
  EXPECT_ERRNO(vfs::FilePRead(*first_, **file, nowhere, 0x10000, 0), kEIO);
}

TEST_F(ProcfsTest, OthersMayNotLookIntoATask) {
  RefPtr<Task> user = NewTask("user", {"user"}, {}, 1000);
  RefPtr<Task> same = NewTask("same", {"same"}, {"S=1"}, 1000);
  const std::string own = absl::StrCat("/proc/", same->tid());
  EXPECT_TRUE(Read(*user, own + "/environ").ok());
  EXPECT_TRUE(ReadLink(*user, own + "/exe").ok());
  for (const char* file : {"/environ", "/maps", "/mem", "/auxv"})
    EXPECT_ERRNO(Read(*user, std::string("/proc/1") + file), kEACCES);
  for (const char* link : {"/exe", "/cwd", "/root", "/ns/mnt"})
    EXPECT_ERRNO(ReadLink(*user, std::string("/proc/1") + link), kEACCES);
  EXPECT_ERRNO(vfs::Open(*user, user->root(), "/proc/1/fd", 0, 0), kEACCES);
  EXPECT_TRUE(Read(*user, "/proc/1/status").ok());
  EXPECT_TRUE(Read(*user, "/proc/1/cmdline").ok());
  // Not dumpable: not even for the same user, and root's.
  same->mm_ref()->set_dumpable(0);
  EXPECT_ERRNO(Read(*user, own + "/maps"), kEACCES);
  auto attr = vfs::Stat(*user, *vfs::Walk(*user, user->root(), own + "/stat", {}));
  EXPECT_EQ(attr->uid, 0u);
  attr = vfs::Stat(*user, *vfs::Walk(*user, user->root(), own, {}));
  EXPECT_EQ(attr->uid, 1000u);
}

TEST_F(ProcfsTest, DescriptorsAreLinksToWhatTheyOpened) {
  ASSERT_OK(admin_.WriteFile("/file", "content"));
  auto file = vfs::Open(*first_, first_->root(), "/file", vfs::kOpenReadOnly, 0);
  ASSERT_OK(file);
  ASSERT_OK(first_->fd_table_ref()->Install(*file, 0, 100, true));
  auto pipe = kernel_->pipes().NewPipe(*first_, 0);
  ASSERT_OK(first_->fd_table_ref()->Install(pipe.second, 5, 100, false));
  EXPECT_EQ(*ReadLink(*first_, "/proc/self/fd/0"), "/file");
  EXPECT_THAT(*ReadLink(*first_, "/proc/self/fd/5"), ContainsRegex("^pipe:\\[[0-9]+\\]$"));
  EXPECT_EQ(Read("/proc/self/fd/0"), "content");
  EXPECT_THAT(Read("/proc/self/fdinfo/0"), StartsWith("pos:\t0\nflags:\t02100000\nmnt_id:\t"));
  auto attr = vfs::Stat(*first_, *vfs::Walk(*first_, first_->root(), "/proc/self/fd/0",
                                            {.follow_last = false}));
  EXPECT_EQ(attr->mode, vfs::kModeLink | 0500);
  EXPECT_ERRNO(ReadLink(*first_, "/proc/self/fd/1"), kENOENT);
  EXPECT_ERRNO(ReadLink(*first_, "/proc/self/fd/05"), kENOENT);
}

TEST_F(ProcfsTest, NamespaceLinksCompareByInode) {
  RefPtr<Task> other = NewTask("other", {"other"});
  EXPECT_EQ(*ReadLink(*first_, "/proc/self/ns/uts"), "uts:[4026531838]");
  EXPECT_EQ(*ReadLink(*first_, "/proc/self/ns/net"), "net:[77]");
  auto stat = [&](const char* path) {
    return *vfs::Stat(*first_, *vfs::Walk(*first_, first_->root(), path, {}));
  };
  EXPECT_EQ(stat("/proc/1/ns/mnt").ino, stat("/proc/2/ns/mnt").ino);
  EXPECT_TRUE(stat("/proc/1/ns/mnt").dev == stat("/proc/2/ns/user").dev);
  auto file = vfs::Open(*first_, first_->root(), "/proc/2/ns/uts", 0, 0);
  ASSERT_OK(file);
  kernel::NamespaceFile* ns = kernel::AsNamespace(**file);
  ASSERT_NE(ns, nullptr);
  EXPECT_EQ(ns->ns().uts.get(), other->namespaces_ref()->uts.get());
  EXPECT_EQ(*ns->Ioctl(*first_, 0xb703, 0), int64_t{kernel::kCloneNewuts});
}

TEST_F(ProcfsTest, HostnameIsSetByTheCapableOnly) {
  EXPECT_EQ(Read("/proc/sys/kernel/hostname"), "host\n");
  ASSERT_OK(Write(*first_, "/proc/sys/kernel/hostname", "renamed\n"));
  EXPECT_EQ(first_->namespaces_ref()->uts->host_name(), "renamed");
  RefPtr<Task> user = NewTask("user", {"user"}, {}, 1000);
  EXPECT_ERRNO(Write(*user, "/proc/sys/kernel/hostname", "x"), kEACCES);
  EXPECT_ERRNO(Write(*first_, "/proc/sys/kernel/pid_max", "1"), kEACCES);
  EXPECT_ERRNO(Read(*first_, "/proc/sys/kernel/none"), kENOENT);
}

TEST_F(ProcfsTest, OomScoreAdjGoesDownWithPrivilegeOnly) {
  RefPtr<Task> user = NewTask("user", {"user"}, {}, 1000);
  const std::string path = "/proc/self/oom_score_adj";
  ASSERT_OK(Write(*user, path, "500\n"));
  ASSERT_OK(Write(*user, path, "0"));
  EXPECT_ERRNO(Write(*user, path, "-1"), kEACCES);
  EXPECT_ERRNO(Write(*user, path, "1001"), kEINVAL);
  EXPECT_ERRNO(Write(*user, path, "x"), kEINVAL);
  ASSERT_OK(Write(*first_, "/proc/2/oom_score_adj", "-1000"));
  EXPECT_EQ(*Read(*user, path), "-1000\n");
  EXPECT_EQ(*Read(*user, "/proc/self/oom_score"), "0\n");
  EXPECT_EQ(*Read(*user, "/proc/self/oom_adj"), "-17\n");
}

TEST_F(ProcfsTest, UidMapFollowsTheKernelsRules) {
  RefPtr<Task> user = NewTask("user", {"user"}, {}, 1000);
  auto ns = MakeRef<auth::UserNamespace>(kernel_->root_user_ns(), 1000, 1000, false);
  auto creds = MakeRef<auth::Credentials>(*user->creds_ref());
  creds->user_ns = ns;
  creds->effective = creds->permitted = auth::kAllCapabilities;
  user->set_creds(RefPtr<const auth::Credentials>(creds));
  const std::string path = "/proc/self/";
  for (const char* bad : {"0 1000", "0 1000 0", "x 1 1", "0 1000 1\n0 2000 1", "\n", "0 0 4294967295\n1 1 1"})
    EXPECT_ERRNO(Write(*user, path + "uid_map", bad), kEINVAL);
  EXPECT_ERRNO(Write(*user, path + "uid_map", "0 1000 2"), kEPERM);
  EXPECT_ERRNO(Write(*user, path + "uid_map", "0 1001 1"), kEPERM);
  ASSERT_OK(Write(*user, path + "uid_map", "0 1000 1\n"));
  EXPECT_ERRNO(Write(*user, path + "uid_map", "0 1000 1\n"), kEPERM);
  EXPECT_EQ(*Read(*user, path + "uid_map"), "         0       1000          1\n");
  EXPECT_ERRNO(Write(*user, path + "gid_map", "0 1000 1"), kEPERM);  // setgroups first.
  ASSERT_OK(Write(*user, path + "setgroups", "deny\n"));
  ASSERT_OK(Write(*user, path + "gid_map", "0 1000 1"));
  EXPECT_EQ(*Read(*user, path + "setgroups"), "deny\n");
  EXPECT_EQ(ns->ToKernelUid(0), 1000u);
}

TEST_F(ProcfsTest, MountsAreTheTasksAndPollTellsChanges) {
  EXPECT_THAT(Read("/proc/mounts"), HasSubstr("\nproc /proc proc rw,relatime 0 0\nsysfs /sys sysfs rw,relatime 0 0\n"));
  auto file = vfs::Open(*first_, first_->root(), "/proc/self/mountinfo", 0, 0);
  ASSERT_OK(file);
  EXPECT_EQ((*file)->Readiness(kEventPri), 0u);
  ASSERT_OK(admin_.Mkdir("/other"));
  Mount("proc", "/other");
  EXPECT_EQ((*file)->Readiness(kEventPri), kEventPri | kEventErr);
  EXPECT_EQ((*file)->Readiness(kEventPri), 0u);
}

TEST_F(ProcfsTest, TasksAreListedByNumber) {
  NewTask("two", {"two"});
  NewTask("three", {"three"});
  auto dir = vfs::Open(*first_, first_->root(), "/proc", vfs::kOpenDirectory, 0);
  struct Sink : vfs::DirectorySink {
    std::vector<std::string> numbers;
    bool Add(absl::string_view name, uint64_t, vfs::FileMode, int64_t) override {
      if (name[0] >= '0' && name[0] <= '9') numbers.emplace_back(name);
      return true;
    }
  } sink;
  ASSERT_OK((*dir)->Iterate(*first_, sink));
  EXPECT_THAT(sink.numbers, ::testing::ElementsAre("1", "2", "3"));
  EXPECT_EQ(*ReadLink(*tasks_[2], "/proc/thread-self"), "3/task/3");
  EXPECT_THAT(Read("/proc/3/task/3/status"), StartsWith("Name:\tthree\n"));
  EXPECT_ERRNO(Read(*first_, "/proc/3/task/2/status"), kENOENT);
  EXPECT_ERRNO(Read(*first_, "/proc/03/status"), kENOENT);
  EXPECT_ERRNO(Read(*first_, "/proc/4/status"), kENOENT);
}

TEST_F(ProcfsTest, MemoryIsTheContainersLimit) {
  EXPECT_THAT(Read("/proc/meminfo"), StartsWith("MemTotal:        1048576 kB\nMemFree:"));
  EXPECT_EQ(Read("/sys/devices/system/cpu/online"), "0-3\n");
  EXPECT_EQ(Read("/sys/devices/system/cpu/cpu3/topology/core_id"), "3\n");
  EXPECT_ERRNO(Read(*first_, "/sys/devices/system/cpu/cpu4/topology/core_id"), kENOENT);
  EXPECT_THAT(Read("/proc/stat"), AllOf(StartsWith("cpu  "), HasSubstr("\ncpu3 "), HasSubstr("\nbtime ")));
}

TEST_F(ProcfsTest, UnknownMountOptionsAreRefused) {
  const auto* type = kernel_->file_system_types().Find("proc");
  EXPECT_ERRNO(type->make(*first_, "proc", "hidepid=2"), kEINVAL);
  EXPECT_ERRNO(type->make(*first_, "proc", "nonsense"), kEINVAL);
  EXPECT_TRUE(type->make(*first_, "proc", "hidepid=0").ok());
}

TEST_F(ProcfsTest, SysctlsOfNamespacesAreSetByNameAndShown) {
  kernel::NamespaceSet& set = *first_->namespaces_ref();
  ASSERT_OK(SetNamespacedSysctl(set, "kernel.shmmax", "65536"));
  ASSERT_OK(SetNamespacedSysctl(set, "kernel.sem", "250 32000 100 128"));
  ASSERT_OK(SetNamespacedSysctl(set, "net/core/somaxconn", "128"));
  ASSERT_OK(SetNamespacedSysctl(set, "net.ipv4.ping_group_range", "0 2147483647"));
  ASSERT_OK(SetNamespacedSysctl(set, "fs.mqueue.msg_max", "20"));
  EXPECT_EQ(Read("/proc/sys/kernel/shmmax"), "65536\n");
  EXPECT_EQ(Read("/proc/sys/kernel/sem"), "250\t32000\t100\t128\n");
  EXPECT_EQ(Read("/proc/sys/net/core/somaxconn"), "128\n");
  EXPECT_EQ(Read("/proc/sys/net/ipv4/ping_group_range"), "0\t2147483647\n");
  EXPECT_EQ(Read("/proc/sys/fs/mqueue/msg_max"), "20\n");
  EXPECT_ERRNO(set.ipc->shm.Get(*first_, 0, 65537, 0600), kEINVAL);
  EXPECT_ERRNO(SetNamespacedSysctl(set, "kernel.panic", "1"), kENOENT);
  EXPECT_ERRNO(SetNamespacedSysctl(set, "vm.swappiness", "1"), kENOENT);
  EXPECT_ERRNO(SetNamespacedSysctl(set, "net.core.somaxconn", "many"), kEINVAL);
  EXPECT_ERRNO(SetNamespacedSysctl(set, "net.core.somaxconn", "1 2"), kEINVAL);
  EXPECT_ERRNO(SetNamespacedSysctl(set, "net.ipv4.ip_unprivileged_port_start", "65536"), kEINVAL);
}

TEST_F(ProcfsTest, ACgroupShowsTheContainersLimits) {
  container_->set_memory_limit(64 << 20);
  container_->set_pids_limit(33);
  container_->set_cpu_limit(1.5);
  ASSERT_OK(admin_.Mkdir("/cgroup"));
  Mount("cgroup2", "/cgroup");
  EXPECT_EQ(Read("/cgroup/memory.max"), "67108864\n");
  EXPECT_EQ(Read("/cgroup/pids.max"), "33\n");
  EXPECT_EQ(Read("/cgroup/cpu.max"), "150000 100000\n");
  EXPECT_EQ(Read("/cgroup/cgroup.controllers"), "cpuset cpu memory pids\n");
  EXPECT_NE(Read("/cgroup/cgroup.procs"), "");
  EXPECT_ERRNO(Write(*first_, "/cgroup/memory.max", "1"), kEACCES);
  container_->set_memory_limit(0);
  EXPECT_EQ(Read("/cgroup/memory.max"), "max\n");
}

}  // namespace
}  // namespace caisson::procfs
