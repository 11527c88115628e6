// Round trips between two processes; an operation is there and back.
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

namespace {

void WaitFor(pid_t pid) {
  int status;
  Require(waitpid(pid, &status, 0) == pid && status == 0, "child");
}

// `there` and `back`: what the parent writes to and reads from; `child_*` the other ends.
void PingPong(benchmark::State& state, int there, int back, int child_in, int child_out) {
  char byte = 'x';
  const pid_t pid = fork();
  if (pid == 0) {
    close(there);
    if (back != there) close(back);
    while (read(child_in, &byte, 1) == 1) Require(write(child_out, &byte, 1) == 1, "write");
    _exit(0);
  }
  Require(pid > 0, "fork");
  close(child_in);
  if (child_out != child_in) close(child_out);
  for (auto _ : state) Require(write(there, &byte, 1) == 1 && read(back, &byte, 1) == 1, "ping-pong");
  close(there);
  if (back != there) close(back);
  WaitFor(pid);
}

void PipePingPong(benchmark::State& state) {
  int there[2], back[2];
  Require(pipe(there) == 0 && pipe(back) == 0, "pipe");
  PingPong(state, there[1], back[0], there[0], back[1]);
}
ROW(PipePingPong, "pipe_pingpong");

void UnixPingPong(benchmark::State& state) {
  int pair[2];
  Require(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
  PingPong(state, pair[0], pair[0], pair[1], pair[1]);
}
ROW(UnixPingPong, "unix_pingpong");

void Futex(int* word, int op, int value) { syscall(SYS_futex, word, op, value, nullptr, nullptr, 0); }

// Whose turn it is; 2 ends the child.
void FutexPingPong(benchmark::State& state) {
  int* turn = static_cast<int*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const auto wait_while = [turn](int value) {
    while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) == value) Futex(turn, FUTEX_WAIT, value);
  };
  const auto pass = [turn](int value) {
    __atomic_store_n(turn, value, __ATOMIC_RELEASE);
    Futex(turn, FUTEX_WAKE, 1);
  };
  const pid_t pid = fork();
  if (pid == 0) {
    for (;;) {
      wait_while(0);
      if (__atomic_load_n(turn, __ATOMIC_ACQUIRE) == 2) _exit(0);
      pass(0);
    }
  }
  Require(pid > 0, "fork");
  for (auto _ : state) {
    pass(1);
    wait_while(1);
  }
  pass(2);
  WaitFor(pid);
  munmap(turn, 4096);
}
ROW(FutexPingPong, "futex_pingpong");

}  // namespace
