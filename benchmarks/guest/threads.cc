// Programs of 1, 2, 4 and 8 busy threads; an operation is one of the whole program.
#include <pthread.h>

#include <atomic>
#include <thread>
#include <vector>

#include "guest.h"

namespace {

// Some hundred nanoseconds of work that the compiler keeps.
void Work() {
  for (int i = 0; i < 200; ++i) benchmark::DoNotOptimize(i);
}

// Threads that contend for one lock.
void MutexContended(benchmark::State& state) {
  constexpr int kBatch = 1000;
  const int threads = static_cast<int>(state.range(0));
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  while (state.KeepRunningBatch(kBatch)) {
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) {
      all.emplace_back([&] {
        for (int i = 0; i < kBatch / threads; ++i) {
          pthread_mutex_lock(&mutex);
          Work();
          pthread_mutex_unlock(&mutex);
          Work();
        }
      });
    }
    for (std::thread& thread : all) thread.join();
  }
}
BENCHMARK(MutexContended)->Name("mutex")->Arg(1)->Arg(2)->Arg(4)->Arg(8)->UseRealTime();

// Phases that every thread must finish, as in OpenMP loops.
void Barrier(benchmark::State& state) {
  constexpr int kBatch = 200;
  const int threads = static_cast<int>(state.range(0));
  while (state.KeepRunningBatch(kBatch)) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, static_cast<unsigned>(threads));
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) {
      all.emplace_back([&] {
        for (int i = 0; i < kBatch; ++i) {
          Work();
          pthread_barrier_wait(&barrier);
        }
      });
    }
    for (std::thread& thread : all) thread.join();
    pthread_barrier_destroy(&barrier);
  }
}
BENCHMARK(Barrier)->Name("barrier")->Arg(1)->Arg(2)->Arg(4)->Arg(8)->UseRealTime();

// A queue with a condition variable that feeds a pool of threads; an operation is a job.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  }
  ~Pool() {
    Add(-1);
    for (std::thread& thread : threads_) thread.join();
  }
  void Add(int jobs) {
    pthread_mutex_lock(&mutex_);
    if (jobs < 0) ending_ = true; else queued_ += jobs;
    pthread_mutex_unlock(&mutex_);
    if (jobs == 1) pthread_cond_signal(&more_); else pthread_cond_broadcast(&more_);
  }
  void WaitForAll(long done) {
    pthread_mutex_lock(&mutex_);
    while (done_ < done) pthread_cond_wait(&finished_, &mutex_);
    pthread_mutex_unlock(&mutex_);
  }

 private:
  void Run() {
    pthread_mutex_lock(&mutex_);
    for (;;) {
      while (queued_ == 0 && !ending_) pthread_cond_wait(&more_, &mutex_);
      if (queued_ == 0) break;
      --queued_;
      pthread_mutex_unlock(&mutex_);
      for (int i = 0; i < 10; ++i) Work();
      pthread_mutex_lock(&mutex_);
      ++done_;
      pthread_cond_signal(&finished_);
    }
    pthread_mutex_unlock(&mutex_);
  }

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t more_ = PTHREAD_COND_INITIALIZER, finished_ = PTHREAD_COND_INITIALIZER;
  long queued_ = 0, done_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

void QueuePool(benchmark::State& state) {
  constexpr int kBatch = 200;
  Pool pool(static_cast<int>(state.range(0)));
  long done = 0;
  while (state.KeepRunningBatch(kBatch)) {
    for (int i = 0; i < kBatch; ++i) pool.Add(1);
    done += kBatch;
    pool.WaitForAll(done);
  }
}
BENCHMARK(QueuePool)->Name("pool")->Arg(1)->Arg(2)->Arg(4)->Arg(8)->UseRealTime();

}  // namespace
