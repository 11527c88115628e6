#include "sentry/ipc/sem.h"

#include <algorithm>

#include "sentry/ipc/namespace.h"
#include "time/clock.h"

namespace caisson::ipc {

Result<void> SemSet::TryLocked(absl::Span<const abi::SemBuf> ops, std::vector<int16_t>* undo,
                               const vfs::ProcessId& process, size_t* blocking) {
  std::optional<Errno> error;
  size_t done = 0;
  for (; done < ops.size(); ++done) {
    const abi::SemBuf& op = ops[done];
    int value = semaphores[op.num].value;
    if (op.op == 0 ? value != 0 : value + op.op < 0) {
      *blocking = done;
      error = Errno::kEAGAIN;
      break;
    }
    if (value + op.op > Semaphores::kMaxValue) {
      error = Errno::kERANGE;
      break;
    }
    if ((op.flags & abi::kSemUndo) != 0) {
      int adjustment = (*undo)[op.num] - op.op;
      if (adjustment < -Semaphores::kMaxValue - 1 || adjustment > Semaphores::kMaxValue) {
        error = Errno::kERANGE;
        break;
      }
      (*undo)[op.num] = static_cast<int16_t>(adjustment);
    }
    semaphores[op.num].value = static_cast<uint16_t>(value + op.op);
  }
  if (!error) {
    for (const abi::SemBuf& op : ops) semaphores[op.num].process = process;
    otime = NowSeconds();
    return {};
  }
  while (done > 0) {
    const abi::SemBuf& op = ops[--done];
    semaphores[op.num].value = static_cast<uint16_t>(semaphores[op.num].value - op.op);
    if ((op.flags & abi::kSemUndo) != 0)
      (*undo)[op.num] = static_cast<int16_t>((*undo)[op.num] + op.op);
  }
  return *error;
}

void SemSet::UpdateLocked() {
  for (size_t i = 0; i < waiters.size();) {
    SemWaiter& waiter = *waiters[i];
    Result<void> result = TryLocked(waiter.ops, waiter.undo, waiter.process, &waiter.blocking);
    if (!result.ok() && result.error() == Errno::kEAGAIN &&
        (waiter.ops[waiter.blocking].flags & abi::kIpcNowait) == 0) {
      ++i;
      continue;
    }
    if (!result.ok()) waiter.error = result.error();
    waiter.done = true;
    waiters.erase(waiters.begin() + static_cast<ptrdiff_t>(i));
    waiter.ctx->Wake();
    // What it changed may let an earlier one go on.
    bool altered = result.ok() && std::any_of(waiter.ops.begin(), waiter.ops.end(),
                                              [](const abi::SemBuf& op) { return op.op != 0; });
    if (altered) i = 0;
  }
}

SemUndoList::~SemUndoList() {
  MutexLock lock(mu_);
  for (const RefPtr<SemSet>& set : sets_) {
    MutexLock set_lock(set->mu);
    auto it = set->undos.find(this);
    if (it == set->undos.end()) continue;
    std::vector<int16_t> adjustments = std::move(it->second);
    set->undos.erase(it);
    if (set->removed) continue;
    for (size_t i = 0; i < adjustments.size(); ++i) {
      if (adjustments[i] == 0) continue;
      SemSet::Semaphore& semaphore = set->semaphores[i];
      semaphore.value = static_cast<uint16_t>(
          std::clamp(semaphore.value + adjustments[i], 0, Semaphores::kMaxValue));
      semaphore.process = process_;
    }
    set->UpdateLocked();
    set->otime = NowSeconds();
  }
}

Result<int> Semaphores::Get(vfs::CallContext& ctx, int32_t key, int count, int flags) {
  if (count < 0 || static_cast<uint64_t>(count) > ns_.tunables.semmsl.load()) return Errno::kEINVAL;
  const auth::Credentials& creds = ctx.creds();
  MutexLock lock(registry_.mu());
  if (key != abi::kIpcPrivate) {
    if (RefPtr<SemSet> found = registry_.FindKeyLocked(key)) {
      if ((flags & abi::kIpcCreat) != 0 && (flags & abi::kIpcExcl) != 0) return Errno::kEEXIST;
      if (static_cast<size_t>(count) > found->size) return Errno::kEINVAL;
      MutexLock set_lock(found->mu);
      TRY(CheckAccess(creds, ns_.user_ns(), found->owner, flags & 0777));
      return found->id;
    }
    if ((flags & abi::kIpcCreat) == 0) return Errno::kENOENT;
  }
  if (count == 0) return Errno::kEINVAL;
  const uint64_t most = std::min<uint64_t>(kMaxTotal, ns_.tunables.semmns.load());
  if (static_cast<uint64_t>(total_.load(std::memory_order_relaxed) + count) > most) return Errno::kENOSPC;
  RefPtr<SemSet> made = TRY(registry_.InsertLocked(ns_.tunables.semmni.load(), key, [&](int id) {
    auto set = MakeRef<SemSet>(id, static_cast<size_t>(count));
    MutexLock set_lock(set->mu);
    set->owner = {key,        creds.euid, creds.euid,
                  creds.egid, creds.egid, static_cast<uint32_t>(flags & 0777)};
    set->ctime = NowSeconds();
    return set;
  }));
  total_.fetch_add(count, std::memory_order_relaxed);
  return made->id;
}

Result<void> Semaphores::Operate(vfs::CallContext& ctx, SemUndoList* undo, int id,
                                 absl::Span<const abi::SemBuf> ops, int64_t deadline) {
  if (ops.empty() || id < 0) return Errno::kEINVAL;
  if (ops.size() > ns_.tunables.semopm.load()) return Errno::kE2BIG;
  bool undoes = false, alters = false;
  size_t highest = 0;
  for (const abi::SemBuf& op : ops) {
    highest = std::max<size_t>(highest, op.num);
    undoes |= (op.flags & abi::kSemUndo) != 0;
    alters |= op.op != 0;
  }
  RefPtr<SemSet> set = TRY(registry_.Find(id));
  if (undoes) {
    if (undo == nullptr) return Errno::kENOMEM;
    MutexLock lock(undo->mu_);
    if (std::find(undo->sets_.begin(), undo->sets_.end(), set) == undo->sets_.end()) {
      // Sets that were removed are dropped when new ones come.
      std::erase_if(undo->sets_, [](const RefPtr<SemSet>& s) {
        MutexLock set_lock(s->mu);
        return s->removed;
      });
      undo->sets_.push_back(set);
    }
  }

  SemWaiter waiter;
  {
    MutexLock lock(set->mu);
    if (highest >= set->size) return Errno::kEFBIG;
    TRY(CheckAccess(ctx.creds(), ns_.user_ns(), set->owner, alters ? 0222 : 0444));
    if (set->removed) return Errno::kEIDRM;
    if (undoes) {
      std::vector<int16_t>& adjustments = set->undos[undo];
      adjustments.resize(set->size);
      waiter.undo = &adjustments;  // A map's elements stay where they are.
    }
    waiter.ctx = &ctx;
    waiter.ops = ops;
    waiter.process = ctx.process_id();
    Result<void> result = set->TryLocked(ops, waiter.undo, waiter.process, &waiter.blocking);
    if (result.ok()) {
      if (alters) set->UpdateLocked();
      return {};
    }
    if (result.error() != Errno::kEAGAIN) return result;
    if ((ops[waiter.blocking].flags & abi::kIpcNowait) != 0) return Errno::kEAGAIN;
    set->waiters.push_back(&waiter);
  }
  for (;;) {
    Result<void> slept = ctx.Block(deadline);
    MutexLock lock(set->mu);
    if (waiter.done) {
      if (waiter.error) return *waiter.error;
      return {};
    }
    if (slept.ok()) continue;
    std::erase(set->waiters, &waiter);
    if (slept.error() == Errno::kETIMEDOUT) return Errno::kEAGAIN;
    // Never restarted (signal(7)).
    return slept.error() == Errno::kERESTARTSYS ? Errno::kEINTR : slept.error();
  }
}

}  // namespace caisson::ipc
