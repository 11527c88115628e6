#include "sentry/kernel/signalfd.h"

#include "absl/strings/str_cat.h"
#include "sentry/kernel/kernel.h"

namespace caisson::kernel {
namespace {

// struct signalfd_siginfo.
struct Record {
  uint32_t signo;
  int32_t error, code;
  uint32_t pid, uid;
  int32_t fd;
  uint32_t tid, band, overrun, trapno;
  int32_t status, int_value;
  uint64_t pointer, utime, stime, address;
  uint16_t address_lsb, pad2;
  int32_t syscall;
  uint64_t call_address;
  uint32_t arch;
  uint8_t pad[28];
};
static_assert(sizeof(Record) == 128);

Record ToRecord(const signal::Info& i) {
  Record r{};
  r.signo = static_cast<uint32_t>(i.signo);
  r.error = i.errno_value;
  r.code = i.code;
  switch (i.signo) {
    case signal::kSIGCHLD:
      r.pid = static_cast<uint32_t>(i.child.pid);
      r.uid = i.child.uid;
      r.status = i.child.status;
      r.utime = static_cast<uint64_t>(i.child.utime);
      r.stime = static_cast<uint64_t>(i.child.stime);
      break;
    case signal::kSIGSEGV:
    case signal::kSIGBUS:
    case signal::kSIGILL:
    case signal::kSIGFPE:
    case signal::kSIGTRAP:
      r.address = i.fault.address;
      break;
    default:
      if (i.code == signal::kSiTimer) {
        r.tid = static_cast<uint32_t>(i.timer.timer_id);
        r.overrun = static_cast<uint32_t>(i.timer.overrun);
        r.pointer = i.timer.value;
        r.int_value = static_cast<int32_t>(i.timer.value);
      } else {
        r.pid = static_cast<uint32_t>(i.rt.pid);
        r.uid = i.rt.uid;
        r.pointer = i.rt.value;
        r.int_value = static_cast<int32_t>(i.rt.value);
      }
  }
  return r;
}

// Reads take from whoever reads. Readiness is that of the task that made the descriptor.
// Linux differs: there it is the polling task's, which is the same process but after a fork.
class SignalfdFile final : public vfs::FileDescription {
 public:
  SignalfdFile(Task& task, signal::Set mask, uint32_t flags)
      : FileDescription(vfs::FileKind::kSignalfd, {}, task.kernel().anon_inode(),
                        vfs::kOpenReadWrite | flags),
        task_(&task),
        mask_(mask) {}
  void set_mask(signal::Set mask) {
    mask_.store(mask, std::memory_order_relaxed);
    task_->signal_queue().Notify(kReadable);
  }
  Result<size_t> Read(vfs::CallContext& ctx, IoBuffer& to, uint32_t) override {
    auto& reader = *static_cast<Task*>(ctx.owner());
    if (to.remaining() < sizeof(Record)) return Errno::kEINVAL;
    size_t total = 0;
    while (to.remaining() >= sizeof(Record)) {
      signal::Info info;
      if (!reader.TakeSignal(mask_.load(std::memory_order_relaxed), &info)) break;
      Record r = ToRecord(info);
      total += TRY(to.Put({reinterpret_cast<const char*>(&r), sizeof(r)}));
    }
    if (total == 0) return Errno::kEAGAIN;
    return total;
  }
  EventMask Readiness(EventMask mask) override {
    return (task_->PendingSignals() & mask_.load(std::memory_order_relaxed)) != 0 ? mask & kReadable : 0;
  }
  WaitQueue* EventQueue() override { return &task_->signal_queue(); }
  std::string Describe() const override { return "anon_inode:[signalfd]"; }
  std::string FdInfo() override {
    return absl::StrCat("sigmask:\t", absl::Hex(mask_.load(std::memory_order_relaxed), absl::kZeroPad16), "\n");
  }

 private:
  const RefPtr<Task> task_;
  std::atomic<signal::Set> mask_;  // Relaxed: one word.
};

}  // namespace

RefPtr<vfs::FileDescription> NewSignalfd(Task& task, signal::Set mask, uint32_t flags) {
  return MakeRef<SignalfdFile>(task, mask, flags);
}

Result<void> SetSignalfdMask(vfs::FileDescription& file, signal::Set mask) {
  if (file.kind() != vfs::FileKind::kSignalfd) return Errno::kEINVAL;
  static_cast<SignalfdFile&>(file).set_mask(mask);
  return {};
}

}  // namespace caisson::kernel
