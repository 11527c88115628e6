// System calls that do little: what is measured is the way into the kernel and back.
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

namespace {

void Getpid(benchmark::State& state) {
  for (auto _ : state) syscall(SYS_getpid);
}
ROW(Getpid, "getpid");

void Getppid(benchmark::State& state) {
  for (auto _ : state) syscall(SYS_getppid);
}
ROW(Getppid, "getppid");

void ClockGettime(benchmark::State& state) {
  timespec ts;
  for (auto _ : state) clock_gettime(CLOCK_MONOTONIC, &ts);
}
ROW(ClockGettime, "clock_gettime");

void ReadZero(benchmark::State& state) {
  const int fd = open("/dev/zero", O_RDONLY);
  char byte;
  for (auto _ : state) Require(read(fd, &byte, 1) == 1, "read");
  close(fd);
}
ROW(ReadZero, "read_zero_1");

void EpollEventfd(benchmark::State& state) {
  const int event = eventfd(0, EFD_NONBLOCK);
  const int poll = epoll_create1(0);
  epoll_event want = {};
  want.events = EPOLLIN;
  Require(epoll_ctl(poll, EPOLL_CTL_ADD, event, &want) == 0, "epoll_ctl");
  uint64_t value = 1;
  for (auto _ : state) {
    epoll_event got;
    Require(write(event, &value, 8) == 8 && epoll_wait(poll, &got, 1, -1) == 1 && read(event, &value, 8) == 8,
            "epoll");
  }
  close(poll);
  close(event);
}
ROW(EpollEventfd, "epoll_eventfd");

volatile sig_atomic_t caught;
void OnSignal(int) { caught = caught + 1; }

void SignalSelf(benchmark::State& state) {
  signal(SIGUSR1, OnSignal);
  caught = 0;
  const pid_t self = getpid();
  for (auto _ : state) kill(self, SIGUSR1);
  Require(caught == static_cast<sig_atomic_t>(state.iterations()), "signals");
}
ROW(SignalSelf, "signal_self");

char* trap_page;
void OnFault(int) { Require(mprotect(trap_page, 4096, PROT_READ | PROT_WRITE) == 0, "mprotect"); }

// What a garbage collector's write barrier costs: a fault, its handler, and two changes of protection.
void SegvMprotect(benchmark::State& state) {
  trap_page = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Require(trap_page != MAP_FAILED, "mmap");
  signal(SIGSEGV, OnFault);
  for (auto _ : state) {
    *static_cast<volatile char*>(trap_page) = 1;
    Require(mprotect(trap_page, 4096, PROT_READ) == 0, "mprotect");
  }
  signal(SIGSEGV, SIG_DFL);
  munmap(trap_page, 4096);
}
ROW(SegvMprotect, "segv_mprotect");

}  // namespace
