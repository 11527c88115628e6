// The values of /proc/sys that belong to an IPC or a network namespace.
#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "netstack/sockets/sockets.h"
#include "sentry/ipc/namespace.h"
#include "sentry/procfs/sysctl.h"

namespace caisson::procfs {
namespace {

using kernel::NamespaceSet;

struct Name {
  absl::string_view name;
  Namespaced which;
};
constexpr Name kNames[] = {
    {"kernel.shmmax", Namespaced::kShmmax},
    {"kernel.shmall", Namespaced::kShmall},
    {"kernel.shmmni", Namespaced::kShmmni},
    {"kernel.msgmax", Namespaced::kMsgmax},
    {"kernel.msgmnb", Namespaced::kMsgmnb},
    {"kernel.msgmni", Namespaced::kMsgmni},
    {"kernel.sem", Namespaced::kSem},
    {"fs.mqueue.queues_max", Namespaced::kQueuesMax},
    {"fs.mqueue.msg_max", Namespaced::kMqMsgMax},
    {"fs.mqueue.msg_default", Namespaced::kMqMsgDefault},
    {"fs.mqueue.msgsize_max", Namespaced::kMqMsgsizeMax},
    {"fs.mqueue.msgsize_default", Namespaced::kMqMsgsizeDefault},
    {"net.core.somaxconn", Namespaced::kSomaxconn},
    {"net.unix.max_dgram_qlen", Namespaced::kMaxDgramQlen},
    {"net.ipv4.ip_unprivileged_port_start", Namespaced::kPortStart},
    {"net.ipv4.ping_group_range", Namespaced::kPingGroups},
    {"net.ipv4.ip_local_port_range", Namespaced::kPorts},
};

// One number in its place, or several: what a value is made of, and which values it takes.
struct Slot {
  uint64_t value = 0;  // What there is, or is to be.
  uint64_t least = 0, most = 0;
};

std::vector<Slot> Slots(const NamespaceSet& set, Namespaced which) {
  ipc::Tunables& t = set.ipc->tunables;
  ipc::PosixQueues::Limits& mq = set.ipc->posix().limits();
  netstack::NetNamespace& net = *set.net;
  constexpr uint64_t kAny = ~uint64_t{0}, kInt = INT32_MAX;
  constexpr uint64_t kIndexes = 32768;  // IPCMNI.
  auto of = [](uint64_t value, uint64_t least, uint64_t most) {
    return std::vector<Slot>{{value, least, most}};
  };
  auto pair = [](uint64_t both, uint64_t least, uint64_t most) {
    return std::vector<Slot>{{both >> 32, least, most}, {both & 0xffffffff, least, most}};
  };
  auto signed_of = [&of](int64_t value, uint64_t least, uint64_t most) {
    return of(static_cast<uint64_t>(value), least, most);
  };
  switch (which) {
    case Namespaced::kShmmax: return of(t.shmmax, 0, kAny);
    case Namespaced::kShmall: return of(t.shmall, 0, kAny);
    case Namespaced::kShmmni: return of(t.shmmni, 0, kIndexes);
    case Namespaced::kMsgmax: return of(t.msgmax, 0, ipc::MessageQueues::kMaxTotalBytes);
    case Namespaced::kMsgmnb: return of(t.msgmnb, 0, kInt);
    case Namespaced::kMsgmni: return of(t.msgmni, 0, kIndexes);
    case Namespaced::kSem:
      // More than 32000 in a set, or 500 in a call, would be more than the sentry holds at once.
      return {{t.semmsl, 0, ipc::Semaphores::kMaxPerSet}, {t.semmns, 0, kInt},
              {t.semopm, 0, ipc::Semaphores::kMaxOps}, {t.semmni, 0, kIndexes}};
    case Namespaced::kQueuesMax: return signed_of(mq.queues_max, 0, kInt);
    case Namespaced::kMqMsgMax: return signed_of(mq.msg_max, 1, 65536);
    case Namespaced::kMqMsgDefault: return signed_of(mq.msg_default, 1, 65536);
    case Namespaced::kMqMsgsizeMax: return signed_of(mq.msgsize_max, 128, 16 << 20);
    case Namespaced::kMqMsgsizeDefault: return signed_of(mq.msgsize_default, 128, 16 << 20);
    case Namespaced::kSomaxconn: return of(net.unix_sockets()->max_backlog, 0, kInt);
    case Namespaced::kMaxDgramQlen: return of(net.unix_sockets()->max_datagram_queue, 0, kInt);
    case Namespaced::kPortStart: return of(net.unprivileged_port_start, 0, 65535);
    case Namespaced::kPingGroups: return pair(net.ping_group_range, 0, kInt);
    case Namespaced::kPorts: return pair(net.local_port_range, 1, 65535);
  }
  return {};
}

void Store(const NamespaceSet& set, Namespaced which, const std::vector<Slot>& slots) {
  ipc::Tunables& t = set.ipc->tunables;
  ipc::PosixQueues::Limits& mq = set.ipc->posix().limits();
  netstack::NetNamespace& net = *set.net;
  const uint64_t v = slots[0].value;
  const auto number = static_cast<int64_t>(v);
  const auto word = static_cast<uint32_t>(v);
  const uint64_t both = slots.size() == 2 ? v << 32 | slots[1].value : 0;
  switch (which) {
    case Namespaced::kShmmax: t.shmmax = v; return;
    case Namespaced::kShmall: t.shmall = v; return;
    case Namespaced::kShmmni: t.shmmni = v; return;
    case Namespaced::kMsgmax: t.msgmax = v; return;
    case Namespaced::kMsgmnb: t.msgmnb = v; return;
    case Namespaced::kMsgmni: t.msgmni = v; return;
    case Namespaced::kSem:
      t.semmsl = v;
      t.semmns = slots[1].value;
      t.semopm = slots[2].value;
      t.semmni = slots[3].value;
      return;
    case Namespaced::kQueuesMax: mq.queues_max = number; return;
    case Namespaced::kMqMsgMax: mq.msg_max = number; return;
    case Namespaced::kMqMsgDefault: mq.msg_default = number; return;
    case Namespaced::kMqMsgsizeMax: mq.msgsize_max = number; return;
    case Namespaced::kMqMsgsizeDefault: mq.msgsize_default = number; return;
    case Namespaced::kSomaxconn: net.unix_sockets()->max_backlog = word; return;
    case Namespaced::kMaxDgramQlen: net.unix_sockets()->max_datagram_queue = word; return;
    case Namespaced::kPortStart: net.unprivileged_port_start = word; return;
    case Namespaced::kPingGroups: net.ping_group_range = both; return;
    case Namespaced::kPorts: net.local_port_range = both; return;
  }
}

// proc_doulongvec_minmax() and its like: as many numbers as there are; fewer leave the rest.
Result<void> Set(const NamespaceSet& set, Namespaced which, absl::string_view text) {
  std::vector<Slot> slots = Slots(set, which);
  const std::vector<absl::string_view> words = absl::StrSplit(text, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
  if (words.empty() || words.size() > slots.size()) return Errno::kEINVAL;
  for (size_t i = 0; i < words.size(); ++i) {
    uint64_t value;
    if (!absl::SimpleAtoi(words[i], &value)) return Errno::kEINVAL;
    if (value < slots[i].least || value > slots[i].most) return Errno::kEINVAL;
    slots[i].value = value;
  }
  if (which == Namespaced::kPorts && slots[0].value > slots[1].value) return Errno::kEINVAL;
  Store(set, which, slots);
  return {};
}

Result<RefPtr<NamespaceSet>> CallersSet(CallContext& ctx) {
  Task* task = CallerOf(ctx);
  RefPtr<NamespaceSet> set = task != nullptr ? task->namespaces_ref() : nullptr;
  if (!set || !set->ipc || !set->net) return Errno::kENOENT;
  return set;
}

}  // namespace

Result<std::string> ReadNamespaced(CallContext& ctx, Namespaced which) {
  RefPtr<NamespaceSet> set = TRY(CallersSet(ctx));
  std::vector<std::string> numbers;
  for (const Slot& slot : Slots(*set, which)) numbers.push_back(absl::StrCat(slot.value));
  return absl::StrJoin(numbers, "\t") + "\n";
}

Result<void> WriteNamespaced(CallContext& ctx, Namespaced which, absl::string_view data, uint64_t offset) {
  if (offset != 0) return Errno::kEINVAL;
  RefPtr<NamespaceSet> set = TRY(CallersSet(ctx));
  return Set(*set, which, data);
}

Result<void> SetNamespacedSysctl(const NamespaceSet& set, absl::string_view name, absl::string_view value) {
  // Both spellings of sysctl(8): "net/core/x" is "net.core.x".
  std::string dotted(name);
  std::replace(dotted.begin(), dotted.end(), '/', '.');
  for (const Name& n : kNames)
    if (n.name == dotted) return Set(set, n.which, value);
  if (dotted == "kernel.domainname") {
    set.uts->set_domain_name(std::string(value.substr(0, 64)));
    return {};
  }
  return Errno::kENOENT;
}

}  // namespace caisson::procfs
