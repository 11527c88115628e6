// Temporary files of tests.
#ifndef CAISSON_BASE_TEST_TEMP_H_
#define CAISSON_BASE_TEST_TEMP_H_

#include <cstdlib>
#include <string>

namespace caisson {

// "DIR/PREFIX.XXXXXX" for mkdtemp(3) and mkstemp(3). DIR is $TMPDIR, which tools/run_tests sets to
// one that it removes when the test has ended, or /tmp.
inline std::string TempPattern(const char* prefix) {
  const char* dir = getenv("TMPDIR");
  return std::string(dir != nullptr && dir[0] == '/' ? dir : "/tmp") + "/" + prefix + ".XXXXXX";
}

}  // namespace caisson

#endif  // CAISSON_BASE_TEST_TEMP_H_
