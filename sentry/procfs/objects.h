// What the files of /proc and /sys are about, and how table rows name their functions.
#ifndef CAISSON_SENTRY_PROCFS_OBJECTS_H_
#define CAISSON_SENTRY_PROCFS_OBJECTS_H_

#include <string>

#include "sentry/kernel/kernel.h"
#include "vfs/proc/tree.h"

namespace caisson::procfs {

using kernel::Kernel;
using kernel::PidNamespace;
using kernel::Task;
using vfs::CallContext;
using vfs::kModeDirectory;
using vfs::kModeLink;
using vfs::kModeRegular;
using vfs::proc::Child;
using vfs::proc::Directory;
using vfs::proc::Entry;
using vfs::proc::NameSink;
using vfs::proc::Object;

// One mount of proc or sysfs.
class KernelObject final : public Object {
 public:
  KernelObject(Kernel& kernel, RefPtr<PidNamespace> pid_ns);
  Kernel& kernel() const { return kernel_; }
  const PidNamespace& pid_ns() const { return *pid_ns_; }
  // Of places without a name: descriptors of anonymous files, seen through /proc/PID/fd.
  const RefPtr<vfs::Mount>& nameless_mount() const { return nameless_mount_; }
  bool Same(const Object&) const override { return true; }  // One for each tree.
  void FillAttributes(CallContext& ctx, const Entry& entry, vfs::Attributes& attr) override;

 private:
  Kernel& kernel_;  // Outlives its mounts.
  const RefPtr<PidNamespace> pid_ns_;
  const RefPtr<vfs::Mount> nameless_mount_;
};

// /proc/PID and /proc/PID/task/TID. Holds the number, not the task, as Linux's inodes do.
class TaskObject : public Object {
 public:
  // `whole`: /proc/PID, which shows sums over the thread group.
  TaskObject(RefPtr<KernelObject> mount, RefPtr<kernel::Pid> pid, bool whole)
      : mount_(std::move(mount)), pid_(std::move(pid)), whole_(whole) {}
  KernelObject& mount() const { return *mount_; }
  const RefPtr<KernelObject>& mount_ref() const { return mount_; }
  Kernel& kernel() const { return mount_->kernel(); }
  const PidNamespace& pid_ns() const { return mount_->pid_ns(); }
  const RefPtr<kernel::Pid>& pid() const { return pid_; }
  bool whole() const { return whole_; }
  RefPtr<Task> FindTask() const;  // Null once it is reaped.
  Result<RefPtr<Task>> Get() const;  // Errors: ESRCH.

  bool Exists() const override { return FindTask() != nullptr; }
  bool Same(const Object& other) const override;
  void FillAttributes(CallContext& ctx, const Entry& entry, vfs::Attributes& attr) override;

 private:
  const RefPtr<KernelObject> mount_;
  const RefPtr<kernel::Pid> pid_;
  const bool whole_;
};

// A task's memory, as it was when a file was opened. Null mm: a zombie's.
class MmObject final : public Object {
 public:
  explicit MmObject(RefPtr<mm::MemoryManager> mm) : mm_(std::move(mm)) {}
  const RefPtr<mm::MemoryManager>& mm() const { return mm_; }

 private:
  const RefPtr<mm::MemoryManager> mm_;
};

// The caller's task; null for the kernel.
inline Task* CallerOf(CallContext& ctx) { return static_cast<Task*>(ctx.owner()); }
// Of the caller, else of some container: what /proc/meminfo is about. Null before the first task.
RefPtr<kernel::Container> ContainerOf(CallContext& ctx, Kernel& kernel);

// ptrace(2), "Ptrace access mode checking", PTRACE_MODE_READ_FSCREDS. Errors: EACCES.
Result<void> MayInspect(CallContext& ctx, Task& target);
// Pin function of files that show a task's memory.
Result<RefPtr<Object>> PinMemory(CallContext& ctx, TaskObject& object, const vfs::OpenArgs& args);

// --- Rows. A function takes the concrete kind of object that its table is for. ---
template <auto F>
struct Adapt;
template <typename R, typename O, typename... A, R (*F)(CallContext&, O&, A...)>
struct Adapt<F> {
  static R Call(CallContext& ctx, Object& object, A... args) {
    return F(ctx, static_cast<O&>(object), args...);
  }
};

// The same of `read` and `write`, whose functions may leave out the opener's credentials.
template <auto F>
struct AdaptText : Adapt<F> {};
template <typename O, Result<std::string> (*F)(CallContext&, O&)>
struct AdaptText<F> {
  static Result<std::string> Call(CallContext& ctx, Object& object, const auth::Credentials&) {
    return F(ctx, static_cast<O&>(object));
  }
};
template <typename O, Result<void> (*F)(CallContext&, O&, absl::string_view, uint64_t)>
struct AdaptText<F> {
  static Result<void> Call(CallContext& ctx, Object& object, absl::string_view data, uint64_t offset,
                           const auth::Credentials&) {
    return F(ctx, static_cast<O&>(object), data, offset);
  }
};

template <auto Read>
constexpr Entry File(absl::string_view name, vfs::FileMode permissions = 0444) {
  Entry e;
  e.name = name;
  e.mode = kModeRegular | permissions;
  e.read = AdaptText<Read>::Call;
  return e;
}
template <auto Read, auto Write>
constexpr Entry File(absl::string_view name, vfs::FileMode permissions = 0644) {
  Entry e = File<Read>(name, permissions);
  e.write = AdaptText<Write>::Call;
  return e;
}
template <auto Write>
constexpr Entry WriteOnlyFile(absl::string_view name, vfs::FileMode permissions = 0200) {
  Entry e;
  e.name = name;
  e.mode = kModeRegular | permissions;
  e.write = AdaptText<Write>::Call;
  return e;
}
// A file about a task's memory: Read takes an MmObject.
template <auto Read>
constexpr Entry MemoryFile(absl::string_view name, vfs::FileMode permissions) {
  Entry e = File<Read>(name, permissions);
  e.pin = Adapt<PinMemory>::Call;
  return e;
}
template <auto Open>
constexpr Entry SpecialFile(absl::string_view name, vfs::FileMode permissions) {
  Entry e;
  e.name = name;
  e.mode = kModeRegular | permissions;
  e.open = Adapt<Open>::Call;
  return e;
}
template <auto Read>
constexpr Entry Link(absl::string_view name) {
  Entry e;
  e.name = name;
  e.mode = kModeLink | 0777;
  e.link = Adapt<Read>::Call;
  return e;
}
template <auto Read, auto Follow>
constexpr Entry MagicLink(absl::string_view name) {
  Entry e = Link<Read>(name);
  e.follow = Adapt<Follow>::Call;
  return e;
}
constexpr Entry Dir(absl::string_view name, const Directory& directory,
                    vfs::FileMode permissions = 0555) {
  Entry e;
  e.name = name;
  e.mode = kModeDirectory | permissions;
  e.directory = &directory;
  return e;
}
// A file that always says the same.
template <const char* kText>
Result<std::string> Constant(CallContext&, Object&) {
  return std::string(kText);
}

// printf(3) to the end of a string.
void Append(std::string* out, const char* format, ...) __attribute__((format(printf, 2, 3)));
// Backslash and octal for what would break a line or a field.
std::string Escape(absl::string_view text, absl::string_view special);
// A decimal number that is all of `text` but for white space around it. Errors: EINVAL.
Result<int64_t> ParseNumber(absl::string_view text);
// "0-3,5" of the set bits; hexadecimal words of 32 bits with commas between.
std::string CpuList(uint64_t mask);
std::string CpuMask(uint64_t mask);
uint64_t OnlineCpus(const Kernel& kernel);
uint32_t CpuCount(const Kernel& kernel);  // At most 64.

}  // namespace caisson::procfs

#endif  // CAISSON_SENTRY_PROCFS_OBJECTS_H_
