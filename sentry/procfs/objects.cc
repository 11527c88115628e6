#include "sentry/procfs/objects.h"

#include <algorithm>
#include <cstdarg>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "sentry/kernel/container.h"

namespace caisson::procfs {

KernelObject::KernelObject(Kernel& kernel, RefPtr<PidNamespace> pid_ns)
    : kernel_(kernel),
      pid_ns_(std::move(pid_ns)),
      nameless_mount_(MakeRef<vfs::Mount>(RefPtr<vfs::FileSystem>(&kernel.anon_inode()->fs()),
                                          vfs::Dentry::NewRoot(kernel.anon_inode()), uint64_t{0},
                                          "none")) {}

RefPtr<Task> TaskObject::FindTask() const {
  MutexLock lock(kernel().tasks_mu());
  return RefPtr<Task>(pid_->task);
}

Result<RefPtr<Task>> TaskObject::Get() const {
  RefPtr<Task> task = FindTask();
  if (!task) return Errno::kESRCH;
  return task;
}

bool TaskObject::Same(const Object& other) const {
  const auto& o = static_cast<const TaskObject&>(other);
  return pid_ == o.pid_ && whole_ == o.whole_;
}

// The root directory counts processes as subdirectories.
void KernelObject::FillAttributes(CallContext&, const Entry& entry, vfs::Attributes& attr) {
  if (entry.directory != nullptr && entry.name.empty() && entry.directory->lookup != nullptr)
    attr.nlink += static_cast<uint32_t>(kernel().task_count());
}

// task_dump_owner().
void TaskObject::FillAttributes(CallContext&, const Entry& entry, vfs::Attributes& attr) {
  RefPtr<Task> task = FindTask();
  if (!task) return;
  RefPtr<const auth::Credentials> creds = task->creds_ref();
  attr.uid = creds->euid;
  attr.gid = creds->egid;
  if (entry.mode != (kModeDirectory | 0555)) {
    RefPtr<mm::MemoryManager> mm = task->mm_ref();
    if (!mm || mm->dumpable() != 1) {
      const auth::UserNamespace* ns = mm ? mm->user_ns() : nullptr;
      attr.uid = ns != nullptr ? ns->ToKernelUid(0).value_or(0) : 0;
      attr.gid = ns != nullptr ? ns->ToKernelGid(0).value_or(0) : 0;
    }
  }
  if (entry.name == "task") {
    MutexLock lock(kernel().tasks_mu());
    attr.nlink = 2 + static_cast<uint32_t>(task->group().live_tasks);
  } else if (entry.name == "fd") {
    if (RefPtr<kernel::FdTable> fds = task->fd_table_ref()) attr.size = fds->Descriptors().size();
  }
}

RefPtr<kernel::Container> ContainerOf(CallContext& ctx, Kernel& kernel) {
  if (Task* caller = CallerOf(ctx)) return caller->container_ref();
  for (const RefPtr<kernel::ThreadGroup>& g : kernel.ThreadGroups()) {
    MutexLock lock(kernel.tasks_mu());
    if (g->leader != nullptr) return g->leader->container_ref();
  }
  return nullptr;
}

Result<void> MayInspect(CallContext& ctx, Task& target) {
  Task* caller = CallerOf(ctx);
  if (caller == nullptr || &caller->group() == &target.group()) return {};
  return kernel::Ptrace::MayAccess(ctx.creds(), kernel::Ptrace::Ids::kFs, target) ? Result<void>() : Errno::kEACCES;
}

Result<RefPtr<Object>> PinMemory(CallContext& ctx, TaskObject& object, const vfs::OpenArgs&) {
  RefPtr<Task> task = TRY(object.Get());
  // Taken before the look: after an exec in between it is the old program's, whatever was permitted.
  RefPtr<mm::MemoryManager> mm = task->mm_ref();
  TRY(MayInspect(ctx, *task));
  return RefPtr<Object>(MakeRef<MmObject>(std::move(mm)));
}

void Append(std::string* out, const char* format, ...) {
  char small[512];
  va_list args;
  va_start(args, format);
  const int n = vsnprintf(small, sizeof(small), format, args);
  va_end(args);
  CHECK(n >= 0);
  if (static_cast<size_t>(n) < sizeof(small)) {
    out->append(small, static_cast<size_t>(n));
    return;
  }
  const size_t old = out->size();
  out->resize(old + static_cast<size_t>(n) + 1);
  va_start(args, format);
  vsnprintf(out->data() + old, static_cast<size_t>(n) + 1, format, args);
  va_end(args);
  out->pop_back();
}

std::string Escape(absl::string_view text, absl::string_view special) {
  std::string out;
  for (char c : text) {
    if (special.find(c) == absl::string_view::npos) {
      out += c;
      continue;
    }
    Append(&out, "\\%03o", static_cast<unsigned char>(c));
  }
  return out;
}

Result<int64_t> ParseNumber(absl::string_view text) {
  text = absl::StripAsciiWhitespace(absl::string_view(text.data(), text.find('\0') == absl::string_view::npos
                                                                       ? text.size()
                                                                       : text.find('\0')));
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) return Errno::kEINVAL;
  return value;
}

std::string CpuList(uint64_t mask) {
  std::string out;
  for (int i = 0; i < 64; ++i) {
    if ((mask >> i & 1) == 0) continue;
    int end = i;
    while (end + 1 < 64 && (mask >> (end + 1) & 1) != 0) ++end;
    absl::StrAppend(&out, out.empty() ? "" : ",", i);
    if (end != i) absl::StrAppend(&out, "-", end);
    i = end;
  }
  return out;
}

// As many words as there are possible CPUs for; the kernel prints the last word as wide as it is.
std::string CpuMask(uint64_t mask) {
  std::string out;
  if (mask >> 32 != 0) Append(&out, "%x,%08x", static_cast<unsigned>(mask >> 32), static_cast<unsigned>(mask));
  else Append(&out, "%x", static_cast<unsigned>(mask));
  return out;
}

uint32_t CpuCount(const Kernel& kernel) {
  return std::clamp<uint32_t>(kernel.config().cpu_count, 1, 64);
}

uint64_t OnlineCpus(const Kernel& kernel) {
  const uint32_t n = CpuCount(kernel);
  return n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
}

}  // namespace caisson::procfs
