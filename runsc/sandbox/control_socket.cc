#include "runsc/sandbox/control_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace caisson::runsc {
namespace {

constexpr int kBacklog = 128;

struct Place {
  UniqueFd directory;
  sockaddr_un address{};
};

absl::StatusOr<Place> PlaceOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  Place place;
  place.directory = UniqueFd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place.directory) return HostErrnoStatus(errno, absl::StrCat("control socket ", path));
  const std::string through = absl::StrCat("/proc/self/fd/", place.directory.get(), "/", name);
  if (name.empty() || through.size() >= sizeof(place.address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("control socket ", path, ": name too long"));
  }
  place.address.sun_family = AF_UNIX;
  memcpy(place.address.sun_path, through.c_str(), through.size() + 1);
  return place;
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket_fd) return HostErrnoStatus(errno, "socket");
  return socket_fd;
}

}  // namespace

absl::StatusOr<UniqueFd> ListenControl(const std::string& path) {
  ASSIGN_OR_RETURN(Place place, PlaceOf(path));
  ASSIGN_OR_RETURN(UniqueFd listener, NewSocket());
  unlink(path.c_str());
  // The socket's own mode becomes that of the file.
  fchmod(listener.get(), 0600);
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&place.address), sizeof(place.address)) !=
          0 ||
      listen(listener.get(), kBacklog) != 0) {
    return HostErrnoStatus(errno, absl::StrCat("control socket ", path));
  }
  return listener;
}

absl::StatusOr<UniqueFd> ConnectControl(const std::string& path) {
  ASSIGN_OR_RETURN(Place place, PlaceOf(path));
  ASSIGN_OR_RETURN(UniqueFd socket_fd, NewSocket());
  int r;
  do {
    r = connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&place.address),
                sizeof(place.address));
  } while (r != 0 && errno == EINTR);
  if (r != 0) {
    if (errno == ECONNREFUSED) return absl::UnavailableError("container not running");
    return HostErrnoStatus(errno, absl::StrCat("control socket ", path));
  }
  return socket_fd;
}

}  // namespace caisson::runsc
