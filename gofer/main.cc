#include "gofer/main.h"

#include "gofer/process.h"

namespace caisson::gofer {

int GoferMain(int argc, char** argv) { return RunGofer(argc, argv, Serve); }

}  // namespace caisson::gofer
