// Between process_util.cc and test_main.cc.
#ifndef CAISSON_TEST_UTIL_PROGRAMS_H_
#define CAISSON_TEST_UTIL_PROGRAMS_H_

#include "test/util/process_util.h"

namespace caisson::test {

// The GUEST_PROGRAM of that name, or null.
ProgramMain FindProgram(const char* name);

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_PROGRAMS_H_
