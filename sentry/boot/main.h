// Entry of the sentry process: runsc executed as "runsc-sentry".
#ifndef CAISSON_SENTRY_BOOT_MAIN_H_
#define CAISSON_SENTRY_BOOT_MAIN_H_

namespace caisson::boot {

int SentryMain(int argc, char** argv);

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_MAIN_H_
