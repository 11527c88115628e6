// More threads at once than most programs have.
#include <pthread.h>

#include <atomic>
#include <vector>

#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
std::atomic<int> passed{0};

void* Pass(void*) {
  pthread_mutex_lock(&gate);
  pthread_mutex_unlock(&gate);
  passed.fetch_add(1);
  return nullptr;
}

TEST(ManyThreadsTest, AllOfThemRun) {
  constexpr int kMany = 3000;
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, 32 << 10), 0);
  std::vector<pthread_t> threads;
  pthread_mutex_lock(&gate);
  int error = 0;
  while (threads.size() < kMany) {
    pthread_t thread;
    if ((error = pthread_create(&thread, &attributes, Pass, nullptr)) != 0) break;
    threads.push_back(thread);
  }
  EXPECT_EQ(passed.load(), 0);
  pthread_mutex_unlock(&gate);
  for (pthread_t thread : threads) EXPECT_EQ(pthread_join(thread, nullptr), 0);
  EXPECT_EQ(error, 0);
  EXPECT_EQ(passed.load(), kMany);
  pthread_attr_destroy(&attributes);
}

}  // namespace
}  // namespace caisson::test
