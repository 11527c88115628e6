// A pseudoterminal pair, and children that have it as their controlling terminal.
#ifndef CAISSON_TEST_UTIL_PTY_UTIL_H_
#define CAISSON_TEST_UTIL_PTY_UTIL_H_

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <string>

#include "test/util/file_util.h"

namespace caisson::test {

// /dev/ptmx and the terminal it made. Without O_NOCTTY nothing here becomes a controlling terminal
// by accident: the test process has none to lose only when it is a session leader.
struct Pty {
  Pty() : master(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    int unlock = 0, number = -1;
    ioctl(master, TIOCSPTLCK, &unlock);
    ioctl(master, TIOCGPTN, &number);
    name = "/dev/pts/" + std::to_string(number);
    terminal = FdCloser(open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  termios Get() const {
    termios settings = {};
    tcgetattr(terminal, &settings);
    return settings;
  }
  int Set(const termios& settings) const { return tcsetattr(terminal, TCSANOW, &settings); }
  // As cfmakeraw(3): bytes pass through unchanged.
  void MakeRaw() const {
    termios settings = Get();
    cfmakeraw(&settings);
    Set(settings);
  }
  void SetEcho(bool on) const {
    termios settings = Get();
    settings.c_lflag = on ? settings.c_lflag | ECHO : settings.c_lflag & ~ECHO;
    Set(settings);
  }
  // In a child: a new session with this as its controlling terminal.
  bool Control() const { return setsid() >= 0 && ioctl(terminal, TIOCSCTTY, 0) == 0; }

  FdCloser master;
  std::string name;
  FdCloser terminal;
};

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_PTY_UTIL_H_
