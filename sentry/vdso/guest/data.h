/* What stands on the page below the image: [vvar]. Shared by the guest's code (C) and the sentry. */
#ifndef CAISSON_SENTRY_VDSO_GUEST_DATA_H_
#define CAISSON_SENTRY_VDSO_GUEST_DATA_H_

#include <stdint.h>

enum { kVdsoClocks = 12 }; /* CLOCK_REALTIME (0) to CLOCK_TAI (11). */

struct VdsoData {
  /* Functions of the host's vDSO in the guest's address space; 0: make the system call. */
  uint64_t clock_gettime, gettimeofday, time, clock_getres, getcpu;
  int64_t offsets[kVdsoClocks]; /* ns that the time namespace adds. */
};

#endif /* CAISSON_SENTRY_VDSO_GUEST_DATA_H_ */
