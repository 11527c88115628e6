#include "sentry/procfs/register.h"

#include "absl/strings/str_split.h"
#include "sentry/procfs/root_files.h"

namespace caisson::procfs {
namespace {

constexpr uint64_t kProcMagic = 0x9fa0, kSysfsMagic = 0x62656572;

Result<void> CheckProcOptions(absl::string_view options) {
  for (absl::string_view option : absl::StrSplit(options, ',', absl::SkipEmpty())) {
    // Everything is shown to everyone; a mount that asks for less is refused, not ignored.
    if (option != "hidepid=0" && option != "hidepid=off" && option != "rw" && option != "ro")
      return Errno::kEINVAL;
  }
  return {};
}

}  // namespace

void RegisterProcAndSys(kernel::Kernel& kernel) {
  auto state = MakeRef<ProcState>(kernel);
  auto object_for = [state](CallContext& ctx) {
    RefPtr<PidNamespace> ns = state->kernel().root_pid_ns();
    if (Task* task = CallerOf(ctx)) ns = RefPtr<PidNamespace>(&task->pid_namespace());
    return RefPtr<Object>(MakeRef<KernelObject>(state, std::move(ns)));
  };
  kernel::FileSystemTypes& types = kernel.file_system_types();
  types.Register(
      "proc", {.make = [object_for](CallContext& ctx, absl::string_view,
                                    absl::string_view options) -> Result<RefPtr<vfs::FileSystem>> {
                 TRY(CheckProcOptions(options));
                 return RefPtr<vfs::FileSystem>(MakeRef<vfs::proc::GeneratedFileSystem>(
                     "proc", kProcMagic, kProcRoot, object_for(ctx)));
               },
               .in_user_namespace = true});
  types.Register(
      "sysfs", {.make = [object_for](CallContext& ctx, absl::string_view,
                                     absl::string_view options) -> Result<RefPtr<vfs::FileSystem>> {
                  if (!options.empty()) return Errno::kEINVAL;
                  return RefPtr<vfs::FileSystem>(MakeRef<vfs::proc::GeneratedFileSystem>(
                      "sysfs", kSysfsMagic, kSysfsRoot, object_for(ctx)));
                },
                .in_user_namespace = true});
}

}  // namespace caisson::procfs
