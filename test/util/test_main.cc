// main() of every guest test: a program if asked for one, else the tests, from a known state.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gtest/gtest.h"
#include "test/util/process_util.h"
#include "test/util/programs.h"

int main(int argc, char** argv) {
  constexpr char kOption[] = "--program=";
  constexpr size_t kLength = sizeof(kOption) - 1;
  if (argc > 1 && strncmp(argv[1], kOption, kLength) == 0) {
    caisson::test::ProgramMain program = caisson::test::FindProgram(argv[1] + kLength);
    if (program == nullptr) return 126;
    argv[1] = argv[0];
    int code = program(argc - 1, argv + 1);
    fflush(nullptr);
    return code;
  }
  // Whoever started us may have left signals ignored or blocked, or a strange umask.
  for (int signal = 1; signal < NSIG; signal++) {
    struct sigaction action = {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  umask(022);
  // A crash must not lose the lines that say where.
  setvbuf(stdout, nullptr, _IOLBF, 0);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
