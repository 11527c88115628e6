// Terminals: the host pty of a container, and the one that runsc itself runs on.
#ifndef CAISSON_RUNSC_CONTAINER_CONSOLE_H_
#define CAISSON_RUNSC_CONTAINER_CONSOLE_H_

#include <termios.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace caisson::runsc {

struct Pty {
  UniqueFd master;
  UniqueFd slave;
};

// A host pty that passes bytes through unchanged: the line discipline is inside the sandbox. Its
// window has `rows` and `columns` (0: leave it).
absl::StatusOr<Pty> OpenPty(uint32_t rows, uint32_t columns);

// Sends a descriptor (with `name` as the message) to the AF_UNIX socket at `path`.
absl::Status SendDescriptor(const std::string& path, int fd, const std::string& name);

// Puts terminal `fd` into raw mode for its lifetime; does nothing where it is no terminal.
class RawMode {
 public:
  explicit RawMode(int fd);
  ~RawMode();
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

 private:
  int fd_ = -1;
  termios saved_{};
};

// Copies the window size of terminal `from` to `to`.
void CopyWindowSize(int from, int to);

}  // namespace caisson::runsc

#endif  // CAISSON_RUNSC_CONTAINER_CONSOLE_H_
