/* The guest's vDSO (vdso(7)): the host's functions, which read the host's clock pages, with what the
   guest's time namespace adds. Runs in guests, on their stacks, and may be called with anything. */
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>

#include "sentry/vdso/guest/data.h"

struct timeval;
struct timezone;
struct getcpu_cache;

extern const struct VdsoData vdso_data __attribute__((visibility("hidden"))); /* vdso.lds */

static long Call3(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return result;
}

int __vdso_clock_gettime(clockid_t clock, struct timespec* now) {
  int (*host)(clockid_t, struct timespec*) =
      (int (*)(clockid_t, struct timespec*))vdso_data.clock_gettime;
  if (!host) return (int)Call3(SYS_clock_gettime, clock, (long)now, 0);
  int result = host(clock, now);
  if (result != 0 || (unsigned)clock >= kVdsoClocks || !vdso_data.offsets[clock]) return result;
  /* An offset is less than 2^63 ns, and the kernel has checked that no clock gets below 0. */
  const int64_t second = 1000000000;
  int64_t seconds = vdso_data.offsets[clock] / second;
  int64_t rest = now->tv_nsec + vdso_data.offsets[clock] % second;
  if (rest < 0) rest += second, --seconds;
  if (rest >= second) rest -= second, ++seconds;
  now->tv_sec += seconds;
  now->tv_nsec = rest;
  return 0;
}

int __vdso_gettimeofday(struct timeval* now, struct timezone* zone) {
  int (*host)(struct timeval*, struct timezone*) =
      (int (*)(struct timeval*, struct timezone*))vdso_data.gettimeofday;
  return host ? host(now, zone) : (int)Call3(SYS_gettimeofday, (long)now, (long)zone, 0);
}

time_t __vdso_time(time_t* now) {
  time_t (*host)(time_t*) = (time_t(*)(time_t*))vdso_data.time;
  return host ? host(now) : Call3(SYS_time, (long)now, 0, 0);
}

int __vdso_clock_getres(clockid_t clock, struct timespec* resolution) {
  int (*host)(clockid_t, struct timespec*) =
      (int (*)(clockid_t, struct timespec*))vdso_data.clock_getres;
  return host ? host(clock, resolution)
              : (int)Call3(SYS_clock_getres, clock, (long)resolution, 0);
}

long __vdso_getcpu(unsigned* cpu, unsigned* node, struct getcpu_cache* unused) {
  long (*host)(unsigned*, unsigned*, struct getcpu_cache*) =
      (long (*)(unsigned*, unsigned*, struct getcpu_cache*))vdso_data.getcpu;
  return host ? host(cpu, node, unused) : Call3(SYS_getcpu, (long)cpu, (long)node, 0);
}

/* The names without prefix, as Linux has them. */
#define ALIAS(name, prefixed) \
  extern __typeof__(prefixed) name##_alias __asm__(#name) __attribute__((weak, alias(#prefixed)))
ALIAS(clock_gettime, __vdso_clock_gettime);
ALIAS(gettimeofday, __vdso_gettimeofday);
ALIAS(time, __vdso_time);
ALIAS(clock_getres, __vdso_clock_getres);
ALIAS(getcpu, __vdso_getcpu);
