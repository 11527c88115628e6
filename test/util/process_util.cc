#include "test/util/process_util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gtest/gtest.h"
#include "test/util/file_util.h"
#include "test/util/programs.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

pid_t ForkAndRun(const std::function<void()>& body) {
  fflush(nullptr);
  const pid_t parent = getpid();
  pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  body();
  fflush(nullptr);
  _exit(testing::Test::HasFailure() ? 1 : 0);
}

int WaitFor(pid_t pid) {
  int status;
  pid_t result;
  do {
    result = waitpid(pid, &status, 0);
  } while (result < 0 && errno == EINTR);
  return result == pid ? status : -1;
}

char StateIn(const std::string& stat) {
  // The name in parentheses may hold anything, parentheses too.
  size_t end = stat.rfind(')');
  return end == std::string::npos || end + 2 >= stat.size() ? 0 : stat[end + 2];
}

struct Program {
  const char* name;
  ProgramMain main;
};
std::vector<Program>& Programs() {
  static std::vector<Program> programs;
  return programs;
}

}  // namespace

std::string ErrnoText(int error) {
  return std::string(strerrorname_np(error) != nullptr ? strerrorname_np(error) : "?") + " (" +
         std::to_string(error) + ")";
}

std::string StatusText(int status) {
  if (status == -1) return "fork or wait failed";
  if (WIFEXITED(status)) return "exited with " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  return "status " + std::to_string(status);
}

int InChild(const std::function<void()>& body) {
  pid_t pid = ForkAndRun(body);
  return pid < 0 ? -1 : WaitFor(pid);
}

Child::Child(const std::function<void()>& body) : pid_(ForkAndRun(body)) {}

Child::~Child() {
  if (pid_ <= 0) return;
  Kill(SIGKILL);
  Wait();
}

int Child::Wait() {
  if (pid_ <= 0) return -1;
  int status = WaitFor(pid_);
  pid_ = -1;
  return status;
}

ScopedThread::ScopedThread(std::function<void()> body)
    : thread_([this, body = std::move(body)] {
        __atomic_store_n(&tid_, gettid(), __ATOMIC_RELEASE);
        body();
      }) {
  while (__atomic_load_n(&tid_, __ATOMIC_ACQUIRE) == 0) sched_yield();
}

bool WaitUntil(const std::function<bool()>& condition) {
  timespec start;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int round = 0;; round++) {
    if (condition()) return true;
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - start.tv_sec > 30) return false;
    timespec pause = {0, round < 20 ? 100 * 1000 : 2 * 1000 * 1000};
    nanosleep(&pause, nullptr);
  }
}

char ProcessState(pid_t pid) { return StateIn(ReadFile("/proc/" + std::to_string(pid) + "/stat")); }
char ThreadState(pid_t tid) {
  return StateIn(ReadFile("/proc/self/task/" + std::to_string(tid) + "/stat"));
}
bool WaitUntilSleeping(pid_t pid) {
  return WaitUntil([pid] { return ProcessState(pid) == 'S'; });
}
bool WaitUntilThreadSleeping(pid_t tid) {
  return WaitUntil([tid] { return ThreadState(tid) == 'S'; });
}

ProgramRegistration::ProgramRegistration(const char* name, ProgramMain main) {
  Programs().push_back({name, main});
}

ProgramMain FindProgram(const char* name) {
  for (const Program& program : Programs()) {
    if (strcmp(program.name, name) == 0) return program.main;
  }
  return nullptr;
}

const std::string& SelfPath() {
  static const std::string path = [] {
    char buffer[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", buffer, sizeof(buffer));
    return std::string(buffer, n < 0 ? 0 : n);
  }();
  return path;
}

ProgramResult RunProgram(const std::string& name, const std::vector<std::string>& args,
                         const std::function<void()>& prepare) {
  Pipe pipe;
  fflush(nullptr);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(pipe.writer, STDOUT_FILENO);
    pipe.reader.Close();
    pipe.writer.Close();
    if (prepare) prepare();
    std::string self = SelfPath();
    std::string option = "--program=" + name;
    std::vector<char*> argv = {self.data(), option.data()};
    for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
    argv.push_back(nullptr);
    execv(self.c_str(), argv.data());
    _exit(127);
  }
  pipe.writer.Close();
  ProgramResult result;
  result.output = ReadAll(pipe.reader);
  result.status = pid < 0 ? -1 : WaitFor(pid);
  return result;
}

}  // namespace caisson::test
