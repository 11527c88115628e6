#include "sentry/ipc/object.h"

#include "sentry/ipc/namespace.h"
#include "time/clock.h"

namespace caisson::ipc {

using auth::Capability;

Result<void> CheckAccess(const auth::Credentials& creds, const auth::UserNamespace& ns,
                         const Owner& owner, int access) {
  const uint32_t requested = static_cast<uint32_t>(access >> 6 | access >> 3 | access);
  uint32_t granted = owner.mode;
  if (creds.euid == owner.cuid || creds.euid == owner.uid) {
    granted >>= 6;
  } else if (creds.InGroupEffective(owner.cgid) || creds.InGroupEffective(owner.gid)) {
    granted >>= 3;
  }
  if ((requested & ~granted & 7) != 0 && !creds.HasCapability(Capability::kIpcOwner, ns))
    return Errno::kEACCES;
  return {};
}

Result<void> CheckOwner(const auth::Credentials& creds, const auth::UserNamespace& ns,
                        const Owner& owner) {
  if (creds.euid == owner.cuid || creds.euid == owner.uid ||
      creds.HasCapability(Capability::kSysAdmin, ns))
    return {};
  return Errno::kEPERM;
}

abi::IpcPerm ShowOwner(const auth::Credentials& creds, const Owner& owner, int id) {
  abi::IpcPerm perm = {};
  perm.key = owner.key;
  perm.uid = creds.user_ns->FromKernelUid(owner.uid);
  perm.gid = creds.user_ns->FromKernelGid(owner.gid);
  perm.cuid = creds.user_ns->FromKernelUid(owner.cuid);
  perm.cgid = creds.user_ns->FromKernelGid(owner.cgid);
  perm.mode = owner.mode;
  perm.seq = static_cast<uint16_t>(id >> 15);
  return perm;
}

Result<void> SetOwner(const auth::Credentials& creds, const abi::IpcPerm& from, Owner& owner) {
  std::optional<uint32_t> uid = creds.user_ns->ToKernelUid(from.uid);
  std::optional<uint32_t> gid = creds.user_ns->ToKernelGid(from.gid);
  if (!uid || !gid) return Errno::kEINVAL;
  owner.uid = *uid;
  owner.gid = *gid;
  owner.mode = (owner.mode & ~0777u) | (from.mode & 0777u);
  return {};
}

int64_t NowSeconds() { return time::RealtimeNow() / 1'000'000'000; }

IpcNamespace::IpcNamespace(RefPtr<auth::UserNamespace> user_ns,
                           mm::SharedMemoryFactory* shared_memory, uint64_t inode_number)
    : shm(*this, shared_memory),
      sem(*this),
      msg(*this),
      user_ns_(std::move(user_ns)),
      inode_number_(inode_number) {}

IpcNamespace::~IpcNamespace() { posix_->Clear(); }

}  // namespace caisson::ipc
