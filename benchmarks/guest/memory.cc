#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

namespace {

void MmapMunmap(benchmark::State& state) {
  for (auto _ : state) {
    void* at = mmap(nullptr, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Require(at != MAP_FAILED && munmap(at, 16384) == 0, "mmap");
  }
}
ROW(MmapMunmap, "mmap_munmap");

void MmapFile(benchmark::State& state) {
  const int fd = open("/proc/self/exe", O_RDONLY);
  for (auto _ : state) {
    void* at = mmap(nullptr, 16384, PROT_READ, MAP_PRIVATE, fd, 0);
    Require(at != MAP_FAILED, "mmap");
    char byte = *static_cast<volatile char*>(at);
    benchmark::DoNotOptimize(byte);
    munmap(at, 16384);
  }
  close(fd);
}
ROW(MmapFile, "mmap_file");

void Mprotect(benchmark::State& state) {
  void* at = mmap(nullptr, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int protection = PROT_READ;
  for (auto _ : state) {
    Require(mprotect(at, 16384, protection) == 0, "mprotect");
    protection ^= PROT_WRITE;
  }
  munmap(at, 16384);
}
ROW(Mprotect, "mprotect");

// The first touch of each page of 256 MiB; an operation is a page. Only the walk is timed.
void PageFault(benchmark::State& state) {
  constexpr int kPages = 65536;
  constexpr size_t kSize = size_t{kPages} * 4096;
  while (state.KeepRunningBatch(kPages)) {
    state.PauseTiming();
    char* memory =
        static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    Require(memory != MAP_FAILED, "mmap");
    madvise(memory, kSize, MADV_NOHUGEPAGE);
    state.ResumeTiming();
    for (size_t i = 0; i < kSize; i += 4096) *static_cast<volatile char*>(memory + i) = 1;
    state.PauseTiming();
    munmap(memory, kSize);
    state.ResumeTiming();
  }
}
ROW(PageFault, "page_fault");

}  // namespace
