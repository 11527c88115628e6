// Limits of cgroup v2 (Linux Documentation/admin-guide/cgroup-v2.rst).
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/cgroup/file.h"

namespace caisson::cgroup {
namespace {

using oci::Resources;

std::string OrMax(int64_t value) { return value < 0 ? "max" : absl::StrCat(value); }

absl::Status Memory(const std::string& dir, const Resources& r) {
  int64_t limit = r.memory_limit.value_or(0);
  int64_t swap = r.memory_swap.value_or(0);
  // config.json's swap is memory + swap, as v1's is; memory.swap.max is swap alone.
  if (swap > 0) {
    if (limit <= 0 || swap < limit) {
      return absl::InvalidArgumentError("the swap limit is below the memory limit");
    }
    swap -= limit;
    RETURN_IF_ERROR(WriteText(dir + "/memory.swap.max", absl::StrCat(swap)));
  } else if (swap < 0 || limit < 0) {
    RETURN_IF_ERROR(WriteText(dir + "/memory.swap.max", "max"));
  }
  if (limit != 0) RETURN_IF_ERROR(WriteText(dir + "/memory.max", OrMax(limit)));
  if (r.memory_reservation.value_or(0) != 0) {
    RETURN_IF_ERROR(WriteText(dir + "/memory.low", OrMax(*r.memory_reservation)));
  }
  if (r.memory_kernel_tcp.value_or(0) > 0 || r.disable_oom_killer.value_or(false) ||
      r.memory_swappiness.value_or(~0ull) <= 100) {
    LOG_WARNING(
        "cgroup v2 has no limit for TCP memory, no swappiness and no switch for the OOM "
        "killer: ignored");
  }
  return absl::OkStatus();
}

absl::Status Cpu(const std::string& dir, const Resources& r) {
  if (r.cpu_idle.value_or(0) != 0) {
    RETURN_IF_ERROR(WriteText(dir + "/cpu.idle", absl::StrCat(*r.cpu_idle)));
  }
  if (r.cpu_shares.value_or(0) != 0) {
    RETURN_IF_ERROR(WriteText(dir + "/cpu.weight", absl::StrCat(CpuWeight(*r.cpu_shares))));
  }
  if (r.cpu_quota.value_or(0) != 0 || r.cpu_period.value_or(0) != 0) {
    int64_t quota = r.cpu_quota.value_or(-1);
    std::string value = quota > 0 ? absl::StrCat(quota) : "max";
    if (r.cpu_period.value_or(0) != 0) absl::StrAppend(&value, " ", *r.cpu_period);
    RETURN_IF_ERROR(WriteText(dir + "/cpu.max", value));
  }
  if (r.cpu_burst.value_or(0) != 0) {
    RETURN_IF_ERROR(WriteText(dir + "/cpu.max.burst", absl::StrCat(*r.cpu_burst)));
  }
  if (r.cpu_realtime_period.value_or(0) != 0 || r.cpu_realtime_runtime.value_or(0) != 0) {
    LOG_WARNING("cgroup v2 has no limits for real-time scheduling: ignored");
  }
  return absl::OkStatus();
}

absl::Status IoMax(const std::string& dir, absl::string_view key,
                   const std::vector<oci::ThrottleDevice>& devices) {
  for (const oci::ThrottleDevice& d : devices) {
    std::string rate = d.rate == 0 ? "max" : absl::StrCat(d.rate);
    RETURN_IF_ERROR(
        WriteText(dir + "/io.max", absl::StrCat(d.major, ":", d.minor, " ", key, "=", rate)));
  }
  return absl::OkStatus();
}

absl::Status Io(const std::string& dir, const Resources& r) {
  // 10..1000 of v1; io.bfq.weight has the same range, io.weight 1..10000.
  bool bfq = Exists(dir + "/io.bfq.weight");
  auto weight = [&](uint32_t w) { return bfq ? w : 1 + (w - 10) * 9999 / 990; };
  std::string file = dir + (bfq ? "/io.bfq.weight" : "/io.weight");
  if (r.blkio_weight.value_or(0) != 0) {
    if (*r.blkio_weight < 10 || *r.blkio_weight > 1000) {
      return absl::InvalidArgumentError("blockIO.weight is not 10 to 1000");
    }
    RETURN_IF_ERROR(WriteText(file, absl::StrCat(weight(*r.blkio_weight))));
  }
  for (const oci::WeightDevice& d : r.blkio_weight_devices) {
    if (d.weight < 10 || d.weight > 1000) {
      return absl::InvalidArgumentError("blockIO.weightDevice.weight is not 10 to 1000");
    }
    RETURN_IF_ERROR(WriteText(file, absl::StrCat(d.major, ":", d.minor, " ", weight(d.weight))));
  }
  RETURN_IF_ERROR(IoMax(dir, "rbps", r.read_bps));
  RETURN_IF_ERROR(IoMax(dir, "wbps", r.write_bps));
  RETURN_IF_ERROR(IoMax(dir, "riops", r.read_iops));
  return IoMax(dir, "wiops", r.write_iops);
}

}  // namespace

uint64_t CpuWeight(uint64_t shares) {
  if (shares == 0) return 0;
  if (shares < 2) shares = 2;
  if (shares > 262144) shares = 262144;
  return 1 + (shares - 2) * 9999 / 262142;
}

absl::Status ApplyV2(const std::string& controller, const std::string& dir, const Resources& r) {
  if (controller == "memory") return Memory(dir, r);
  if (controller == "cpu") return Cpu(dir, r);
  if (controller == "blkio") return Io(dir, r);
  if (controller == "cpuset") {
    if (!r.cpuset_cpus.empty()) RETURN_IF_ERROR(WriteText(dir + "/cpuset.cpus", r.cpuset_cpus));
    if (!r.cpuset_mems.empty()) RETURN_IF_ERROR(WriteText(dir + "/cpuset.mems", r.cpuset_mems));
  }
  if (controller == "pids" && r.pids_limit.value_or(0) != 0) {
    return WriteText(dir + "/pids.max", Cgroup::HostPidsLimit(*r.pids_limit));
  }
  if (controller == "hugetlb") {
    for (const auto& [size, limit] : r.hugepage_limits) {
      RETURN_IF_ERROR(WriteText(absl::StrCat(dir, "/hugetlb.", size, ".max"), absl::StrCat(limit)));
    }
  }
  return absl::OkStatus();
}

}  // namespace caisson::cgroup
