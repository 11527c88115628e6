// Files of /proc that name what there is.
#include "sentry/procfs/root_files.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "sentry/kernel/version.h"

namespace caisson::procfs {
namespace {

// /proc/kmsg: the log once, line by line as a reader has room, then nothing comes any more.
class KmsgFile final : public vfs::FileDescription {
 public:
  KmsgFile(const vfs::OpenArgs& args, vfs::Inode& inode, std::string log)
      : FileDescription(vfs::FileKind::kGenerated, args.path, RefPtr<vfs::Inode>(&inode),
                        args.flags),
        log_(std::move(log)) {}
  Result<size_t> Read(CallContext&, IoBuffer& to, uint32_t) override {
    MutexLock lock(mu_);
    if (position_ == log_.size()) return Errno::kEAGAIN;
    const size_t n =
        TRY(to.Put(absl::Span<const char>(log_.data() + position_, log_.size() - position_)));
    position_ += n;
    return n;
  }
  EventMask Readiness(EventMask mask) override {
    MutexLock lock(mu_);
    return position_ == log_.size() ? 0 : mask & kReadable;
  }
  WaitQueue* EventQueue() override { return &queue_; }

 private:
  const std::string log_;
  Mutex mu_;
  size_t position_ ABSL_GUARDED_BY(mu_) = 0;
  WaitQueue queue_;
};

}  // namespace

Result<std::string> ReadDevices(CallContext&, KernelObject& o) {
  using Type = vfs::DeviceRegistry::Type;
  std::map<uint32_t, std::string> chars, blocks;
  for (const vfs::DeviceRegistry::Entry& e : o.kernel().devices().List())
    (e.type == Type::kChar ? chars : blocks).emplace(e.major, e.name);
  std::string out = "Character devices:\n";
  for (const auto& [major, name] : chars) Append(&out, "%3u %s\n", major, name.c_str());
  out += "\nBlock devices:\n";
  for (const auto& [major, name] : blocks) Append(&out, "%3u %s\n", major, name.c_str());
  return out;
}

Result<std::string> ReadFilesystems(CallContext&, KernelObject& o) {
  std::string out;
  for (const auto& [name, type] : o.kernel().file_system_types().all())
    absl::StrAppend(&out, type.needs_device ? "" : "nodev", "\t", name, "\n");
  return out;
}

Result<std::string> ReadInterrupts(CallContext&, KernelObject& o) {
  std::string out = "           ";
  const uint32_t cpus = CpuCount(o.kernel());
  for (uint32_t i = 0; i < cpus; ++i) Append(&out, "CPU%-8u", i);
  out += '\n';
  for (const char* name : {"NMI", "LOC"}) {
    absl::StrAppend(&out, name, ": ");
    for (uint32_t i = 0; i < cpus; ++i) Append(&out, "%10u ", 0u);
    out += name[0] == 'N' ? "  Non-maskable interrupts\n" : "  Local timer interrupts\n";
  }
  out += "ERR:          0\nMIS:          0\n";
  return out;
}

Result<std::string> ReadVersion(CallContext&, KernelObject&) {
  return absl::StrCat("Linux version ", kernel::kKernelRelease, " (caisson@caisson) (gcc) ",
                      kernel::kKernelVersion, "\n");
}

// check_syslog_permissions(): opening takes CAP_SYSLOG.
Result<RefPtr<vfs::FileDescription>> OpenKmsg(CallContext& ctx, KernelObject& o,
                                              const vfs::OpenArgs& args, vfs::Inode& inode) {
  if (!ctx.creds().HasRootCapability(auth::Capability::kSyslog)) return Errno::kEPERM;
  return RefPtr<vfs::FileDescription>(MakeRef<KmsgFile>(args, inode, o.kernel().KernelLog()));
}

Result<std::string> SelfLink(CallContext& ctx, KernelObject& o) {
  Task* task = CallerOf(ctx);
  const int32_t tgid = task != nullptr ? task->TgidIn(o.pid_ns()) : 0;
  if (tgid == 0) return Errno::kENOENT;
  return absl::StrCat(tgid);
}

Result<std::string> ThreadSelfLink(CallContext& ctx, KernelObject& o) {
  Task* task = CallerOf(ctx);
  const int32_t tgid = task != nullptr ? task->TgidIn(o.pid_ns()) : 0;
  if (tgid == 0) return Errno::kENOENT;
  return absl::StrCat(tgid, "/task/", task->TidIn(o.pid_ns()));
}

}  // namespace caisson::procfs
