// /proc/PID/net: what the task's network namespace shows.
#include "absl/strings/str_cat.h"
#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

Result<RefPtr<netstack::NetNamespace>> NetOf(TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  RefPtr<kernel::NamespaceSet> set = task->namespaces_ref();
  if (!set || !set->net) return Errno::kEINVAL;
  return set->net;
}

Result<std::string> ReadUnix(CallContext&, TaskObject& o) {
  RefPtr<netstack::NetNamespace> net = TRY(NetOf(o));
  return net->unix_sockets()->Snapshot();
}

// Linux net/core/net-procfs.c, dev_seq_show().
Result<std::string> ReadDev(CallContext&, TaskObject& o) {
  TRY(NetOf(o));
  std::string out =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
      "drop fifo colls carrier compressed\n";
  Append(&out,
         "%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n", "lo", 0, 0, 0,
         0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  return out;
}

Result<std::string> ReadIfInet6(CallContext&, TaskObject& o) {
  TRY(NetOf(o));
  return std::string("00000000000000000000000000000001 01 80 10 80       lo\n");
}

Result<std::string> ReadSockstat(CallContext&, TaskObject& o) {
  TRY(NetOf(o));
  return std::string(
      "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\n"
      "UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n");
}

// Tables without rows: padded headers as in Linux's seq_setwidth().
template <const char* kHeader, int kWidth>
Result<std::string> ReadTable(CallContext&, TaskObject& o) {
  TRY(NetOf(o));
  std::string out;
  Append(&out, "%-*s\n", kWidth, kHeader);
  return out;
}

constexpr char kTcp[] =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode";
constexpr char kTcp6[] =
    "  sl  local_address                         remote_address                        st tx_queue "
    "rx_queue tr tm->when retrnsmt   uid  timeout inode";
constexpr char kUdp[] =
    "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode ref pointer drops";
constexpr char kUdp6[] =
    "  sl  local_address                         remote_address                        st tx_queue "
    "rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
constexpr char kRaw[] =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode ref pointer drops";
constexpr char kRoute[] =
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
constexpr char kArp[] =
    "IP address       HW type     Flags       HW address            Mask     Device";
constexpr char kNetlink[] =
    "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode";
constexpr char kPacket[] = "sk       RefCnt Type Proto  Iface R Rmem   User   Inode";

Result<std::string> ReadNothing(CallContext&, TaskObject& o) {
  TRY(NetOf(o));
  return std::string();
}

constexpr Entry kEntries[] = {
    File<ReadTable<kArp, 0>>("arp"),
    File<ReadDev>("dev"),
    File<ReadIfInet6>("if_inet6"),
    File<ReadNothing>("ipv6_route"),
    File<ReadTable<kNetlink, 0>>("netlink"),
    File<ReadTable<kPacket, 0>>("packet"),
    File<ReadTable<kRaw, 127>>("raw"),
    File<ReadTable<kUdp6, 0>>("raw6"),
    File<ReadTable<kRoute, 127>>("route"),
    File<ReadSockstat>("sockstat"),
    File<ReadTable<kTcp, 149>>("tcp"),
    File<ReadTable<kTcp6, 0>>("tcp6"),
    File<ReadTable<kUdp, 127>>("udp"),
    File<ReadTable<kUdp6, 0>>("udp6"),
    File<ReadUnix>("unix"),
};

}  // namespace

constinit const Directory kNetDirectory{.entries = kEntries};

}  // namespace caisson::procfs
