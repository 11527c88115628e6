// One program for all rows: `bench_guest --benchmark_filter='^getpid$' ...`.
//
//   bench_guest time N CMD...   runs CMD N times; prints the nanoseconds of each, one a line
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

namespace {

double Now() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

int Time(int times, char** command) {
  for (int i = 0; i < times; ++i) {
    const double start = Now();
    const pid_t pid = fork();
    if (pid == 0) {
      const int null = open("/dev/null", O_WRONLY);
      dup2(null, STDOUT_FILENO);
      execvp(command[0], command);
      _exit(127);
    }
    int status;
    Require(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
    if (status != 0) {
      fprintf(stderr, "%s: status %#x\n", command[0], status);
      return 1;
    }
    printf("%.0f\n", Now() - start);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 4 && strcmp(argv[1], "time") == 0) return Time(atoi(argv[2]), argv + 3);
  const int fd = open(kFile, O_CREAT | O_RDWR, 0600);
  Require(fd >= 0 && ftruncate(fd, 4096) == 0, kFile);
  close(fd);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
