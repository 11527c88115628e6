// What the guest benchmarks share.
#ifndef CAISSON_BENCHMARKS_GUEST_GUEST_H_
#define CAISSON_BENCHMARKS_GUEST_GUEST_H_

#include <benchmark/benchmark.h>
#include <stdio.h>
#include <stdlib.h>

// A row's name in the table is the name it is registered with. Wall clock always: what a sandbox costs
// is spent in other processes too.
#define ROW(function, name) BENCHMARK(function)->Name(name)->UseRealTime()

// A file of one page on a tmpfs.
inline constexpr char kFile[] = "/tmp/bench-file";

// A static program that does nothing.
inline constexpr char kTrue[] = "/bin/true";

inline void Require(bool ok, const char* what) {
  if (ok) return;
  perror(what);
  exit(1);
}

#endif  // CAISSON_BENCHMARKS_GUEST_GUEST_H_
