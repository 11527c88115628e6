#include "sentry/procfs/register.h"

#include "absl/strings/str_split.h"
#include "sentry/procfs/root_files.h"

namespace caisson::procfs {
namespace {

constexpr uint64_t kProcMagic = 0x9fa0, kSysfsMagic = 0x62656572, kCgroupMagic = 0x63677270;

Result<void> CheckProcOptions(absl::string_view options) {
  for (absl::string_view option : absl::StrSplit(options, ',', absl::SkipEmpty())) {
    // Everything is shown to everyone; a mount that asks for less is refused, not ignored.
    if (option != "hidepid=0" && option != "hidepid=off" && option != "rw" && option != "ro")
      return Errno::kEINVAL;
  }
  return {};
}

}  // namespace

Result<RefPtr<vfs::FileSystem>> NewProcFileSystem(Kernel& kernel, RefPtr<PidNamespace> pid_ns,
                                                  absl::string_view options) {
  TRY(CheckProcOptions(options));
  return RefPtr<vfs::FileSystem>(MakeRef<vfs::proc::GeneratedFileSystem>(
      "proc", kProcMagic, kProcRoot, MakeRef<KernelObject>(kernel, std::move(pid_ns))));
}

void RegisterProcAndSys(Kernel& kernel) {
  auto make_proc = [&kernel](CallContext& ctx, absl::string_view, absl::string_view options) {
    Task* task = CallerOf(ctx);
    return NewProcFileSystem(kernel,
                             task != nullptr ? RefPtr<PidNamespace>(&task->pid_namespace())
                                             : kernel.root_pid_ns(),
                             options);
  };
  auto make_sysfs = [&kernel](CallContext&, absl::string_view,
                              absl::string_view options) -> Result<RefPtr<vfs::FileSystem>> {
    if (!options.empty()) return Errno::kEINVAL;
    return RefPtr<vfs::FileSystem>(MakeRef<vfs::proc::GeneratedFileSystem>(
        "sysfs", kSysfsMagic, kSysfsRoot,
        MakeRef<KernelObject>(kernel, kernel.root_pid_ns())));
  };
  auto make_cgroup = [&kernel](CallContext&, absl::string_view,
                               absl::string_view options) -> Result<RefPtr<vfs::FileSystem>> {
    for (absl::string_view option : absl::StrSplit(options, ',', absl::SkipEmpty()))
      if (option != "nsdelegate" && option != "memory_recursiveprot" && option != "favordynmods") return Errno::kEINVAL;
    return RefPtr<vfs::FileSystem>(MakeRef<vfs::proc::GeneratedFileSystem>(
        "cgroup2", kCgroupMagic, kCgroupRoot, MakeRef<KernelObject>(kernel, kernel.root_pid_ns())));
  };
  kernel::FileSystemTypes& types = kernel.file_system_types();
  types.Register("cgroup2", {.make = make_cgroup, .in_user_namespace = true});
  types.Register("proc", {.make = make_proc, .in_user_namespace = true});
  types.Register("sysfs", {.make = make_sysfs, .in_user_namespace = true});
}

}  // namespace caisson::procfs
