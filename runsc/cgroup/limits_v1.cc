// Limits of cgroup v1 (Linux Documentation/admin-guide/cgroup-v1/).
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/cgroup/file.h"

namespace caisson::cgroup {
namespace {

using oci::Resources;

// A limit that was asked for where there is no controller for it must not be dropped.
absl::Status Write(const std::string& dir, absl::string_view file, absl::string_view value) {
  if (dir.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(file, ": this controller is not there on this host"));
  }
  return WriteText(absl::StrCat(dir, "/", file), value);
}

template <typename T>
absl::Status WriteIf(const std::string& dir, absl::string_view file,
                     const std::optional<T>& value) {
  // Zero is Go's way to say nothing.
  if (!value.has_value() || *value == 0) return absl::OkStatus();
  return Write(dir, file, absl::StrCat(*value));
}

absl::Status Memory(const std::string& dir, const Resources& r) {
  int64_t limit = r.memory_limit.value_or(0);
  int64_t swap = r.memory_swap.value_or(0);
  bool has_swap_file = Exists(dir + "/memory.memsw.limit_in_bytes");
  if (limit == -1 && swap == 0 && has_swap_file) swap = -1;
  if (swap != 0 && !has_swap_file && !dir.empty()) {
    LOG_WARNING("cgroup: this host does not account swap: the swap limit is ignored");
    swap = 0;
  }
  // memory.limit must never be above memory.memsw.limit: which goes first depends on whether they
  // grow or shrink, so try one order and then the other.
  if (limit != 0 && swap != 0) {
    if (!Write(dir, "memory.limit_in_bytes", absl::StrCat(limit)).ok()) {
      RETURN_IF_ERROR(Write(dir, "memory.memsw.limit_in_bytes", absl::StrCat(swap)));
      RETURN_IF_ERROR(Write(dir, "memory.limit_in_bytes", absl::StrCat(limit)));
    } else {
      RETURN_IF_ERROR(Write(dir, "memory.memsw.limit_in_bytes", absl::StrCat(swap)));
    }
  } else if (limit != 0) {
    RETURN_IF_ERROR(Write(dir, "memory.limit_in_bytes", absl::StrCat(limit)));
  } else if (swap != 0) {
    RETURN_IF_ERROR(Write(dir, "memory.memsw.limit_in_bytes", absl::StrCat(swap)));
  }
  RETURN_IF_ERROR(WriteIf(dir, "memory.soft_limit_in_bytes", r.memory_reservation));
  RETURN_IF_ERROR(WriteIf(dir, "memory.kmem.tcp.limit_in_bytes", r.memory_kernel_tcp));
  if (r.disable_oom_killer.value_or(false)) RETURN_IF_ERROR(Write(dir, "memory.oom_control", "1"));
  // Docker and Go programs write 2^64-1 for "not set".
  if (r.memory_swappiness.has_value() && *r.memory_swappiness <= 100) {
    RETURN_IF_ERROR(Write(dir, "memory.swappiness", absl::StrCat(*r.memory_swappiness)));
  }
  return absl::OkStatus();
}

absl::Status Cpu(const std::string& dir, const Resources& r) {
  RETURN_IF_ERROR(WriteIf(dir, "cpu.shares", r.cpu_shares));
  RETURN_IF_ERROR(WriteIf(dir, "cpu.rt_period_us", r.cpu_realtime_period));
  RETURN_IF_ERROR(WriteIf(dir, "cpu.rt_runtime_us", r.cpu_realtime_runtime));
  RETURN_IF_ERROR(WriteIf(dir, "cpu.cfs_period_us", r.cpu_period));
  RETURN_IF_ERROR(WriteIf(dir, "cpu.cfs_quota_us", r.cpu_quota));
  RETURN_IF_ERROR(WriteIf(dir, "cpu.cfs_burst_us", r.cpu_burst));
  return WriteIf(dir, "cpu.idle", r.cpu_idle);
}

absl::Status Cpuset(const std::string& dir, const Resources& r) {
  if (!r.cpuset_cpus.empty()) RETURN_IF_ERROR(Write(dir, "cpuset.cpus", r.cpuset_cpus));
  if (!r.cpuset_mems.empty()) RETURN_IF_ERROR(Write(dir, "cpuset.mems", r.cpuset_mems));
  return absl::OkStatus();
}

absl::Status Throttle(const std::string& dir, absl::string_view file,
                      const std::vector<oci::ThrottleDevice>& devices) {
  for (const oci::ThrottleDevice& d : devices) {
    RETURN_IF_ERROR(Write(dir, absl::StrCat("blkio.throttle.", file),
                          absl::StrCat(d.major, ":", d.minor, " ", d.rate)));
  }
  return absl::OkStatus();
}

absl::Status Blkio(const std::string& dir, const Resources& r) {
  bool bfq = !dir.empty() && !Exists(dir + "/blkio.weight") && Exists(dir + "/blkio.bfq.weight");
  std::string weight = bfq ? "blkio.bfq.weight" : "blkio.weight";
  RETURN_IF_ERROR(WriteIf(dir, weight, r.blkio_weight));
  for (const oci::WeightDevice& d : r.blkio_weight_devices) {
    RETURN_IF_ERROR(
        Write(dir, weight + "_device", absl::StrCat(d.major, ":", d.minor, " ", d.weight)));
  }
  RETURN_IF_ERROR(Throttle(dir, "read_bps_device", r.read_bps));
  RETURN_IF_ERROR(Throttle(dir, "write_bps_device", r.write_bps));
  RETURN_IF_ERROR(Throttle(dir, "read_iops_device", r.read_iops));
  return Throttle(dir, "write_iops_device", r.write_iops);
}

absl::Status Pids(const std::string& dir, const Resources& r) {
  if (r.pids_limit.value_or(0) == 0) return absl::OkStatus();
  return Write(dir, "pids.max", Cgroup::HostPidsLimit(*r.pids_limit));
}

}  // namespace

absl::Status ApplyV1(const std::string& controller, const std::string& dir, const Resources& r) {
  if (controller == "memory") return Memory(dir, r);
  if (controller == "cpu") return Cpu(dir, r);
  if (controller == "cpuset") return Cpuset(dir, r);
  if (controller == "blkio") return Blkio(dir, r);
  if (controller == "pids") return Pids(dir, r);
  if (controller == "net_cls") return WriteIf(dir, "net_cls.classid", r.network_class_id);
  if (controller == "net_prio") {
    for (const auto& [name, priority] : r.network_priorities) {
      RETURN_IF_ERROR(Write(dir, "net_prio.ifpriomap", absl::StrCat(name, " ", priority)));
    }
  }
  if (controller == "hugetlb") {
    for (const auto& [size, limit] : r.hugepage_limits) {
      RETURN_IF_ERROR(
          Write(dir, absl::StrCat("hugetlb.", size, ".limit_in_bytes"), absl::StrCat(limit)));
    }
  }
  return absl::OkStatus();
}

}  // namespace caisson::cgroup
