#include "gofer/server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "base/log.h"
#include "gofer/server/session.h"

namespace caisson::gofer {

namespace {

// Threads that answer requests of one directory's connection: a slow one (fsync, a directory on a
// network file system) leaves the others to the rest.
constexpr int kThreadsForDirectory = 3;
constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kMaxHandlesForDirectory = 32768;
constexpr size_t kHandlesForFile = 8;

// Threads wait here until the process is confined.
class Gate {
 public:
  void Open(bool go) {
    MutexLock lock(mu_);
    state_ = go ? 1 : -1;
    cv_.Broadcast();
  }
  bool Wait() {
    MutexLock lock(mu_);
    while (state_ == 0) cv_.Wait(mu_);
    return state_ > 0;
  }

 private:
  Mutex mu_;
  CondVar cv_;
  int state_ ABSL_GUARDED_BY(mu_) = 0;
};

struct Worker {
  Session* session;
  Gate* gate;
  pthread_t thread;
};

void* RunWorker(void* arg) {
  auto* worker = static_cast<Worker*>(arg);
  if (worker->gate->Wait()) worker->session->Run();
  return nullptr;
}

size_t RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  return static_cast<size_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

}  // namespace

int Serve(std::vector<Connection> connections, ServeOptions options) {
  umask(0);
  if (!options.proc_self_fd.valid())
    options.proc_self_fd.reset(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!options.proc_self_fd.valid()) return errno;
  if (fchdir(options.proc_self_fd.get()) != 0) return errno;

  // Of the descriptors, a quarter stays free for what requests open on their way.
  size_t directories = 0;
  for (const Connection& c : connections) directories += c.is_file ? 0 : 1;
  size_t share = RaiseDescriptorLimit() * 3 / 4 / std::max<size_t>(directories, 1);
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::unique_ptr<Worker>> workers;
  Gate gate;
  for (Connection& c : connections) {
    WireAttributes attr;
    if (int error = StatAt(c.root.get(), "", &attr); error != 0) return error;
    SessionConfig config;
    config.read_only = c.read_only;
    config.is_file = c.is_file;
    config.proc_self_fd = options.proc_self_fd.get();
    config.max_handles =
        c.is_file ? kHandlesForFile : std::clamp<size_t>(share, 16, kMaxHandlesForDirectory);
    auto root = MakeRef<Object>(std::move(c.root), TypeOf(attr), attr.dev, attr.ino);
    sessions.push_back(std::make_unique<Session>(std::move(c.socket), std::move(root), config));
    for (int i = 0; i < (c.is_file ? 1 : kThreadsForDirectory); ++i)
      workers.push_back(std::make_unique<Worker>(Worker{sessions.back().get(), &gate, {}}));
  }

  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  int error = 0;
  size_t started = 0;
  for (; started < workers.size() && error == 0; ++started)
    error = pthread_create(&workers[started]->thread, &attributes, RunWorker,
                           workers[started].get());
  if (error != 0) --started;
  pthread_attr_destroy(&attributes);
  if (error == 0 && options.confine && !options.confine()) error = EPERM;
  gate.Open(error == 0);
  for (size_t i = 0; i < started; ++i) pthread_join(workers[i]->thread, nullptr);
  return error;
}

}  // namespace caisson::gofer
