// Entry of the gofer process: runsc executed as "runsc-gofer".
#ifndef CAISSON_GOFER_MAIN_H_
#define CAISSON_GOFER_MAIN_H_

namespace caisson::gofer {

int GoferMain(int argc, char** argv);

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_MAIN_H_
