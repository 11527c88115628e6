// How long a sandbox with a fake kernel takes from StartSandbox to the monitor's end: what the
// processes and their confinement cost, of `runsc run`'s time.
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "confine/role.h"
#include "runsc/sandbox/test_sandbox.h"
#include "sentry/boot/fake_kernel.h"
#include "sentry/boot/open_platform.h"

namespace {

double NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The ptrace platform is opened, and not used.
int SentryWithPlatform(int argc, char** argv) {
  caisson::boot::SentryParts parts = caisson::boot::FakeParts();
  parts.open_platform = [](const auto& config, const auto& facts) {
    auto opened = caisson::boot::OpenPlatform(config, facts);
    if (opened.ok()) static_cast<void>(opened->release());
    return opened.status();
  };
  return caisson::boot::RunSentry(argc, argv, parts);
}

}  // namespace

int main(int argc, char** argv) {
  using caisson::runsc::TestSandbox;
  const std::string role = argv[0];
  if (role == caisson::confine::kSentryRole) return SentryWithPlatform(argc, argv);
  if (role.rfind("runsc-", 0) == 0) return caisson::runsc::TestMain(argc, argv);
  const int rounds = argc > 1 ? atoi(argv[1]) : 100;
  std::vector<double> create, start, end;
  for (int i = 0; i < rounds; ++i) {
    TestSandbox box({"exit", "0"});
    const double t0 = NowMs();
    if (!box.Start().ok()) return 1;
    const double t1 = NowMs();
    if (box.StartContainer().code() != caisson::protocol::Reply::OK) return 1;
    const double t2 = NowMs();
    waitpid(box.processes.monitor_pid, nullptr, 0);
    create.push_back(t1 - t0);
    start.push_back(t2 - t1);
    end.push_back(NowMs() - t2);
  }
  printf("create %.2f ms, start %.2f ms, end %.2f ms (medians of %d)\n", Median(create),
         Median(start), Median(end), rounds);
  return 0;
}
