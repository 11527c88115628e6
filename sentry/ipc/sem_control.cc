// semctl(2).
#include <algorithm>

#include "sentry/ipc/namespace.h"
#include "sentry/ipc/sem.h"

namespace caisson::ipc {

abi::SemidDs Semaphores::Show(const auth::Credentials& creds, SemSet& set) {
  MutexLock lock(set.mu);
  abi::SemidDs out = {};
  out.perm = ShowOwner(creds, set.owner, set.id);
  out.otime = set.otime;
  out.ctime = set.ctime;
  out.nsems = set.size;
  return out;
}

Result<abi::SemidDs> Semaphores::Stat(vfs::CallContext& ctx, int id, bool by_index, bool any,
                                      int* id_out) {
  RefPtr<SemSet> set = TRY(by_index ? registry_.FindIndex(id) : registry_.Find(id));
  if (!any) {
    MutexLock lock(set->mu);
    TRY(CheckAccess(ctx.creds(), ns_.user_ns(), set->owner, 0444));
  }
  if (id_out != nullptr) *id_out = set->id;
  return Show(ctx.creds(), *set);
}

Result<void> Semaphores::Set(vfs::CallContext& ctx, int id, const abi::IpcPerm& perm) {
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  MutexLock lock(set->mu);
  TRY(CheckOwner(ctx.creds(), ns_.user_ns(), set->owner));
  TRY(SetOwner(ctx.creds(), perm, set->owner));
  set->ctime = NowSeconds();
  return {};
}

Result<void> Semaphores::Remove(vfs::CallContext& ctx, int id) {
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  int32_t key = 0;
  {
    MutexLock lock(set->mu);
    TRY(CheckOwner(ctx.creds(), ns_.user_ns(), set->owner));
    if (set->removed) return Errno::kEIDRM;
    set->removed = true;
    key = set->owner.key;
    for (SemWaiter* waiter : set->waiters) {
      waiter->error = Errno::kEIDRM;
      waiter->done = true;
      waiter->ctx->Wake();
    }
    set->waiters.clear();
    set->undos.clear();
  }
  total_.fetch_sub(static_cast<int>(set->size), std::memory_order_relaxed);
  registry_.Remove(*set, key);
  return {};
}

Result<int> Semaphores::GetOne(vfs::CallContext& ctx, int id, int index, int command) {
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  MutexLock lock(set->mu);
  TRY(CheckAccess(ctx.creds(), ns_.user_ns(), set->owner, 0444));
  if (set->removed) return Errno::kEIDRM;
  if (index < 0 || static_cast<size_t>(index) >= set->size) return Errno::kEINVAL;
  const SemSet::Semaphore& semaphore = set->semaphores[static_cast<size_t>(index)];
  switch (command) {
    case abi::kGetVal:
      return semaphore.value;
    case abi::kGetPid:
      return semaphore.process.number;
    case abi::kGetNcnt:
    case abi::kGetZcnt: {
      bool zero = command == abi::kGetZcnt;
      return static_cast<int>(
          std::count_if(set->waiters.begin(), set->waiters.end(), [&](const SemWaiter* waiter) {
            const abi::SemBuf& op = waiter->ops[waiter->blocking];
            return op.num == index && (op.op == 0) == zero;
          }));
    }
    default:
      return Errno::kEINVAL;
  }
}

Result<void> Semaphores::SetValue(vfs::CallContext& ctx, int id, int index, int value) {
  if (value < 0 || value > kMaxValue) return Errno::kERANGE;
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  MutexLock lock(set->mu);
  if (index < 0 || static_cast<size_t>(index) >= set->size) return Errno::kEINVAL;
  TRY(CheckAccess(ctx.creds(), ns_.user_ns(), set->owner, 0222));
  if (set->removed) return Errno::kEIDRM;
  const size_t at = static_cast<size_t>(index);
  for (auto& [list, adjustments] : set->undos) adjustments[at] = 0;
  set->semaphores[at] = {static_cast<uint16_t>(value), ctx.process_id()};
  set->ctime = NowSeconds();
  set->UpdateLocked();
  return {};
}

Result<std::vector<uint16_t>> Semaphores::GetAll(vfs::CallContext& ctx, int id) {
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  MutexLock lock(set->mu);
  TRY(CheckAccess(ctx.creds(), ns_.user_ns(), set->owner, 0444));
  if (set->removed) return Errno::kEIDRM;
  std::vector<uint16_t> values;
  for (const SemSet::Semaphore& semaphore : set->semaphores) values.push_back(semaphore.value);
  return values;
}

Result<size_t> Semaphores::Count(int id) {
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  return set->size;
}

Result<void> Semaphores::SetAll(vfs::CallContext& ctx, int id, absl::Span<const uint16_t> values) {
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  MutexLock lock(set->mu);
  TRY(CheckAccess(ctx.creds(), ns_.user_ns(), set->owner, 0222));
  if (set->removed) return Errno::kEIDRM;
  if (values.size() != set->size) return Errno::kEINVAL;
  for (uint16_t value : values) {
    if (value > kMaxValue) return Errno::kERANGE;
  }
  for (size_t i = 0; i < values.size(); ++i) set->semaphores[i] = {values[i], ctx.process_id()};
  for (auto& [list, adjustments] : set->undos)
    std::fill(adjustments.begin(), adjustments.end(), int16_t{0});
  set->ctime = NowSeconds();
  set->UpdateLocked();
  return {};
}

abi::SemInfo Semaphores::Info(bool used) {
  abi::SemInfo info = {};
  info.semmap = info.semmns = info.semmnu = static_cast<int>(std::min<uint64_t>(kMaxTotal, ns_.tunables.semmns.load()));
  info.semmni = static_cast<int>(ns_.tunables.semmni.load());
  info.semmsl = static_cast<int>(ns_.tunables.semmsl.load());
  info.semopm = info.semume = static_cast<int>(ns_.tunables.semopm.load());
  info.semusz = 20;
  info.semvmx = info.semaem = kMaxValue;
  if (used) {
    info.semusz = static_cast<int32_t>(registry_.count());
    info.semaem = total_.load(std::memory_order_relaxed);
  }
  return info;
}

std::vector<abi::SemidDs> Semaphores::All(vfs::CallContext& ctx, std::vector<int>* ids) {
  std::vector<abi::SemidDs> out;
  for (const RefPtr<SemSet>& set : registry_.All()) {
    ids->push_back(set->id);
    out.push_back(Show(ctx.creds(), *set));
  }
  return out;
}

}  // namespace caisson::ipc
