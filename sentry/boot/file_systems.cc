#include "sentry/boot/file_systems.h"

#include "sentry/ipc/namespace.h"
#include "sentry/procfs/register.h"
#include "vfs/dev/devtmpfs.h"
#include "vfs/dev/memory_devices.h"
#include "vfs/overlay/overlay.h"
#include "vfs/tmpfs/filesystem.h"
#include "vfs/tty/devpts.h"
#include "vfs/tty/pty.h"

namespace caisson::boot {

using kernel::FileSystemTypes;

void RegisterFileSystems(kernel::Kernel& kernel) {
  FileSystemTypes& types = kernel.file_system_types();
  const uint64_t memory = kernel.config().total_memory;
  const RefPtr<vfs::tmpfs::MemoryAccount>& account = kernel.file_memory();
  auto tmpfs = [memory, account](vfs::CallContext&, absl::string_view, absl::string_view options) -> Result<RefPtr<vfs::FileSystem>> {
    // Half of the memory is the default size (tmpfs(5)).
    vfs::tmpfs::Options defaults;
    defaults.max_pages = memory / 2 / kPageSize;
    return RefPtr<vfs::FileSystem>(
        TRY(vfs::tmpfs::TmpfsFileSystem::New(options, defaults, memory, "tmpfs", account)));
  };
  types.Register("tmpfs", {.make = tmpfs, .in_user_namespace = true});
  types.Register("overlay", {.make = [](vfs::CallContext& ctx, absl::string_view, absl::string_view options) {
                               return vfs::overlay::MountOverlay(ctx, options);
                             }});
  types.Register("devtmpfs", {.make = [account](vfs::CallContext& ctx, absl::string_view, absl::string_view options) {
                                return vfs::dev::MakeDevtmpfs(ctx, options, {}, account);
                              }});
  types.Register("devpts",
                 {.make = [&kernel](vfs::CallContext& ctx, absl::string_view,
                                    absl::string_view options) -> Result<RefPtr<vfs::FileSystem>> {
                    auto parsed = TRY(vfs::tty::DevptsFileSystem::ParseOptions(options, *ctx.creds().user_ns));
                    return RefPtr<vfs::FileSystem>(MakeRef<vfs::tty::DevptsFileSystem>(kernel.job_control(), parsed));
                  },
                  .in_user_namespace = true});
  types.Register("mqueue", {.make = [](vfs::CallContext& ctx, absl::string_view,
                                       absl::string_view options) -> Result<RefPtr<vfs::FileSystem>> {
                              auto* task = static_cast<kernel::Task*>(ctx.owner());
                              if (task == nullptr || !options.empty()) return Errno::kEINVAL;
                              return RefPtr<vfs::FileSystem>(task->namespaces().ipc->posix_ref());
                            },
                            .in_user_namespace = true});
  procfs::RegisterProcAndSys(kernel);
  vfs::dev::RegisterMemoryDevices(kernel.devices(), kernel.anonymous_files());
  constexpr uint32_t kTtyMajor = 5;
  kernel.devices().Register(vfs::DeviceRegistry::Type::kChar, kTtyMajor, 0, 1, "/dev/tty",
                            [&kernel](vfs::CallContext& ctx, const vfs::OpenArgs& args, vfs::Inode& inode,
                                      vfs::DeviceNumber) {
                              return vfs::tty::OpenControllingTty(ctx, kernel.job_control(), args, inode);
                            });
}

}  // namespace caisson::boot
