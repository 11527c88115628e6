#include <cstdlib>

#include "platform/ptrace/ptrace_platform.h"
#include "platform/stub/blob.h"
#include "platform/stub/xstate.h"
#include "platform/testing/testing.h"
#include "platform/trap/blob.h"
#include "platform/trap/trap_platform.h"

namespace caisson::platform {

std::string TestPlatformName() {
  const char* name = getenv("CAISSON_TEST_PLATFORM");
  return name == nullptr ? "ptrace" : name;
}

Result<std::unique_ptr<Platform>> OpenTestPlatform(bool proc_view) {
  const std::string name = TestPlatformName();
  if (name == "ptrace") {
    ptrace::Config config;
    config.proc_view = proc_view;
    return ptrace::Open(config);
  }
  trap::Config config;
  config.proc_view = proc_view;
  config.notify = name == "trap";
  CHECK(config.notify || name == "trap-notify-off");
  return trap::Open(config);
}

std::string TestBlobCode() {
  const uint64_t features = stub::HostXstate().features;
  stub::ThreadCode threads;
  if (TestPlatformName() != "ptrace")
    threads = trap::GenerateThreadBlob(TestPlatformName() == "trap", features).code;
  return stub::GenerateBlob(features, threads).code;
}

}  // namespace caisson::platform
