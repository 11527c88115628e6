// Children, threads, and waiting for a state instead of sleeping.
#ifndef CAISSON_TEST_UTIL_PROCESS_UTIL_H_
#define CAISSON_TEST_UTIL_PROCESS_UTIL_H_

#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace caisson::test {

// Runs `body` in a forked child and returns its wait(2) status. Expectations work in `body`: the
// child prints failures and exits with 1 if there were any, else with 0. For everything that would
// change the test process itself: credentials, limits, cwd, umask, signals, namespaces.
// -1 if fork or waitpid failed.
int InChild(const std::function<void()>& body);

// A forked child that runs beside the test. The child dies with the test process, and is killed
// and reaped when the object goes.
class Child {
 public:
  explicit Child(const std::function<void()>& body);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  pid_t pid() const { return pid_; }
  int Kill(int signal) const { return kill(pid_, signal); }
  // Reaps it; the wait(2) status.
  int Wait();
  // Forgets it: the test has reaped it itself.
  void Reaped() { pid_ = -1; }

 private:
  pid_t pid_ = -1;
};

// A thread, joined when the object goes.
class ScopedThread {
 public:
  explicit ScopedThread(std::function<void()> body);
  ~ScopedThread() { Join(); }
  ScopedThread(const ScopedThread&) = delete;
  ScopedThread& operator=(const ScopedThread&) = delete;
  // Known once the constructor has returned.
  pid_t tid() const { return tid_; }
  pthread_t handle() { return thread_.native_handle(); }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  volatile pid_t tid_ = 0;
  std::thread thread_;
};

// Polls `condition` until it holds; false after 30 s.
bool WaitUntil(const std::function<bool()>& condition);

// The state letter of /proc/[pid]/stat or, with a thread of this process, of
// /proc/self/task/[tid]/stat; 0 if there is none.
char ProcessState(pid_t pid);
char ThreadState(pid_t tid);

// Waits until the process (or thread of this process) sleeps interruptibly. The caller makes sure
// that the call it means is the only one it can sleep in.
bool WaitUntilSleeping(pid_t pid);
bool WaitUntilThreadSleeping(pid_t tid);

// Programs inside the test binary, for execve: GUEST_PROGRAM(name) { uses argc, argv; return code;
// } is run by SelfPath() with the first argument "--program=name"; argv[0] is then the program's
// own argv[0], and argv[1] the first one after that.
using ProgramMain = int (*)(int argc, char** argv);
struct ProgramRegistration {
  ProgramRegistration(const char* name, ProgramMain main);
};
#define GUEST_PROGRAM(name)                                                                     \
  static int name##_program_main(int argc, char** argv);                                        \
  static const ::caisson::test::ProgramRegistration name##_program(#name, name##_program_main); \
  static int name##_program_main([[maybe_unused]] int argc, [[maybe_unused]] char** argv)

// The test binary's own path.
const std::string& SelfPath();

// What a program started as SelfPath() --program=`name` `args`... printed, and its status.
struct ProgramResult {
  int status;
  std::string output;
};
// `prepare` runs in the child before the exec.
ProgramResult RunProgram(const std::string& name, const std::vector<std::string>& args = {},
                         const std::function<void()>& prepare = {});

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_PROCESS_UTIL_H_
