#include "sentry/kernel/host_threads.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <set>

#include "base/cpu_affinity.h"

namespace caisson::kernel {
namespace {

struct Job {
  std::atomic<pthread_t> ran{0};
  static void Work(void* self) { static_cast<Job*>(self)->ran.store(pthread_self()); }
  pthread_t Wait() {
    while (ran.load() == 0) sched_yield();
    return ran.load();
  }
};

TEST(HostThreadsTest, AThreadThatHasFinishedIsUsedAgain) {
  std::set<pthread_t> seen;
  HostThreads threads;
  for (int i = 0; i < 200; ++i) {
    Job job;
    ASSERT_TRUE(threads.Run(&Job::Work, &job).ok());
    seen.insert(job.Wait());
    usleep(200);  // Until it is parked, mostly.
  }
  EXPECT_LT(seen.size(), 50u);
}

TEST(HostThreadsTest, ANewThreadIsNotHeldWhereItsMakerIs) {
  const int before = CountCpus();
  if (!MayHoldThreads()) GTEST_SKIP() << "one CPU";
  ASSERT_TRUE(HoldOnCpu(0, sched_getcpu()));
  struct Count {
    std::atomic<int> cpus{0};
    static void Work(void* self) { static_cast<Count*>(self)->cpus.store(CountCpus()); }
  } count;
  {
    HostThreads threads;
    ASSERT_TRUE(threads.Run(&Count::Work, &count).ok());
    while (count.cpus.load() == 0) sched_yield();
  }
  EXPECT_EQ(count.cpus.load(), before);
  LetGoOfCpu(0);
}

TEST(HostThreadsTest, ManyAtOnceAllRunAndAllEnd) {
  constexpr int kJobs = 100;
  std::atomic<int> done{0};
  std::atomic<bool> go{false};
  struct Shared {
    std::atomic<int>& done;
    std::atomic<bool>& go;
  } shared{done, go};
  {
    HostThreads threads;
    for (int i = 0; i < kJobs; ++i) {
      ASSERT_TRUE(threads.Run([](void* argument) {
        auto& s = *static_cast<Shared*>(argument);
        while (!s.go.load()) sched_yield();
        s.done.fetch_add(1);
      }, &shared).ok());
    }
    go = true;
  }
  EXPECT_EQ(done.load(), kJobs);  // The destructor waits for them.
}

TEST(HostThreadsTest, EndsWithoutThreads) { HostThreads threads; }

}  // namespace
}  // namespace caisson::kernel
