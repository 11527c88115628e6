// Process groups and sessions (credentials(7), setsid(2)). All state is guarded by the kernel's
// tasks lock.
#ifndef CAISSON_SENTRY_KERNEL_SESSION_H_
#define CAISSON_SENTRY_KERNEL_SESSION_H_

#include <vector>

#include "base/ref.h"
#include "sentry/kernel/pid.h"

namespace caisson::kernel {

class Session : public RefCounted<Session> {
 public:
  explicit Session(RefPtr<Pid> id) : id_(std::move(id)) { id_->session = this; }
  ~Session() { id_->session = nullptr; }
  Pid& id() const { return *id_; }
  ThreadGroup* leader = nullptr;              // Null once it has ended.

 private:
  const RefPtr<Pid> id_;
};

class ProcessGroup : public RefCounted<ProcessGroup> {
 public:
  ProcessGroup(RefPtr<Pid> id, RefPtr<Session> session)
      : id_(std::move(id)), session_(std::move(session)) {
    id_->process_group = this;
  }
  ~ProcessGroup() { id_->process_group = nullptr; }
  Pid& id() const { return *id_; }
  const RefPtr<Pid>& id_ref() const { return id_; }
  const RefPtr<Session>& session() const { return session_; }
  std::vector<ThreadGroup*> members;

 private:
  const RefPtr<Pid> id_;
  const RefPtr<Session> session_;
};

}  // namespace caisson::kernel

#endif  // CAISSON_SENTRY_KERNEL_SESSION_H_
