// /proc/sys but for kernel/. Values say how this kernel behaves; those that cannot be changed here
// are not writable.
#include "sentry/procfs/sysctl.h"

#include "absl/strings/str_cat.h"
#include "sentry/procfs/root_files.h"

namespace caisson::procfs {

Result<void> MaySysctl(CallContext& ctx, KernelObject&, const vfs::Attributes& attr,
                       vfs::AccessMask access) {
  const auth::Credentials& creds = ctx.creds();
  vfs::FileMode bits = attr.mode;
  if (creds.euid == 0) bits >>= 6;
  else if (creds.InGroupEffective(0)) bits >>= 3;
  if ((access & ~bits & 7) != 0) return Errno::kEACCES;
  return {};
}

namespace {

constexpr char kZero[] = "0\n";
constexpr char kOne[] = "1\n";
constexpr char kTwo[] = "2\n";
constexpr char kOverflow[] = "65534\n";

// --- fs ---
// Allocated, free, limit: descriptors are not counted over the kernel.
Result<std::string> ReadFileNr(CallContext&, KernelObject& o) {
  uint64_t open = 0;
  for (const RefPtr<kernel::ThreadGroup>& g : o.kernel().ThreadGroups()) {
    RefPtr<kernel::FdTable> fds;
    {
      MutexLock lock(o.kernel().tasks_mu());
      if (g->leader != nullptr) fds = g->leader->fd_table_ref();
    }
    if (fds) open += fds->Descriptors().size();
  }
  return absl::StrCat(open, "\t0\t9223372036854775807\n");
}

constexpr char kAioMax[] = "65536\n";
constexpr char kFileMax[] = "9223372036854775807\n";
constexpr char kNrOpen[] = "1048576\n";
constexpr char kPipeMax[] = "1048576\n";
constexpr char kPipePages[] = "16384\n";
constexpr char kLeaseBreak[] = "45\n";
constexpr char kInstances[] = "128\n";
constexpr char kEvents[] = "16384\n";
constexpr char kWatches[] = "65536\n";
constexpr char kEpollWatches[] = "1048576\n";
constexpr char kMountMax[] = "100000\n";
constexpr char kTen[] = "10\n";

constexpr Entry kEpollEntries[] = {Value<kEpollWatches>("max_user_watches")};
constexpr Directory kEpollDirectory{.entries = kEpollEntries, .cached = true};
constexpr Entry kInotifyEntries[] = {Value<kEvents>("max_queued_events"),
                                     Value<kInstances>("max_user_instances"),
                                     Value<kWatches>("max_user_watches")};
constexpr Directory kInotifyDirectory{.entries = kInotifyEntries, .cached = true};
constexpr Entry kMqueueEntries[] = {
    NamespacedValue<Namespaced::kMqMsgDefault>("msg_default"),
    NamespacedValue<Namespaced::kMqMsgMax>("msg_max"),
    NamespacedValue<Namespaced::kMqMsgsizeDefault>("msgsize_default"),
    NamespacedValue<Namespaced::kMqMsgsizeMax>("msgsize_max"),
    NamespacedValue<Namespaced::kQueuesMax>("queues_max"),
};
constexpr Directory kMqueueDirectory{.entries = kMqueueEntries, .cached = true};

constexpr Entry kFsEntries[] = {
    Value<kAioMax>("aio-max-nr"),
    Value<kZero>("aio-nr"),
    SysctlDir("epoll", kEpollDirectory),
    Value<kFileMax>("file-max"),
    Sysctl<ReadFileNr>("file-nr"),
    SysctlDir("inotify", kInotifyDirectory),
    Value<kLeaseBreak>("lease-break-time"),
    Value<kOne>("leases-enable"),
    Value<kMountMax>("mount-max"),
    SysctlDir("mqueue", kMqueueDirectory),
    Value<kNrOpen>("nr_open"),
    Value<kOverflow>("overflowgid"),
    Value<kOverflow>("overflowuid"),
    Value<kPipeMax>("pipe-max-size"),
    Value<kZero>("pipe-user-pages-hard"),
    Value<kPipePages>("pipe-user-pages-soft"),
    Value<kOne>("protected_fifos"),
    Value<kZero>("protected_hardlinks"),
    Value<kTwo>("protected_regular"),
    Value<kOne>("protected_symlinks"),
    Value<kZero>("suid_dumpable"),
};
constexpr Directory kFsDirectory{.entries = kFsEntries, .cached = true};

// --- net ---
constexpr char kBuffer[] = "212992\n";
constexpr char kBacklog[] = "1000\n";
constexpr char kTcpMem[] = "188490\t251321\t376980\n";
constexpr char kTcpRmem[] = "4096\t131072\t6291456\n";
constexpr char kTcpWmem[] = "4096\t16384\t4194304\n";
constexpr char kKeepalive[] = "7200\n";
constexpr char kKeepaliveInterval[] = "75\n";
constexpr char kKeepaliveProbes[] = "9\n";
constexpr char kFinTimeout[] = "60\n";
constexpr char kSynRetries[] = "6\n";
constexpr char kFive[] = "5\n";
constexpr char kRetries2[] = "15\n";
constexpr char kSynBacklog[] = "1024\n";
constexpr char kCubic[] = "cubic\n";
constexpr char kCongestions[] = "reno cubic\n";
constexpr char kTtl[] = "64\n";

constexpr Entry kCoreEntries[] = {
    Value<kBacklog>("netdev_max_backlog"), Value<kBuffer>("optmem_max"),
    Value<kBuffer>("rmem_default"),        Value<kBuffer>("rmem_max"),
    NamespacedValue<Namespaced::kSomaxconn>("somaxconn"),        Value<kBuffer>("wmem_default"),
    Value<kBuffer>("wmem_max"),
};
constexpr Directory kCoreDirectory{.entries = kCoreEntries, .cached = true};
constexpr Entry kIpv4Entries[] = {
    Value<kTtl>("ip_default_ttl"),
    Value<kZero>("ip_forward"),
    NamespacedValue<Namespaced::kPorts>("ip_local_port_range"),
    Value<kZero>("ip_nonlocal_bind"),
    NamespacedValue<Namespaced::kPortStart>("ip_unprivileged_port_start"),
    NamespacedValue<Namespaced::kPingGroups>("ping_group_range"),
    Value<kCongestions>("tcp_allowed_congestion_control"),
    Value<kCongestions>("tcp_available_congestion_control"),
    Value<kCubic>("tcp_congestion_control"),
    Value<kOne>("tcp_fastopen"),
    Value<kFinTimeout>("tcp_fin_timeout"),
    Value<kKeepaliveInterval>("tcp_keepalive_intvl"),
    Value<kKeepaliveProbes>("tcp_keepalive_probes"),
    Value<kKeepalive>("tcp_keepalive_time"),
    Value<kSynBacklog>("tcp_max_syn_backlog"),
    Value<kTcpMem>("tcp_mem"),
    Value<kOne>("tcp_moderate_rcvbuf"),
    Value<kRetries2>("tcp_retries2"),
    Value<kTcpRmem>("tcp_rmem"),
    Value<kOne>("tcp_sack"),
    Value<kSynRetries>("tcp_syn_retries"),
    Value<kFive>("tcp_synack_retries"),
    Value<kOne>("tcp_syncookies"),
    Value<kOne>("tcp_timestamps"),
    Value<kTwo>("tcp_tw_reuse"),
    Value<kOne>("tcp_window_scaling"),
    Value<kTcpWmem>("tcp_wmem"),
};
constexpr Directory kIpv4Directory{.entries = kIpv4Entries, .cached = true};
constexpr Entry kUnixEntries[] = {NamespacedValue<Namespaced::kMaxDgramQlen>("max_dgram_qlen")};
constexpr Directory kUnixDirectory{.entries = kUnixEntries, .cached = true};
constexpr Entry kNetEntries[] = {SysctlDir("core", kCoreDirectory),
                                 SysctlDir("ipv4", kIpv4Directory),
                                 SysctlDir("unix", kUnixDirectory)};
constexpr Directory kNetSysDirectory{.entries = kNetEntries, .cached = true};

// --- user ---
constexpr char kNamespaces[] = "31000\n";
constexpr Entry kUserEntries[] = {
    Value<kInstances>("max_inotify_instances"), Value<kWatches>("max_inotify_watches"),
    Value<kNamespaces>("max_ipc_namespaces"),   Value<kNamespaces>("max_mnt_namespaces"),
    Value<kNamespaces>("max_net_namespaces"),   Value<kNamespaces>("max_pid_namespaces"),
    Value<kNamespaces>("max_user_namespaces"),  Value<kNamespaces>("max_uts_namespaces"),
};
constexpr Directory kUserDirectory{.entries = kUserEntries, .cached = true};

// --- vm ---
constexpr char kMaxMaps[] = "65530\n";
constexpr char kMmapMin[] = "65536\n";
constexpr char kFifty[] = "50\n";
constexpr char kSwappiness[] = "60\n";
constexpr char kMinFree[] = "67584\n";
constexpr char kDirty[] = "20\n";
constexpr char kCachePressure[] = "100\n";
constexpr char kRndBits[] = "28\n";

constexpr Entry kVmEntries[] = {
    Value<kTen>("dirty_background_ratio"),
    Value<kDirty>("dirty_ratio"),
    Value<kMaxMaps>("max_map_count"),
    Value<kMinFree>("min_free_kbytes"),
    Value<kMmapMin>("mmap_min_addr"),
    Value<kRndBits>("mmap_rnd_bits"),
    Value<kZero>("nr_hugepages"),
    Value<kOne>("overcommit_memory"),
    Value<kFifty>("overcommit_ratio"),
    Value<kZero>("panic_on_oom"),
    Value<kSwappiness>("swappiness"),
    Value<kCachePressure>("vfs_cache_pressure"),
    Value<kZero>("zone_reclaim_mode"),
};
constexpr Directory kVmDirectory{.entries = kVmEntries, .cached = true};

constexpr Entry kEntries[] = {
    SysctlDir("fs", kFsDirectory),       SysctlDir("kernel", kSysctlKernelDirectory),
    SysctlDir("net", kNetSysDirectory),  SysctlDir("user", kUserDirectory),
    SysctlDir("vm", kVmDirectory),
};

}  // namespace

constinit const Directory kSysctlDirectory{.entries = kEntries, .cached = true};

}  // namespace caisson::procfs
