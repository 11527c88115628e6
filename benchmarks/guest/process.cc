#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

namespace {

void WaitFor(pid_t pid) {
  int status;
  Require(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "child");
}

void ForkWait(benchmark::State& state) {
  for (auto _ : state) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    WaitFor(pid);
  }
}
ROW(ForkWait, "fork_wait");

void ForkExecWait(benchmark::State& state) {
  for (auto _ : state) {
    const pid_t pid = fork();
    if (pid == 0) {
      execl(kTrue, "true", nullptr);
      _exit(127);
    }
    WaitFor(pid);
  }
}
ROW(ForkExecWait, "fork_exec_wait");

void SpawnWait(benchmark::State& state) {  // clone(CLONE_VM | CLONE_VFORK)
  char name[] = "true";
  char* arguments[] = {name, nullptr};
  for (auto _ : state) {
    pid_t pid;
    Require(posix_spawn(&pid, kTrue, nullptr, nullptr, arguments, nullptr) == 0, "posix_spawn");
    WaitFor(pid);
  }
}
ROW(SpawnWait, "spawn_wait");

void* Nothing(void*) { return nullptr; }

void ThreadCreateJoin(benchmark::State& state) {
  for (auto _ : state) {
    pthread_t thread;
    Require(pthread_create(&thread, nullptr, Nothing, nullptr) == 0 && pthread_join(thread, nullptr) == 0, "thread");
  }
}
ROW(ThreadCreateJoin, "thread_create_join");

}  // namespace
