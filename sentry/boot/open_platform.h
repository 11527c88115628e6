// Which platform a sandbox runs on.
#ifndef CAISSON_SENTRY_BOOT_OPEN_PLATFORM_H_
#define CAISSON_SENTRY_BOOT_OPEN_PLATFORM_H_

#include <memory>

#include "absl/status/statusor.h"
#include "platform/platform.h"
#include "sentry/boot/boot.h"

namespace caisson::boot {

// For SentryParts::open_platform. A failure says what the host lacks.
absl::StatusOr<std::unique_ptr<platform::Platform>> OpenPlatform(
    const protocol::SandboxConfig& config, const HostFacts& facts);

}  // namespace caisson::boot

#endif  // CAISSON_SENTRY_BOOT_OPEN_PLATFORM_H_
