// /proc/PID/uid_map, gid_map, projid_map, setgroups (Linux kernel/user_namespace.c).
//
// A file is about the namespace that the task was in at open. What it shows and who may write are the opener's
// matter (file->f_cred): a descriptor handed to a privileged program gives nothing that its opener had not.
#include <algorithm>
#include <vector>

#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

using auth::Capability;
using auth::IdExtent;
using auth::IdKind;
using auth::UserNamespace;
constexpr size_t kMaxExtents = 340;

bool Overlap(uint32_t a, uint32_t b, uint32_t a_count, uint32_t b_count) {
  return uint64_t{a} < uint64_t{b} + b_count && uint64_t{b} < uint64_t{a} + a_count;
}

bool IsSpace(char c) { return (c >= '\t' && c <= '\r') || c == ' ' || c == '\xa0'; }

void SkipSpaces(absl::string_view* text) {
  while (!text->empty() && IsSpace(text->front())) text->remove_prefix(1);
}

// skip_spaces() and simple_strtoul() into 32 bits: no digits are 0, and high bits are lost.
uint32_t TakeNumber(absl::string_view* text) {
  SkipSpaces(text);
  uint64_t value = 0;
  for (; !text->empty() && text->front() >= '0' && text->front() <= '9'; text->remove_prefix(1))
    value = value * 10 + static_cast<uint64_t>(text->front() - '0');
  return static_cast<uint32_t>(value);
}

Result<IdExtent> ParseExtent(absl::string_view line) {
  IdExtent e;
  e.first = TakeNumber(&line);
  if (line.empty() || !IsSpace(line.front())) return Errno::kEINVAL;
  e.lower_first = TakeNumber(&line);
  if (line.empty() || !IsSpace(line.front())) return Errno::kEINVAL;
  e.count = TakeNumber(&line);
  if (!line.empty() && !IsSpace(line.front())) return Errno::kEINVAL;
  SkipSpaces(&line);
  if (!line.empty() || e.first == ~0u || e.lower_first == ~0u) return Errno::kEINVAL;
  // None, or around the end.
  if (e.first + e.count <= e.first || e.lower_first + e.count <= e.lower_first) return Errno::kEINVAL;
  return e;
}

// Lines of "first lower count", lower ids in the parent's numbering.
Result<std::vector<IdExtent>> ParseMap(absl::string_view data) {
  std::vector<IdExtent> map;
  data = data.substr(0, data.find('\0'));
  for (bool more = true; more;) {
    const size_t end = data.find('\n');
    const IdExtent e = TRY(ParseExtent(data.substr(0, end)));
    more = end != absl::string_view::npos && end + 1 < data.size();
    if (more) data.remove_prefix(end + 1);
    for (const IdExtent& o : map)
      if (Overlap(o.first, e.first, o.count, e.count) ||
          Overlap(o.lower_first, e.lower_first, o.count, e.count))
        return Errno::kEINVAL;
    if (map.size() == kMaxExtents) return Errno::kEINVAL;
    map.push_back(e);
  }
  return map;
}

// verify_root_map(): a map of the parent's root makes file capabilities of the parent's possible.
bool MayMapRoot(const UserNamespace& ns, const auth::Credentials& opener) {
  if (opener.user_ns.get() == &ns) return ns.parent_could_setfcap();
  return opener.HasCapability(Capability::kSetfcap, *ns.parent());
}

// new_idmap_permitted().
bool MayMap(CallContext& ctx, const UserNamespace& ns, const std::vector<IdExtent>& map, IdKind kind,
            const auth::Credentials& opener) {
  const UserNamespace& parent = *ns.parent();
  const bool maps_root = std::any_of(map.begin(), map.end(),
                                     [](const IdExtent& e) { return e.lower_first == 0; });
  if (kind == IdKind::kUid && maps_root && !MayMapRoot(ns, opener)) return false;
  // One's own id, under any name.
  if (map.size() == 1 && map[0].count == 1 && ns.owner_uid() == opener.euid) {
    const std::optional<uint32_t> id = parent.ToKernel(kind, map[0].lower_first);
    if (kind == IdKind::kUid && id == opener.euid) return true;
    if (kind == IdKind::kGid && ns.setgroups_denied() && id == opener.egid) return true;
  }
  if (kind == IdKind::kProject) return true;
  const Capability needed = kind == IdKind::kUid ? Capability::kSetuid : Capability::kSetgid;
  return ctx.creds().HasCapability(needed, parent) && opener.HasCapability(needed, parent);
}

}  // namespace

// proc_id_map_open().
Result<RefPtr<Object>> PinIdMap(CallContext&, TaskObject& o, const vfs::OpenArgs&) {
  RefPtr<Task> task = o.FindTask();
  if (!task) return Errno::kEINVAL;
  return RefPtr<Object>(MakeRef<UserNamespaceObject>(task->creds_ref()->user_ns));
}

// uid_m_show(): as the opener's namespace sees the outer ids; of its own map, as its parent does. -1: not at all.
std::string ShowIdMap(const UserNamespace& ns, IdKind kind, const auth::Credentials& opener) {
  const UserNamespace* lower = opener.user_ns.get();
  if (lower == &ns && ns.parent() != nullptr) lower = ns.parent();
  std::string out;
  for (const IdExtent& e : ns.map(kind))
    Append(&out, "%10u %10u %10u\n", e.first, lower->FromKernel(kind, e.lower_first).value_or(~0u), e.count);
  return out;
}

// proc_uid_map_write(), map_write().
Result<void> WriteIdMap(CallContext& ctx, UserNamespace& ns, IdKind kind, absl::string_view data, uint64_t offset,
                        const auth::Credentials& opener) {
  const UserNamespace* parent = ns.parent();
  if (parent == nullptr || (opener.user_ns.get() != &ns && opener.user_ns.get() != parent)) return Errno::kEPERM;
  if (offset != 0 || data.size() >= kPageSize) return Errno::kEINVAL;
  if (!ns.map(kind).empty()) return Errno::kEPERM;
  // Anyone may map project ids.
  if (kind != IdKind::kProject && !opener.HasCapability(Capability::kSysAdmin, ns)) return Errno::kEPERM;
  std::vector<IdExtent> map = TRY(ParseMap(data));
  if (!MayMap(ctx, ns, map, kind, opener)) return Errno::kEPERM;
  const std::vector<IdExtent> outer = parent->map(kind);
  for (IdExtent& e : map) {
    // The whole range must lie in one extent of the parent's map.
    auto it = std::find_if(outer.begin(), outer.end(), [&](const IdExtent& p) {
      return e.lower_first >= p.first && e.lower_first - p.first < p.count &&
             e.count <= p.count - (e.lower_first - p.first);
    });
    if (it == outer.end()) return Errno::kEPERM;
    e.lower_first = it->lower_first + (e.lower_first - it->first);
  }
  return ns.SetMap(kind, std::move(map)) ? Result<void>() : Errno::kEPERM;
}

// proc_setgroups_open(): who may write is asked here alone.
Result<RefPtr<Object>> PinSetgroups(CallContext& ctx, TaskObject& o, const vfs::OpenArgs& args) {
  RefPtr<Task> task = TRY(o.Get());
  RefPtr<UserNamespace> ns = task->creds_ref()->user_ns;
  const uint32_t mode = args.flags & vfs::kOpenAccessMode;
  if ((mode == vfs::kOpenWriteOnly || mode == vfs::kOpenReadWrite) &&
      !ctx.creds().HasCapability(Capability::kSysAdmin, *ns))
    return Errno::kEACCES;
  return RefPtr<Object>(MakeRef<UserNamespaceObject>(std::move(ns)));
}

Result<std::string> ReadSetgroups(CallContext&, UserNamespaceObject& o) {
  return std::string(o.ns().setgroups_denied() ? "deny\n" : "allow\n");
}

// proc_setgroups_write().
Result<void> WriteSetgroups(CallContext&, UserNamespaceObject& o, absl::string_view data, uint64_t offset) {
  if (offset != 0 || data.size() >= 8) return Errno::kEINVAL;
  data = data.substr(0, data.find('\0'));
  while (!data.empty() && IsSpace(data.back())) data.remove_suffix(1);
  if (data == "allow") return o.ns().setgroups_denied() ? Errno::kEPERM : Result<void>();
  if (data != "deny") return Errno::kEINVAL;
  return o.ns().DenySetgroups() ? Result<void>() : Errno::kEPERM;
}

}  // namespace caisson::procfs
