// The functions behind the files of /proc itself, by source.
#ifndef CAISSON_SENTRY_PROCFS_ROOT_FILES_H_
#define CAISSON_SENTRY_PROCFS_ROOT_FILES_H_

#include <string>

#include "sentry/procfs/objects.h"

namespace caisson::procfs {

// root_files.cc
Result<std::string> ReadDevices(CallContext& ctx, KernelObject& o);
Result<std::string> ReadFilesystems(CallContext& ctx, KernelObject& o);
Result<std::string> ReadInterrupts(CallContext& ctx, KernelObject& o);
Result<std::string> ReadVersion(CallContext& ctx, KernelObject& o);
Result<RefPtr<vfs::FileDescription>> OpenKmsg(CallContext& ctx, KernelObject& o,
                                              const vfs::OpenArgs& args, vfs::Inode& inode);
Result<std::string> SelfLink(CallContext& ctx, KernelObject& o);
Result<std::string> ThreadSelfLink(CallContext& ctx, KernelObject& o);

// fd_files.cc
Result<std::string> ReadLocks(CallContext& ctx, KernelObject& o);

// root_figures.cc
Result<std::string> ReadBuddyinfo(CallContext& ctx, KernelObject& o);
Result<std::string> ReadLoadavg(CallContext& ctx, KernelObject& o);
Result<std::string> ReadMeminfo(CallContext& ctx, KernelObject& o);
Result<std::string> ReadKernelStat(CallContext& ctx, KernelObject& o);
Result<std::string> ReadUptime(CallContext& ctx, KernelObject& o);
Result<std::string> ReadVmstat(CallContext& ctx, KernelObject& o);
Result<std::string> ReadZoneinfo(CallContext& ctx, KernelObject& o);

// sysvipc_files.cc
Result<std::string> ReadSysvMsg(CallContext& ctx, KernelObject& o);
Result<std::string> ReadSysvSem(CallContext& ctx, KernelObject& o);
Result<std::string> ReadSysvShm(CallContext& ctx, KernelObject& o);

// cpuinfo_x86_64.cc
Result<std::string> ReadCpuinfo(CallContext& ctx, KernelObject& o);

// root_table.cc: the root of proc. sysctl.cc: /proc/sys. sys_tree.cc: the root of sysfs.
extern const Entry kProcRoot;
extern const Directory kSysctlDirectory;
extern const Entry kSysfsRoot;
extern const Entry kCgroupRoot;  // cgroup_files.cc

}  // namespace caisson::procfs

#endif  // CAISSON_SENTRY_PROCFS_ROOT_FILES_H_
