// The gofer as a process: what it gives up before it serves the first request.
#ifndef CAISSON_GOFER_PROCESS_H_
#define CAISSON_GOFER_PROCESS_H_

#include <functional>
#include <vector>

#include "gofer/server/server.h"

namespace caisson::gofer {

// argv is what StartSandbox passes. Confines the process and has `serve` (Serve(), but in tests of
// the processes around it) do the work. Returns the exit status.
int RunGofer(int argc, char** argv,
             const std::function<int(std::vector<Connection>, ServeOptions)>& serve);

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_PROCESS_H_
