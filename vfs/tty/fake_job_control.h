// Sessions and process groups for tests: one caller, settable, and a record of signals.
#ifndef CAISSON_VFS_TTY_FAKE_JOB_CONTROL_H_
#define CAISSON_VFS_TTY_FAKE_JOB_CONTROL_H_

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "vfs/tty/job_control.h"
#include "vfs/tty/tty.h"

namespace caisson::vfs::tty {

class FakeJobControl final : public JobControl {
 public:
  Caller CallerOf(CallContext&) override { return caller; }
  RefPtr<Tty> ControllingTty(CallContext&) override { return controlling; }
  void SetControllingTty(CallContext&, RefPtr<Tty> tty) override { controlling = std::move(tty); }
  void DropControllingTty(CallContext&) override { controlling = nullptr; }
  void ClearSessionTty(int32_t session, Tty& tty) override {
    log.push_back(absl::StrCat("clear ", session));
    if (controlling == &tty && caller.session == session) controlling = nullptr;
  }
  bool CallerOrphaned(CallContext&) override { return orphaned; }
  bool CallerIgnores(CallContext&, int) override { return ignores; }
  bool GroupInSession(int32_t group, int32_t session) override {
    return groups.count({group, session}) != 0;
  }
  bool GroupExists(int32_t group) override {
    for (const auto& [g, s] : groups) {
      if (g == group) return true;
    }
    return false;
  }
  void SignalGroup(int32_t, int32_t group, int signo) override {
    log.push_back(absl::StrCat("group ", group, " sig ", signo));
  }
  void SignalSessionLeader(int32_t session, int signo) override {
    log.push_back(absl::StrCat("leader ", session, " sig ", signo));
  }
  int32_t ToCaller(CallContext&, int32_t id) override { return id; }
  ProcessId FromCaller(CallContext&, int32_t id) override { return {id, nullptr}; }
  std::vector<std::string> TakeLog() { return std::exchange(log, {}); }

  Caller caller{10, 10, true, nullptr};
  RefPtr<Tty> controlling;
  bool orphaned = false, ignores = false;
  std::set<std::pair<int32_t, int32_t>> groups{{10, 10}, {20, 10}, {30, 30}};
  std::vector<std::string> log;
};

}  // namespace caisson::vfs::tty

#endif  // CAISSON_VFS_TTY_FAKE_JOB_CONTROL_H_
