// What terminals need of sessions and process groups; the kernel implements it.
#ifndef CAISSON_VFS_TTY_JOB_CONTROL_H_
#define CAISSON_VFS_TTY_JOB_CONTROL_H_

#include <cstdint>

#include "base/ref.h"
#include "vfs/call_context.h"

namespace caisson::vfs::tty {

class Tty;

// Ids of sessions and process groups are those of the sandbox's root pid namespace; 0 is none.
//
// Terminals call these with no lock of theirs held, on any thread. The kernel calls Tty (tty.h)
// with no lock held that an implementation of these takes.
class JobControl {
 public:
  virtual ~JobControl() = default;

  // Of the calling process. All zero for the kernel itself.
  struct Caller {
    int32_t session = 0;
    int32_t group = 0;
    bool session_leader = false;
    RefPtr<ProcessHold> group_hold;
  };
  virtual Caller CallerOf(CallContext& ctx) = 0;
  // The caller's controlling terminal (signal->tty of Linux), which belongs to the process: its
  // children inherit it, setsid(2) drops it. Null if none.
  virtual RefPtr<Tty> ControllingTty(CallContext& ctx) = 0;
  // Makes `tty` the controlling terminal of the calling process (a session leader; others of its
  // session get it by fork later, or by opening it: Linux's rule is that of tty_open()).
  virtual void SetControllingTty(CallContext& ctx, RefPtr<Tty> tty) = 0;
  // Drops it for the calling process alone (TIOCNOTTY of a non-leader).
  virtual void DropControllingTty(CallContext& ctx) = 0;
  // Drops `tty` for every process of `session` (session_clear_tty()).
  virtual void ClearSessionTty(int32_t session, Tty& tty) = 0;

  // Whether the caller's process group is orphaned (is_current_pgrp_orphaned()).
  virtual bool CallerOrphaned(CallContext& ctx) = 0;
  // Whether the calling thread blocks or ignores `signo`.
  virtual bool CallerIgnores(CallContext& ctx, int signo) = 0;
  // Whether the process group exists and is of `session`.
  virtual bool GroupInSession(int32_t group, int32_t session) = 0;
  // Whether a process group of that id exists at all.
  virtual bool GroupExists(int32_t group) = 0;
  // Signals from the kernel (SI_KERNEL) to each process of a group, if it is of `session`.
  virtual void SignalGroup(int32_t session, int32_t group, int signo) = 0;
  virtual void SignalSessionLeader(int32_t session, int signo) = 0;
  // An id as the caller's pid namespace numbers it (0 if unseen there), and back (0 if unknown).
  virtual int32_t ToCaller(CallContext& ctx, int32_t id) = 0;
  virtual ProcessId FromCaller(CallContext& ctx, int32_t id) = 0;
};

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_JOB_CONTROL_H_
