// /proc/PID/uid_map, gid_map, setgroups (Linux kernel/user_namespace.c).
#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

using auth::IdExtent;
using auth::UserNamespace;
constexpr size_t kMaxExtents = 340;

std::string ShowMap(CallContext& ctx, const UserNamespace& ns, bool uids) {
  // As the reader's namespace sees the outer ids; for its own map, as its parent does.
  const UserNamespace* lower = ctx.creds().user_ns.get();
  if (lower == &ns && ns.parent() != nullptr) lower = ns.parent();
  std::string out;
  for (const IdExtent& e : uids ? ns.uid_map() : ns.gid_map()) {
    const uint32_t id =
        uids ? lower->FromKernelUid(e.lower_first) : lower->FromKernelGid(e.lower_first);
    Append(&out, "%10u %10u %10u\n", e.first, id, e.count);
  }
  return out;
}

bool Overlap(uint32_t a, uint32_t b, uint32_t a_count, uint32_t b_count) {
  return uint64_t{a} < uint64_t{b} + b_count && uint64_t{b} < uint64_t{a} + a_count;
}

// Lines of "first lower count", lower ids in the parent's numbering.
Result<std::vector<IdExtent>> ParseMap(absl::string_view data) {
  std::vector<IdExtent> map;
  data = data.substr(0, data.find('\0'));
  for (absl::string_view line : absl::StrSplit(data, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.empty() && line.data() + line.size() == data.data() + data.size()) break;
    IdExtent e;
    if (words.size() != 3 || !absl::SimpleAtoi(words[0], &e.first) ||
        !absl::SimpleAtoi(words[1], &e.lower_first) || !absl::SimpleAtoi(words[2], &e.count))
      return Errno::kEINVAL;
    if (e.first == ~0u || e.lower_first == ~0u || e.count == 0 || e.first + e.count < e.first ||
        e.lower_first + e.count < e.lower_first)
      return Errno::kEINVAL;
    for (const IdExtent& o : map)
      if (Overlap(o.first, e.first, o.count, e.count) ||
          Overlap(o.lower_first, e.lower_first, o.count, e.count))
        return Errno::kEINVAL;
    if (map.size() == kMaxExtents) return Errno::kEINVAL;
    map.push_back(e);
  }
  if (map.empty()) return Errno::kEINVAL;
  return map;
}

// new_idmap_permitted().
bool MayMap(CallContext& ctx, const UserNamespace& ns, const std::vector<IdExtent>& map,
            bool uids) {
  const auth::Credentials& creds = ctx.creds();
  const UserNamespace& parent = *ns.parent();
  // A map of the parent's root makes file capabilities of the parent's possible.
  const bool maps_root = std::any_of(map.begin(), map.end(),
                                     [](const IdExtent& e) { return e.lower_first == 0; });
  if (uids && maps_root && creds.user_ns.get() != &ns &&
      !creds.HasCapability(auth::Capability::kSetfcap, parent))
    return false;
  if (map.size() == 1 && map[0].count == 1 && ns.owner_uid() == creds.euid) {
    if (uids && parent.ToKernelUid(map[0].lower_first) == creds.euid) return true;
    if (!uids && !ns.setgroups_allowed() && parent.ToKernelGid(map[0].lower_first) == creds.egid)
      return true;
  }
  return creds.HasCapability(uids ? auth::Capability::kSetuid : auth::Capability::kSetgid, parent);
}

// map_write().
Result<void> WriteMap(CallContext& ctx, TaskObject& o, absl::string_view data, uint64_t offset,
                      bool uids) {
  RefPtr<Task> task = TRY(o.Get());
  RefPtr<UserNamespace> ns = task->creds_ref()->user_ns;
  const UserNamespace* caller = ctx.creds().user_ns.get();
  if (ns->parent() == nullptr || (caller != ns.get() && caller != ns->parent()))
    return Errno::kEPERM;
  if (offset != 0 || data.size() >= kPageSize) return Errno::kEINVAL;
  std::vector<IdExtent> map = TRY(ParseMap(data));
  if (!(uids ? ns->uid_map() : ns->gid_map()).empty()) return Errno::kEPERM;
  if (!ctx.creds().HasCapability(auth::Capability::kSysAdmin, *ns)) return Errno::kEPERM;
  if (!MayMap(ctx, *ns, map, uids)) return Errno::kEPERM;
  for (IdExtent& e : map) {
    // The whole range must lie in one extent of the parent's map.
    const std::vector<IdExtent> outer = uids ? ns->parent()->uid_map() : ns->parent()->gid_map();
    auto it = std::find_if(outer.begin(), outer.end(), [&](const IdExtent& p) {
      return e.lower_first >= p.first && e.lower_first - p.first < p.count &&
             e.count <= p.count - (e.lower_first - p.first);
    });
    if (it == outer.end()) return Errno::kEPERM;
    e.lower_first = it->lower_first + (e.lower_first - it->first);
  }
  if (!(uids ? ns->SetUidMap(std::move(map)) : ns->SetGidMap(std::move(map))))
    return Errno::kEPERM;
  return {};
}

}  // namespace

Result<std::string> ReadUidMap(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  return ShowMap(ctx, *task->creds_ref()->user_ns, true);
}
Result<std::string> ReadGidMap(CallContext& ctx, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  return ShowMap(ctx, *task->creds_ref()->user_ns, false);
}
Result<void> WriteUidMap(CallContext& ctx, TaskObject& o, absl::string_view data,
                         uint64_t offset) {
  return WriteMap(ctx, o, data, offset, true);
}
Result<void> WriteGidMap(CallContext& ctx, TaskObject& o, absl::string_view data,
                         uint64_t offset) {
  return WriteMap(ctx, o, data, offset, false);
}

Result<std::string> ReadSetgroups(CallContext&, TaskObject& o) {
  RefPtr<Task> task = TRY(o.Get());
  return std::string(task->creds_ref()->user_ns->setgroups_allowed() ? "allow\n" : "deny\n");
}

// proc_setgroups_write(). Its CAP_SYS_ADMIN in the namespace is asked at open there.
Result<void> WriteSetgroups(CallContext& ctx, TaskObject& o, absl::string_view data,
                            uint64_t offset) {
  RefPtr<Task> task = TRY(o.Get());
  RefPtr<UserNamespace> ns = task->creds_ref()->user_ns;
  if (!ctx.creds().HasCapability(auth::Capability::kSysAdmin, *ns)) return Errno::kEACCES;
  if (offset != 0 || data.size() >= 8) return Errno::kEINVAL;
  data = data.substr(0, data.find_last_not_of(" \t\n") + 1);
  if (data == "allow") return ns->setgroups_allowed() ? Result<void>() : Errno::kEPERM;
  if (data != "deny") return Errno::kEINVAL;
  if (!ns->setgroups_allowed()) return {};
  if (!ns->gid_map().empty()) return Errno::kEPERM;
  ns->DenySetgroups();
  return {};
}

}  // namespace caisson::procfs
