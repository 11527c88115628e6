// The gofer's file service: host files for the sentry, one connection for each mount.
#ifndef CAISSON_GOFER_SERVER_SERVER_H_
#define CAISSON_GOFER_SERVER_SERVER_H_

#include <functional>
#include <vector>

#include "base/unique_fd.h"

namespace caisson::gofer {

struct Connection {
  UniqueFd socket;  // SOCK_SEQPACKET, this side of the pair.
  UniqueFd root;    // O_PATH; a directory, or any other file with is_file.
  bool read_only = false;
  bool is_file = false;
};

struct ServeOptions {
  // The directory /proc/self/fd of this process, by which O_PATH descriptors are reopened without
  // looking a name up again. Should be a detached mount of it (open_tree(OPEN_TREE_CLONE)), so that
  // ".." leads nowhere. Invalid: opened here, by path.
  UniqueFd proc_self_fd;
  // Runs when all threads exist and before the first request: where the seccomp filter is
  // installed with TSYNC. False ends Serve().
  std::function<bool()> confine;
};

// Serves until every socket is at its end. Returns 0, or an errno when it could not start. Changes
// the process: umask, working directory, RLIMIT_NOFILE's soft limit.
int Serve(std::vector<Connection> connections, ServeOptions options = {});

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_SERVER_SERVER_H_
