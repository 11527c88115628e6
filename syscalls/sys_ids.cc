// Identities: process ids, user and group ids, capabilities, sessions.
#include <algorithm>

#include "syscalls/handlers.h"

namespace caisson::syscalls {

using auth::Capability;
using auth::Credentials;
using auth::kNoId;

SyscallResult Getpid(Task& task) { return task.TgidIn(task.pid_namespace()); }
SyscallResult Gettid(Task& task) { return task.TidIn(task.pid_namespace()); }
SyscallResult Getppid(Task& task) { return task.ParentTgidIn(task.pid_namespace()); }
SyscallResult Getuid(Task& task) { return task.creds().user_ns->FromKernelUid(task.creds().ruid); }
SyscallResult Geteuid(Task& task) { return task.creds().user_ns->FromKernelUid(task.creds().euid); }
SyscallResult Getgid(Task& task) { return task.creds().user_ns->FromKernelGid(task.creds().rgid); }
SyscallResult Getegid(Task& task) { return task.creds().user_ns->FromKernelGid(task.creds().egid); }

namespace {

RefPtr<Credentials> Copy(Task& task) { return MakeRef<Credentials>(task.creds()); }

// Capabilities after a change of user ids (capabilities(7), "Effect of user ID changes"; Linux
// cap_emulate_setxuid()).
void FixupCapabilities(const Credentials& old, Credentials& now) {
  auto root_id = now.user_ns->ToKernelUid(0);
  if (!root_id) return;
  const uint32_t root = *root_id;
  if ((now.securebits & auth::kSecNoSetuidFixup) != 0) return;
  const bool was_root = old.ruid == root || old.euid == root || old.suid == root;
  const bool is_root = now.ruid == root || now.euid == root || now.suid == root;
  if (was_root && !is_root && (now.securebits & auth::kSecKeepCaps) == 0) {
    now.permitted = now.effective = 0;
    now.ambient = 0;
  } else if (was_root && !is_root) {
    now.ambient = 0;
  }
  if (old.euid == root && now.euid != root) now.effective = 0;
  if (old.euid != root && now.euid == root) now.effective = now.permitted;
}

void Commit(Task& task, RefPtr<Credentials> now) {
  task.CommitCreds(RefPtr<const Credentials>(std::move(now)));
}

Result<uint32_t> MapUid(Task& task, uint32_t uid) {
  if (uid == kNoId) return Errno::kEINVAL;
  auto id = task.creds().user_ns->ToKernelUid(uid);
  if (!id) return Errno::kEINVAL;
  return *id;
}
Result<uint32_t> MapGid(Task& task, uint32_t gid) {
  if (gid == kNoId) return Errno::kEINVAL;
  auto id = task.creds().user_ns->ToKernelGid(gid);
  if (!id) return Errno::kEINVAL;
  return *id;
}

}  // namespace

SyscallResult Setuid(Task& task, uint32_t uid) {
  uint32_t id = TRY(MapUid(task, uid));
  const Credentials& old = task.creds();
  RefPtr<Credentials> now = Copy(task);
  if (old.HasCapability(Capability::kSetuid)) now->ruid = now->suid = id;
  else if (id != old.ruid && id != old.suid) return Errno::kEPERM;
  now->euid = now->fsuid = id;
  FixupCapabilities(old, *now);
  Commit(task, std::move(now));
  return 0;
}

SyscallResult Setgid(Task& task, uint32_t gid) {
  uint32_t id = TRY(MapGid(task, gid));
  const Credentials& old = task.creds();
  RefPtr<Credentials> now = Copy(task);
  if (old.HasCapability(Capability::kSetgid)) now->rgid = now->sgid = id;
  else if (id != old.rgid && id != old.sgid) return Errno::kEPERM;
  now->egid = now->fsgid = id;
  Commit(task, std::move(now));
  return 0;
}

SyscallResult Setreuid(Task& task, uint32_t ruid, uint32_t euid) {
  const Credentials& old = task.creds();
  RefPtr<Credentials> now = Copy(task);
  const bool capable = old.HasCapability(Capability::kSetuid);
  if (ruid != kNoId) {
    now->ruid = TRY(MapUid(task, ruid));
    if (!capable && now->ruid != old.ruid && now->ruid != old.euid) return Errno::kEPERM;
  }
  if (euid != kNoId) {
    now->euid = TRY(MapUid(task, euid));
    if (!capable && now->euid != old.ruid && now->euid != old.euid && now->euid != old.suid) return Errno::kEPERM;
  }
  if (ruid != kNoId || (euid != kNoId && now->euid != old.ruid)) now->suid = now->euid;
  now->fsuid = now->euid;
  FixupCapabilities(old, *now);
  Commit(task, std::move(now));
  return 0;
}

SyscallResult Setregid(Task& task, uint32_t rgid, uint32_t egid) {
  const Credentials& old = task.creds();
  RefPtr<Credentials> now = Copy(task);
  const bool capable = old.HasCapability(Capability::kSetgid);
  if (rgid != kNoId) {
    now->rgid = TRY(MapGid(task, rgid));
    if (!capable && now->rgid != old.rgid && now->rgid != old.egid) return Errno::kEPERM;
  }
  if (egid != kNoId) {
    now->egid = TRY(MapGid(task, egid));
    if (!capable && now->egid != old.rgid && now->egid != old.egid && now->egid != old.sgid) return Errno::kEPERM;
  }
  if (rgid != kNoId || (egid != kNoId && now->egid != old.rgid)) now->sgid = now->egid;
  now->fsgid = now->egid;
  Commit(task, std::move(now));
  return 0;
}

SyscallResult Setresuid(Task& task, uint32_t ruid, uint32_t euid, uint32_t suid) {
  const Credentials& old = task.creds();
  RefPtr<Credentials> now = Copy(task);
  const bool capable = old.HasCapability(Capability::kSetuid);
  auto set = [&](uint32_t id, uint32_t* out) -> Result<void> {
    if (id == kNoId) return {};
    *out = TRY(MapUid(task, id));
    if (!capable && *out != old.ruid && *out != old.euid && *out != old.suid) return Errno::kEPERM;
    return {};
  };
  TRY(set(ruid, &now->ruid));
  TRY(set(euid, &now->euid));
  TRY(set(suid, &now->suid));
  now->fsuid = now->euid;
  FixupCapabilities(old, *now);
  Commit(task, std::move(now));
  return 0;
}

SyscallResult Setresgid(Task& task, uint32_t rgid, uint32_t egid, uint32_t sgid) {
  const Credentials& old = task.creds();
  RefPtr<Credentials> now = Copy(task);
  const bool capable = old.HasCapability(Capability::kSetgid);
  auto set = [&](uint32_t id, uint32_t* out) -> Result<void> {
    if (id == kNoId) return {};
    *out = TRY(MapGid(task, id));
    if (!capable && *out != old.rgid && *out != old.egid && *out != old.sgid) return Errno::kEPERM;
    return {};
  };
  TRY(set(rgid, &now->rgid));
  TRY(set(egid, &now->egid));
  TRY(set(sgid, &now->sgid));
  now->fsgid = now->egid;
  Commit(task, std::move(now));
  return 0;
}

SyscallResult Getresuid(Task& task, OutPtr<uint32_t> r, OutPtr<uint32_t> e, OutPtr<uint32_t> s) {
  const Credentials& c = task.creds();
  TRY(r.Write(task, c.user_ns->FromKernelUid(c.ruid)));
  TRY(e.Write(task, c.user_ns->FromKernelUid(c.euid)));
  TRY(s.Write(task, c.user_ns->FromKernelUid(c.suid)));
  return 0;
}
SyscallResult Getresgid(Task& task, OutPtr<uint32_t> r, OutPtr<uint32_t> e, OutPtr<uint32_t> s) {
  const Credentials& c = task.creds();
  TRY(r.Write(task, c.user_ns->FromKernelGid(c.rgid)));
  TRY(e.Write(task, c.user_ns->FromKernelGid(c.egid)));
  TRY(s.Write(task, c.user_ns->FromKernelGid(c.sgid)));
  return 0;
}

// setfsuid(2) reports no error: it returns the id before the call.
SyscallResult Setfsuid(Task& task, uint32_t uid) {
  const Credentials& old = task.creds();
  const int64_t before = old.user_ns->FromKernelUid(old.fsuid);
  auto id = old.user_ns->ToKernelUid(uid);
  if (!id || uid == kNoId) return before;
  if (*id != old.ruid && *id != old.euid && *id != old.suid && *id != old.fsuid &&
      !old.HasCapability(Capability::kSetuid))
    return before;
  RefPtr<Credentials> now = Copy(task);
  now->fsuid = *id;
  constexpr auth::CapSet kFsCaps = 0x1f | (1ull << 9) | (1ull << 27) | (1ull << 32);
  auto root = old.user_ns->ToKernelUid(0);
  if (root && (old.securebits & auth::kSecNoSetuidFixup) == 0) {
    if (old.fsuid == *root && now->fsuid != *root) now->effective &= ~kFsCaps;
    if (old.fsuid != *root && now->fsuid == *root) now->effective |= now->permitted & kFsCaps;
  }
  Commit(task, std::move(now));
  return before;
}
SyscallResult Setfsgid(Task& task, uint32_t gid) {
  const Credentials& old = task.creds();
  const int64_t before = old.user_ns->FromKernelGid(old.fsgid);
  auto id = old.user_ns->ToKernelGid(gid);
  if (!id || gid == kNoId) return before;
  if (*id != old.rgid && *id != old.egid && *id != old.sgid && *id != old.fsgid &&
      !old.HasCapability(Capability::kSetgid))
    return before;
  RefPtr<Credentials> now = Copy(task);
  now->fsgid = *id;
  Commit(task, std::move(now));
  return before;
}

SyscallResult Getgroups(Task& task, int32_t size, GuestAddr list) {
  const Credentials& c = task.creds();
  auto count = static_cast<int32_t>(c.groups.size());
  if (size < 0) return Errno::kEINVAL;
  if (size == 0) return count;
  if (size < count) return Errno::kEINVAL;
  std::vector<uint32_t> out;
  for (uint32_t g : c.groups) out.push_back(c.user_ns->FromKernelGid(g));
  TRY(task.CopyOutBytes(list, {reinterpret_cast<const char*>(out.data()), out.size() * 4}));
  return count;
}
SyscallResult Setgroups(Task& task, int32_t size, GuestAddr list) {
  const Credentials& old = task.creds();
  if (!old.HasCapability(Capability::kSetgid) || !old.user_ns->MaySetgroups()) return Errno::kEPERM;
  constexpr int32_t kMax = 65536;
  if (size < 0 || size > kMax) return Errno::kEINVAL;
  std::vector<uint32_t> groups(size);
  if (size != 0) TRY(task.CopyInBytes(list, absl::Span<char>(reinterpret_cast<char*>(groups.data()), groups.size() * 4)));
  for (uint32_t& g : groups) g = TRY(MapGid(task, g));
  std::sort(groups.begin(), groups.end());
  RefPtr<Credentials> now = Copy(task);
  now->groups = std::move(groups);
  Commit(task, std::move(now));
  return 0;
}

namespace {

struct CapHeader {
  uint32_t version;
  int32_t pid;
};
struct CapData {
  uint32_t effective, permitted, inheritable;
};
constexpr uint32_t kCapVersion1 = 0x19980330, kCapVersion2 = 0x20071026, kCapVersion3 = 0x20080522;

// The number of CapData words for a header's version; a wrong version is answered with the
// preferred one (capset(2)).
Result<int> CapWords(Task& task, GuestAddr address, const CapHeader& header, bool probe) {
  switch (header.version) {
    case kCapVersion1: return 1;
    case kCapVersion2:
    case kCapVersion3: return 2;
    default:
      TRY(task.Write(address, kCapVersion3));
      if (probe) return 0;
      return Errno::kEINVAL;
  }
}

}  // namespace

SyscallResult Capget(Task& task, GuestAddr header_address, GuestAddr data) {
  CapHeader header = TRY(task.Read<CapHeader>(header_address));
  int words = TRY(CapWords(task, header_address, header, data.is_null()));
  if (data.is_null() || words == 0) return 0;
  if (header.pid < 0) return Errno::kEINVAL;
  RefPtr<const Credentials> c = task.creds_ref();
  if (header.pid != 0) {
    RefPtr<Task> target = task.kernel().FindTask(task.pid_namespace(), header.pid);
    if (!target) return Errno::kESRCH;
    c = target->creds_ref();
  }
  CapData out[2];
  for (int i = 0; i < 2; ++i)
    out[i] = {static_cast<uint32_t>(c->effective >> (32 * i)), static_cast<uint32_t>(c->permitted >> (32 * i)),
              static_cast<uint32_t>(c->inheritable >> (32 * i))};
  TRY(task.CopyOutBytes(data, {reinterpret_cast<const char*>(out), sizeof(CapData) * words}));
  return 0;
}

SyscallResult Capset(Task& task, GuestAddr header_address, GuestAddr data) {
  CapHeader header = TRY(task.Read<CapHeader>(header_address));
  int words = TRY(CapWords(task, header_address, header, false));
  if (header.pid != 0 && header.pid != task.TidIn(task.pid_namespace())) return Errno::kEPERM;
  CapData in[2] = {};
  TRY(task.CopyInBytes(data, absl::Span<char>(reinterpret_cast<char*>(in), sizeof(CapData) * words)));
  auth::CapSet effective = in[0].effective | uint64_t{in[1].effective} << 32;
  auth::CapSet permitted = in[0].permitted | uint64_t{in[1].permitted} << 32;
  auth::CapSet inheritable = in[0].inheritable | uint64_t{in[1].inheritable} << 32;
  effective &= auth::kAllCapabilities;
  permitted &= auth::kAllCapabilities;
  inheritable &= auth::kAllCapabilities;
  const Credentials& old = task.creds();
  if (!old.HasCapability(Capability::kSetpcap) && (inheritable & ~(old.inheritable | old.permitted)) != 0)
    return Errno::kEPERM;
  if ((inheritable & ~(old.inheritable | old.bounding)) != 0) return Errno::kEPERM;
  if ((permitted & ~old.permitted) != 0) return Errno::kEPERM;
  if ((effective & ~permitted) != 0) return Errno::kEPERM;
  RefPtr<Credentials> now = Copy(task);
  now->effective = effective;
  now->permitted = permitted;
  now->inheritable = inheritable;
  now->ambient &= permitted & inheritable;
  Commit(task, std::move(now));
  return 0;
}

// --- Sessions and process groups ---

SyscallResult Setsid(Task& task) { return TRY(task.kernel().Setsid(task)); }
SyscallResult Setpgid(Task& task, int32_t pid, int32_t pgid) {
  if (pgid < 0) return Errno::kEINVAL;
  TRY(task.kernel().Setpgid(task, pid, pgid));
  return 0;
}

namespace {
Result<RefPtr<kernel::ThreadGroup>> GroupOf(Task& task, int32_t pid) {
  if (pid == 0) return task.group_ref();
  if (pid < 0) return Errno::kESRCH;
  RefPtr<Task> target = task.kernel().FindTask(task.pid_namespace(), pid);
  if (!target) return Errno::kESRCH;
  return target->group_ref();
}
}  // namespace

SyscallResult Getpgid(Task& task, int32_t pid) {
  RefPtr<kernel::ThreadGroup> group = TRY(GroupOf(task, pid));
  MutexLock lock(task.kernel().tasks_mu());
  if (!group->process_group) return Errno::kESRCH;
  return group->process_group->id().NumberIn(task.pid_namespace());
}
SyscallResult Getpgrp(Task& task) { return Getpgid(task, 0); }
SyscallResult Getsid(Task& task, int32_t pid) {
  RefPtr<kernel::ThreadGroup> group = TRY(GroupOf(task, pid));
  MutexLock lock(task.kernel().tasks_mu());
  if (!group->process_group) return Errno::kESRCH;
  return group->process_group->session()->id().NumberIn(task.pid_namespace());
}

}  // namespace caisson::syscalls
