// The functions behind the files of /proc/PID, by source.
#ifndef CAISSON_SENTRY_PROCFS_TASK_FILES_H_
#define CAISSON_SENTRY_PROCFS_TASK_FILES_H_

#include <string>

#include "sentry/procfs/objects.h"

namespace caisson::procfs {

// task_stat.cc
Result<std::string> ReadStat(CallContext& ctx, TaskObject& o);
Result<std::string> ReadStatm(CallContext& ctx, TaskObject& o);
Result<std::string> ReadStatus(CallContext& ctx, TaskObject& o, const auth::Credentials& opener);
Result<std::string> ReadSchedstat(CallContext& ctx, TaskObject& o);
Result<std::string> ReadTimers(CallContext& ctx, TaskObject& o);

// task_memory.cc
Result<std::string> ReadAuxv(CallContext& ctx, MmObject& o);
Result<std::string> ReadEnviron(CallContext& ctx, MmObject& o);
Result<std::string> ReadCmdline(CallContext& ctx, TaskObject& o);
Result<RefPtr<vfs::FileDescription>> OpenMem(CallContext& ctx, TaskObject& o,
                                             const vfs::OpenArgs& args, vfs::Inode& inode);

// task_maps.cc
Result<std::string> ReadMaps(CallContext& ctx, MmObject& o);
Result<std::string> ReadSmaps(CallContext& ctx, MmObject& o);
Result<std::string> ReadSmapsRollup(CallContext& ctx, MmObject& o);
Result<std::string> ReadNumaMaps(CallContext& ctx, MmObject& o);

// task_misc.cc
Result<std::string> ReadComm(CallContext& ctx, TaskObject& o);
Result<void> WriteComm(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset);
Result<std::string> ReadCgroup(CallContext& ctx, TaskObject& o);
Result<std::string> ReadCpuset(CallContext& ctx, TaskObject& o);
Result<std::string> ReadChildren(CallContext& ctx, TaskObject& o);
Result<void> WriteClearRefs(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset);
Result<std::string> ReadCoredumpFilter(CallContext& ctx, TaskObject& o);
Result<void> WriteCoredumpFilter(CallContext& ctx, TaskObject& o, absl::string_view data,
                                 uint64_t offset);
Result<std::string> ReadIo(CallContext& ctx, TaskObject& o);
Result<std::string> ReadLimits(CallContext& ctx, TaskObject& o);
Result<std::string> ReadLoginuid(CallContext& ctx, TaskObject& o, const auth::Credentials& opener);
Result<void> WriteLoginuid(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset,
                           const auth::Credentials& opener);
Result<std::string> ReadSessionid(CallContext& ctx, TaskObject& o);
Result<std::string> ReadOomAdj(CallContext& ctx, TaskObject& o);
Result<void> WriteOomAdj(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset);
Result<std::string> ReadOomScore(CallContext& ctx, TaskObject& o);
Result<std::string> ReadOomScoreAdj(CallContext& ctx, TaskObject& o);
Result<void> WriteOomScoreAdj(CallContext& ctx, TaskObject& o, absl::string_view data,
                              uint64_t offset);
Result<std::string> ReadPersonality(CallContext& ctx, TaskObject& o);
Result<std::string> ReadSched(CallContext& ctx, TaskObject& o);
Result<std::string> ReadSyscall(CallContext& ctx, TaskObject& o);
Result<std::string> ReadTimerslack(CallContext& ctx, TaskObject& o);
Result<void> WriteTimerslack(CallContext& ctx, TaskObject& o, absl::string_view data,
                             uint64_t offset);
Result<std::string> ReadWchan(CallContext& ctx, TaskObject& o);

// task_ids.cc
// The user namespace that a task was in when the file was opened.
class UserNamespaceObject final : public Object {
 public:
  explicit UserNamespaceObject(RefPtr<auth::UserNamespace> ns) : ns_(std::move(ns)) {}
  auth::UserNamespace& ns() const { return *ns_; }

 private:
  const RefPtr<auth::UserNamespace> ns_;
};
Result<RefPtr<Object>> PinIdMap(CallContext& ctx, TaskObject& o, const vfs::OpenArgs& args);
Result<RefPtr<Object>> PinSetgroups(CallContext& ctx, TaskObject& o, const vfs::OpenArgs& args);
std::string ShowIdMap(const auth::UserNamespace& ns, auth::IdKind kind, const auth::Credentials& opener);
Result<void> WriteIdMap(CallContext& ctx, auth::UserNamespace& ns, auth::IdKind kind, absl::string_view data,
                        uint64_t offset, const auth::Credentials& opener);
Result<std::string> ReadSetgroups(CallContext& ctx, UserNamespaceObject& o);
Result<void> WriteSetgroups(CallContext& ctx, UserNamespaceObject& o, absl::string_view data, uint64_t offset);

template <auth::IdKind kKind>
Result<std::string> ReadIdMap(CallContext&, UserNamespaceObject& o, const auth::Credentials& opener) {
  return ShowIdMap(o.ns(), kKind, opener);
}
template <auth::IdKind kKind>
Result<void> WriteIdMapOf(CallContext& ctx, UserNamespaceObject& o, absl::string_view data, uint64_t offset,
                          const auth::Credentials& opener) {
  return WriteIdMap(ctx, o.ns(), kKind, data, offset, opener);
}
template <auth::IdKind kKind>
constexpr Entry IdMapFile(absl::string_view name) {
  Entry e = File<ReadIdMap<kKind>, WriteIdMapOf<kKind>>(name);
  e.pin = Adapt<PinIdMap>::Call;
  return e;
}
constexpr Entry SetgroupsFile(absl::string_view name) {
  Entry e = File<ReadSetgroups, WriteSetgroups>(name);
  e.pin = Adapt<PinSetgroups>::Call;
  return e;
}

// namespace_links.cc
Result<std::string> ReadTimensOffsets(CallContext& ctx, TaskObject& o);
Result<void> WriteTimensOffsets(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset,
                                const auth::Credentials& opener);

// task_mounts.cc
Result<RefPtr<vfs::FileDescription>> OpenMounts(CallContext& ctx, TaskObject& o,
                                                const vfs::OpenArgs& args, vfs::Inode& inode);
Result<RefPtr<vfs::FileDescription>> OpenMountinfo(CallContext& ctx, TaskObject& o,
                                                   const vfs::OpenArgs& args, vfs::Inode& inode);
Result<RefPtr<vfs::FileDescription>> OpenMountstats(CallContext& ctx, TaskObject& o,
                                                    const vfs::OpenArgs& args, vfs::Inode& inode);

// task_links.cc
Result<std::string> CwdText(CallContext& ctx, TaskObject& o);
Result<vfs::VfsPath> CwdPath(CallContext& ctx, TaskObject& o);
Result<std::string> RootText(CallContext& ctx, TaskObject& o);
Result<vfs::VfsPath> RootPath(CallContext& ctx, TaskObject& o);
Result<std::string> ExeText(CallContext& ctx, TaskObject& o);
Result<vfs::VfsPath> ExePath(CallContext& ctx, TaskObject& o);

// Directories: fd_files.cc, namespace_links.cc, net_files.cc, task_table.cc.
extern const Directory kFdDirectory;
extern const Directory kFdinfoDirectory;
extern const Directory kNsDirectory;
extern const Directory kNetDirectory;
extern const Directory kTaskDirectory;   // /proc/PID/task.
Result<void> MayUseFdDirectory(CallContext& ctx, TaskObject& o, const vfs::Attributes& attr,
                               vfs::AccessMask access);
Result<void> MayInspectDirectory(CallContext& ctx, TaskObject& o, const vfs::Attributes& attr,
                                 vfs::AccessMask access);
// The directory of the process that a number in /proc names, and the names there are.
Result<Child> LookupProcess(CallContext& ctx, KernelObject& o, absl::string_view name);
Result<void> ListProcesses(CallContext& ctx, KernelObject& o, uint64_t from, NameSink sink);
// A number as a name of a directory has it: no sign, no leading zeros. -1 if it is none.
int64_t NumberFromName(absl::string_view name);

}  // namespace caisson::procfs

#endif  // CAISSON_SENTRY_PROCFS_TASK_FILES_H_
