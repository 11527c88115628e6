// execve(2) (Linux fs/exec.c, begin_new_exec(); security/commoncap.c).
#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/log.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/task.h"
#include "sentry/loader/loader.h"
#include "vfs/file_lock.h"
#include "vfs/operations.h"
#include "vfs/path_walk.h"

namespace caisson::kernel {
namespace {

using auth::CapSet;

// struct vfs_ns_cap_data of <linux/capability.h>: the security.capability attribute.
struct FileCaps {
  CapSet permitted = 0, inheritable = 0;
  bool effective = false;
};

// get_vfs_caps_from_disk(): an attribute of another size than its revision's is none. A namespaced
// one (revision 3) holds only where its root is root of the caller's namespace or of one above.
std::optional<FileCaps> ReadFileCaps(vfs::CallContext& ctx, vfs::FileDescription& file,
                                     const auth::UserNamespace& user_ns) {
  Result<std::string> raw = file.inode()->GetXattr(ctx, "security.capability");
  constexpr size_t kSize2 = 20, kSize3 = 24;
  if (!raw.ok() || (raw->size() != kSize2 && raw->size() != kSize3)) return std::nullopt;
  uint32_t words[6] = {};
  memcpy(words, raw->data(), raw->size());
  constexpr uint32_t kRevisionMask = 0xff000000, kRevision2 = 0x02000000, kRevision3 = 0x03000000;
  uint32_t revision = words[0] & kRevisionMask;
  if (revision != (raw->size() == kSize3 ? kRevision3 : kRevision2)) return std::nullopt;
  bool ours = false;
  for (const auth::UserNamespace* ns = &user_ns; ns != nullptr && !ours; ns = ns->parent())
    ours = ns->ToKernelUid(0) == std::optional<uint32_t>(words[5]);
  if (!ours) return std::nullopt;
  FileCaps caps;
  caps.permitted = words[1] | CapSet{words[3]} << 32;
  caps.inheritable = words[2] | CapSet{words[4]} << 32;
  caps.effective = (words[0] & 1) != 0;
  return caps;
}

Result<RefPtr<mm::MemoryManager>> NewMm(Kernel& kernel) {
  return kernel.late_ends().Retry([&] { return mm::MemoryManager::New(kernel.platform(), &kernel.shared_memory()); });
}

}  // namespace

// The credentials after exec (capabilities(7), "Transformation of capabilities during execve()").
Result<RefPtr<auth::Credentials>> Task::ExecCredentials(vfs::FileDescription& file, bool* secure) {
  auto creds = MakeRef<auth::Credentials>(*creds_);
  auth::Credentials& c = *creds;
  vfs::Attributes attr = TRY(file.GetAttributes(*this));
  const bool nosuid = (file.path().mount && (file.path().mount->flags() & vfs::kMountNosuid) != 0) ||
                      no_new_privs.load(std::memory_order_relaxed);
  bool id_changed = false;
  std::optional<FileCaps> file_caps;
  const bool unsafe = BeginExecCredentials() && !c.HasCapability(auth::Capability::kSetuid);
  if (!nosuid && !unsafe) {
    // Ids that the caller's namespace has no names for are not taken on (bprm_fill_uid()).
    const bool mapped = c.user_ns->MapsUid(attr.uid) && c.user_ns->MapsGid(attr.gid);
    if (mapped && (attr.mode & vfs::kModeSetuid) != 0) {
      id_changed |= c.euid != attr.uid;
      c.euid = attr.uid;
    }
    constexpr vfs::FileMode kSetgidExec = vfs::kModeSetgid | 0010;
    if (mapped && (attr.mode & kSetgidExec) == kSetgidExec) {
      id_changed |= c.egid != attr.gid;
      c.egid = attr.gid;
    }
    file_caps = ReadFileCaps(*this, file, *c.user_ns);
  }
  const auto root = c.user_ns->ToKernelUid(0);
  const bool no_root = (c.securebits & auth::kSecNoRoot) != 0;
  bool real_root = root && c.ruid == *root, effective_root = root && c.euid == *root;
  FileCaps caps = file_caps.value_or(FileCaps{});
  const bool has_file_caps = file_caps.has_value();
  if (!no_root && (real_root || effective_root)) {
    // Root's programs behave as if they carried all capabilities.
    if (!(has_file_caps && !real_root)) {
      caps.permitted = caps.inheritable = auth::kAllCapabilities;
      if (effective_root) caps.effective = true;
    }
  }
  const CapSet old_permitted = c.permitted;
  if (has_file_caps || id_changed) c.ambient = 0;
  c.permitted = (c.inheritable & caps.inheritable) | (c.bounding & caps.permitted) | c.ambient;
  c.effective = caps.effective ? c.permitted : c.ambient;
  // A capability-dumb set-capability program must get all of them.
  if (has_file_caps && caps.effective && !(real_root || effective_root) &&
      (caps.permitted & ~c.permitted) != 0)
    return Errno::kEPERM;
  c.suid = c.fsuid = c.euid;
  c.sgid = c.fsgid = c.egid;
  c.securebits &= ~auth::kSecKeepCaps;
  *secure = id_changed || c.ruid != c.euid || c.rgid != c.egid ||
            (!real_root && (c.permitted & ~(old_permitted | c.ambient)) != 0);
  return creds;
}

// From here on nobody attaches, who would get what the exec may give. True: the tracer that there is
// must not have it (LSM_UNSAFE_PTRACE, ptracer_capable()), or somebody outside the process shares root and
// cwd and could change them under a privileged program (check_unsafe_exec(), LSM_UNSAFE_SHARE).
bool Task::BeginExecCredentials() {
  MutexLock lock(kernel_.tasks_mu());
  trace_.exec_gains = true;
  int own_users = 0;
  for (const RefPtr<Task>& t : group_->tasks) own_users += t->fs_ref() == fs_ ? 1 : 0;
  const bool shares_fs = fs_->users() > own_users;
  if (!shares_fs) fs_->BeginExec();
  fs_in_exec_ = !shares_fs;
  return shares_fs || (trace_.tracer != nullptr && !trace_.tracer_creds->HasCapability(
                                                       auth::Capability::kSysPtrace, *creds_->user_ns));
}

void Task::EndExecCredentials(bool committed) {
  MutexLock lock(kernel_.tasks_mu());
  trace_.exec_gains = false;
  if (std::exchange(fs_in_exec_, false)) fs_->EndExec();
  if (committed) ++trace_.exec_count;
}

// Ends the other threads of the group and makes this one its leader (Linux de_thread()).
Result<void> Task::KillOtherThreads() {
  RefPtr<Task> old_leader;
  Ptrace::Grave grave;
  {
    MutexLock lock(kernel_.tasks_mu());
    {
      MutexLock signal_lock(group_->signal_mu);
      if (group_->group_exiting || group_->exec_task != nullptr) return Errno::kERESTARTNOINTR;
      group_->exec_task = this;
      for (const RefPtr<Task>& t : group_->tasks)
        if (t.get() != this) t->SignalWake(true);
    }
  }
  vfs::ContextWaiter waiter(*this);
  group_->exec_queue.Add(waiter, kEventIn);
  for (;;) {
    {
      MutexLock lock(kernel_.tasks_mu());
      if (group_->live_tasks == 1) break;
    }
    if (!BlockKillable(time::kNever).ok()) break;
  }
  group_->exec_queue.Remove(waiter);

  MutexLock lock(kernel_.tasks_mu());
  if (group_->leader != this && !IsKilled()) {
    // Its end is not reported: its number lives on. The tracer may wait for it.
    Task* tracer = group_->leader->trace_.tracer;
    Ptrace::UnlinkLocked(*group_->leader, &grave);
    if (tracer != nullptr) tracer->group().child_events.Notify(kReadable);
  }
  MutexLock signal_lock(group_->signal_mu);
  group_->exec_task = nullptr;
  if (IsKilled()) return Errno::kEINTR;
  if (group_->leader != this) {
    // Takes over the leader's identity; the old leader is a zombie that nobody waits for.
    for (auto it = group_->tasks.begin(); it != group_->tasks.end(); ++it) {
      if (it->get() != group_->leader) continue;
      old_leader = *it;
      group_->tasks.erase(it);
      old_leader->DropCharge();
      break;
    }
    RefPtr<Pid> own = pid_ref();
    own->task = nullptr;
    {
      MutexLock self_lock(mu_);
      retired_pid_ = std::move(pid_);
      pid_ = group_->pid_ref();
      RenewAnswers();
    }
    group_->pid().task = this;
    group_->leader = this;
  }
  return {};
}

// Whether the new program may have the old one's address space: that costs one request to it instead
// of the end of a stub and another one. Not where the new program can or knows more than the old
// one: nothing that a stub holds becomes trusted. Nor where it may not be looked into, which
// the caller checks. Others may still come to share the memory.
bool Task::MayExecInPlace(const auth::Credentials& next, vfs::FileDescription& file) {
  const auth::Credentials& old = *creds_;
  if (next.ruid != old.ruid || next.euid != old.euid || next.rgid != old.rgid ||
      next.egid != old.egid || (next.permitted & ~old.permitted) != 0)
    return false;
  {
    MutexLock lock(kernel_.tasks_mu());
    if (group_->live_tasks != 1) return false;
  }
  if (mm_->ref_count() != 1 || mm_->dumpable() != 1) return false;
  return vfs::MayAccess(*this, *file.inode(), vfs::kMayRead).ok();
}

// The old memory goes and `mm` comes, or if there is none the image comes into the old one's address
// space, if nobody else has come to share it.
Result<void> Task::ReplaceMemory(RefPtr<mm::MemoryManager> mm, const loader::PreparedImage& image,
                                 int dumpable) {
  RefPtr<mm::MemoryManager> old;
  LeaveMemory();
  if (!mm) {
    (void)full_regs();  // All that the host thread has is replaced, so all must be known.
    {
      MutexLock lock(mu_);
      // Under the lock nobody takes another reference.
      if (mm_->ref_count() == 1) mm = mm_->Replace();
      if (mm) {
        mm->set_dumpable(dumpable);
        mm->set_user_ns(image.user_ns);
        old = std::exchange(mm_, mm);
        comm_ = image.comm;
      }
    }
    if (old) return loader::MapPrepared(*this, image, *mm);
    mm = TRY(NewMm(kernel_));
    TRY(loader::MapPrepared(*this, image, *mm));
  }
  context_->Detach();
  mm->set_dumpable(dumpable);
  mm->set_user_ns(image.user_ns);
  {
    MutexLock lock(mu_);
    old = std::exchange(mm_, std::move(mm));
    comm_ = image.comm;
  }
  const Usage memory = DropMm(std::move(old));
  MutexLock lock(kernel_.tasks_mu());
  group_->dead_usage.Add(memory);
  return {};
}

SyscallResult Task::Exec(const ExecArgs& args) {
  vfs::WalkOptions options;
  options.allow_empty = args.empty_path;
  options.follow_last = !args.no_follow;
  RefPtr<vfs::FileDescription> file = TRY(vfs::OpenForExec(*this, args.start, args.path, options));
  absl::Cleanup allow = [&file] { file->inode()->AllowWrites(); };

  loader::LoadArgs load;
  load.file = file;
  load.path = args.path;
  if (args.empty_path && args.path.empty())
    load.path = vfs::PathName(args.start, root());
  load.argv = args.argv;
  load.envp = args.envp;
  load.stack_limit = group_->limits().soft(kRlimitStack);
  load.personality = personality.load(std::memory_order_relaxed);
  load.shared_memory = &kernel_.shared_memory();
  load.hwcap = kernel_.config().hwcap;
  load.hwcap2 = kernel_.config().hwcap2;
  load.open = [this](const std::string& path) { return vfs::OpenForExec(*this, cwd(), path, {}); };
  loader::Program program = TRY(loader::Resolve(*this, load));
  if (args.close_on_exec_file && program.file.get() != file.get()) return Errno::kENOENT;
  bool secure = false, committed = false;
  RefPtr<Pid> old_pid = pid_ref();  // As the tracer knows it.
  absl::Cleanup end_credentials = [&] { EndExecCredentials(committed); };
  RefPtr<auth::Credentials> creds = TRY(ExecCredentials(*program.file, &secure));
  load.secure = secure;
  load.uid = creds->user_ns->FromKernelUid(creds->ruid);
  load.euid = creds->user_ns->FromKernelUid(creds->euid);
  load.gid = creds->user_ns->FromKernelGid(creds->rgid);
  load.egid = creds->user_ns->FromKernelGid(creds->egid);
  RefPtr<NamespaceSet> namespaces = EnterTime(namespaces_);
  load.vdso = TRY(namespaces->time->Vdso(kernel_.vdso()));
  loader::PreparedImage image = TRY(loader::PrepareImage(*this, kernel_.platform(), load, program));
  // begin_new_exec(), with suid_dumpable 0.
  const bool hides = auth::EndsDumpability(*creds_, *creds);
  const bool dumpable = !hides && image.readable && creds_->ruid == creds_->euid && creds_->rgid == creds_->egid;
  RefPtr<mm::MemoryManager> mm;
  const bool in_place = !secure && dumpable && MayExecInPlace(*creds, *program.file);
  if (!in_place) {
    mm = TRY(NewMm(kernel_));
    TRY(loader::MapPrepared(*this, image, *mm));
  }

  // The point of no return: from here a failure ends the process.
  TRY(KillOtherThreads());
  group_->timers().DeletePosixTimers();
  if (Result<void> replaced = ReplaceMemory(std::move(mm), image, dumpable ? 1 : 0); !replaced.ok()) {
    PrepareGroupExit(signal::kSIGSEGV);  // As force_fatal_sig() in bprm_execve().
    return replaced.error();
  }
  group_->membarrier_registrations.store(0, std::memory_order_relaxed);
  set_creds(RefPtr<const auth::Credentials>(creds));
  if (trace_flags_.load(std::memory_order_seq_cst) != 0) mm_->address_space().KeepCode();
  committed = true;
  if (namespaces != namespaces_) set_namespaces(std::move(namespaces));
  if (vfork_gate_) {
    vfork_gate_->Open();
    vfork_gate_.reset();
  }
  {
    RefPtr<SignalActions> actions = group_->actions()->Clone();  // CLONE_SIGHAND ends.
    actions->ResetHandlers();
    group_->set_actions(std::move(actions));
  }
  alt_stack_ = signal::AltStack{.sp = 0, .flags = signal::kSsDisable};
  if (secure || hides) pdeath_signal.store(0, std::memory_order_relaxed);
  if (secure) {
    Rlimit stack = group_->limits().Get(kRlimitStack);
    stack.soft = std::min<uint64_t>(stack.soft, 8 << 20);
    group_->limits().Set(kRlimitStack, stack);
  }
  if (fd_table_->shared()) set_fd_table(fd_table_->Clone());  // CLONE_FILES ends (unshare_files()).
  for (RefPtr<vfs::FileDescription>& f : fd_table_->RemoveCloseOnExec()) {
    (void)f->OnClose(*this);
    if (vfs::Inode* inode = f->inode(); inode != nullptr && inode->locks_if_any() != nullptr)
      inode->locks().ReleaseRecords(fd_table_.get());
  }
  {
    MutexLock lock(kernel_.tasks_mu());
    group_->did_exec = true;
    group_->exit_signal = signal::kSIGCHLD;
  }
  clear_child_tid = robust_list = GuestAddr();
  restart_block_ = nullptr;
  context_->ResetFpState();
  uint64_t cs = 0x33, ss = 0x2b;
  regs_ = platform::Registers{};
  regs_.rip = image.entry.value;
  regs_.rsp = image.stack_pointer.value;
  regs_.cs = cs;
  regs_.ss = ss;
  regs_.eflags = 0x200;
  regs_.orig_rax = ~uint64_t{0};
  MarkRegistersReplaced();
  std::move(end_credentials).Invoke();
  if (trace_flags_.load(std::memory_order_relaxed) != 0) {
    regs_.orig_rax = static_cast<uint64_t>(current_syscall());  // As a tracer sees it.
    ReportPtraceExec(old_pid.get());
  }
  return 0;
}

}  // namespace caisson::kernel
