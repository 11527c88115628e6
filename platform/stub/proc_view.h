// What the host's procfs tells of stubs.
#ifndef CAISSON_PLATFORM_STUB_PROC_VIEW_H_
#define CAISSON_PLATFORM_STUB_PROC_VIEW_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::platform::stub {

// The sentry has no procfs: below it are ways around read-only descriptors and to the files of
// other processes (PID/fd, PID/root, PID/exe). This object's process, forked before the sentry
// confines itself, has one that shows the sandbox's processes, and opens four of their files by
// number, for reading. It sees nothing else, and its filter lets it do nothing else.
//
// Thread-safe; one question at a time.
class ProcView {
 public:
  enum class File : uint32_t {
    kStatus = 0,
    kStat = 1,
    kPagemap = 2,
    kSchedstat = 3,  // Of one thread.
  };

  // Forks, so: before there is a second thread and before confinement. Errors: EPERM where this
  // process may not mount a procfs and /proc is another pid namespace's; those of fork(2).
  static Result<std::unique_ptr<ProcView>> Start();
  // The same, or null: not `wanted`, or not possible, which is logged.
  static std::unique_ptr<ProcView> StartIf(bool wanted);
  // Ends the process.
  ~ProcView();

  // `tid` for kSchedstat. Errors: those of openat(2); EIO if the process is gone.
  Result<UniqueFd> Open(File file, pid_t pid, pid_t tid = 0) ABSL_LOCKS_EXCLUDED(mu_);

  // Sizes in bytes. Two questions.
  struct Memory {
    uint64_t resident = 0;
    uint64_t shared = 0;  // Of resident: files and shared memory.
    uint64_t peak = 0;
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;
  };
  Result<Memory> ReadMemory(pid_t pid) ABSL_LOCKS_EXCLUDED(mu_);
  // One pagemap entry (Linux Documentation/admin-guide/mm/pagemap.rst) for each page from `address`.
  Result<void> ReadPagemap(pid_t pid, uint64_t address, absl::Span<uint64_t> entries)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The time on a CPU in ns, from an open kSchedstat. 0 if the thread is gone.
  static uint64_t ReadThreadTime(int fd);

 private:
  ProcView(UniqueFd socket, pid_t pid) : pid_(pid), socket_(std::move(socket)) {}

  const pid_t pid_;
  Mutex mu_;  // Innermost.
  UniqueFd socket_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::platform::stub

#endif  // CAISSON_PLATFORM_STUB_PROC_VIEW_H_
